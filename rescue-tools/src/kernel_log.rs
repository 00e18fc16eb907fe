//! Where a program without a terminal speaks: standard error, and the kernel's log, which outlives the program and is on
//! the console.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

/// The kernel's log.
pub const KMSG_PATH: &str = "/dev/kmsg";
/// The kernel keeps this many bytes of a message at most (its `PRINTKRB_RECORD_MAX` less some room for its own prefix).
const LIMIT: usize = 976;

/// A place for lines.
#[derive(Clone, Debug)]
pub struct KernelLog {
    /// The file that stands for `/dev/kmsg`; each line is opened and written by itself, so that it may come later.
    path: PathBuf,
    /// Stands before each line.
    name: &'static str,
}

impl KernelLog {
    /// Lines of the program `name`, to standard error and, when it can be written, to `path`.
    pub fn new(path: PathBuf, name: &'static str) -> Self {
        KernelLog { path, name }
    }

    /// Writes one line to the kernel's log alone: what is to outlive the session that sees it otherwise.
    pub fn note(&self, message: impl AsRef<str>) {
        let kmsg = OpenOptions::new().append(true).open(&self.path);
        let _ = kmsg.and_then(|mut kmsg| kmsg.write_all(line(self.name, message.as_ref()).as_bytes()));
    }

    /// Writes one line. Never fails: there is nobody to tell.
    pub fn say(&self, message: impl AsRef<str>) {
        let line = line(self.name, message.as_ref());
        let kmsg = OpenOptions::new().append(true).open(&self.path);
        let logged = kmsg.and_then(|mut kmsg| kmsg.write_all(line.as_bytes())).is_ok();
        // The kernel puts its log on the console: as standard error, that would show each line twice.
        if !logged || !is_console(std::io::stderr().as_fd()) {
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
}

/// Whether this is `/dev/console` (Documentation/admin-guide/devices.txt: 5, 1).
fn is_console(file: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| stat.st_rdev == rustix::fs::makedev(5, 1))
}

/// One line of at most [`LIMIT`] bytes. Control characters go: user names from the network end up here.
fn line(name: &str, message: &str) -> String {
    let mut line = format!("{name}: ");
    for character in message.trim_end().chars() {
        let character = if character.is_control() { '?' } else { character };
        if line.len() + character.len_utf8() >= LIMIT {
            break;
        }
        line.push(character);
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_short_line() {
        assert_eq!(line("x", "user \"a\nb\x1b[31m\""), "x: user \"a?b?[31m\"\n");
        let long = line("x", &"ä".repeat(2000));
        assert!(long.len() <= LIMIT && long.ends_with("ä\n"), "{}", long.len());
    }

    #[test]
    fn lines_are_appended_to_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kmsg");
        let log = KernelLog::new(path.clone(), "test");
        log.say("lost: the file is not there yet");
        std::fs::write(&path, "").unwrap();
        log.say("one");
        log.say("two");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "test: one\ntest: two\n");
    }
}
