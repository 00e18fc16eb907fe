//! The hardware watchdog: a boot that hangs ends in a reset, a person is never reset, and an OS that feeds it gets it
//! running.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::site::images::{folder, make_os, tiny_root};
use crate::site::{Images, LIMIT, Server, ssh, ssh_ok, ssh_options, wait, wait_console};
use virtual_pi::machine::{End, Machine};

tests![
    a_worker_that_hangs_ends_in_a_watchdog_reset,
    nobody_who_is_logged_in_is_reset,
    an_os_that_feeds_it_gets_it_running_and_another_does_not,
];

/// PID 1 counts a silent worker as hanging after 60 s, and QEMU's watchdog bites 30 s later.
const BITES_AFTER: Duration = Duration::from_secs(90);

/// Stops the boot's worker as a hang would: it is there, and does nothing.
const HANG: &str = "kill -STOP $(ps | awk '/init boot$/ { print $1 }')";

fn rescue(server: &Server) -> Machine {
    let machine = server.power_on_with("", |options| {
        options.watchdog = true;
        options.time_limit = LIMIT * 3;
    });
    wait_console(&machine, r"feeding the watchdog /dev/watchdog0 \(.+\) every 5 s; it bites after 30 s");
    wait(&machine, "rescue", |status| status.step == "rescue");
    machine
}

/// Somebody who is logged in, until this is killed.
fn log_in(machine: &Machine) -> Child {
    let mut command = Command::new("ssh");
    command.args(ssh_options(machine)).args(["root@127.0.0.1", "echo here; cat"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ssh (Debian package: openssh-client)")
}

fn a_worker_that_hangs_ends_in_a_watchdog_reset() {
    let server = Server::start();
    let machine = rescue(&server);
    assert!(ssh(&machine, HANG).status.success());
    wait_console(&machine, "the watchdog is fed no more");
    let end = machine.wait_for_end(LIMIT).unwrap();
    assert_eq!(end, End::Watchdog, "{}", machine.console());
}

fn nobody_who_is_logged_in_is_reset() {
    let server = Server::start();
    let machine = rescue(&server);
    let mut person = log_in(&machine);
    ssh_ok(&machine, HANG);
    // Twice the time in which it would have bitten.
    let end = machine.wait_for_end(BITES_AFTER * 2);
    assert!(end.is_err(), "{end:?}: {}", machine.console());
    assert!(!machine.console().contains("is fed no more"), "{}", machine.console());
    ssh_ok(&machine, "pidof cat");
    person.kill().unwrap();
    person.wait().unwrap();
    assert_eq!(machine.wait_for_end(LIMIT).unwrap(), End::Watchdog, "{}", machine.console());
}

/// An OS whose init is called as systemd is, whose configuration tells it to feed the watchdog, and which does so late.
fn os_that_feeds(name: &str, is_told: bool) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let squashfs = folder().join(name);
    let root = tempfile::tempdir_in(folder()).unwrap();
    tiny_root(root.path());
    let init = root.path().join("lib/systemd/systemd");
    std::fs::create_dir_all(init.parent().unwrap()).unwrap();
    std::fs::write(&init, FEEDS_LATE).unwrap();
    std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::remove_file(root.path().join("sbin/init")).unwrap();
    std::os::unix::fs::symlink("../lib/systemd/systemd", root.path().join("sbin/init")).unwrap();
    let drop_in = root.path().join("etc/systemd/system.conf.d/watchdog.conf");
    std::fs::create_dir_all(drop_in.parent().unwrap()).unwrap();
    let seconds = if is_told { "20" } else { "0" };
    std::fs::write(drop_in, format!("[Manager]\nRuntimeWatchdogSec={seconds}\n")).unwrap();
    make_os(root.path(), &squashfs, &Images::get().image_key);
    squashfs
}

/// `timeleft` and `state` are Documentation/ABI/testing/sysfs-class-watchdog's.
const FEEDS_LATE: &str = "#!/bin/busybox sh
b=/bin/busybox
w=/sys/class/watchdog/watchdog0
exec >/dev/console 2>&1
echo \"TEST-OS watchdog $($b cat $w/state) $($b cat $w/timeout)\"
$b sleep 20
echo \"TEST-OS later $($b cat $w/state)\"
exec 3>/dev/watchdog0
echo TEST-OS feeds
while :; do echo . >&3; $b sleep 5; done
";

fn an_os_that_feeds_it_gets_it_running_and_another_does_not() {
    for (name, is_told) in [("feeds.squashfs", true), ("starves.squashfs", false)] {
        let server = Server::start();
        server.put_os(&os_that_feeds(name, is_told));
        let append = format!("root=live:{}", server.url(name));
        let machine = server.power_on_with(&append, |options| options.watchdog = true);
        wait_console(&machine, "feeding the watchdog /dev/watchdog0");
        if is_told {
            wait_console(&machine, "the watchdog stays armed: the OS has 600 s to feed it");
            wait_console(&machine, "TEST-OS watchdog active 600");
            wait_console(&machine, "TEST-OS later active");
        } else {
            wait_console(&machine, "TEST-OS watchdog inactive");
            wait_console(&machine, "TEST-OS later inactive");
        }
        wait_console(&machine, "TEST-OS feeds");
    }
}
