//! What is wrong with an image, or dangerous: its settings, its keys and its bootloader, held against each other.

use super::board::Board;
use super::boot_order::{BootOrder, Mode};
use super::certificate;
use super::config::Config;
use super::config_check;
use super::finding::Finding;
use super::image::{self, Image, Soc};
use super::public_key;
use super::release::Release;
use crate::keys::boot_sig::{self, BootSig};
use jiff::Timestamp;
use jiff::civil::{Date, date};
use rsa::RsaPublicKey;

/// The first bootloader that boots over HTTP.
const HTTP_SINCE: Date = date(2022, 3, 10);
/// The first of each chip that has room for a certificate authority.
const HTTPS_SINCE_2711: Date = date(2024, 4, 17);
const HTTPS_SINCE_2712: Date = date(2024, 4, 5);
/// The first without the faults in HTTP and in walking partitions that were mended until then.
const ADVISED_SINCE: Date = date(2026, 2, 23);
/// One that stops when the server has no image (rpi-eeprom issue 763).
const STOPS_AT_404: Date = date(2025, 8, 27);

/// What an image is held against.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected<'a> {
    /// The board it is for.
    pub board: Option<Board>,
    /// The key that has to be in it.
    pub key: Option<&'a RsaPublicKey>,
    /// The time that certificates are held against.
    pub now: Option<Timestamp>,
}

/// All findings about an image, those about its settings first.
pub fn check(image: &Image, expected: Expected<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(board) = expected.board.filter(|board| board.soc() != image.soc()) {
        findings.push(Finding::error(None, format!("the image is for {}, not for a {board}", image.soc())));
    }
    if image.soc() == Soc::Bcm2712 {
        findings
            .push(Finding::note(None, "what is said of images for BCM2712 has not been tried on a real one"));
    }
    let Some(bytes) = image.file(image::BOOTCONF) else {
        findings.push(Finding::error(None, "it has no bootconf.txt: it is damaged, or the file is empty"));
        return findings;
    };
    let config = match Config::parse(bytes) {
        Ok(config) => config,
        Err(error) => {
            findings.push(Finding::error(None, format!("bootconf.txt: {error}")));
            return findings;
        }
    };
    findings.extend(config_check::check(&config, expected.board));
    let settings = Settings::of(&config, expected.board);
    findings.extend(key(image, &settings, expected.key));
    findings.extend(authority(image, &settings, expected.now));
    findings.extend(signature(image, bytes, &settings));
    findings.extend(bootloader(&Release::find(image.bytes()), image, &settings));
    findings.extend(updates(image, &settings));
    findings
}

/// The settings that matter here.
struct Settings {
    http: bool,
    host: Option<String>,
    hash: Option<String>,
    signed_boot: bool,
    frozen: bool,
    self_update: bool,
}

impl Settings {
    fn of(config: &Config, board: Option<Board>) -> Self {
        let value = |key| config.value(board, key);
        let order = value("BOOT_ORDER").and_then(BootOrder::parse);
        Settings {
            http: order.is_some_and(|order| order.has(Mode::Http)),
            host: value("HTTP_HOST").map(str::to_owned),
            hash: value("HTTP_CACERT_HASH").map(str::to_ascii_lowercase),
            signed_boot: value("SIGNED_BOOT") == Some("1"),
            frozen: value("FREEZE_VERSION") == Some("1"),
            self_update: value("ENABLE_SELF_UPDATE") != Some("0"),
        }
    }
}

fn key(image: &Image, settings: &Settings, expected: Option<&RsaPublicKey>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match image.file(image::PUBKEY) {
        None => {
            if let Some(host) = settings.host.as_ref().filter(|_| settings.http) {
                findings.push(Finding::error(None, format!(
                    "HTTP_HOST={host} and no public key: the bootloader takes only what Raspberry Pi has signed; put yours in with edit -p"
                )));
            }
            if expected.is_some() {
                findings.push(Finding::error(None, "it has no public key"));
            }
            if settings.signed_boot {
                findings.push(Finding::error(None, "SIGNED_BOOT=1 and no public key: it boots nothing"));
            }
        }
        Some(bytes) => match public_key::decode(bytes) {
            Err(error) => {
                findings.push(Finding::error(None, format!("pubkey.bin is no public key: {error:#}")))
            }
            Ok(found) => {
                if expected.is_some_and(|expected| *expected != found) {
                    findings.push(Finding::error(
                        None,
                        "its public key is another one: what you sign with yours is refused",
                    ));
                }
                if settings.host.is_none() {
                    findings.push(Finding::note(
                        None,
                        "its public key is not used by HTTP boot, as there is no HTTP_HOST",
                    ));
                }
            }
        },
    }
    findings
}

