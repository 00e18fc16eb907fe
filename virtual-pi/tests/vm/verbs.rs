//! The verbs by which people steer a boot and end it, from outside by the system's own `ssh`, and on the console.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;
use virtual_pi::machine::{End, Machine};

use crate::site::{Images, LIMIT, Server, kill_9, ssh, ssh_ok, ssh_options, wait, wait_console};

tests![
    a_held_boot_goes_on_when_somebody_says_so,
    a_boot_is_held_from_the_start_once,
    a_power_off_is_in_order,
    a_console_shell_and_a_reboot,
];

/// `ssh -t` on a terminal of the host.
struct Window {
    ssh: Child,
    master: File,
    came: Receiver<Vec<u8>>,
    seen: String,
}

impl Window {
    fn open(machine: &Machine, columns: u16, rows: u16, command: &str) -> Self {
        machine.ssh_banner(LIMIT).unwrap();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        tcsetwinsize(&master, size(columns, rows)).unwrap();
        let stream = || Stdio::from(slave.try_clone().unwrap());
        // A session of its own with the terminal as its own, so that the kernel tells ssh of the window's size.
        let ssh = Command::new("setsid")
            .args(["--ctty", "--wait", "ssh", "-tt"])
            .args(ssh_options(machine))
            .args(["root@127.0.0.1", command])
            .env("TERM", "xterm")
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .expect("setsid (Debian package: util-linux)");
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (sender, came) = channel();
        std::thread::spawn(move || {
            let mut piece = vec![0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                let _ = sender.send(piece[..count].to_vec());
            }
        });
        Window { ssh, master, came, seen: String::new() }
    }

    fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let piece = self.came.recv_timeout(end.saturating_duration_since(Instant::now()));
            let piece = piece.unwrap_or_else(|_| panic!("{text:?} did not come; there is {:?}", self.seen));
            self.seen += &String::from_utf8_lossy(&piece);
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }
}

/// One picture of `rescue watch`, as rows.
fn picture(window: &mut Window) -> Vec<String> {
    window.expect("\x1b[2J");
    let picture = window.expect("q: quit");
    picture.split("\x1b[K\r\n").map(str::to_owned).collect()
}

/// The person at work is not cut off, whoever says so decides, and all of it is on the screens that people look at.
fn a_held_boot_goes_on_when_somebody_says_so() {
    let server = Server::start();
    let machine = server.power_on(&format!("root=live:{} lifeboat.console=off", server.url("tiny.squashfs")));
    wait(&machine, "404", |status| status.last_error.is_some());
    let held = ssh_ok(&machine, "rescue hold");
    assert!(held.starts_with("Held by root from 10.0.2.2 since second "), "{held}");
    server.put_os(&Images::get().tiny);
    let waiting = wait(&machine, "the hold", |status| status.next.contains("held by root from 10.0.2.2"));
    assert!(waiting.step == "hand-over" && waiting.next.contains("`rescue continue`"), "{waiting:?}");
    watch_in_a_window(&machine);
    // Someone else is at work: named, waited for, and not cut off without a yes.
    let mut human = Window::open(&machine, 80, 24, "echo here; sleep 1000");
    human.expect("here");
    let went_on = ssh_ok(&machine, "rescue continue");
    assert!(
        went_on.contains("The hold is gone") && went_on.contains("Still waiting for root from"),
        "{went_on}"
    );
    assert!(went_on.contains("sleep 1000"), "{went_on}");
    wait(&machine, "the human", |status| status.next.contains("somebody is logged in"));
    let refused = ssh(&machine, "rescue continue --now");
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    ssh(&machine, "rescue continue --now --yes");
    wait_console(&machine, "TEST-OS end");
}

fn watch_in_a_window(machine: &Machine) {
    let mut window = Window::open(machine, 80, 24, "rescue watch");
    let rows = picture(&mut window);
    assert_eq!(rows.len(), 24, "{rows:#?}");
    let screen = rows.join("\n");
    for part in
        ["hand-over: waiting", "rescue watch (you)", "hold by root from 10.0.2.2", "`rescue continue`", "Log"]
    {
        assert!(screen.contains(part), "{part}:\n{screen}");
    }
    // It follows the window.
    tcsetwinsize(&window.master, size(60, 30)).unwrap();
    let rows = picture(&mut window);
    assert_eq!(rows.len(), 30, "{rows:#?}");
    window.master.write_all(b"q").unwrap();
    assert_eq!(window.ssh.wait().unwrap().code(), Some(0));
    // No window: lines.
    let lines = ssh_ok(machine, "rescue watch -n 1 --count 2");
    assert!(
        lines.lines().count() == 2 && lines.contains("hand-over waiting") && !lines.contains('\x1b'),
        "{lines}"
    );
    let log = ssh_ok(machine, "rescue log --json --boot");
    let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = |program: &str, text: &str| {
        records.iter().any(|record| {
            record["program"] == program
                && record["message"].as_str().is_some_and(|message| message.contains(text))
        })
    };
    let first = format!("1/{} console: done", init::steps::COMMON.len() + init::steps::RAM_BOOT.len());
    assert!(said("lifeboat", &first) && said("lifeboat-sshd", "listening"), "{log}");
    assert!(ssh_ok(machine, "rescue log --kernel | head -n 1").contains("Booting Linux"));
}

