//! A Raspberry Pi 4 that is not there. Receives a network with a boot server on it; hands over a console, an SSH port
//! and an exit code.
//!
//! [`bootloader`] does what the EEPROM and `start4.elf` do up to the first instruction of the kernel; [`machine`] runs
//! the result in QEMU. Tests use both:
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use virtual_pi::board::{Board, Pi, Serial};
//! use virtual_pi::bootloader::{http::Source, http_boot, log::Log, signature::PublicKey};
//! use virtual_pi::machine::{Machine, Options};
//!
//! let pi = Pi::new(Board::Pi4B, Serial::default(), 1024);
//! let source = Source::new("127.0.0.1", 8080, "pi").map_err(anyhow::Error::msg)?;
//! let key = PublicKey::from_pem(&std::fs::read_to_string("boot.pub.pem")?).map_err(anyhow::Error::msg)?;
//! let boot = http_boot(&pi, &source, &key, &mut Log::to_stderr())?;
//! let machine = Machine::start(&Options::new(pi, boot))?;
//! machine.wait_for_console("Run /init", Duration::from_secs(60))?;
//! machine.wait_for_report(|status| status.step == "rescue", Duration::from_secs(120))?;
//! println!("{}", machine.ssh_banner(Duration::from_secs(60))?);
//! # Ok(())
//! # }
//! ```

pub mod board;
pub mod bootloader;
pub mod cli;
pub mod commands;
pub mod figures;
pub mod interrupt;
pub mod machine;
pub mod wire;
