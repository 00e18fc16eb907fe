//! TLS for bootloaders, `init` and browsers. A Pi 4's bootloader speaks TLS 1.2 with ECDHE-ECDSA and AES-GCM alone, P-256 or
//! P-384 (facts, section 4): a server certificate of another kind is served, and warned of.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, SignatureAlgorithm};
use tokio_rustls::TlsAcceptor;

/// The server's certificate and key, in PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate, then those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Reads them.
///
/// # Errors
/// Where a file is missing or is none, or the key is not the certificate's.
pub fn acceptor(files: &Files) -> Result<TlsAcceptor> {
    let chain = chain(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("reading the private key {}", files.key.display()))?;
    let mode = files.key.metadata().map_or(0, |file| file.mode());
    if mode & 0o077 != 0 {
        tracing::warn!("{} can be read by others (mode {:o}): chmod 600", files.key.display(), mode & 0o777);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let signer =
        provider.key_provider.load_private_key(key.clone_key()).context("reading the private key")?;
    if signer.algorithm() != SignatureAlgorithm::ECDSA {
        tracing::warn!(
            "{} is no ECDSA certificate: a Pi 4's bootloader takes no other kind (`http-boot ca` makes one)",
            files.certificate.display()
        );
    }
    // No ALPN: there is one protocol, and a client that names HTTP/1.0 has to get it (`tests/tls.rs`).
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choosing TLS versions")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| format!("using {} with {}", files.certificate.display(), files.key.display()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("reading the certificate {}", path.display()))?;
    ensure!(!chain.is_empty(), "{} has no certificate in it", path.display());
    Ok(chain)
}
