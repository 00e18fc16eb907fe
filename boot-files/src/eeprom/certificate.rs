//! `cacert.der`: the certificate authority that HTTPS boot trusts.

use crate::digest;
use anyhow::{Context, Result, bail, ensure};
use der::asn1::{AnyRef, GeneralizedTime, ObjectIdentifier, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// Basic constraints (RFC 5280, 4.2.1.9).
const BASIC_CONSTRAINTS: &str = "2.5.29.19";
/// The parts of a name that are told, and how (RFC 4514, 3).
const NAMES: [(&str, &str); 4] = [("2.5.4.3", "CN"), ("2.5.4.10", "O"), ("2.5.4.11", "OU"), ("2.5.4.6", "C")];

/// What is told of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// Who it is for.
    pub subject: String,
    /// Whether it may sign others.
    pub is_authority: bool,
    /// When its validity ends. Whether the bootloader looks at that is not known.
    #[serde(serialize_with = "as_text")]
    pub not_after: Timestamp,
    /// The SHA-256 of its DER: what `HTTP_CACERT_HASH` has to be.
    pub sha256: String,
}

fn as_text<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(time)
}

/// Reads a certificate in DER.
///
/// # Errors
/// If the bytes are no certificate, are more than one, or are PEM.
pub fn read(bytes: &[u8]) -> Result<Certificate> {
    if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        bail!("it is PEM, and the EEPROM takes DER: openssl x509 -in CA.pem -outform DER -out CA.der");
    }
    let all = parts(bytes).context("it is no certificate in DER")?;
    ensure!(all.len() == 1, "it has {} parts: it has to be one certificate in DER", all.len());
    fields(&all, bytes).context("it is no certificate in DER")
}

/// RFC 5280, 4.1.
fn fields(all: &[AnyRef<'_>], bytes: &[u8]) -> Option<Certificate> {
    let certificate = sequence(all.first()?)?;
    let body = sequence(certificate.first()?)?;
    let is_context = |part: &AnyRef<'_>, number| matches!(part.tag(), Tag::ContextSpecific { number: found, .. } if found.value() == number);
    let mut plain = body.iter().filter(|part| !is_context(part, 0)).skip(3);
    let (validity, subject, _key) = (plain.next()?, plain.next()?, plain.next()?);
    let extensions = body.iter().find(|part| is_context(part, 3));
    Some(Certificate {
        subject: name(subject)?,
        is_authority: extensions.and_then(|part| is_authority(part.value())).unwrap_or(false),
        not_after: time(sequence(validity)?.get(1)?)?,
        sha256: digest::hex(bytes),
    })
}

fn time(part: &AnyRef<'_>) -> Option<Timestamp> {
    let since_1970 = match part.tag() {
        Tag::UtcTime => part.decode_as::<UtcTime>().ok()?.to_unix_duration(),
        _ => part.decode_as::<GeneralizedTime>().ok()?.to_unix_duration(),
    };
    Timestamp::from_second(i64::try_from(since_1970.as_secs()).ok()?).ok()
}

/// A name as one line, without what a terminal would take for a command.
fn name(part: &AnyRef<'_>) -> Option<String> {
    let mut words = Vec::new();
    for set in sequence(part)? {
        for pair in parts(set.value()).ok()? {
            let pair = sequence(&pair)?;
            let (kind, value) = (identifier(pair.first()?)?, pair.get(1)?);
            let text = String::from_utf8_lossy(value.value());
            let text: String = text.chars().filter(|letter| !letter.is_control()).collect();
            let known = NAMES.iter().find(|(number, _)| *number == kind);
            words.push(format!("{}={text}", known.map_or(kind.as_str(), |(_, word)| word)));
        }
    }
    Some(words.join(", "))
}

/// Whether the extensions say that the certificate may sign others.
fn is_authority(extensions: &[u8]) -> Option<bool> {
    for extension in sequence(parts(extensions).ok()?.first()?)? {
        let extension = sequence(&extension)?;
        if identifier(extension.first()?)? == BASIC_CONSTRAINTS {
            let constraints = parts(extension.last()?.value()).ok()?;
            let constraints = sequence(constraints.first()?)?;
            let first = constraints.first()?;
            return Some(first.tag() == Tag::Boolean && first.value() != [0]);
        }
    }
    None
}

fn identifier(part: &AnyRef<'_>) -> Option<String> {
    Some(part.decode_as::<ObjectIdentifier>().ok()?.to_string())
}

/// The parts of a sequence.
fn sequence<'a>(part: &AnyRef<'a>) -> Option<Vec<AnyRef<'a>>> {
    if part.tag() == Tag::Sequence { parts(part.value()).ok() } else { None }
}

/// The values in DER that follow each other. There are never more of them than bytes.
fn parts(bytes: &[u8]) -> der::Result<Vec<AnyRef<'_>>> {
    let mut reader = SliceReader::new(bytes)?;
    let mut parts = Vec::new();
    while !reader.is_finished() {
        parts.push(AnyRef::decode(&mut reader)?);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AUTHORITY: &[u8] = include_bytes!("../../tests/data/eeprom/cacert.der");

    #[test]
    fn an_authority_is_told() {
        let found = read(AUTHORITY).unwrap();
        assert_eq!((found.subject.as_str(), found.is_authority), ("CN=Lifeboat test CA", true));
        // From sha256sum and openssl.
        assert_eq!(found.sha256, "547a520ab819b8ff04f25b2e08789c66d0514f087ef278093c678b41542585f7");
        assert_eq!(found.not_after.to_string(), "2126-10-28T12:51:07Z");
    }

    #[test]
    fn what_is_none_is_refused() {
        let refusal = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        assert!(refusal(b"-----BEGIN CERTIFICATE-----\n").contains("openssl x509"));
        assert!(refusal(b"").contains("0 parts"));
        assert!(refusal(&[AUTHORITY, AUTHORITY].concat()).contains("2 parts"));
        assert!(refusal(&AUTHORITY[..300]).contains("no certificate"));
        assert!(refusal(&[AUTHORITY, b"x"].concat()).contains("no certificate"));
    }

    proptest! {
        #[test]
        fn no_change_panics(at in 0..AUTHORITY.len(), byte in any::<u8>()) {
            let mut bytes = AUTHORITY.to_vec();
            bytes[at] = byte;
            let _ = read(&bytes);
        }
    }
}
