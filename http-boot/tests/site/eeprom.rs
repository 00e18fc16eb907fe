//! The role pi_eeprom, with a real flashrom whose chip is a file: its dummy programmer.

use std::path::PathBuf;

use crate::machine::{ADDRESS, Machine, repository};
use crate::playbook::{self, at_the_site, changed, prepare};

/// A chip of 512 KiB, as a Pi 4 has.
const CHIP: &str = "dummy:emulate=SST25VF040.REMS,image=/root/chip.bin";
/// One of the two that flashrom finds in it.
const MODEL: &str = "SST25LF040A";

fn data(name: &str) -> PathBuf {
    repository().join("boot-files/tests/data/eeprom").join(name)
}

fn inventory() -> String {
    format!(
        "all:
  children:
    pis:
      hosts:
        door:
          ansible_host: {ADDRESS}
          ansible_user: person
      vars:
        pi_eeprom_plan: plan/ansible
        pi_eeprom_public_key: {}
        pi_eeprom_device_tree: /root/tree
        pi_eeprom_programmer: {CHIP}
        pi_eeprom_flashrom: [-c, {MODEL}]
",
        data("public.pem").display()
    )
}

/// A Pi with a stock image in its chip, and a plan beside it.
fn pi() -> Machine {
    let machine = Machine::boot();
    prepare(&machine, &inventory());
    let stock = data("pieeprom-2711-2026-05-17.bin");
    machine.put(&stock, "/root/chip.bin");
    machine
        .on("mkdir /root/tree; printf 'raspberrypi,4-compute-module\\0brcm,bcm2711\\0' >/root/tree/compatible; printf '10000000abcdef01\\0' >/root/tree/serial-number")
        .unwrap();
    plan(&machine, "--board cm4 --http-host boot.example.net --http-path pi/rescue");
    machine
}

fn plan(machine: &Machine, words: &str) {
    let (stock, key) = (data("pieeprom-2711-2026-05-17.bin"), data("public.pem"));
    let line = format!(
        "rm -rf plan; boot-files eeprom plan --image {} -p {} {words} -o plan",
        stock.display(),
        key.display()
    );
    at_the_site(machine, &line).unwrap();
}

fn chip(machine: &Machine) -> String {
    machine.on("sha256sum /root/chip.bin | cut -c 1-64").unwrap().trim().to_owned()
}

fn wanted(machine: &Machine) -> String {
    machine.here("sha256sum plan/ansible/pieeprom.bin | cut -c 1-64").unwrap().trim().to_owned()
}

#[test]
fn an_eeprom_is_written_once_and_only_where_that_is_safe() {
    let machine = pi();
    let stock = chip(&machine);
    refuses(&machine, &stock);
    let check = at_the_site(&machine, &playbook::check()).unwrap();
    assert!(changed(&check) > 0 && check.contains("BOOT_ORDER=0xf617"), "{check}");
    assert_eq!(chip(&machine), stock, "{check}");
    machine.on("test ! -e /var/backups/pi-eeprom && test ! -e /run/pi-eeprom").unwrap();
    a_check_without_flashrom_says_so(&machine);
    two_runs_do_not_meet(&machine, &stock);

    a_write_that_breaks_says_where_the_backup_is(&machine, &stock);
    run_again_on_the_broken_chip(&machine, &stock);
    let second = at_the_site(&machine, &playbook::run()).unwrap();
    assert_eq!(changed(&second), 0, "{second}");
    back_again(&machine, &stock);
}

/// Nothing of these touches the chip.
fn refuses(machine: &Machine, stock: &str) {
    let run = |extra: &str| at_the_site(machine, &format!("{} {extra}", playbook::run()));
    let refused = |what: &str, word: &str, extra: &str| {
        let run = run(extra);
        assert!(!run.ok && run.text.contains(word), "{what}: {}", run.text);
        assert_eq!(chip(machine), stock, "{what}");
    };
    // The network after a disk: out of reach on a CM4.
    plan(machine, "--board cm4 --http-host boot.example.net --boot-order 0xf71");
    refused("an unsafe order", "BOOT_ORDER=0xf71", "");
    plan(machine, "--board cm4 --http-host boot.example.net --http-path pi/rescue");
    refused("another kind of Pi", "bcm2712", "-e pi_eeprom_soc=bcm2712");
    machine.here("cp plan/ansible/pieeprom.bin good; printf x | dd of=plan/ansible/pieeprom.bin bs=1 seek=9000 conv=notrunc status=none").unwrap();
    refused("a damaged image", "not the image of the plan", "");
    machine.here("mv good plan/ansible/pieeprom.bin").unwrap();
    machine.on("cp chip.bin stock.bin; head -c 524288 /dev/zero >chip.bin").unwrap();
    let run = run("");
    assert!(!run.ok && run.text.contains("no image of a bcm2711"), "{}", run.text);
    machine.on("mv stock.bin chip.bin").unwrap();
}