/// dracut's word, and a boot process that dies meanwhile.
fn a_boot_is_held_from_the_start_once() {
    let server = Server::start();
    server.put_os(&Images::get().tiny);
    let append =
        format!("root=live:{} rd.break=pre-mount lifeboat.fail=overlay", server.url("tiny.squashfs"));
    let machine = server.power_on(&append);
    let held = wait(&machine, "the hold", |status| status.next.contains("held by rd.break"));
    assert_eq!(held.step, "manifest");
    assert!(kill_9(&machine, "init boot").status.success());
    wait_console(&machine, "boot ended \\(SIGKILL\\)");
    ssh_ok(&machine, "test ! -e /run/lifeboat/image && rescue continue");
    // The step that is made to fail leads to a second try, which is not held.
    wait_console(&machine, "overlay: failed: asked to fail");
    wait_console(&machine, "TEST-OS end");
}

/// A disk that is written to and mounted is named; the machine's end leaves it clean.
fn a_power_off_is_in_order() {
    let server = Server::start();
    let folder = tempfile::tempdir_in(crate::site::images::folder()).unwrap();
    let disk = folder.path().join("disk.img");
    File::create(&disk).unwrap().set_len(64 << 20).unwrap();
    let mut machine =
        server.power_on_with("lifeboat.console=off", |options| options.disks = vec![disk.clone()]);
    wait(&machine, "rescue", |status| status.step == "rescue");
    wait_console(&machine, "no shell on the console");
    machine.type_on_console("\rrescue\recho $((6 * 7))\r").unwrap();
    ssh_ok(
        &machine,
        "mkfs.ext4 -q /dev/vda && mkdir /mnt/disk && mount /dev/vda /mnt/disk && echo kept > /mnt/disk/file",
    );
    ssh_ok(&machine, "setsid sleep 1000 < /dev/null >> /dev/vda 2> /dev/null &");
    let plan = ssh_ok(&machine, "rescue poweroff --dry-run --json");
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let kinds: Vec<&Value> =
        plan["in_the_way"].as_array().unwrap().iter().map(|obstacle| &obstacle["kind"]).collect();
    assert_eq!(kinds, ["write", "mount"], "{plan}");
    assert_eq!(plan["in_the_way"][0]["command"], "sleep 1000", "{plan}");
    let refused = ssh(&machine, "rescue poweroff");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(3) && said.contains("/dev/vda is mounted on /mnt/disk"), "{said}");
    let answered = machine.console().lines().any(|line| line.trim() == "42");
    assert!(!answered, "nobody has a shell on this console");
    ssh(&machine, "rescue poweroff --yes");
    assert_eq!(machine.wait_for_end(LIMIT).unwrap(), End::PowerOff);
    let check = Command::new("e2fsck").args(["-fn"]).arg(&disk).output().expect("e2fsck (Debian: e2fsprogs)");
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stdout));
    let file = Command::new("debugfs").args(["-R", "cat /file"]).arg(&disk).output().unwrap();
    assert_eq!(file.stdout, b"kept\n");
}

/// Who has the cable has a shell where the command line says so, and counts as someone; the firmware is told what a person
/// chose.
fn a_console_shell_and_a_reboot() {
    let server = Server::start();
    let mut machine = server.power_on("lifeboat.console=open");
    wait_console(&machine, "ttyAMA0: type \"rescue\" and Enter for a shell");
    wait(&machine, "rescue", |status| status.step == "rescue");
    let mark = machine.mark();
    machine.type_on_console("\r").unwrap();
    machine.wait_for_console_after(mark, "Pi Lifeboat: type \"rescue\"", LIMIT).unwrap();
    machine.type_on_console("rescue\r").unwrap();
    machine.wait_for_console_after(mark, "Host key", LIMIT).unwrap();
    machine.type_on_console("echo answer $((6 * 7)) on $(tty)\r").unwrap();
    machine.wait_for_console_after(mark, "^answer 42 on /dev/ttyAMA0", LIMIT).unwrap();
    // Job control works: Ctrl-C ends the program, and not the shell.
    machine.type_on_console("sleep 1000\r").unwrap();
    let in_the_way = |part: &str| {
        let end = Instant::now() + LIMIT;
        loop {
            let refused = ssh(&machine, "rescue reboot");
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(3), "{said}");
            if said.contains(part) {
                return;
            }
            assert!(Instant::now() < end, "{part}: {said}");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    in_the_way("root on /dev/ttyAMA0: sleep 1000");
    machine.type_on_console("\x03echo after $((6 * 7))\r").unwrap();
    machine.wait_for_console_after(mark, "^after 42", LIMIT).unwrap();
    // Invariant 1 for this child too: the shell goes with it, and both come back.
    let mark = machine.mark();
    assert!(kill_9(&machine, "rescue console").status.success());
    machine.wait_for_console_after(mark, "console ended \\(SIGKILL\\)", LIMIT).unwrap();
    machine.wait_for_console_after(mark, "type \"rescue\" and Enter", LIMIT).unwrap();
    machine.type_on_console("\rrescue\r").unwrap();
    machine.wait_for_console_after(mark, "Host key", LIMIT).unwrap();
    // Debian's kernel passes nothing on, and this verb says so; what PID 1 hands to the kernel is seen all the same.
    let refused = ssh(&machine, "rescue reboot --into tryboot --yes");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(3) && said.contains("does not pass it on"), "{said}");
    ssh(&machine, "echo '0 tryboot' > /run/lifeboat/reboot-argument; rescue reboot --yes");
    wait_console(&machine, "Restarting system with command '0 tryboot'");
    assert_eq!(machine.wait_for_end(LIMIT).unwrap(), End::Reset);
}
