//! What each command does.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use boot_files::eeprom::boot_order::BootOrder;
use boot_files::eeprom::image;
use clap::CommandFactory;
use serde_json::json;

use crate::board::Pi;
use crate::bootloader::eeprom::Eeprom;
use crate::bootloader::firmware::Boot;
use crate::bootloader::http::Source;
use crate::bootloader::log::Log;
use crate::bootloader::modes::{self, Cable};
use crate::bootloader::refusal::{Kind, Refusal};
use crate::bootloader::signature::PublicKey;
use crate::bootloader::{self, IMAGE_LIMIT, SIG_LIMIT};
use crate::cli::{Arguments, Check, Command, Raspi4b, Run, Surroundings};
use crate::interrupt::Interrupt;
use crate::machine::{End, Forward, Machine, Model, Options, Sinks};
use crate::wire::{Stack, Tap};

/// The exit code when the time limit ended it.
const TIME_LIMIT_REACHED: u8 = 20;

/// Runs a command and gives its exit code.
///
/// # Errors
/// When virtual-pi itself fails. What the Pi would refuse is no error: it has been logged, and has its exit code.
pub fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Completions { shell } => {
            print_completions(*shell);
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(command) => run_by_eeprom(command),
        Command::Check(command) => check(command),
        Command::Raspi4b(command) => raspi4b(command),
    }
}

/// Prints what a shell completes. clap_complete 4.6 makes two names of a program's with a hyphen, so that bash finds no flag
/// behind a command (`tests/completions.rs`).
fn print_completions(shell: clap_complete::Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "virtual-pi", &mut script);
    print!("{}", String::from_utf8_lossy(&script).replace("virtual__subcmd__pi", "virtual__pi"));
}

fn run_by_eeprom(command: &Run) -> Result<ExitCode> {
    let pi = command.identity.pi(command.memory);
    let eeprom = eeprom(command, &pi)?;
    let interrupt = Interrupt::new()?;
    let sinks = Sinks {
        console: Some(console(&command.surroundings.console)?),
        reports: command.report.as_deref().map(create).transpose()?,
    };
    let tap = command.bridge.as_deref().map(Tap::plug_into).transpose()?;
    tap.iter().for_each(|tap| interrupt.plugged(tap.name()));
    let mut cable = match &tap {
        None => Cable::Host,
        Some(tap) => {
            let stack = Stack::open(tap, pi.mac).context("opening the Pi's end of its cable")?;
            Cable::Own(Box::new(stack))
        }
    };
    let mut log = Log::to_stderr();
    let end = Instant::now() + Duration::from_secs(command.surroundings.time_limit);
    let booted = match modes::boot(&pi, &eeprom, &mut cable, end, &mut log) {
        Ok(booted) => booted,
        Err(refusal) => {
            if Instant::now() >= end {
                log.note(format_args!("the time limit is over while it loads: {refusal}"));
                return Ok(ExitCode::from(TIME_LIMIT_REACHED));
            }
            log.note(format_args!("no boot mode is left: {refusal}"));
            return Ok(refused(&refusal));
        }
    };
    // From here on the cable is QEMU's.
    drop(cable);
    let mut options = Options::new(pi, booted.boot);
    options.boot_mode = booted.mode;
    options.tap = tap.as_ref().map(|tap| tap.name().to_owned());
    options.cpus = command.cpus;
    options.watchdog = command.watchdog;
    log.note("the kernel gets the virt machine's own device tree with the Pi's model, serial number and bootloader facts");
    options.time_limit = end.saturating_duration_since(Instant::now());
    start(options, &command.surroundings, sinks, &interrupt, log)
}

/// The settings of `--eeprom`, or of the flags that stand for it.
fn eeprom(command: &Run, pi: &Pi) -> Result<Eeprom> {
    let mut eeprom = match (&command.eeprom, &command.http_host) {
        (Some(path), _) => {
            let bytes = read_limited(path, image::LARGEST as u64)?;
            let authority =
                command.cacert.as_deref().map(|path| read_limited(path, SIG_LIMIT)).transpose()?;
            Eeprom::read(&bytes, pi, authority.as_deref())
                .map_err(|why| anyhow!("{}: {why}", path.display()))?
        }
        (None, host) => {
            let host = host.as_deref().unwrap_or_default();
            let source =
                Source::new(host, command.http_port, &command.http_path).map_err(|why| anyhow!(why))?;
            Eeprom { http: Some(source), boot_order: BootOrder::HTTP, ..Eeprom::default() }
        }
    };
    if let Some(path) = &command.public_key {
        eeprom.public_key = Some(read_key(path)?);
    }
    Ok(eeprom)
}

fn raspi4b(command: &Raspi4b) -> Result<ExitCode> {
    let interrupt = Interrupt::new()?;
    let image = read_limited(&command.boot_img, IMAGE_LIMIT)?;
    let sinks = Sinks { console: Some(console(&command.surroundings.console)?), reports: None };
    let pi = command.identity.pi(2048);
    let mut log = Log::to_stderr();
    let mut boot = match bootloader::load_unsigned(&pi, &image, &mut log) {
        Ok(boot) => boot,
        Err(refusal) => return Ok(refused(&refusal)),
    };
    if let Some(dtb) = &command.dtb {
        boot.device_tree = read_limited(dtb, 1 << 20)?;
    }
    let mut options = Options::new(pi, boot);
    options.model = Model::Raspi4B;
    options.time_limit = Duration::from_secs(command.surroundings.time_limit);
    log.note(
        "QEMU's raspi4b has no Ethernet and no PCIe: the network is a USB card, and there is no report port",
    );
    start(options, &command.surroundings, sinks, &interrupt, log)
}

