//! What machine to make, and QEMU's words for it.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::line::{self, Line};
use crate::board::Pi;
use crate::bootloader::firmware::Boot;

/// Which of QEMU's machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// `virt`: fast, with virtio devices. The device tree is QEMU's, with what a Pi's firmware adds.
    Virt,
    /// `raspi4b`: the Pi 4's own device tree and peripherals, as far as QEMU has them. 2 GiB and 4 cores, always.
    Raspi4B,
}

/// A TCP port of the guest that the host reaches on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The host's port; 0 for a free one.
    pub host: u16,
    /// The guest's.
    pub guest: u16,
}

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which Pi it plays.
    pub pi: Pi,
    /// What is in memory when it starts.
    pub boot: Boot,
    /// By which boot mode that was loaded: its number in `BOOT_ORDER`.
    pub boot_mode: u32,
    /// Which of QEMU's machines plays it.
    pub model: Model,
    /// Cores.
    pub cpus: u8,
    /// Words after the command line; a real Pi has no such thing.
    pub append: String,
    /// The tap device that the network card is plugged into; without one, QEMU's user network.
    pub tap: Option<String>,
    /// Ports of the guest that the host can reach. There are none with a tap device.
    pub forwards: Vec<Forward>,
    /// Disks, raw or qcow2. The guest writes to them.
    pub disks: Vec<PathBuf>,
    /// Whether there is a watchdog (i6300esb).
    pub watchdog: bool,
    /// Whether the device tree sets RAM aside for the last words of a crash (a `ramoops` node), which outlive a reset.
    pub ramoops: bool,
    /// Whether the machine goes on after a reset, with what is in memory, instead of ending.
    pub reboots: bool,
    /// What a battery-backed clock says at the start, as QEMU's `-rtc base=` takes it; `None`: there is none, as on a Pi 4.
    pub battery_clock: Option<String>,
    /// For how long after the start what the guest sends is dropped, so that it gets no address.
    pub no_dhcp_for: Duration,
    /// What is wrong with the line to the network, if something is.
    pub line: Option<Line>,
    /// Whether the network card is there from the start; otherwise [`super::Machine::plug_card_in`] brings it.
    pub card: bool,
    /// When the machine is killed, whatever it does.
    pub time_limit: Duration,
    /// QEMU.
    pub qemu: PathBuf,
    /// Further words for QEMU.
    pub qemu_arguments: Vec<OsString>,
}

/// Where a card is plugged in later.
pub(super) const SLOT: &str = "later";
/// `BOOT_ORDER`'s number for HTTP.
const BOOT_MODE_HTTP: u32 = 7;
/// The time limit where none is given.
pub const TIME_LIMIT: Duration = Duration::from_secs(3600);

impl Options {
    /// A `virt` machine with two cores and an SSH port, that lives for an hour at most.
    pub fn new(pi: Pi, boot: Boot) -> Self {
        Self {
            pi,
            boot,
            boot_mode: BOOT_MODE_HTTP,
            model: Model::Virt,
            cpus: 2,
            append: String::new(),
            tap: None,
            forwards: vec![Forward { host: 0, guest: 22 }],
            disks: Vec::new(),
            watchdog: false,
            ramoops: false,
            reboots: false,
            battery_clock: None,
            no_dhcp_for: Duration::ZERO,
            line: None,
            card: true,
            time_limit: TIME_LIMIT,
            qemu: "qemu-system-aarch64".into(),
            qemu_arguments: Vec::new(),
        }
    }

    /// The words that shape the machine, and with it its device tree.
    pub(super) fn board_arguments(&self) -> Vec<OsString> {
        let words = match self.model {
            Model::Virt => format!("-M virt -cpu cortex-a72 -smp {} -m {}", self.cpus, self.pi.memory),
            Model::Raspi4B => "-M raspi4b -smp 4 -m 2G".into(),
        };
        words.split(' ').map(OsString::from).collect()
    }

