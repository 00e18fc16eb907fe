//! The rescue's SSH server in the guest, from outside by OpenSSH's own programs: files both ways, many at once, a flood,
//! a session that outlives its connection, a host key that stays.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::site::{LIMIT, Server, images, ssh, ssh_ok, ssh_options, wait};
use sha2::{Digest, Sha256};
use virtual_pi::machine::Machine;

tests![
    files_go_both_ways_by_every_program,
    thirty_two_at_once_and_a_flood_while_one_works,
    a_shell_in_tmux_outlives_its_connection,
    a_host_key_on_a_disk_stays,
];

/// What is copied, in MiB. Under emulation a few of them take a second: `LIFEBOAT_TRANSFER_MIB=1024` is for machines with
/// time.
fn mebibytes() -> usize {
    std::env::var("LIFEBOAT_TRANSFER_MIB").map_or(24, |text| text.parse().expect("LIFEBOAT_TRANSFER_MIB"))
}

fn noise(path: &Path) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..mebibytes() << 17 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
}

fn hash(path: &Path) -> String {
    let mut file = std::fs::File::open(path).unwrap();
    let (mut hash, mut block) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut block).unwrap() {
            0 => return hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            length => hash.update(&block[..length]),
        }
    }
}

/// `ssh_options` for programs that call the port `-P`.
fn copy_options(machine: &Machine) -> Vec<String> {
    ssh_options(machine).into_iter().map(|word| if word == "-p" { "-P".into() } else { word }).collect()
}

