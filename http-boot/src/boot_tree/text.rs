//! What a bootloader silently does not read of a config.txt.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fd::OwnedFd;

/// Text files are read whole up to this size, in bytes.
pub(super) const LONGEST: u64 = 256 * 1024;
/// Over the network, firmware ignores what is behind this byte (raspberrypi/firmware issues 1012, 1575).
const CONFIG_BYTES: usize = 4096;
/// Of a line, it reads so many characters (raspberrypi/documentation, config.txt).
const LINE: usize = 98;
/// Versions of files that were warned of.
const REMEMBERED: usize = 1024;

/// Reads a small file.
pub(super) fn read(file: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    while (bytes.len() as u64) <= LONGEST {
        match rustix::io::pread(file, piece.as_mut_slice(), bytes.len() as u64) {
            Ok(0) => return Ok(bytes),
            Ok(read) => bytes.extend_from_slice(piece.get(..read).unwrap_or_default()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("it grows while it is read"))
}

/// Warns of each version of a file once.
#[derive(Debug, Default)]
pub(super) struct Warned {
    hasher: RandomState,
    seen: Mutex<HashSet<u64>>,
}

impl Warned {
    /// Looks at a config.txt that somebody gets.
    pub(super) fn look_at(&self, path: &Path, config: &[u8]) {
        let problems = problems(config);
        if problems.is_empty() {
            return;
        }
        let version = self.hasher.hash_one((path, config));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        if seen.insert(version) {
            for problem in problems {
                tracing::warn!("{}: {problem}", path.display());
            }
        }
    }
}

/// Each in a sentence.
pub fn problems(config: &[u8]) -> Vec<String> {
    let mut problems = Vec::new();
    if config.len() > CONFIG_BYTES {
        let bytes = config.len();
        problems.push(format!(
            "it has {bytes} bytes; of a config.txt that comes over the network, firmware reads the first {CONFIG_BYTES}"
        ));
    }
    let lines = || config.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end).zip(1..);
    if let Some((line, number)) = lines().find(|(line, _)| line.len() > LINE) {
        let length = line.len();
        problems.push(format!("line {number} has {length} characters; firmware reads the first {LINE}"));
    }
    if let Some((_, number)) = lines().find(|(line, _)| !line.is_ascii()) {
        problems.push(format!(
            "line {number} has a character that is not ASCII; firmware may ignore it and all behind it"
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        assert_eq!(problems(b"arm_64bit=1\r\n"), Vec::<String>::new());
        assert_eq!(problems(&[b"#".repeat(98), b"\r\n".to_vec()].concat()), Vec::<String>::new());
        let long = [b"a=1\n".to_vec(), b"#".repeat(99)].concat();
        assert_eq!(problems(&long), ["line 2 has 99 characters; firmware reads the first 98"]);
        assert!(
            problems("a=1\n# für\n".as_bytes())[0].starts_with("line 2 has a character that is not ASCII")
        );
        assert_eq!(problems(&b"#\n".repeat(2048)), Vec::<String>::new());
        assert!(problems(&b"#\n".repeat(2049))[0].starts_with("it has 4098 bytes"));
    }

    #[test]
    fn each_version_is_warned_of_once_and_few_are_remembered() {
        let warned = Warned::default();
        for number in 0..5000 {
            warned.look_at(Path::new("config.txt"), format!("é{number}").as_bytes());
            assert!(warned.seen.lock().unwrap().len() <= REMEMBERED);
        }
        let before = warned.seen.lock().unwrap().len();
        warned.look_at(Path::new("config.txt"), "é4999".as_bytes());
        assert_eq!(warned.seen.lock().unwrap().len(), before);
    }
}
