//! HTTPS against a real TLS server: authorities, pins, names and dates.
#![cfg(feature = "pid1")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod peers;

use std::path::Path;

use init::pid1::dns::resolver::Resolver;
use init::pid1::http;
use init::pid1::tls::{Authorities, Dates};
use init::transport::Transport;
use peers::{Server, answer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest, Sha256};

/// From the start of one year to the start of another.
type Years = (i32, i32);
const NOW: Years = (2020, 2090);
const OVER: Years = (1990, 2000);
const TO_COME: Years = (2090, 2099);
const LONG: Years = (1980, 2099);

fn params(name: &str, years: Years) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
    params
}

fn authority(name: &str, years: Years) -> CertificateParams {
    let mut params = params(name, years);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// A server for `localhost` behind an authority and an intermediate one.
struct Site {
    server: Server,
    root: String,
    key: Vec<u8>,
    folder: tempfile::TempDir,
}

impl Site {
    fn new(intermediate: Years, leaf: Years, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        // Each site's authority has a name of its own.
        let who: String = key.public_key_raw().iter().skip(40).map(|byte| format!("{byte:02x}")).collect();
        let root = CertifiedIssuer::self_signed(authority(&who, NOW), key).unwrap();
        let middle = authority("intermediate", intermediate);
        let middle = CertifiedIssuer::signed_by(middle, KeyPair::generate().unwrap(), &root).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, leaf).signed_by(&key, &middle).unwrap();
        let chain = vec![certificate.der().clone(), middle.der().clone()];
        let private = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let server = Server::tls(chain, private, |request| match request.line.as_str() {
            "GET /down HTTP/1.1" => answer("302 Found", &["Location: http://127.0.0.1:1/x"], b""),
            _ => answer("200 OK", &[], b"secret"),
        });
        let key = rcgen::PublicKeyData::subject_public_key_info(&key);
        Site { server, root: root.pem(), key, folder: tempfile::tempdir().unwrap() }
    }

    fn url(&self, path: &str) -> url::Url {
        format!("https://localhost:{}/{path}", self.server.address.port()).parse().unwrap()
    }

    /// Asks as an image does that has these authorities.
    fn ask(
        &self,
        path: &str,
        dates: Dates,
        pins: Option<Vec<[u8; 32]>>,
        places: &Authorities,
    ) -> Result<String, String> {
        let transport = Transport { pins, ..Transport::default() };
        let resolver = Resolver::new("/nonexistent".into(), 53);
        let client = http::client_with(&transport, dates, places, resolver).unwrap();
        let response = client.get(self.url(path)).send().map_err(|error| http::causes(&error))?;
        response.text().map_err(|error| http::causes(&error))
    }

    /// With our authority among the public ones.
    fn public(&self) -> Authorities {
        let public = self.folder.path().join("bundle.crt");
        std::fs::write(&public, &self.root).unwrap();
        Authorities { own: self.folder.path().join("none"), public }
    }

    fn strict(&self) -> Result<String, String> {
        self.ask("x", Dates::Strict, None, &self.public())
    }

    fn told(&self) -> Result<String, String> {
        self.ask("x", Dates::Told, None, &self.public())
    }
}

#[test]
fn a_good_chain_is_believed_and_a_stranger_s_is_not() {
    let site = Site::new(NOW, NOW, "localhost");
    assert_eq!(site.strict(), Ok("secret".into()));
    let stranger = Site::new(NOW, NOW, "localhost");
    let error = stranger.ask("x", Dates::Told, None, &site.public()).unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

/// A wrong clock never makes a signed image unloadable; what nobody signed is not fetched with one.
#[test]
fn dates_that_do_not_fit_are_told_or_refused() {
    for (middle, leaf, words) in [
        (LONG, OVER, "valid until 2000-01-01 00:00:00 UTC"),
        (LONG, TO_COME, "valid from 2090-01-01 00:00:00 UTC"),
        (OVER, OVER, "valid until 2000-01-01 00:00:00 UTC"),
        (OVER, NOW, "valid until 2000-01-01 00:00:00 UTC"),
        (TO_COME, NOW, "valid from 2090-01-01 00:00:00 UTC"),
    ] {
        let site = Site::new(middle, leaf, "localhost");
        // An intermediate authority that ended before its leaf began: no time fits both.
        let fits_at_some_time = middle.0.max(leaf.0) <= middle.1.min(leaf.1);
        assert_eq!(site.told().is_ok(), fits_at_some_time, "{middle:?} {leaf:?}: {:?}", site.told());
        let error = site.strict().unwrap_err();
        assert!(error.contains(words) && error.contains("the clock here says 20"), "{error}");
    }
}

#[test]
fn whatever_the_dates_all_else_is_checked() {
    let other_name = Site::new(LONG, OVER, "other.example");
    assert!(other_name.told().unwrap_err().contains("other.example"), "{:?}", other_name.told());
    let stranger = Site::new(LONG, OVER, "localhost");
    let ours = Site::new(NOW, NOW, "localhost");
    let error = stranger.ask("x", Dates::Told, None, &ours.public()).unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[test]
fn the_image_s_own_authorities_are_the_only_ones() {
    let (site, other) = (Site::new(NOW, NOW, "localhost"), Site::new(NOW, NOW, "localhost"));
    let own = site.folder.path().join("ca");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("site.pem"), &site.root).unwrap();
    let places = Authorities { own: own.clone(), public: other.public().public };
    assert_eq!(site.ask("x", Dates::Strict, None, &places), Ok("secret".into()));
    assert!(other.ask("x", Dates::Strict, None, &places).unwrap_err().contains("UnknownIssuer"));
    // One that cannot be read is no reason to believe the public ones.
    std::fs::write(own.join("site.pem"), "nonsense").unwrap();
    let error = other.ask("x", Dates::Strict, None, &places).unwrap_err();
    assert!(error.contains("site.pem holds no certificate"), "{error}");
    let nobody = Authorities { own: own.join("none"), public: Path::new("/nonexistent").into() };
    assert!(site.ask("x", Dates::Strict, None, &nobody).unwrap_err().contains("/nonexistent"));
}

#[test]
fn a_pinned_key_needs_no_authority_and_no_clock() {
    let site = Site::new(OVER, OVER, "other.example");
    let nobody = Authorities { own: "/nonexistent".into(), public: "/nonexistent".into() };
    let pin: [u8; 32] = Sha256::digest(&site.key).into();
    let ask = |pins| site.ask("x", Dates::Strict, Some(pins), &nobody);
    assert_eq!(ask(vec![[0; 32], pin]), Ok("secret".into()));
    // Another key, though its authority is known, and a list of pins that were all malformed.
    let good = Site::new(NOW, NOW, "localhost");
    for pins in [vec![pin], Vec::new()] {
        let error = good.ask("x", Dates::Told, Some(pins), &good.public()).unwrap_err();
        assert!(error.contains("lifeboat.pin=") && error.contains("SHA-256"), "{error}");
    }
}

#[test]
fn nobody_leads_out_of_tls() {
    let site = Site::new(NOW, NOW, "localhost");
    let error = site.ask("down", Dates::Told, None, &site.public()).unwrap_err();
    assert!(error.contains("from https: to http://127.0.0.1:1/x"), "{error}");
}