fn copy(mut command: Command, from: &str, to: &str) {
    let name = format!("{command:?} {from} {to}");
    let output = command.args([from, to]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

fn files_go_both_ways_by_every_program() {
    let server = Server::start();
    let machine = server.power_on_with("", |options| {
        options.pi.memory = 2048.max(mebibytes() as u32 * 3);
        options.time_limit += Duration::from_secs(mebibytes() as u64 * 2);
    });
    machine.ssh_banner(LIMIT).unwrap();
    let folder = tempfile::tempdir_in(images::folder()).unwrap();
    let source = folder.path().join("source");
    noise(&source);
    let wanted = hash(&source);
    let scp = |more: &[&str]| {
        let mut command = Command::new("scp");
        command.args(copy_options(&machine)).args(more);
        command
    };
    let rsync = || {
        let mut command = Command::new("rsync");
        command.args(["--whole-file", "-e", &format!("ssh {}", ssh_options(&machine).join(" "))]);
        command
    };
    let commands: [(&str, &dyn Fn() -> Command); 3] =
        [("scp", &|| scp(&["-s"])), ("scp -O", &|| scp(&["-O"])), ("rsync", &rsync)];
    for (name, command) in commands {
        let began = Instant::now();
        copy(command(), source.to_str().unwrap(), "root@127.0.0.1:/tmp/there");
        let there = ssh_ok(&machine, "sha256sum /tmp/there");
        assert!(there.starts_with(&wanted), "{name}: {there}");
        let back = folder.path().join("back");
        copy(command(), "root@127.0.0.1:/tmp/there", back.to_str().unwrap());
        assert_eq!(hash(&back), wanted, "{name}");
        ssh_ok(&machine, "rm /tmp/there");
        std::fs::remove_file(&back).unwrap();
        eprintln!("{name}: {} MiB there and back in {:.0} s", mebibytes(), began.elapsed().as_secs_f64());
    }
    // All that went through left no trace in the listener, and what a connection's process takes is bounded.
    let peak = ssh_ok(
        &machine,
        "grep VmHWM /proc/$PPID/status; dd if=/dev/zero bs=1M count=16 2>/dev/null; grep VmHWM /proc/$PPID/status",
    );
    let last =
        peak.rsplit_once("VmHWM:").unwrap().1.split_whitespace().next().unwrap().parse::<u64>().unwrap();
    assert!(last < 32 << 10, "{last} KiB");
}

/// A program in the guest whose lines are read here.
struct Session {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Session {
    fn start(machine: &Machine, words: &[&str]) -> Self {
        let mut command = Command::new("ssh");
        command.args(ssh_options(machine)).args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Session { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn say(&mut self, line: &str) {
        self.child.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SHELL: &str = "echo ready; while read line; do eval $line; done";

fn thirty_two_at_once_and_a_flood_while_one_works() {
    let server = Server::start();
    let machine = server.power_on("");
    wait(&machine, "rescue", |status| status.step == "rescue");
    let mut all: Vec<Session> = Vec::new();
    // A few at a time: QEMU takes seconds for a login's arithmetic, and who takes too long makes room for others.
    for _ in 0..8 {
        let mut some: Vec<Session> =
            (0..4).map(|_| Session::start(&machine, &["root@127.0.0.1", SHELL])).collect();
        for session in &mut some {
            assert_eq!(session.line(), "ready");
        }
        all.append(&mut some);
    }
    for (number, session) in all.iter_mut().enumerate() {
        session.say(&format!("echo number {number}"));
    }
    for (number, session) in all.iter_mut().enumerate() {
        assert_eq!(session.line(), format!("number {number}"));
    }
    // There is no room for one more, and it is told so at once.
    let mut one_more = Command::new("ssh");
    one_more.args(ssh_options(&machine)).args(["root@127.0.0.1", "true"]).stdin(Stdio::null());
    assert_eq!(one_more.output().unwrap().status.code(), Some(255));
    all.truncate(1);

    let flood: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(("127.0.0.1", machine.ssh_port().unwrap())).unwrap()).collect();
    for number in 0..50 {
        all[0].say(&format!("echo word {number}"));
        assert_eq!(all[0].line(), format!("word {number}"));
    }
    // Those that wait, this one, and those before that are just ending.
    all[0].say("ps | grep -c [s]shd-session");
    let processes = all[0].line();
    assert!(processes.parse::<usize>().unwrap() <= 16, "{processes}");
    drop(flood);
    assert_eq!(ssh_ok(&machine, "echo in").trim(), "in");
}

fn a_shell_in_tmux_outlives_its_connection() {
    let server = Server::start();
    let machine = server.power_on("");
    wait(&machine, "rescue", |status| status.step == "rescue");
    let tmux = |more: &[&str]| {
        let words = ["-tt", "-o", "SetEnv=LANG=C.UTF-8", "root@127.0.0.1", "TERM=xterm-256color", "tmux"];
        Session::start(&machine, &[words.as_slice(), more].concat())
    };
    let mut first = tmux(&["new-session", "-s", "work"]);
    let until = |wanted: &str| {
        let began = Instant::now();
        loop {
            let pane =
                String::from_utf8_lossy(&ssh(&machine, "tmux capture-pane -p -t work").stdout).into_owned();
            if pane.contains(wanted) {
                return;
            }
            assert!(began.elapsed() < LIMIT, "no {wanted} in {pane}");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    until("#");
    first.say("echo ä; read answer; echo answer=$answer=$((6 * 7))");
    until("ä");
    // The line is cut: nobody says goodbye.
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let mut second = tmux(&["attach-session", "-d", "-t", "work"]);
    // What it shows begins with what was there.
    let mut shown = Vec::new();
    let mut byte = [0; 1];
    while !String::from_utf8_lossy(&shown).contains('ä') {
        assert_eq!(second.lines.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&shown));
        shown.push(byte[0]);
    }
    second.say("yes");
    until("answer=yes=42");
}

fn a_host_key_on_a_disk_stays() {
    let folder = tempfile::tempdir_in(images::folder()).unwrap();
    let tree = folder.path().join("tree");
    std::fs::create_dir_all(tree.join("ssh")).unwrap();
    let key = tree.join("ssh/host_key");
    images::run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    let disk = folder.path().join("disk");
    let mut mkfs = Command::new("/sbin/mke2fs");
    mkfs.args(["-q", "-t", "ext4", "-L", "keys", "-d"]).arg(&tree).arg(&disk).arg("16M");
    images::run(&mut mkfs);
    let before = hash(&disk);

    let server = Server::start();
    let append = format!("lifeboat.hostkey=LABEL=keys:/ssh/host_key lifeboat.server={}", server.url(""));
    let machine = server.power_on_with(&append, |options| options.disks.push(disk.clone()));
    wait(&machine, "rescue", |status| status.step == "rescue");
    let listed = Command::new("ssh-keygen").arg("-lf").arg(&key).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let fingerprint = listed.split(' ').nth(1).unwrap();
    assert_eq!(ssh_ok(&machine, "cat /run/lifeboat/ssh_host_ed25519_key.fingerprint").trim(), fingerprint);
    let said = format!("host key {fingerprint}, of this device, from LABEL=keys");
    assert!(machine.console().contains(&said), "{}", machine.console());
    server.wait_for_devices(fingerprint);
    // OpenSSH's client agrees.
    let known = folder.path().join("known_hosts");
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    std::fs::write(&known, format!("[127.0.0.1]:{} {public}", machine.ssh_port().unwrap())).unwrap();
    let mut ssh = Command::new("ssh");
    ssh.args(["-o", "StrictHostKeyChecking=yes", "-o", &format!("UserKnownHostsFile={}", known.display())]);
    let output = ssh.args(ssh_options(&machine)).args(["root@127.0.0.1", "true"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    drop(machine);
    assert_eq!(hash(&disk), before, "the disk was written to");
}
