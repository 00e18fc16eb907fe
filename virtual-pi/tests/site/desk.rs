//! Where the person sits who follows a runbook of `docs/`: a folder, and an `ssh` that knows the Pi as `pi`.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use virtual_pi::machine::Machine;

use super::images::program;
use super::{LIMIT, ssh_options, workspace};

/// The place.
pub struct Desk {
    /// The folder that commands run in.
    pub here: PathBuf,
    path: String,
}

/// How a command ended, and what it said.
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output and standard error.
    pub text: String,
}

impl Said {
    /// The same, of a command that succeeded.
    pub fn ok(self, line: &str) -> String {
        assert!(self.status.success(), "{line}: {}: {}", self.status, self.text);
        self.text
    }
}

/// The commands of a book between two of its lines, or to its end: those of the fenced blocks that name no language.
pub fn commands(book: &str, from: &str, to: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join("docs").join(book)).unwrap();
    let start = text.find(from).unwrap_or_else(|| panic!("{book} has no {from:?}"));
    let part = &text[start..];
    let end = if to.is_empty() { Some(part.len()) } else { part.find(to) };
    let part = &part[..end.unwrap_or_else(|| panic!("{book} has no {to:?} behind {from:?}"))];
    let blocks = part.split("```").skip(1).step_by(2).filter(|block| block.starts_with('\n'));
    blocks.flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect()
}

impl Desk {
    /// At `here`, for this Pi. `boot-files` and its like are ours.
    pub fn new(here: &Path, machine: &Machine) -> Self {
        let bin = here.join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let options: Vec<String> = ssh_options(machine).into_iter().map(|word| format!("'{word}'")).collect();
        let wrapper = format!(
            "#!/bin/sh\nexec /usr/bin/ssh {} -o HostName=127.0.0.1 -o User=root \"$@\"\n",
            options.join(" ")
        );
        std::fs::write(bin.join("ssh"), wrapper).unwrap();
        std::fs::set_permissions(bin.join("ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        machine.ssh_banner(LIMIT).expect("an SSH banner");
        let ours = program("boot-files").parent().unwrap().display().to_string();
        let path = format!("{}:{ours}:{}", bin.display(), std::env::var("PATH").unwrap());
        Desk { here: here.into(), path }
    }

    /// Runs a line of shell.
    pub fn run(&self, line: &str) -> Said {
        self.answer(line, &[])
    }

    /// Runs a line, on a terminal where it asks for one (`ssh -t`), and types each answer once its question is there.
    pub fn answer(&self, line: &str, answers: &[(&str, &str)]) -> Said {
        let terminal = line.contains("ssh -t");
        let mut command = Command::new(if terminal { "script" } else { "bash" });
        if terminal {
            command.args(["--quiet", "--return", "--command", line, "/dev/null"]);
        } else {
            command.args(["-o", "pipefail", "-ec", line]).stderr(Stdio::piped());
        }
        let mut child = command
            .current_dir(&self.here)
            .env("PATH", &self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script (Debian package: bsdutils)");
        let mut keyboard = child.stdin.take();
        let output = collect(child.stdout.take().unwrap());
        let errors = child.stderr.take().map(collect);
        let (mut text, mut seen) = (String::new(), 0);
        for (question, typed) in answers {
            let end = Instant::now() + LIMIT;
            while !text[seen..].contains(question) {
                match output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                    Ok(more) => text += &more,
                    Err(_) => panic!("{line}: {question:?} did not come; there is: {text}"),
                }
            }
            seen = text.len();
            keyboard.as_mut().unwrap().write_all(typed.as_bytes()).unwrap();
        }
        // `script` takes the end of its input for the end of the session.
        if !terminal {
            keyboard = None;
        }
        let status = child.wait().unwrap();
        drop(keyboard);
        text.extend(output.iter());
        text.extend(errors.into_iter().flatten());
        Said { status, text }
    }
}

/// What comes out, piece by piece; the channel closes at the end.
fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let _ = sender.send(String::from_utf8_lossy(&buffer[..count]).into_owned());
        }
    });
    receiver
}
