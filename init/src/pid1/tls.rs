//! HTTPS: whose certificates are believed, and what a wrong clock does to that.
//!
//! A Pi 4 has no clock of its own, and trust in an image does not depend on one: it is signed, or its hash is known. So where
//! what is fetched is checked by itself, dates that do not fit are a warning. All else of a certificate, its chain, name and
//! key, is checked in any case.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

use super::clock::utc;
use crate::config::CA_DIR;

/// What dates that do not fit mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dates {
    /// The connection is refused.
    Strict,
    /// A warning: what is fetched is checked by itself, or nothing acts on it.
    Told,
}

/// Where the authorities' certificates are.
#[derive(Clone, Debug)]
pub struct Authorities {
    /// A folder of the image's own ones; where one is in it, no others are believed.
    pub own: PathBuf,
    /// The public ones, in one file.
    pub public: PathBuf,
}

impl Default for Authorities {
    fn default() -> Self {
        Authorities { own: CA_DIR.into(), public: "/etc/ssl/certs/ca-certificates.crt".into() }
    }
}

/// The longest way from one date that does not fit to another: a leaf and a few authorities above it.
const DATES: usize = 8;

/// A client's TLS. Certificates are read when the first server shows one.
///
/// # Errors
/// When the cryptography does not do what TLS needs, which is a mistake in this program.
pub fn config(pins: Option<&[[u8; 32]]>, dates: Dates, authorities: &Authorities) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trust = match pins {
        Some(pins) => Trust::Pins(pins.into()),
        None => Trust::Authorities(authorities.clone(), OnceLock::new()),
    };
    let verifier = Verifier { provider: provider.clone(), trust, dates };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("setting up TLS")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

#[derive(Debug)]
enum Trust {
    /// These keys, whoever vouches for them.
    Pins(Vec<[u8; 32]>),
    /// Whom these vouch for.
    Authorities(Authorities, OnceLock<Result<Arc<WebPkiServerVerifier>, String>>),
}

/// [`WebPkiServerVerifier`], or pins in its place.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    trust: Trust,
    dates: Dates,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (authorities, verifier) = match &self.trust {
            Trust::Pins(pins) => return check_pin(pins, certificate),
            Trust::Authorities(authorities, verifier) => (authorities, verifier),
        };
        let verifier = verifier
            .get_or_init(|| authorities.verifier(&self.provider).map_err(|error| format!("{error:#}")));
        let verifier = verifier.as_ref().map_err(|error| Error::General(error.clone()))?;
        let mut at = now;
        let mut first: Option<String> = None;
        for _ in 0..DATES {
            let result = verifier.verify_server_cert(certificate, intermediates, name, ocsp, at);
            let (reason, fits) = match result {
                Ok(verified) => {
                    if let Some(reason) = &first {
                        warn(name, reason);
                    }
                    return Ok(verified);
                }
                Err(error) => misfit(&error, now).ok_or(error)?,
            };
            let reason = first.get_or_insert(reason);
            if self.dates == Dates::Strict {
                return Err(Error::General(format!("{reason}. Is the clock right? (lifeboat.ntp=)")));
            }
            // All but the dates is checked at a time that fits.
            at = fits;
        }
        Err(Error::General(format!("{}, and no time fits all of its chain", first.unwrap_or_default())))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Once for each host: clients come and go.
fn warn(name: &ServerName<'_>, reason: &str) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let host = name.to_str().into_owned();
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.insert(host.clone()) {
        tracing::warn!("{host}: {reason}; going on, since trust here does not depend on the clock");
    }
}

/// What is wrong with the dates, in words with both times, and a time that fits better. `None`: it is not the dates.
fn misfit(error: &Error, now: UnixTime) -> Option<(String, UnixTime)> {
    let Error::InvalidCertificate(error) = error else { return None };
    let (text, fits) = match error {
        CertificateError::ExpiredContext { not_after, .. } => ("until", *not_after),
        CertificateError::NotValidYetContext { not_before, .. } => ("from", *not_before),
        _ => return None,
    };
    let text = format!(
        "its certificate is valid {text} {}, and the clock here says {}",
        utc(fits.as_secs()),
        utc(now.as_secs())
    );
    Some((text, UnixTime::since_unix_epoch(Duration::from_secs(fits.as_secs()))))
}

/// RFC 7469, section 2.6, with the server's own key alone: nobody vouches for it, so neither name nor dates matter.
fn check_pin(pins: &[[u8; 32]], certificate: &CertificateDer<'_>) -> Result<ServerCertVerified, Error> {
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    let hash: [u8; 32] = Sha256::digest(&key).into();
    if pins.contains(&hash) {
        return Ok(ServerCertVerified::assertion());
    }
    let hash = hash.map(|byte| format!("{byte:02x}")).concat();
    Err(Error::General(format!(
        "its key has the SHA-256 {hash}, which is none of the {} that lifeboat.pin= names",
        pins.len()
    )))
}

impl Authorities {
    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
        let mut roots = RootCertStore::empty();
        for path in pem_files(&self.own)? {
            let certificates = certificates(&path)?;
            ensure!(!certificates.is_empty(), "{} holds no certificate", path.display());
            for certificate in certificates {
                roots.add(certificate).with_context(|| format!("reading {}", path.display()))?;
            }
        }
        if roots.is_empty() {
            // Of a hundred public ones some old one may be of a kind that is not understood.
            roots.add_parsable_certificates(certificates(&self.public)?);
        }
        ensure!(!roots.is_empty(), "this image has no CA certificates: give lifeboat.pin= or put some in");
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .context("reading the CA certificates")
    }
}

fn pem_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    entries.map(|entry| Ok(entry.with_context(|| format!("reading {}", folder.display()))?.path())).collect()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let context = || format!("reading the CA certificates in {}", path.display());
    let file = CertificateDer::pem_file_iter(path).with_context(context)?;
    file.collect::<Result<_, _>>().with_context(context)
}