fn authority(image: &Image, settings: &Settings, now: Option<Timestamp>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(bytes) = image.file(image::CACERT) else {
        if settings.hash.is_some() {
            findings.push(Finding::error(
                None,
                "HTTP_CACERT_HASH and no certificate: HTTPS cannot work; put the authority's in with edit --cacertder",
            ));
        }
        return findings;
    };
    let found = match certificate::read(bytes) {
        Ok(found) => found,
        Err(error) => return vec![Finding::error(None, format!("cacert.der: {error:#}"))],
    };
    match &settings.hash {
        None => findings.push(Finding::warning(
            None,
            format!(
                "the certificate is not used: HTTP_CACERT_HASH={} is missing in the settings",
                found.sha256
            ),
        )),
        Some(hash) if *hash != found.sha256 => findings.push(Finding::error(
            None,
            format!("HTTP_CACERT_HASH is not the certificate's SHA-256, which is {}", found.sha256),
        )),
        Some(_) => {}
    }
    if settings.host.is_none() {
        findings.push(Finding::warning(None, "a certificate without HTTP_HOST is not used"));
    }
    if !found.is_authority {
        findings.push(Finding::warning(None, format!("{} is no certificate authority", found.subject)));
    }
    if now.is_some_and(|now| now > found.not_after) {
        findings.push(Finding::warning(None, format!("the certificate was valid until {}", found.not_after)));
    }
    findings
}

fn signature(image: &Image, config: &[u8], settings: &Settings) -> Vec<Finding> {
    let Some(bytes) = image.file(image::BOOTCONF_SIG) else {
        let missing = "SIGNED_BOOT=1 and no bootconf.sig: the bootloader does not take its settings";
        return settings.signed_boot.then(|| Finding::error(None, missing)).into_iter().collect();
    };
    let key = image.file(image::PUBKEY).and_then(|bytes| public_key::decode(bytes).ok());
    let checked = BootSig::parse(bytes).map_err(anyhow::Error::from).and_then(|signature| match key {
        Some(key) => signature.verify(config, &key),
        None if boot_sig::digest(config)? == signature.sha256 => Ok(()),
        None => Err(boot_sig::VerifyError::Hash.into()),
    });
    let Err(error) = checked else { return Vec::new() };
    let message = format!("bootconf.sig is not over these settings: {error:#}");
    vec![match settings.signed_boot {
        true => Finding::error(None, message),
        false => Finding::warning(None, format!("{message}. A Pi with secure boot does not start with it")),
    }]
}

fn bootloader(release: &Release, image: &Image, settings: &Settings) -> Vec<Finding> {
    let Some(day) = release.day() else {
        let unknown =
            "its bootloader does not say when it was built: hold its file name against docs/eeprom.md";
        return vec![Finding::note(None, unknown)];
    };
    if !settings.http {
        return Vec::new();
    }
    let https = match image.soc() {
        Soc::Bcm2711 => HTTPS_SINCE_2711,
        Soc::Bcm2712 => HTTPS_SINCE_2712,
    };
    let mut findings = Vec::new();
    if day < HTTP_SINCE {
        findings.push(Finding::error(
            None,
            format!("its bootloader is of {day}: HTTP boot came with {HTTP_SINCE}"),
        ));
    } else if settings.hash.is_some() && day < https {
        findings.push(Finding::error(
            None,
            format!("its bootloader is of {day}: a certificate authority of your own came with {https}"),
        ));
    } else if day < ADVISED_SINCE {
        findings.push(Finding::warning(
            None,
            format!("its bootloader is of {day}: faults in HTTP boot were mended until {ADVISED_SINCE}; take a newer one"),
        ));
    }
    if day == STOPS_AT_404 {
        findings.push(Finding::warning(
            None,
            "this bootloader was seen to stop, instead of going on to the next boot mode, where the server has no image (404)",
        ));
    }
    findings
}