/// Starts a machine and stays until it ends.
fn start(
    mut options: Options,
    around: &Surroundings,
    sinks: Sinks,
    interrupt: &Interrupt,
    mut log: Log,
) -> Result<ExitCode> {
    options.append.clone_from(&around.append);
    options.disks.clone_from(&around.disk);
    options.forwards = around
        .ssh_port
        .map(|host| Forward { host, guest: 22 })
        .into_iter()
        .chain(around.forward.iter().copied())
        .collect();
    options.no_dhcp_for = Duration::from_secs(around.no_dhcp_for);
    options.qemu.clone_from(&around.qemu);
    if !around.append.is_empty() {
        log.note(format_args!("added to the command line, which no real Pi does: {}", around.append));
    }
    log.note(format_args!("command line: {} {}", options.boot.command_line, options.append));
    interrupt.starting();
    let machine = Machine::start_with(&options, sinks)?;
    interrupt.running(machine.killer());
    for forward in &options.forwards {
        let host = machine.host_port(forward.guest).unwrap_or(forward.host);
        log.note(format_args!("127.0.0.1:{host} leads to the guest's port {}", forward.guest));
    }
    let end = machine.wait_for_end(options.time_limit + Duration::from_secs(60))?;
    let usage = machine.usage();
    log.note(format_args!(
        "{end}; QEMU used {:.1} s of processor time and {} MiB at most",
        usage.cpu_seconds,
        usage.peak_rss >> 20
    ));
    for line in machine.bad_reports() {
        log.note(format_args!("a line on the report port is no status: {line}"));
    }
    Ok(ExitCode::from(match end {
        End::PowerOff | End::Reset => 0,
        End::TimeLimit => TIME_LIMIT_REACHED,
        End::Qemu(_) => 21,
        End::Watchdog => 22,
        End::Killed => 130,
    }))
}

fn check(command: &Check) -> Result<ExitCode> {
    let image = if command.files.is_dir() { command.files.join("boot.img") } else { command.files.clone() };
    let sig = image.with_file_name("boot.sig");
    let key = read_key(&command.public_key)?;
    let pi = command.identity.pi(1024);
    let mut log = Log::to_stderr();
    if let Some(missing) = [&sig, &image].into_iter().find(|file| !file.exists()) {
        log.line(format_args!("Error 6 loading {}", missing.display()));
        return Ok(ExitCode::from(Kind::NotFound.exit_code()));
    }
    // One byte more than is taken, so that it is the check that refuses.
    let (image, sig) = (read_limited(&image, IMAGE_LIMIT + 1)?, read_limited(&sig, SIG_LIMIT + 1)?);
    let boot = match bootloader::check_files(&pi, &image, &sig, &key, &mut log) {
        Ok(boot) => boot,
        Err(refusal) => return Ok(refused(&refusal)),
    };
    let mut out = std::io::stdout();
    let text = if command.json { summary_json(&boot) } else { summary(&boot, pi.board.model()) };
    writeln!(out, "{text}").context("writing to standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn summary(boot: &Boot, model: &str) -> String {
    let Boot { kernel, initramfs, command_line, device_tree } = boot;
    format!(
        "A {model} would boot this.\nkernel       {} bytes\ninitramfs    {} bytes\ndevice tree  {} bytes\ncommand line {command_line}",
        kernel.len(),
        initramfs.len(),
        device_tree.len()
    )
}

fn summary_json(boot: &Boot) -> String {
    json!({
        "kernel_bytes": boot.kernel.len(),
        "initramfs_bytes": boot.initramfs.len(),
        "device_tree_bytes": boot.device_tree.len(),
        "command_line": boot.command_line,
    })
    .to_string()
}

fn refused(refusal: &Refusal) -> ExitCode {
    ExitCode::from(refusal.kind.exit_code())
}

fn read_key(path: &Path) -> Result<PublicKey> {
    let pem =
        fs::read_to_string(path).with_context(|| format!("reading the public key {}", path.display()))?;
    PublicKey::from_pem(&pem).map_err(|why| anyhow!("the public key {}: {why}", path.display()))
}

fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    if !file.metadata().with_context(|| format!("reading {}", path.display()))?.is_file() {
        bail!("{} is not a file", path.display());
    }
    file.take(limit).read_to_end(&mut content).with_context(|| format!("reading {}", path.display()))?;
    Ok(content)
}

fn console(path: &Path) -> Result<Box<dyn Write + Send>> {
    if path.as_os_str() == "-" { Ok(Box::new(std::io::stdout())) } else { create(path) }
}

fn create(path: &Path) -> Result<Box<dyn Write + Send>> {
    Ok(Box::new(File::create(path).with_context(|| format!("making {}", path.display()))?))
}
