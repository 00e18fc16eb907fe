//! The same image on QEMU's `raspi4b`: the Pi 4's own device tree, interrupt controller and UART. The network is a USB
//! adapter, since QEMU has no GENET; what needs a real board is in `docs/hardware.md`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod site;

use site::{Images, LIMIT, ssh_ok};
use virtual_pi::board::{Board, Pi, Serial};
use virtual_pi::bootloader::{load_unsigned, log::Log};
use virtual_pi::machine::{Machine, Model, Options};

#[test]
fn the_rescue_reaches_its_ssh_prompt_on_raspi4b() {
    let image = std::fs::read(Images::get().rescue.join("boot.img")).unwrap();
    let pi = Pi::new(Board::Pi4B, Serial::default(), 2048);
    let boot = load_unsigned(&pi, &image, &mut Log::to_stderr()).unwrap();
    let mut options = Options::new(pi, boot);
    options.model = Model::Raspi4B;
    options.time_limit = LIMIT * 2;
    // QEMU's watchdog resets as soon as it is opened.
    options.append = "lifeboat.watchdog=off".into();
    let machine = Machine::start(&options).unwrap();
    let status: serde_json::Value = serde_json::from_str(&ssh_ok(&machine, "rescue status --json")).unwrap();
    assert!(status.to_string().contains("Raspberry Pi 4 Model B"), "{status}");
    // Drivers of the real hardware, loaded by its device tree.
    let modules = ssh_ok(&machine, "lsmod");
    for module in ["dwc2", "cdc_ether", "bcm2835_wdt"] {
        assert!(modules.contains(module), "{module} in\n{modules}");
    }
}
