//! The check of all bytes of a source as they pass, and the token that says that it was good.

use std::io::{self, Read};

use anyhow::{Result, anyhow, bail};
use minisign_verify::StreamVerifier;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::proof::Proof;

/// The source's bytes were what they should be, or nobody wanted to know. Only [`Verifier::finish`] makes one, and
/// nothing makes a disk bootable without one: held by `nothing_unverified_is_ever_at_the_ends`
/// and by the vm tier's `what_is_not_right_never_boots`.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// By what: `sha256`, `minisign`, `nothing`.
    by: &'static str,
    /// What is known now: the SHA-256, the signature's trusted comment.
    detail: String,
    /// Bytes that were read.
    bytes: u64,
}

impl Verified {
    /// In words.
    pub fn text(&self) -> String {
        match self.by {
            "minisign" => format!("signature good ({})", self.detail),
            "sha256" => "SHA-256 as given".into(),
            _ => format!("not verified; its SHA-256 is {}", self.detail),
        }
    }

    /// Bytes of the source, as fetched.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What tests of others need.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Verified { by: "nothing", detail: String::new(), bytes: 0 }
    }
}

/// Looks at all that is read through it.
pub struct Verifier<R> {
    from: R,
    bytes: u64,
    check: Check,
}

enum Check {
    Sha256 { hash: Sha256, wanted: Option<[u8; 32]> },
    Minisign { check: Box<StreamVerifier<'static>>, comment: String },
}

impl<R: Read> Verifier<R> {
    /// Looks at what comes from `from`.
    ///
    /// # Errors
    /// When the signature is not by this key, or of minisign's old kind.
    pub fn new(from: R, proof: Proof) -> Result<Self> {
        let check = match proof {
            Proof::Sha256(wanted) => Check::Sha256 { hash: Sha256::new(), wanted: Some(wanted) },
            Proof::Unchecked => Check::Sha256 { hash: Sha256::new(), wanted: None },
            Proof::Minisign { key, signature, .. } => {
                let comment = signature.trusted_comment().to_string();
                // One for each write: the thread that reads may outlive whoever waits for it.
                let (key, signature) = (Box::leak(key), Box::leak(signature));
                let check =
                    key.verify_stream(signature).map_err(|error| anyhow!("the signature: {error}"))?;
                Check::Minisign { check: Box::new(check), comment }
            }
        };
        Ok(Verifier { from, bytes: 0, check })
    }

    /// Judges, when all has been read.
    ///
    /// # Errors
    /// When the bytes are others.
    pub fn finish(self) -> Result<Verified> {
        let bytes = self.bytes;
        match self.check {
            Check::Sha256 { hash, wanted } => {
                let hash: [u8; 32] = hash.finalize().into();
                if let Some(wanted) = wanted
                    && wanted != hash
                {
                    bail!(
                        "the SHA-256 of its {bytes} bytes is {}, --sha256 says {}: it is damaged, or another one",
                        hex(&hash),
                        hex(&wanted)
                    );
                }
                let by = if wanted.is_some() { "sha256" } else { "nothing" };
                Ok(Verified { by, detail: hex(&hash), bytes })
            }
            Check::Minisign { mut check, comment } => {
                check.finalize().map_err(|_| {
                    anyhow!("its {bytes} bytes are not what was signed: it is damaged, or another one")
                })?;
                Ok(Verified { by: "minisign", detail: comment, bytes })
            }
        }
    }
}

impl<R: Read> Read for Verifier<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        let bytes = into.get(..count).ok_or_else(|| io::Error::other("more was read than asked for"))?;
        match &mut self.check {
            Check::Sha256 { hash, .. } => hash.update(bytes),
            Check::Minisign { check, .. } => check.update(bytes),
        }
        self.bytes += count as u64;
        Ok(count)
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
