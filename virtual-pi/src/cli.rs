//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use init::mac::Mac;

use crate::board::{Board, Pi, Serial};
use crate::machine::Forward;

/// In seconds; no time on the command line is longer.
const YEAR: u64 = 365 * 24 * 3600;

/// A Raspberry Pi 4 that is not there: loads boot files as its bootloader does, refuses what it would refuse, and runs the
/// rest in QEMU.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Exit status: 0 the guest ended by itself; 1 virtual-pi failed; 2 wrong usage; 10 no boot files (404); 11 download failed; 15 no address by DHCP; 12 signature; 13 file system or firmware; 14 kernel, device tree or initramfs; 20 time limit; 21 QEMU ended by itself; 22 watchdog; 130 a signal. See docs/virtual-pi.md."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the shell's completion script.
    Completions {
        /// The shell to complete for.
        shell: clap_complete::Shell,
    },
    /// Boot over the network, as its EEPROM says, and run the result.
    Run(Run),
    /// Check boot files without running them: what would the real Pi refuse?
    Check(Check),
    /// Run a boot.img on QEMU's raspi4b, with the Pi 4's own device tree.
    Raspi4b(Raspi4b),
}

/// Which Pi to play.
#[derive(Debug, Args)]
pub struct Identity {
    /// The board.
    #[arg(long, value_enum, default_value = "4b")]
    pub board: Board,
    /// The serial number, up to 16 hexadecimal digits.
    #[arg(long, value_name = "HEX", default_value_t)]
    pub serial: Serial,
    /// The Ethernet address; without it, one that follows from the serial number.
    #[arg(long)]
    pub mac: Option<Mac>,
}

impl Identity {
    /// The Pi, with so much RAM in MiB.
    pub fn pi(&self, memory: u32) -> Pi {
        let pi = Pi::new(self.board, self.serial, memory);
        Pi { mac: self.mac.unwrap_or(pi.mac), ..pi }
    }
}

/// What is around a running machine.
#[derive(Debug, Args)]
pub struct Surroundings {
    /// The port of 127.0.0.1 that leads to the guest's port 22; 0 chooses a free one.
    #[arg(long, value_name = "PORT")]
    pub ssh_port: Option<u16>,
    /// A port of 127.0.0.1 and the guest's TCP port that it leads to; may be given several times.
    #[arg(long, value_name = "HOST:GUEST", value_parser = forward)]
    pub forward: Vec<Forward>,
    /// A disk, raw or qcow2, that the guest may write to; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub disk: Vec<PathBuf>,
    /// Where the serial console goes: a file, or - for standard output.
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    pub console: PathBuf,
    /// Kill the machine after so many seconds, whatever it does.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=YEAR))]
    pub time_limit: u64,
    /// Words to add to the kernel's command line. A tool for tests: a real Pi has no such thing.
    #[arg(long, value_name = "WORDS", default_value = "")]
    pub append: String,
    /// Drop what the guest sends for so many seconds, so that it gets no address until then.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=YEAR))]
    pub no_dhcp_for: u64,
    /// QEMU.
    #[arg(long, value_name = "PROGRAM", default_value = "qemu-system-aarch64")]
    pub qemu: PathBuf,
}

/// `virtual-pi run`
#[derive(Debug, Args)]
pub struct Run {
    /// The EEPROM: an image (pieeprom.bin, as `boot-files eeprom edit` makes it) or the text of a bootconf.txt.
    #[arg(long, value_name = "FILE", required_unless_present = "http_host")]
    pub eeprom: Option<PathBuf>,
    /// The EEPROM's cacert.der, where --eeprom is no image.
    #[arg(long, value_name = "FILE", requires = "eeprom")]
    pub cacert: Option<PathBuf>,
    /// Without --eeprom: boot over HTTP alone, from this HTTP_HOST.
    #[arg(long, value_name = "HOST", conflicts_with = "eeprom")]
    pub http_host: Option<String>,
    /// The EEPROM's HTTP_PORT.
    #[arg(long, value_name = "PORT", default_value_t = 80, conflicts_with = "eeprom")]
    pub http_port: u16,
    /// The EEPROM's HTTP_PATH.
    #[arg(long, value_name = "PATH", default_value = "", conflicts_with = "eeprom")]
    pub http_path: String,
    /// The EEPROM's public key, PEM; of an image of --eeprom its own, where none is given.
    #[arg(long, value_name = "FILE", required_unless_present = "eeprom")]
    pub public_key: Option<PathBuf>,
    /// Plug the Pi's cable into this bridge, for DHCP, TFTP and HTTP as a real one (needs root). Without it, HTTP goes over this
    /// machine's network, and the guest has QEMU's own.
    #[arg(long, value_name = "BRIDGE", conflicts_with_all = ["ssh_port", "forward"])]
    pub bridge: Option<String>,
    /// Which Pi.
    #[command(flatten)]
    pub identity: Identity,
    /// RAM in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(128..=8192))]
    pub memory: u32,
    /// Cores.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub cpus: u8,
    /// Copy each line of the report port to a file.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Give the machine a watchdog (i6300esb).
    #[arg(long)]
    pub watchdog: bool,
    /// What is around it.
    #[command(flatten)]
    pub surroundings: Surroundings,
}

/// `virtual-pi check`
#[derive(Debug, Args)]
pub struct Check {
    /// A folder with boot.sig and boot.img, or a boot.img with its boot.sig beside it.
    #[arg(value_name = "DIR|BOOT.IMG")]
    pub files: PathBuf,
    /// The EEPROM's public key, PEM.
    #[arg(long, value_name = "FILE")]
    pub public_key: PathBuf,
    /// Which Pi.
    #[command(flatten)]
    pub identity: Identity,
    /// Print what would be started as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `virtual-pi raspi4b`
#[derive(Debug, Args)]
pub struct Raspi4b {
    /// The boot.img. Its signature is not asked for.
    #[arg(long, value_name = "FILE")]
    pub boot_img: PathBuf,
    /// A device tree other than the one in boot.img.
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
    /// Which Pi.
    #[command(flatten)]
    pub identity: Identity,
    /// What is around it.
    #[command(flatten)]
    pub surroundings: Surroundings,
}

fn forward(text: &str) -> Result<Forward, String> {
    let ports = text
        .split_once(':')
        .and_then(|(host, guest)| Some(Forward { host: host.parse().ok()?, guest: guest.parse().ok()? }));
    ports.filter(|ports| ports.guest != 0).ok_or_else(|| "not two ports like 8080:80".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn forwards() {
        assert_eq!(forward("8080:80"), Ok(Forward { host: 8080, guest: 80 }));
        assert_eq!(forward("0:80"), Ok(Forward { host: 0, guest: 80 }));
        for wrong in ["", "80", ":80", "80:", "80:0", "65536:1", "a:b"] {
            assert!(forward(wrong).is_err(), "{wrong}");
        }
    }
}