fn a_check_without_flashrom_says_so(machine: &Machine) {
    machine.on("mv /usr/sbin/flashrom /root/").unwrap();
    let check = at_the_site(machine, &playbook::check()).unwrap();
    assert!(check.contains("there is no flashrom on door yet") && changed(&check) > 0, "{check}");
    machine.on("mv /root/flashrom /usr/sbin/").unwrap();
}

/// A run whose connection broke is still at work: another one writes nothing, and leaves it its folder.
fn two_runs_do_not_meet(machine: &Machine, stock: &str) {
    machine
        .on("mkdir /run/pi-eeprom; touch /run/pi-eeprom/new.bin
            systemd-run --quiet --unit=other flock /run/pi-eeprom.lock sleep infinity
            timeout 30 sh -c 'while flock -n /run/pi-eeprom.lock true; do sleep 0.1; done'")
        .unwrap();
    let run = at_the_site(machine, &playbook::run());
    assert!(!run.ok && run.text.contains("another run still"), "{}", run.text);
    assert_eq!(chip(machine), stock);
    machine.on("test -e /run/pi-eeprom/new.bin; systemctl stop other").unwrap();
}

/// The chip takes no byte: flashrom's dummy leaves out the command that writes one (02h), and the other (adh).
fn a_write_that_breaks_says_where_the_backup_is(machine: &Machine, stock: &str) {
    let broken = format!("-e 'pi_eeprom_programmer={CHIP},spi_ignorelist=02ad'");
    let backup = format!("10000000abcdef01-{}.bin", &stock[..12]);
    // The second time what is in the chip is no image any more.
    for time in ["first", "second"] {
        let run = at_the_site(machine, &format!("{} {broken}", playbook::run()));
        assert!(!run.ok && run.text.contains("DO NOT REBOOT"), "{time}: {}", run.text);
        assert!(run.text.contains(&format!("/var/backups/pi-eeprom/{backup}")), "{time}: {}", run.text);
        assert!(run.text.contains(&format!("-c {MODEL} -w FILE")), "{time}: {}", run.text);
        assert_ne!(chip(machine), stock, "it broke in the middle: {}", run.text);
    }
    // Both copies are what was there.
    machine.here(&format!("sha256sum eeprom-backups/{backup} | grep {stock}")).unwrap();
    machine.on(&format!("sha256sum /var/backups/pi-eeprom/{backup} | grep {stock}")).unwrap();
}

/// What the message asks for first.
fn run_again_on_the_broken_chip(machine: &Machine, stock: &str) {
    let backup = format!("10000000abcdef01-{}.bin", &stock[..12]);
    let here = format!("eeprom-backups/{backup}");
    let there = format!("/var/backups/pi-eeprom/{backup}");
    machine.on(&format!("echo damaged >>{there}")).unwrap();
    machine.here(&format!("cp {here} whole; echo damaged >>{here}")).unwrap();
    let run = at_the_site(machine, &playbook::run());
    assert!(!run.ok && run.text.contains("neither whole"), "{}", run.text);
    assert_ne!(chip(machine), wanted(machine), "{}", run.text);
    // One whole copy is enough, and mends the other.
    machine.here(&format!("mv whole {here}")).unwrap();

    let first = at_the_site(machine, &playbook::run()).unwrap();
    assert_eq!(chip(machine), wanted(machine), "{first}");
    let left = machine.on("ls /var/backups/pi-eeprom").unwrap();
    assert_eq!(left.trim(), backup, "one copy, and no marker");
    machine.on("test ! -e /run/pi-eeprom").unwrap();
}

/// The way back, which the message names: from the copy on the Pi.
fn back_again(machine: &Machine, stock: &str) {
    let backup = format!("/var/backups/pi-eeprom/10000000abcdef01-{}.bin", &stock[..12]);
    machine.on(&format!("flashrom -p {CHIP} -c {MODEL} -w {backup}")).unwrap();
    assert_eq!(chip(machine), stock);
}
