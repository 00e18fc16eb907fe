//! The server's certificate: whether a Pi 4's bootloader, `init` and browsers take it.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384};
use x509_parser::prelude::FromDer;

use super::{Level, Line};
use crate::tls;

const CHECK: &str = "tls";
/// Soon enough to say that a certificate ends.
const SOON: Duration = Duration::from_secs(30 * 86_400);

pub(super) fn check(files: &tls::Files, names: &[String]) -> Vec<Line> {
    if let Err(error) = tls::acceptor(files) {
        let advice = "a server does not start with it: `http-boot ca` makes a certificate and its key";
        return vec![Line::new(CHECK, Level::Problem, format!("{error:#}"), advice)];
    }
    let Some(der) = first(&files.certificate) else { return Vec::new() };
    match X509Certificate::from_der(&der) {
        Ok((_, certificate)) => judge(&files.certificate, &certificate, names, SystemTime::now()),
        Err(error) => {
            let found = format!("{}: {error}", files.certificate.display());
            vec![Line::new(CHECK, Level::Problem, found, "make another: `http-boot ca`")]
        }
    }
}

fn first(path: &Path) -> Option<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).ok()?.next()?.ok()
}

fn judge(path: &Path, certificate: &X509Certificate<'_>, names: &[String], now: SystemTime) -> Vec<Line> {
    let path = path.display();
    let mut lines = Vec::new();
    let mut say = |level, found: String, advice: &str| lines.push(Line::new(CHECK, level, found, advice));
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let at = |moment: i64| u64::try_from(moment).unwrap_or(0);
    let (from, to) =
        (at(certificate.validity().not_before.timestamp()), at(certificate.validity().not_after.timestamp()));
    if seconds >= to {
        say(
            Level::Problem,
            format!("{path} has been over since {}", day(to)),
            "make another: `http-boot ca`",
        );
    } else if seconds + SOON.as_secs() >= to {
        say(Level::Warning, format!("{path} is over on {}", day(to)), "make another before: `http-boot ca`");
    }
    if seconds < from {
        let advice = "is this machine's clock right? If it is, make another: `http-boot ca`";
        say(Level::Problem, format!("{path} is not valid before {}", day(from)), advice);
    }
    if !is_for_a_pi(certificate) {
        let advice = "a Pi 4's bootloader takes ECDSA on P-256 or P-384 alone: `http-boot ca`";
        say(Level::Problem, format!("{path} has another kind of key"), advice);
    }
    let for_names = names_of(certificate);
    for name in names.iter().filter(|name| !for_names.contains(&name.to_ascii_lowercase())) {
        let found = format!("{path} is not for {name}, but for {}", for_names.join(", "));
        say(
            Level::Problem,
            found,
            "make one with that name: `http-boot ca FOLDER --name …` keeps its authority",
        );
    }
    if lines.is_empty() {
        let found = format!("{path} is for {}, until {}", for_names.join(", "), day(to));
        lines.push(Line::ok(CHECK, found));
    }
    lines
}

fn is_for_a_pi(certificate: &X509Certificate<'_>) -> bool {
    let algorithm = &certificate.public_key().algorithm;
    let curve = algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && curve.is_some_and(|curve| curve == OID_EC_P256 || curve == OID_NIST_EC_P384)
}

/// Its host names in lower case, and its addresses.
fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|names| names.value.general_names.iter());
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(octets) => {
                let four = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
                let address = four.or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from));
                address.ok().map(|address| address.to_string())
            }
            _ => None,
        })
        .collect()
}

fn day(seconds: u64) -> String {
    let moment = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
    let text = humantime::format_rfc3339_seconds(moment).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn files(folder: &Path, params: CertificateParams) -> tls::Files {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let files = tls::Files { certificate: folder.join("c.pem"), key: folder.join("k.pem") };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    fn params(until: i32) -> CertificateParams {
        let mut params = CertificateParams::new(["boot.example".to_owned(), "192.0.2.1".into()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
        params
    }

    fn say(lines: &[Line]) -> Vec<(Level, &str)> {
        lines.iter().map(|line| (line.level, line.found.as_str())).collect()
    }

    #[test]
    fn names_and_dates() {
        let folder = tempfile::tempdir().unwrap();
        let good = files(folder.path(), params(2060));
        let lines = check(&good, &["BOOT.example".into(), "192.0.2.1".into()]);
        let [(Level::Ok, found)] = say(&lines)[..] else { panic!("{lines:?}") };
        assert!(found.ends_with("is for boot.example, 192.0.2.1, until 2060-01-01"), "{found}");
        let lines = check(&good, &["192.0.2.9".into()]);
        assert!(
            lines[0].level == Level::Problem && lines[0].found.contains("not for 192.0.2.9"),
            "{lines:?}"
        );
        let old = check(&files(folder.path(), params(2021)), &[]);
        assert!(old[0].found.contains("over since 2021-01-01"), "{old:?}");
        let none = tls::Files { certificate: folder.path().join("none"), ..good };
        assert_eq!(check(&none, &[])[0].level, Level::Problem);
    }

    #[test]
    fn soon_over_and_not_yet() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), params(2060));
        let der = first(&files.certificate).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let at =
            |seconds| judge(&files.certificate, &certificate, &[], UNIX_EPOCH + Duration::from_secs(seconds));
        // 2060-01-01 is 2,840,140,800.
        assert_eq!(at(2_840_140_800 - 29 * 86_400)[0].level, Level::Warning);
        assert_eq!(at(2_840_140_800 - 31 * 86_400)[0].level, Level::Ok);
        assert!(at(0)[0].found.contains("not valid before 2020-01-01"));
    }
}
