//! A person fills the RAM, by files, by memory, by processes: PID 1 and the SSH server do not notice, and the next login can
//! clear up. And a machine that strangers knock at a thousand times has as much memory as before.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::site::{LIMIT, Server, ssh_ok, ssh_options, wait};
use virtual_pi::machine::Machine;

tests![
    full_ram_and_fork_bombs_in_a_session_take_nobody_else_down,
    nor_do_they_where_the_initramfs_has_no_limit,
    a_thousand_connects_leave_memory_flat,
];

/// What a session does, and how the next login sees that it has come to an end, or to its limits.
const PRESSURE: [(&str, &str, &str); 5] = [
    ("/tmp", "dd if=/dev/zero of=/tmp/fill bs=1M", "! pidof dd && test -s /tmp/fill"),
    ("/run", "dd if=/dev/zero of=/run/fill bs=1M", "! pidof dd && test -s /run/fill"),
    ("/", "dd if=/dev/zero of=/fill bs=1M", "! pidof dd && test -s /fill"),
    ("memory", "dd if=/dev/zero of=/dev/null bs=900M; touch /tmp/hog-ended", "test -e /tmp/hog-ended"),
    (
        "processes",
        "bomb() { bomb | bomb & }; bomb; sleep 1000",
        "cat /sys/fs/cgroup/sessions/ssh-*/pids.events | grep -q 'max [1-9]'",
    ),
];

/// Ends what is left of all other sessions, and removes what they wrote.
const CLEAR_UP: &str = "for group in /sys/fs/cgroup/sessions/ssh-*; do
    case $(cat /proc/self/cgroup) in *${group##*/}*) ;; *) echo 1 >$group/cgroup.kill ;; esac
done
rm -f /tmp/fill /run/fill /fill /tmp/hog-ended";

fn session(machine: &Machine, command: &str) -> Child {
    let mut ssh = Command::new("ssh");
    ssh.args(ssh_options(machine)).args(["root@127.0.0.1", command]);
    ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    ssh.spawn().expect("ssh (Debian package: openssh-client)")
}

fn survive_pressure(append: &str, is_limited: bool) {
    let server = Server::start();
    let machine = server.power_on_with(append, |options| options.time_limit = LIMIT * 4);
    wait(&machine, "rescue", |status| status.step == "rescue");
    // Both are called rootfs; a tmpfs says how large it may be.
    assert_eq!(ssh_ok(&machine, "grep ' / ' /proc/mounts").contains("size="), is_limited);
    let limits = ssh_ok(&machine, "cd /sys/fs/cgroup/sessions && cat memory.max pids.max ssh-*/memory.max");
    println!("limits: {}", limits.split_whitespace().collect::<Vec<_>>().join(" "));
    for (what, command, is_over) in PRESSURE {
        let mut person = session(&machine, command);
        let began = Instant::now();
        let mut logins = 0;
        loop {
            // Each of these is a new login, in the middle of it.
            let said = ssh_ok(&machine, &format!("if {is_over}; then echo over; fi; cat /proc/1/comm"));
            logins += 1;
            assert!(said.contains("init"), "{said}");
            if said.contains("over") {
                break;
            }
            assert!(began.elapsed() < LIMIT, "{what}: {}", machine.console());
        }
        let free =
            ssh_ok(&machine, "rescue status >/dev/null && awk '/MemAvailable/ { print $2 }' /proc/meminfo");
        println!(
            "{what}: {logins} logins in {:.1} s, then {} KiB free",
            began.elapsed().as_secs_f32(),
            free.trim()
        );
        ssh_ok(&machine, CLEAR_UP);
        person.kill().unwrap();
        person.wait().unwrap();
    }
    assert!(ssh_ok(&machine, "rescue status").contains("rescue"));
    let console = machine.console();
    let ended = console.lines().filter(|line| line.contains(" ended (")).collect::<Vec<_>>();
    assert!(ended.is_empty(), "{ended:?}\n{console}");
    assert!(!console.contains("Kernel panic"), "{console}");
}

fn full_ram_and_fork_bombs_in_a_session_take_nobody_else_down() {
    survive_pressure("", true);
}

/// With `root=` the kernel makes its initramfs a file system without any limit, whose pages cannot be given back.
fn nor_do_they_where_the_initramfs_has_no_limit() {
    survive_pressure("root=UUID=none lifeboat.rescue", false);
}

/// In KiB: what is free, and what the listener has.
fn memory(machine: &Machine) -> (i64, i64) {
    let said = ssh_ok(
        machine,
        "awk '/MemAvailable/ { print $2 }' /proc/meminfo
         awk '/VmRSS/ { print $2 }' /proc/$(ps | awk '/rescue sshd$/ { print $1 }')/status",
    );
    let figures: Vec<i64> = said.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    (figures[0], figures[1])
}

fn a_thousand_connects_leave_memory_flat() {
    const CONNECTS: u32 = 1000;
    let server = Server::start();
    let machine = server.power_on_with("", |options| options.time_limit = LIMIT * 5);
    wait(&machine, "rescue", |status| status.step == "rescue");
    let port = machine.ssh_port().unwrap();
    // What is read once stays in memory.
    (0..5).for_each(|_| _ = ssh_ok(&machine, "rescue status"));
    let before = memory(&machine);
    let (began, greeted) = (Instant::now(), AtomicU32::new(0));
    let left = AtomicU32::new(CONNECTS);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                    stream.set_read_timeout(Some(LIMIT)).unwrap();
                    let mut line = String::new();
                    let read = BufReader::new(stream).read_line(&mut line);
                    if read.is_ok() && line.starts_with("SSH-2.0-") {
                        greeted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (greeted, took) = (greeted.into_inner(), began.elapsed());
    (0..30).for_each(|_| _ = ssh_ok(&machine, "true"));
    let after = memory(&machine);
    println!(
        "{greeted} of {CONNECTS} connects greeted in {:.0} s, 30 logins: free {} -> {} KiB, the listener {} -> {} KiB",
        took.as_secs_f32(),
        before.0,
        after.0,
        before.1,
        after.1
    );
    assert!(greeted > CONNECTS * 9 / 10, "{greeted}");
    assert!(before.0 - after.0 < 48 << 10, "free: {before:?} -> {after:?}");
    assert!(after.1 - before.1 < 8 << 10, "the listener: {before:?} -> {after:?}");
}