fn updates(image: &Image, settings: &Settings) -> Vec<Finding> {
    let ours = image.file(image::PUBKEY).is_some() || image.file(image::CACERT).is_some();
    let mut findings = Vec::new();
    if ours && !settings.frozen {
        findings.push(Finding::warning(
            None,
            "a stock update (rpi-eeprom-update) keeps the settings and loses public key and certificate: set FREEZE_VERSION=1",
        ));
    }
    if settings.self_update && !settings.frozen {
        findings.push(Finding::note(
            None,
            "it updates itself from TFTP or a disk, and a power cut meanwhile needs a person: ENABLE_SELF_UPDATE=0 or FREEZE_VERSION=1 ends that",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eeprom::edit::Changes;
    use crate::eeprom::finding::{Severity, errors};
    use std::path::Path;

    const STOCK: &[u8] = include_bytes!("../../tests/data/eeprom/pieeprom-2711-2026-05-17.bin");
    const AUTHORITY: &[u8] = include_bytes!("../../tests/data/eeprom/cacert.der");
    const HASH: &str = "547a520ab819b8ff04f25b2e08789c66d0514f087ef278093c678b41542585f7";

    fn our_key() -> RsaPublicKey {
        public_key::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/eeprom/public.pem")).unwrap()
    }

    fn image(config: &str, changes: Changes) -> Image {
        let mut image = Image::parse(STOCK.to_vec()).unwrap();
        Changes { config: Some(config.into()), ..changes }.apply(&mut image).unwrap();
        image
    }

    fn with_key() -> Changes {
        Changes { pubkey: Some(public_key::encode(&our_key()).unwrap()), ..Changes::default() }
    }

    fn has(image: &Image, severity: Severity, part: &str) {
        let key = our_key();
        let expected = Expected { board: Some(Board::Cm4), key: Some(&key), now: None };
        let found = check(image, expected);
        assert!(
            found.iter().any(|it| it.severity == severity && it.message.contains(part)),
            "{part}: {found:#?}"
        );
    }

    const SAFE: &str = "BOOT_ORDER=0xf17\nHTTP_HOST=x\nFREEZE_VERSION=1\n";

    #[test]
    fn a_safe_image_has_no_findings() {
        let key = our_key();
        let expected =
            Expected { board: Some(Board::Cm4), key: Some(&key), now: Some(Timestamp::UNIX_EPOCH) };
        assert_eq!(check(&image(SAFE, with_key()), expected), []);
        let https = image(
            &format!("{SAFE}HTTP_CACERT_HASH={HASH}\n"),
            Changes { certificate: Some(AUTHORITY.to_vec()), ..with_key() },
        );
        assert_eq!(check(&https, expected), []);
        assert_eq!(errors(&check(&Image::parse(STOCK.to_vec()).unwrap(), Expected::default())), 0);
    }

    #[test]
    fn keys_certificates_and_settings_are_held_against_each_other() {
        let error =
            |config: &str, changes: Changes, part: &str| has(&image(config, changes), Severity::Error, part);
        let warning = |config: &str, changes: Changes, part: &str| {
            has(&image(config, changes), Severity::Warning, part)
        };
        let authority = || Changes { certificate: Some(AUTHORITY.to_vec()), ..with_key() };
        error(SAFE, Changes::default(), "takes only what Raspberry Pi has signed");
        error(SAFE, Changes { pubkey: Some(vec![1; 12]), ..Changes::default() }, "no public key");
        error("SIGNED_BOOT=1\n", Changes::default(), "it boots nothing");
        error("SIGNED_BOOT=1\n", with_key(), "no bootconf.sig");
        error(&format!("{SAFE}HTTP_CACERT_HASH={HASH}\n"), with_key(), "and no certificate");
        error(&format!("{SAFE}HTTP_CACERT_HASH={}\n", "0".repeat(64)), authority(), HASH);
        error(SAFE, Changes { certificate: Some(b"x".to_vec()), ..with_key() }, "no certificate in DER");
        error("# \u{e9}\n", with_key(), "no plain ASCII");
        warning(SAFE, authority(), "is not used");
        warning("BOOT_ORDER=0xf17\n", authority(), "without HTTP_HOST");
        warning("BOOT_ORDER=0xf17\nHTTP_HOST=x\n", with_key(), "loses public key");
        let signature = include_bytes!("../../tests/data/eeprom/http.conf.sig").to_vec();
        warning(SAFE, Changes { signature: Some(signature), ..with_key() }, "not over these settings");
        let other = "BOOT_ORDER=0xf1\n";
        has(&image(other, with_key()), Severity::Note, "updates itself");
    }

    #[test]
    fn another_key_and_another_board_are_errors() {
        let image = image(SAFE, with_key());
        let mut bytes = public_key::encode(&our_key()).unwrap();
        bytes[1] ^= 1;
        let other = public_key::decode(&bytes).unwrap();
        let found = check(&image, Expected { key: Some(&other), ..Expected::default() });
        assert!(found.iter().any(|it| it.message.contains("another one")), "{found:#?}");
        let found = check(&image, Expected { board: Some(Board::Pi5), ..Expected::default() });
        assert!(found.iter().any(|it| it.message.contains("not for a Pi 5")), "{found:#?}");
    }

    #[test]
    fn old_bootloaders_are_told_by_their_day() {
        let image = image(SAFE, with_key());
        let with = |year, month, day, hash: bool| {
            let release = Release { date: Some(date(year, month, day)), ..Release::default() };
            let config = Config::parse(SAFE.as_bytes()).unwrap();
            let settings = Settings { hash: hash.then(String::new), ..Settings::of(&config, None) };
            bootloader(&release, &image, &settings)
        };
        let is = |found: &[Finding], severity, part: &str| {
            assert!(
                found.iter().any(|it| it.severity == severity && it.message.contains(part)),
                "{found:#?}"
            );
        };
        is(&with(2021, 12, 2, false), Severity::Error, "2022-03-10");
        is(&with(2024, 4, 16, true), Severity::Error, "2024-04-17");
        is(&with(2024, 4, 17, true), Severity::Warning, "2026-02-23");
        is(&with(2025, 8, 27, false), Severity::Warning, "404");
        assert_eq!(with(2026, 2, 23, true), []);
    }
}
