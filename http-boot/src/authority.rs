//! `http-boot ca`: an authority of one's own, and a certificate for the server, for the TLS of a Pi 4's bootloader: ECDSA with
//! P-256, the one kind of certificate that it takes (facts, section 4), and DER for its EEPROM.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use sha2::{Digest, Sha256};

/// The longest DER that the EEPROM's tools take, in bytes.
const EEPROM_LIMIT: usize = 2284;
/// The years between which certificates are valid. A Pi has no clock, and nobody comes by to renew what is in an EEPROM.
const YEARS: (i32, i32) = (2020, 2060);

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The SHA-256 of the authority's DER, in hexadecimal: the EEPROM's `HTTP_CACERT_HASH`.
    pub hash: String,
    /// Whether the authority was there already.
    pub was_there: bool,
}

impl Made {
    /// What to do with it.
    pub fn text(&self, folder: &Path) -> String {
        let folder = folder.display();
        let authority = if self.was_there { "was there already" } else { "is new: keep its ca.key safe" };
        let hash = &self.hash;
        format!(
            "The authority {folder}/ca.pem {authority}.\n\
             The server: http-boot serve --tls-certificate {folder}/server.pem --tls-key {folder}/server.key --listen-tls …\n\
             The EEPROM: --cacertder {folder}/ca.der, and in its configuration\nHTTP_CACERT_HASH={hash}\n\
             init: ca_certificates = [\"{folder}/ca.pem\"] in image.toml\n"
        )
    }
}

/// Makes `ca.key`, `ca.pem` and `ca.der` in `folder`, unless they are there, and `server.key` and `server.pem` for a server with
/// these names and IP addresses.
///
/// # Errors
/// Where a name is none, or a file cannot be written. An authority that is there is never replaced.
pub fn make(folder: &Path, names: &[String]) -> Result<Made> {
    ensure!(!names.is_empty(), "the server needs a name or an IP address, as the EEPROM's HTTP_HOST has it");
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let (key_path, certificate_path) = (folder.join("ca.key"), folder.join("ca.pem"));
    let was_there = key_path.exists();
    if !was_there {
        ensure!(!certificate_path.exists(), "there is {} without its ca.key", certificate_path.display());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("making the authority's key")?;
        let authority =
            CertifiedIssuer::self_signed(authority_params(), key).context("making the authority")?;
        put(&folder.join("ca.der"), authority.der(), 0o644)?;
        put(&certificate_path, authority.pem().as_bytes(), 0o644)?;
        // Last: with it, the authority is there.
        put(&key_path, authority.key().serialize_pem().as_bytes(), 0o600)?;
    }
    let der = fs::read(folder.join("ca.der")).context("reading ca.der")?;
    if der.len() > EEPROM_LIMIT {
        bail!("ca.der has {} bytes, and an EEPROM takes {EEPROM_LIMIT}", der.len());
    }
    let key = fs::read_to_string(&key_path).with_context(|| format!("reading {}", key_path.display()))?;
    let key = KeyPair::from_pem(&key).with_context(|| format!("reading {}", key_path.display()))?;
    let pem = fs::read_to_string(&certificate_path).context("reading ca.pem")?;
    let issuer = Issuer::from_ca_cert_pem(&pem, key).context("reading ca.pem")?;
    let server_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("making the server's key")?;
    let params = server_params(names)?;
    let server = params.signed_by(&server_key, &issuer).context("signing the server's certificate")?;
    put(&folder.join("server.key"), server_key.serialize_pem().as_bytes(), 0o600)?;
    put(&folder.join("server.pem"), server.pem().as_bytes(), 0o644)?;
    let hash = Sha256::digest(&der).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Made { hash, was_there })
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Pi Lifeboat boot server CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (date_time_ymd(YEARS.0, 1, 1), date_time_ymd(YEARS.1, 1, 1));
    params
}

fn server_params(names: &[String]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names).context("taking the server's names")?;
    params.distinguished_name.push(DnType::CommonName, names.first().map_or("", String::as_str));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (date_time_ymd(YEARS.0, 1, 1), date_time_ymd(YEARS.1, 1, 1));
    Ok(params)
}

/// Writes a file whole or not at all.
fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}
