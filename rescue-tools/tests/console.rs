//! The console on a real terminal, with OpenSSH's ssh-keygen on the other side.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};

const LIMIT: Duration = Duration::from_secs(60);

/// A console with a person at it.
struct Console {
    service: Child,
    master: File,
    came: Receiver<String>,
    seen: String,
    folder: tempfile::TempDir,
    terminal: PathBuf,
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}

impl Console {
    fn start() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        unlockpt(&master).unwrap();
        let terminal = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
        let folder = tempfile::tempdir().unwrap();
        for name in ["friend", "stranger"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.path().join(name));
            assert!(keygen.status().unwrap().success(), "ssh-keygen (Debian package: openssh-client)");
        }
        std::fs::write(folder.path().join("kmsg"), "").unwrap();
        let service = Command::new(env!("CARGO_BIN_EXE_rescue"))
            .arg("console")
            .arg("--terminal")
            .arg(&terminal)
            .arg("--authorized-keys")
            .arg(folder.path().join("friend.pub"))
            .arg("--run-dir")
            .arg(folder.path())
            .arg("--kmsg")
            .arg(folder.path().join("kmsg"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (sender, came) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            loop {
                match reader.read(&mut piece) {
                    Ok(count @ 1..) => {
                        let _ = sender.send(String::from_utf8_lossy(&piece[..count]).into_owned());
                    }
                    // Nobody has the terminal open just now.
                    _ => std::thread::sleep(Duration::from_millis(50)),
                }
            }
        });
        Console { service, master, came, seen: String::new(), folder, terminal }
    }

    /// What was shown up to and with `text`.
    fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let left = end.saturating_duration_since(Instant::now());
            let piece = self.came.recv_timeout(left);
            self.seen += &piece.unwrap_or_else(|_| panic!("{text:?} did not come; there is {:?}", self.seen));
        }
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Presses Enter until the console has something to sign, and signs it as it says.
    fn signature(&mut self, key: &str) -> String {
        self.expect_offer();
        let command = self.expect("id_ed25519");
        let command = command.rsplit("\r\n").next().unwrap().trim().to_string();
        assert!(command.starts_with("echo ") && command.len() < 140, "{command:?}");
        let key = self.folder.path().join(key).display().to_string();
        let output = Command::new("sh")
            .args(["-c", &command.replace("~/.ssh/id_ed25519", &key)])
            .stderr(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn expect_offer(&mut self) {
        let end = Instant::now() + LIMIT;
        while !self.seen.contains("paste here what it prints") {
            assert!(Instant::now() < end, "no offer; there is {:?}", self.seen);
            self.press("\r");
            // The service may not have opened the terminal yet.
            if let Ok(piece) = self.came.recv_timeout(Duration::from_secs(3)) {
                self.seen += &piece;
            }
        }
        self.expect("paste here what it prints");
    }

    fn marks(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("sessions")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn a_key_that_may_log_in_opens_a_shell_and_no_other() {
    let mut console = Console::start();
    let signature = console.signature("stranger");
    console.press(&signature);
    console.expect("This signature opens nothing: the key SHA256:");
    assert!(console.marks().is_empty());
    let signature = console.signature("friend");
    console.press(&signature);
    console.expect("Host key");
    console.press("echo $((6 * 7)) $TERM $0 $(tty)\r");
    console.expect(&format!("42 vt220 -sh {}", console.terminal.display()));
    let name = console.terminal.file_name().and_then(|name| name.to_str()).unwrap();
    // The mark is written, to the disk, while the shell begins.
    wait(|| console.marks() == [format!("console-{name}")]);
    console.press("exit\r");
    wait(|| console.marks().is_empty());
    // The same signature opens nothing a second time.
    console.signature("friend");
    console.press(&signature);
    console.expect("This signature opens nothing: it is not of this text");
    let log = std::fs::read_to_string(console.folder.path().join("kmsg")).unwrap();
    assert!(log.contains("a shell for the key SHA256:") && log.contains("the shell has ended"), "{log}");
}

#[test]
fn a_service_that_is_killed_takes_its_shell_with_it() {
    let mut console = Console::start();
    let signature = console.signature("friend");
    console.press(&signature);
    console.expect("Host key");
    console.press("echo shell-$$-\r");
    console.expect("$$-");
    console.expect("shell-");
    let id = console.expect("-");
    let process = Path::new("/proc").join(id.trim_end_matches('-'));
    assert!(process.exists());
    console.service.kill().unwrap();
    console.service.wait().unwrap();
    wait(|| !process.exists());
}

/// Waits for what has no event of its own.
fn wait(done: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "it did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}
