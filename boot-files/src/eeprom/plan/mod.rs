//! `boot-files eeprom plan`: everything that puts HTTP boot into a Pi's EEPROM, ready to be used, for each way in.

pub mod ansible;
pub mod flashrom;
pub mod folder;
pub mod readme;
pub mod recovery;
pub mod rpiboot;
pub mod settings;

use super::board::Board;
use super::boot_order::BootOrder;
use super::certificate;
use super::edit::{self, Changes};
use super::finding::{Finding, errors};
use super::image::{self, Image};
use super::image_check::{self, Expected};
use super::{public_key, read, read_image};
use crate::digest;
use crate::keys::boot_sig::BootSig;
use crate::keys::timestamp;
use anyhow::{Context, Result, bail, ensure};
use folder::Folder;
use jiff::Timestamp;
use settings::Wanted;
use std::path::{Path, PathBuf};

/// The largest `recovery.bin`; a real one has some hundred KiB.
const RECOVERY_LIMIT: usize = 4 << 20;

/// Write what puts HTTP boot into a Pi's EEPROM, for each way in.
///
/// Into a new folder: an image with safe settings, your public key and your certificate authority, and the files for
/// rpiboot over USB, for recovery.bin on an SD card, for flashrom on the running Pi, and for Ansible. README.txt there
/// tells which way to take, what the settings do and how to go back. Other settings of the image stay.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  boot-files eeprom plan --image pieeprom.bin --board cm4 --http-host boot.example.net --http-path pi/rescue \\
    -p boot.pub.pem -o plan/")]
pub struct Args {
    /// The image to start from: a pieeprom.bin of Raspberry Pi's for this board. It stays as it is.
    #[arg(long)]
    image: PathBuf,
    /// The board.
    #[arg(long, value_enum)]
    board: Board,
    /// The boot server: a name in lower case or an address.
    #[arg(long, value_name = "HOST")]
    http_host: String,
    /// Its port [default: the bootloader's, 80, or 443 with a certificate authority].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    http_port: Option<u16>,
    /// The folder on the server that has boot.sig and boot.img, without a leading slash.
    #[arg(long, value_name = "PATH")]
    http_path: Option<String>,
    /// The public key by which boot.sig is checked: a PEM. Without one the bootloader takes only what Raspberry Pi signed.
    #[arg(short, long, value_name = "PUBKEY.pem")]
    pubkey: Option<PathBuf>,
    /// The certificate authority for HTTPS, in DER.
    #[arg(long, value_name = "CA.der")]
    cacertder: Option<PathBuf>,
    /// Another order of places to boot from than the safe one.
    #[arg(long, value_name = "0xHEX", value_parser = boot_order)]
    boot_order: Option<BootOrder>,
    /// recovery.bin of the package rpi-eeprom, for the SD card.
    #[arg(long, value_name = "FILE")]
    recovery: Option<PathBuf>,
    /// The folder to make. It must not exist, or be empty.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

fn boot_order(text: &str) -> Result<BootOrder, String> {
    BootOrder::parse(text)
        .filter(|_| text.starts_with("0x"))
        .ok_or_else(|| "it has to be like 0xf17".to_owned())
}

/// What all ways in have in common.
#[derive(Debug)]
pub struct Plan {
    /// The board.
    pub board: Board,
    /// The settings, as they are in the image.
    pub settings: String,
    /// What was chosen.
    pub wanted: Wanted,
    /// The image.
    pub image: Image,
    /// Its SHA-256.
    pub sha256: String,
    /// Its signature file: hash and time.
    pub signature: String,
    /// The public key's fingerprint.
    pub key: Option<String>,
    /// recovery.bin, if it was given.
    pub recovery: Option<Vec<u8>>,
    /// What a check found, errors excepted: with those there is no plan.
    pub findings: Vec<Finding>,
}

/// Writes the folder and says what to do next.
///
/// # Errors
/// If a file cannot be read, the settings would not work, or the folder cannot be made.
pub fn run(args: Args) -> Result<()> {
    let plan = plan(&args)?;
    let folder = Folder::new(&args.output)?;
    rpiboot::write(&plan, &folder)?;
    recovery::write(&plan, &folder)?;
    flashrom::write(&plan, &folder)?;
    ansible::write(&plan, &folder)?;
    folder.write("boot.conf", plan.settings.as_bytes())?;
    folder.write("README.txt", readme::text(&plan).as_bytes())?;
    folder.place()?;
    plan.findings.iter().for_each(|finding| eprintln!("boot-files: {finding}"));
    println!("{}: ready; read README.txt there first", args.output.display());
    Ok(())
}

fn plan(args: &Args) -> Result<Plan> {
    let mut image = read_image(&args.image)?;
    let soc = image.soc();
    ensure!(args.board.soc() == soc, "{} is for {soc}, not for a {}", args.image.display(), args.board);
    let certificate = args.cacertder.as_deref().map(edit::read_certificate).transpose()?;
    let hash = certificate.as_deref().map(certificate::read).transpose()?.map(|it| it.sha256);
    let key = args.pubkey.as_deref().map(public_key::read).transpose()?;
    let wanted = Wanted {
        order: args.boot_order.unwrap_or_else(|| settings::safe_order(args.board)),
        host: args.http_host.clone(),
        port: args.http_port,
        path: args.http_path.clone(),
        certificate_hash: hash,
    };
    let before =
        image.file(image::BOOTCONF).with_context(|| format!("{} has no settings", args.image.display()))?;
    let settings = settings::make(before, &wanted).context("making the settings")?;
    let seconds = timestamp::choose(None)?;
    let changes = Changes {
        config: Some(settings.clone().into_bytes()),
        pubkey: key.as_ref().map(public_key::encode).transpose()?,
        certificate,
        signature: None,
        timestamp: Some(u32::try_from(seconds).context("the time is after 2106")?),
    };
    changes.apply(&mut image)?;
    let findings = image_check::check(
        &image,
        Expected { board: Some(args.board), key: key.as_ref(), now: Some(Timestamp::now()) },
    );
    refuse(&findings)?;
    Ok(Plan {
        board: args.board,
        settings,
        wanted,
        sha256: digest::hex(image.bytes()),
        signature: BootSig::sign(image.bytes(), None, seconds)?.to_string(),
        key: key.as_ref().map(public_key::fingerprint).transpose()?,
        recovery: args.recovery.as_deref().map(read_recovery).transpose()?,
        findings,
        image,
    })
}

/// No files are written that a check calls wrong.
fn refuse(findings: &[Finding]) -> Result<()> {
    let wrong: Vec<_> = findings
        .iter()
        .filter(|it| errors(std::slice::from_ref(it)) > 0)
        .map(|it| it.message.as_str())
        .collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        bail!("this would not work, and nothing was written: {}", wrong.join("; "))
    }
}

fn read_recovery(path: &Path) -> Result<Vec<u8>> {
    let bytes = read(path, RECOVERY_LIMIT)?;
    ensure!(!bytes.is_empty(), "{} is empty", path.display());
    Ok(bytes)
}
