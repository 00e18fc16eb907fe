//! A passphrase or key on its way from a person to cryptsetup: never shown, never on a command line, never in a file, and
//! gone from our memory when it is dropped.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::refusal::refused;

/// cryptsetup reads no longer key file (`cryptsetup --help`: compiled-in limit, 8192 KiB).
const LIMIT: u64 = 8 << 20;
/// Nobody types more.
const TYPED_LIMIT: usize = 4096;
const TERMINAL: &str = "/dev/tty";

/// A passphrase, or the bytes of a key file.
#[derive(Debug)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl From<Zeroizing<Vec<u8>>> for Passphrase {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Passphrase(bytes)
    }
}

impl Passphrase {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A key file's bytes as they are; `-` is standard input.
    pub fn of_file(path: &Path) -> Result<Self> {
        let context = || format!("reading the key file {}", path.display());
        if path == Path::new("-") {
            return Self::read(std::io::stdin()).context("reading the key from standard input");
        }
        let file = File::open(path).with_context(context)?;
        Self::read(file).with_context(context)
    }

    /// Standard input to its end, without the newline that an editor leaves at a file's end: for
    /// `ssh pi rescue unlock < passphrase-file`. `None` when standard input is a terminal.
    pub fn piped() -> Result<Option<Self>> {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Ok(None);
        }
        let mut piped = Self::read(stdin).context("reading the passphrase from standard input")?;
        piped.trim_newline();
        if piped.0.is_empty() {
            return Err(refused(
                "no passphrase: standard input is empty (ssh -t asks for it on the terminal)",
            ));
        }
        Ok(Some(piped))
    }

    /// Asks on the terminal, without echo. `None`: just Enter, or the line dropped.
    pub fn ask(prompt: &str) -> Result<Option<Self>> {
        let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL);
        let terminal = terminal.context("opening the terminal to ask for the passphrase")?;
        // First quiet, then the question: who answers it at once, by a paste or a script, is neither shown nor lost.
        let quiet = Quiet::begin(&terminal)?;
        let asked = write!(&terminal, "{prompt}").and_then(|()| (&terminal).flush());
        let line = asked.and_then(|()| read_line(&terminal));
        drop(quiet);
        let _ = writeln!(&terminal);
        Ok(line.context("asking for the passphrase on the terminal")?.filter(|line| !line.0.is_empty()))
    }

    fn read(from: impl Read) -> Result<Self> {
        // Of the final size from the start: growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(64 << 10));
        from.take(LIMIT + 1).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 <= LIMIT, "it has more than {} MiB", LIMIT >> 20);
        Ok(Passphrase(bytes))
    }

    fn trim_newline(&mut self) {
        if self.0.last() == Some(&b'\n') {
            self.0.pop();
        }
        if self.0.last() == Some(&b'\r') {
            self.0.pop();
        }
    }
}

/// A line, byte by byte: nothing behind it is taken from the terminal. `None`: the terminal is gone.
fn read_line(mut from: impl Read) -> std::io::Result<Option<Passphrase>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(TYPED_LIMIT));
    let mut byte = [0];
    while bytes.len() < TYPED_LIMIT {
        match from.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) if byte == [b'\n'] => break,
            Ok(_) => bytes.extend(byte),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(Passphrase(bytes)))
}

/// No echo as long as it lives.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn begin(terminal: &'a File) -> Result<Self> {
        let before = tcgetattr(terminal).context("asking for the terminal's modes")?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ECHO);
        // What was typed ahead, for another prompt, is no passphrase.
        tcsetattr(terminal, OptionalActions::Flush, &modes).context("turning the terminal's echo off")?;
        Ok(Quiet { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_at_the_end_is_the_editors() {
        for (file, passphrase) in
            [("a b\n", "a b"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("\n", ""), ("a", "a"), (" a ", " a ")]
        {
            let mut read = Passphrase::read(file.as_bytes()).unwrap();
            read.trim_newline();
            assert_eq!(read.bytes(), passphrase.as_bytes());
        }
    }

    #[test]
    fn a_key_file_is_taken_as_it_is_and_an_endless_one_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"\0key\n").unwrap();
        assert_eq!(Passphrase::of_file(file.path()).unwrap().bytes(), b"\0key\n");
        assert!(format!("{:#}", Passphrase::of_file(Path::new("/dev/zero")).unwrap_err()).contains("8 MiB"));
        assert!(format!("{:#}", Passphrase::of_file(Path::new("/no/key")).unwrap_err()).contains("/no/key"));
    }

    #[test]
    fn a_line_is_read_to_its_end_and_no_further() {
        let mut input: &[u8] = b"secret\nnext";
        assert_eq!(read_line(&mut input).unwrap().unwrap().bytes(), b"secret");
        assert_eq!(input, b"next");
        assert!(read_line(&b"cut"[..]).unwrap().is_none(), "a line that dropped is no passphrase");
    }
}
