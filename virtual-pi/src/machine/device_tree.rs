//! The machine's device tree with what the firmware leaves in it, set by `fdtput` (Debian: device-tree-compiler).

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::tool;
use crate::board::Pi;
use crate::bootloader::version;

/// The properties of `/chosen/bootloader` that are numbers.
const BOOTLOADER_NUMBERS: [(&str, u32); 7] = [
    ("partition", 0),
    ("pm_rsts", 0x1000),
    ("tryboot", 0),
    ("capabilities", 0x7f),
    ("signed_boot", 0),
    ("update_timestamp", 0),
    ("build_timestamp", version::TIMESTAMP),
];

/// Writes to `tree` what a Pi's firmware adds: model, serial number, revision, the bootloader's facts (`boot_mode` is the number in
/// `BOOT_ORDER`), a random seed.
///
/// # Errors
/// When `fdtput` is missing or refuses.
pub(super) fn add_firmware_facts(tree: &Path, pi: &Pi, boot_mode: u32) -> Result<()> {
    let serial = pi.serial.to_string();
    let (high, low) = (pi.serial.0 >> 32, pi.serial.0 & 0xffff_ffff);
    put(tree, "s", "/", "model", &[pi.board.model()])?;
    put(tree, "s", "/", "serial-number", &[&serial])?;
    fdtput(tree, &["-cp"], &["/system", "/chosen/bootloader"])?;
    put(tree, "x", "/system", "linux,serial", &[&format!("{high:x}"), &format!("{low:x}")])?;
    put(tree, "x", "/system", "linux,revision", &[&format!("{:x}", pi.revision())])?;
    for (name, number) in BOOTLOADER_NUMBERS.into_iter().chain([("boot-mode", boot_mode)]) {
        put(tree, "x", "/chosen/bootloader", name, &[&format!("{number:x}")])?;
    }
    // Both spellings are in use.
    put(tree, "x", "/chosen/bootloader", "build-timestamp", &[&format!("{:x}", version::TIMESTAMP)])?;
    put(tree, "s", "/chosen/bootloader", "version", &[version::GIT])?;
    put(tree, "x", "/chosen", "rpi-boardrev-ext", &["0"])?;
    let seed = seed()?;
    put(tree, "bx", "/chosen", "rng-seed", &seed.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Where `virt` has its RAM (QEMU's hw/arm/virt.c).
const RAM_OF_VIRT: u64 = 0x4000_0000;
/// How much is set aside for a crash's last words: 128 KiB for the kernel's log at a panic, as much for the console's.
const RAMOOPS: u64 = 0x4_0000;
const RAMOOPS_RECORD: u64 = 0x2_0000;

/// Sets the end of the RAM (`memory`, in MiB) aside, as a `ramoops` overlay does on a Pi
/// (Documentation/devicetree/bindings/reserved-memory/ramoops.yaml).
///
/// # Errors
/// When `fdtput` is missing or refuses.
pub(super) fn add_ramoops(tree: &Path, memory: u32) -> Result<()> {
    // The last MiB, so that no huge page is torn for it.
    let start = RAM_OF_VIRT + (u64::from(memory) << 20) - (1 << 20);
    let node = format!("/reserved-memory/ramoops@{start:x}");
    let number = |number: u64| format!("{number:x}");
    fdtput(tree, &["-cp"], &[&node])?;
    for cells in ["#address-cells", "#size-cells"] {
        put(tree, "x", "/reserved-memory", cells, &["2"])?;
    }
    put(tree, "x", "/reserved-memory", "ranges", &[])?;
    put(tree, "s", &node, "compatible", &["ramoops"])?;
    let reg = [start >> 32, start & 0xffff_ffff, 0, RAMOOPS].map(number);
    put(tree, "x", &node, "reg", &reg.each_ref().map(String::as_str))?;
    for size in ["record-size", "console-size"] {
        put(tree, "x", &node, size, &[&number(RAMOOPS_RECORD)])?;
    }
    Ok(())
}

fn seed() -> Result<Vec<String>> {
    let mut seed = [0; 64];
    let random = fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut seed));
    random.context("reading /dev/urandom")?;
    Ok(seed.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Switches a node off, if it is there.
///
/// # Errors
/// When `fdtget` or `fdtput` is missing, or `fdtput` refuses.
pub(super) fn disable(tree: &Path, node: &str) -> Result<bool> {
    let there = tool::output(Command::new("fdtget").arg("-l").arg(tree).arg(node), "device-tree-compiler")?
        .status
        .success();
    if there {
        put(tree, "s", node, "status", &["disabled"])?;
    }
    Ok(there)
}

fn put(tree: &Path, kind: &str, node: &str, property: &str, values: &[&str]) -> Result<()> {
    fdtput(tree, &["-t", kind], &[&[node, property], values].concat())
}

fn fdtput(tree: &Path, options: &[&str], words: &[&str]) -> Result<()> {
    let mut command = Command::new("fdtput");
    command.args(options).arg(tree).args(words);
    tool::run(&mut command, "device-tree-compiler")
        .with_context(|| format!("setting {} in the device tree", words.join(" ")))
}
