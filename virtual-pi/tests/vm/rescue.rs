//! The rescue, over HTTP boot, from outside by the system's own `ssh`: log in, look around, break it.

use crate::site::{LIMIT, Server, kill_9, ssh, ssh_ok, wait, wait_console};

tests![
    a_rescue_answers_ssh_and_tells_what_it_is,
    every_child_killed_comes_back,
    an_unknown_parameter_is_named_and_ends_in_the_rescue,
    a_dead_kernel_is_reset_by_the_watchdog,
];

fn a_rescue_answers_ssh_and_tells_what_it_is() {
    let server = Server::start();
    let machine = server.power_on(&format!("lifeboat.server={}", server.url("")));
    let banner = machine.ssh_banner(LIMIT).unwrap();
    assert!(banner.starts_with("SSH-2.0-"), "{banner}");
    let status: serde_json::Value = serde_json::from_str(&ssh_ok(&machine, "rescue status --json")).unwrap();
    let text = status.to_string();
    for part in ["Raspberry Pi 4 Model B", "10000000abcdef01", "10.0.2.15"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    wait(&machine, "rescue", |status| status.step == "rescue");
    assert_eq!(ssh(&machine, "echo out; echo err >&2; exit 7").status.code(), Some(7));
    assert!(ssh_ok(&machine, "cat /proc/1/comm").contains("init"));
    // PID 1 may never be killed for memory; what people start may.
    let scores = ssh_ok(&machine, "cat /proc/1/oom_score_adj /proc/self/oom_score_adj");
    assert_eq!(scores.split_whitespace().collect::<Vec<_>>(), ["-1000", "0"]);
    // Nothing private came with the image: the host key was made here.
    let console = machine.console();
    let fingerprint = ssh_ok(&machine, "cat /run/lifeboat/ssh_host_ed25519_key.fingerprint");
    assert!(fingerprint.starts_with("SHA256:") && console.contains(fingerprint.trim()), "{console}");
    // The boot server was told.
    server.wait_for_devices("10000000abcdef01");
    server.wait_for_devices("\"rescue\"");
    // Invariant 4: no disk was touched, and the tools are there.
    for tool in ["e2fsck -V", "cryptsetup --version", "rsync --version", "btrfs --version", "lsblk"] {
        ssh_ok(&machine, &format!("{tool} 2>&1"));
    }
}

/// Invariant 1. Each child is killed as the out-of-memory killer would, and PID 1 as anybody might try.
fn every_child_killed_comes_back() {
    let server = Server::start();
    let machine = server.power_on("");
    wait(&machine, "rescue", |status| status.step == "rescue");
    for (name, pattern) in [("boot", "init boot"), ("devices", "init devices"), ("network", "init network")] {
        let mark = machine.mark();
        assert!(kill_9(&machine, pattern).status.success());
        let line = format!("{name} ended \\(SIGKILL\\)");
        machine
            .wait_for_console_after(mark, &line, LIMIT)
            .unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
    // sshd takes this session with it.
    let mark = machine.mark();
    kill_9(&machine, "rescue sshd");
    machine.wait_for_console_after(mark, "sshd ended \\(SIGKILL\\)", LIMIT).unwrap();
    for signal in ["KILL", "SEGV", "HUP", "QUIT", "STOP", "PIPE"] {
        ssh_ok(&machine, &format!("kill -{signal} 1"));
    }
    assert_eq!(ssh_ok(&machine, "echo $((6 * 7))").trim(), "42");
    let reports = machine.reports();
    assert!(
        reports.iter().filter(|status| status.step == "rescue").count() >= 2,
        "the boot went through again"
    );
    assert!(!machine.console().contains("Kernel panic"));
}

fn an_unknown_parameter_is_named_and_ends_in_the_rescue() {
    let server = Server::start();
    let append = format!("root=live:{} lifeboat.ovrelay=1G", server.url("tiny.squashfs"));
    let machine = server.power_on(&append);
    let status = wait(&machine, "rescue", |status| status.step == "rescue" && status.last_error.is_some());
    assert!(status.last_error.unwrap().error.contains("lifeboat.ovrelay=1G"));
    assert!(ssh_ok(&machine, "rescue status").contains("lifeboat.ovrelay"), "the human sees it too");
}

/// Without its food the watchdog resets the machine: the kernel is made to panic, and told to stay so.
fn a_dead_kernel_is_reset_by_the_watchdog() {
    let server = Server::start();
    let machine = server.power_on_with("panic=0", |options| options.watchdog = true);
    wait_console(&machine, "feeding the watchdog /dev/watchdog0");
    ssh(&machine, "(sleep 1; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &");
    wait_console(&machine, "Kernel panic");
    let end = machine.wait_for_end(LIMIT).unwrap();
    assert!(matches!(end, virtual_pi::machine::End::Watchdog), "{end}");
}