    /// All words. `folder` has `kernel`, `initramfs`, `tree.dtb` and the sockets.
    pub(super) fn arguments(&self, folder: &Path) -> Result<Vec<OsString>> {
        let mut words = Words(self.board_arguments());
        // Stopped until the monitor is there, and after its end until that has been seen: a guest may be over before
        // one could ask why.
        words.add("-nodefaults -display none -S -no-shutdown");
        if !self.reboots {
            words.add("-no-reboot");
        }
        words.add("-chardev stdio,id=console,signal=off -serial chardev:console");
        words.add("-mon chardev=qmp,mode=control");
        words.socket("qmp", &folder.join("qmp"));
        words.add("-kernel").file(&folder.join("kernel")).add("-dtb").file(&folder.join("tree.dtb"));
        if !self.boot.initramfs.is_empty() {
            words.add("-initrd").file(&folder.join("initramfs"));
        }
        words.add("-append").word(self.command_line().trim_end());
        self.network(&mut words, folder);
        if self.model == Model::Virt {
            words.add("-device virtio-rng-pci -device virtio-serial-pci");
            words.socket("report", &folder.join("report"));
            words.add("-device virtserialport,chardev=report,name=org.lifeboat.report");
        }
        if self.watchdog {
            words.add("-device i6300esb -action watchdog=reset");
        }
        if let Some(base) = &self.battery_clock {
            words.add("-rtc").word(&format!("base={base}"));
        }
        for (number, disk) in self.disks.iter().enumerate() {
            self.disk(&mut words, number, disk)?;
        }
        words.0.extend(self.qemu_arguments.iter().cloned());
        Ok(words.0)
    }

    /// The kernel's command line.
    fn command_line(&self) -> String {
        let line = format!("{} {}", self.boot.command_line, self.append);
        match self.model {
            Model::Virt => line,
            // QEMU's mini UART as a console hangs user space.
            Model::Raspi4B => line.replace("8250.nr_uarts=1", "8250.nr_uarts=0"),
        }
    }

    fn network(&self, words: &mut Words, folder: &Path) {
        let backend = match &self.tap {
            Some(tap) => format!("tap,id=net,ifname={tap},script=no,downscript=no"),
            None => {
                let forwards =
                    self.forwards.iter().map(|f| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", f.host, f.guest));
                format!("user,id=net{}", forwards.collect::<String>())
            }
        };
        words.add("-netdev").word(&backend);
        // What passes this filter while it is on goes nowhere.
        let status = if self.no_dhcp_for.is_zero() { "off" } else { "on" };
        words.add("-chardev null,id=hole -object");
        words.word(&format!("filter-redirector,id=drop,netdev=net,queue=tx,outdev=hole,status={status}"));
        if self.line.is_some() {
            for queue in line::QUEUES {
                for end in ["in", "out"] {
                    words.socket(&format!("line-{queue}-{end}"), &line::socket(folder, queue, end));
                }
                words.add("-object").word(&format!(
                    "filter-redirector,id=line-{queue},netdev=net,queue={queue},indev=line-{queue}-in,outdev=line-{queue}-out"
                ));
            }
        }
        let mac = self.pi.mac;
        match (self.model, self.card) {
            (Model::Virt, true) => {
                words.add("-device").word(&format!("virtio-net-pci,netdev=net,mac={mac},romfile="))
            }
            // Cards come and go behind a port of their own (QEMU's docs/pcie.txt).
            (Model::Virt, false) => words.add("-device").word(&format!("pcie-root-port,id={SLOT},chassis=1")),
            (Model::Raspi4B, _) => words.add("-device").word(&format!("usb-net,netdev=net,mac={mac}")),
        };
    }

    fn disk(&self, words: &mut Words, number: usize, path: &Path) -> Result<()> {
        let format = disk_format(path)?;
        let node = format!("disk{number}");
        let file = json!({"driver": "file", "filename": path});
        let blockdev = json!({"node-name": node, "driver": format, "file": file, "discard": "unmap"});
        words.add("-blockdev").word(&blockdev.to_string());
        let device = match self.model {
            Model::Virt => "virtio-blk-pci",
            Model::Raspi4B => "sd-card",
        };
        words.add("-device").word(&format!("{device},drive={node}"));
        Ok(())
    }
}

/// A disk's format, by its content: qcow2 has a magic, and all else is raw.
fn disk_format(path: &Path) -> Result<&'static str> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4).read_to_end(&mut start));
    read.with_context(|| format!("reading the disk {}", path.display()))?;
    Ok(if start == b"QFI\xfb" { "qcow2" } else { "raw" })
}

struct Words(Vec<OsString>);

impl Words {
    /// Adds words with spaces between them.
    fn add(&mut self, words: &str) -> &mut Self {
        self.0.extend(words.split(' ').map(OsString::from));
        self
    }

    fn word(&mut self, word: &str) -> &mut Self {
        self.0.push(word.into());
        self
    }

    fn file(&mut self, path: &Path) -> &mut Self {
        self.0.push(path.into());
        self
    }

    /// A character device that connects to a socket of ours.
    fn socket(&mut self, name: &str, path: &Path) {
        // A comma in the path would end it; QEMU reads two as one.
        let path = path.to_string_lossy().replace(',', ",,");
        self.add("-chardev").word(&format!("socket,id={name},path={path}"));
    }
}
