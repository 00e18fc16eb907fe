//! The kernel crashes, the machine starts anew, and the next boot tells of it.

use crate::site::{LIMIT, Server, ssh, ssh_ok, wait};
use virtual_pi::machine::Machine;

tests![a_crash_is_told_in_the_next_boot,];

const PANIC: &str = "Kernel panic - not syncing: sysrq triggered crash";

fn a_crash_is_told_in_the_next_boot() {
    let server = Server::start();
    let append = format!("lifeboat.server={} panic=1", server.url(""));
    let machine = server.power_on_with(&append, |options| {
        options.ramoops = true;
        options.reboots = true;
    });
    wait(&machine, "rescue", |status| status.step == "rescue");
    assert!(!ssh_ok(&machine, "rescue status").contains("an earlier boot"), "{}", machine.console());
    restart(&machine, "rescue reboot --yes", "reboot: Restarting system");
    assert!(!ssh_ok(&machine, "rescue status").contains("an earlier boot"), "a clean restart is no crash");
    let mark = machine.mark();
    restart(&machine, "(sleep 1; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &", PANIC);
    let told = format!("lifeboat: an earlier boot crashed: .*{PANIC}");
    machine
        .wait_for_console_after(mark, &told, LIMIT)
        .unwrap_or_else(|error| panic!("{error:#}\nconsole:\n{}", machine.console()));
    let status = ssh_ok(&machine, "rescue status");
    assert!(status.contains("an earlier boot crashed"), "{status}");
    let log = ssh_ok(&machine, "rescue log --crash");
    assert!(log.contains("== dmesg-ramoops-0") && log.contains(PANIC), "{log}");
    server.wait_for_devices(PANIC);
    restart(&machine, "rescue reboot --yes", "reboot: Restarting system");
    assert!(!ssh_ok(&machine, "rescue status").contains("an earlier boot"), "it is told once");
}

/// Runs what ends this boot, and waits for the next one.
fn restart(machine: &Machine, command: &str, last_words: &str) {
    let mark = machine.mark();
    ssh(machine, command);
    let ended = machine.wait_for_console_after(mark, last_words, LIMIT);
    ended.unwrap_or_else(|error| panic!("{error:#}\nconsole:\n{}", machine.console()));
    let mark = machine.mark();
    machine.wait_for_report_after(mark, |status| status.step == "rescue", LIMIT).unwrap();
}
