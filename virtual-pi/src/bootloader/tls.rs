//! TLS as a Pi 4's bootloader speaks it (facts, section 4): TLS 1.2 with ECDHE-ECDSA and AES-GCM, curves P-256 and P-384, and one
//! certificate authority, `cacert.der` in the EEPROM.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::ClientConnection;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, StreamOwned};

use super::transport::Stream;
use super::version;

/// What the bootloader checks a server's certificate with.
#[derive(Clone, Debug)]
pub struct Authority(Arc<ClientConfig>);

impl Authority {
    /// Takes a certificate authority's certificate (DER).
    ///
    /// # Errors
    /// When it is none.
    pub fn new(der: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(der.to_vec()))
            .map_err(|error| format!("not a certificate authority's certificate (DER): {error}"))?;
        let mut provider = ring::default_provider();
        provider.cipher_suites = vec![
            ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        ];
        provider.kx_groups = vec![ring::kx_group::SECP256R1, ring::kx_group::SECP384R1];
        let provider: Arc<CryptoProvider> = Arc::new(provider);
        let config = ClientConfig::builder_with_details(provider, Arc::new(NoClock))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// Speaks TLS with `host` on a connection. The handshake comes with the first bytes.
    ///
    /// # Errors
    /// When the host is neither a name nor an address.
    pub fn wrap<S: Stream>(&self, host: &str, stream: S) -> Result<StreamOwned<ClientConnection, S>, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let client = ClientConnection::new(self.0.clone(), name).map_err(|error| error.to_string())?;
        Ok(StreamOwned::new(client, stream))
    }
}

/// A Pi 4 has no clock, and whether its bootloader looks at dates is not known. To be on the safe side this one takes its own
/// build's time for now: a certificate that is valid from a later day on, or up to an earlier one, does not pass.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(version::TIMESTAMP.into())))
    }
}
