//! HTTPS for a site: a TLS server before the boot server, with a chain that a test chooses.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData, date_time_ymd,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{HOST, images};

/// From the start of one year to the start of another.
pub type Years = (i32, i32);

/// The authority that is in the vm tier's image.
const CA_KEY: &str = "ca.key.pem";

/// Makes it, or finds it.
pub fn make_authority(folder: &Path) {
    if !folder.join("ca.pem").exists() {
        let key = KeyPair::generate().unwrap();
        std::fs::write(folder.join(CA_KEY), key.serialize_pem()).unwrap();
        std::fs::write(folder.join("ca.pem"), authority(key).pem()).unwrap();
    }
}

fn authority(key: KeyPair) -> CertifiedIssuer<'static, KeyPair> {
    CertifiedIssuer::self_signed(authority_params("vm tier", (2020, 2100)), key).unwrap()
}

fn authority_params(name: &str, years: Years) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
    params
}

/// Speaks TLS to the guest and HTTP to the boot server.
pub struct TlsServer {
    pub port: u16,
    /// Of its public key, for `lifeboat.pin=`.
    pub pin: String,
}

impl TlsServer {
    /// With a certificate that the image's authority vouches for, by an intermediate one: `years` of both.
    pub fn start(target: u16, years: Years) -> Self {
        images::Images::get();
        let key = std::fs::read_to_string(images::folder().join(CA_KEY)).unwrap();
        Self::with(target, years, &authority(KeyPair::from_pem(&key).unwrap()))
    }

    /// With one that a stranger vouches for.
    pub fn strange(target: u16) -> Self {
        Self::with(target, (2020, 2090), &authority(KeyPair::generate().unwrap()))
    }

    fn with(target: u16, years: Years, root: &CertifiedIssuer<'_, KeyPair>) -> Self {
        let middle = authority_params("intermediate", years);
        let middle = CertifiedIssuer::signed_by(middle, KeyPair::generate().unwrap(), root).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        let leaf = params.signed_by(&key, &middle).unwrap();
        let chain = vec![leaf.der().clone(), middle.der().clone()];
        let private = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for guest in listener.incoming().flatten() {
                let config = config.clone();
                std::thread::spawn(move || pass(guest, config, target));
            }
        });
        TlsServer { port, pin: pin(&key) }
    }

    /// The URL of a file, as the guest sees it.
    pub fn url(&self, name: &str) -> String {
        format!("https://{HOST}:{}/{name}", self.port)
    }
}

/// As `curl --pinnedpubkey` takes it, by openssl.
fn pin(key: &KeyPair) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), key.subject_public_key_info()).unwrap();
    let script = "openssl dgst -sha256 -binary \"$0\" | base64";
    let output = std::process::Command::new("sh").args(["-c", script]).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "openssl (package openssl): {output:?}");
    format!("sha256//{}", String::from_utf8(output.stdout).unwrap().trim())
}

/// One request and its answer.
fn pass(guest: TcpStream, config: Arc<ServerConfig>, target: u16) -> Option<()> {
    let mut guest = StreamOwned::new(ServerConnection::new(config).ok()?, guest);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        guest.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    head.truncate(head.len() - 2);
    head.extend(b"Connection: close\r\n\r\n");
    let mut server = TcpStream::connect(("127.0.0.1", target)).ok()?;
    server.write_all(&head).ok()?;
    std::io::copy(&mut server, &mut guest).ok()?;
    guest.conn.send_close_notify();
    guest.flush().ok()
}
