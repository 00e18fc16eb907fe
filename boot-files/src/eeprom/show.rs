//! `boot-files eeprom show`: what is in an image.

use super::boot_order::{self, BootOrder, Mode};
use super::certificate::{self, Certificate};
use super::config::Config;
use super::image::{self, Image};
use super::release::Release;
use super::section::Kind;
use super::{public_key, read_image};
use crate::digest;
use crate::keys::boot_sig::BootSig;
use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;
use std::path::PathBuf;

/// Tell what is in an EEPROM image.
///
/// The chip, the bootloader's release where its code says it, the settings, the public key's fingerprint, the certificate
/// authority, and when the image was changed.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The image: pieeprom.bin.
    image: PathBuf,
    /// Tell it as JSON.
    #[arg(long)]
    json: bool,
}

/// What is told. Keys or certificates that cannot be read are told by the reason.
#[derive(Debug, Serialize)]
struct Summary {
    image: PathBuf,
    soc: &'static str,
    ab: bool,
    size: usize,
    sha256: String,
    release: Release,
    update_timestamp: Option<u32>,
    files: Vec<FileSummary>,
    bootconf: String,
    boot_order: Vec<Order>,
    public_key: Option<Read<KeySummary>>,
    certificate: Option<Read<Certificate>>,
    signature_timestamp: Option<Read<u64>>,
}

/// A file of the image.
#[derive(Debug, Serialize)]
struct FileSummary {
    name: String,
    offset: usize,
    bytes: usize,
}

/// A BOOT_ORDER and what it means.
#[derive(Debug, Serialize)]
struct Order {
    line: Option<usize>,
    value: String,
    modes: Vec<String>,
}

/// A public key.
#[derive(Debug, Serialize)]
struct KeySummary {
    sha256: String,
}

/// What was read, or why it could not be.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Read<T> {
    Good(T),
    Bad { error: String },
}

impl<T> Read<T> {
    fn of(result: Result<T>) -> Self {
        match result {
            Ok(value) => Read::Good(value),
            Err(error) => Read::Bad { error: format!("{error:#}") },
        }
    }
}

/// Tells it.
///
/// # Errors
/// If the file cannot be read or is no EEPROM image.
pub fn run(args: Args) -> Result<()> {
    let image = read_image(&args.image)?;
    let summary = summary(args.image, &image);
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&summary)?),
        false => print(&summary),
    }
    Ok(())
}

fn summary(path: PathBuf, image: &Image) -> Summary {
    let files = image.sections().iter().filter(|section| section.kind == Kind::File);
    let config = image.file(image::BOOTCONF).unwrap_or_default();
    let key = |bytes| Ok(KeySummary { sha256: public_key::fingerprint(&public_key::decode(bytes)?)? });
    Summary {
        image: path,
        soc: match image.soc() {
            image::Soc::Bcm2711 => "BCM2711",
            image::Soc::Bcm2712 => "BCM2712",
        },
        ab: image.is_ab(),
        size: image.bytes().len(),
        sha256: digest::hex(image.bytes()),
        release: Release::find(image.bytes()),
        update_timestamp: image.update_timestamp(),
        files: files
            .map(|file| FileSummary {
                name: file.name.clone(),
                offset: file.offset,
                bytes: image.file(&file.name).map_or(0, <[u8]>::len),
            })
            .collect(),
        bootconf: printable(config),
        boot_order: orders(config),
        public_key: image.file(image::PUBKEY).map(|bytes| Read::of(key(bytes))),
        certificate: image.file(image::CACERT).map(|bytes| Read::of(certificate::read(bytes))),
        signature_timestamp: image
            .file(image::BOOTCONF_SIG)
            .map(|bytes| Read::of(BootSig::parse(bytes).map(|it| it.timestamp).map_err(Into::into))),
    }
}

/// Settings for a terminal: what is no text becomes a replacement character.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .map(|letter| if letter.is_control() && letter != '\n' { '\u{fffd}' } else { letter })
        .collect()
}

fn orders(config: &[u8]) -> Vec<Order> {
    let words = |order: BootOrder| order.modes().iter().map(Mode::to_string).collect();
    let Ok(config) = Config::parse(config) else { return Vec::new() };
    let set = config.entries.iter().filter(|entry| entry.key == "BOOT_ORDER");
    let found: Vec<_> = set
        .filter_map(|entry| {
            let order = BootOrder::parse(entry.value.trim_ascii())?;
            Some(Order { line: Some(entry.line), value: order.to_string(), modes: words(order) })
        })
        .collect();
    match found.is_empty() {
        true => {
            let order = boot_order::DEFAULT;
            vec![Order { line: None, value: order.to_string(), modes: words(order) }]
        }
        false => found,
    }
}

fn print(summary: &Summary) {
    let none = || "none".to_owned();
    let time =
        |seconds: i64| Timestamp::from_second(seconds).map_or_else(|_| none(), |time| time.to_string());
    let release = &summary.release;
    println!("image:       {} ({} bytes)", summary.image.display(), summary.size);
    println!("sha256:      {}", summary.sha256);
    println!("for:         {}{}", summary.soc, if summary.ab { ", in two halves (A/B)" } else { "" });
    println!(
        "bootloader:  {}, version {}, built {}, MFG_VER {}",
        release.day().map_or_else(|| "of an unknown day".to_owned(), |day| day.to_string()),
        release.version.as_deref().unwrap_or("unknown"),
        release.build_timestamp.map_or_else(|| "at an unknown time".to_owned(), time),
        release.mfg_version.map_or_else(|| "unknown".to_owned(), |version| version.to_string()),
    );
    println!(
        "changed:     {}",
        summary.update_timestamp.map_or_else(none, |seconds| time(i64::from(seconds)))
    );
    println!(
        "public key:  {}",
        summary.public_key.as_ref().map_or_else(none, |key| match key {
            Read::Good(key) => format!("SHA-256 {}", key.sha256),
            Read::Bad { error } => format!("damaged: {error}"),
        })
    );
    println!(
        "certificate: {}",
        summary.certificate.as_ref().map_or_else(none, |it| match it {
            Read::Good(it) => format!("{}, until {}, SHA-256 {}", it.subject, it.not_after, it.sha256),
            Read::Bad { error } => format!("damaged: {error}"),
        })
    );
    println!(
        "signature:   {}",
        summary.signature_timestamp.as_ref().map_or_else(none, |it| match it {
            Read::Good(seconds) =>
                format!("over the settings, of {}", time(i64::try_from(*seconds).unwrap_or(i64::MAX))),
            Read::Bad { error } => format!("damaged: {error}"),
        })
    );
    for order in &summary.boot_order {
        let place = order.line.map_or_else(|| "by default".to_owned(), |line| format!("line {line}"));
        println!("boot order:  {} ({place}): {}", order.value, order.modes.join(", "));
    }
    println!("settings:");
    summary.bootconf.lines().for_each(|line| println!("    {line}"));
}
