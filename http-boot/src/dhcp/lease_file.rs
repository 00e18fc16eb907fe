//! The leases' file: a line of JSON for each change, the last one of an address counts. A change is on the disk before its
//! client hears of it; a line that a power cut left half is none.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::leases::{Client, Lease, State, Store};

/// A line as it stands in the file.
#[derive(Serialize, Deserialize)]
struct Line {
    address: Ipv4Addr,
    mac: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identifier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    relay: Option<Ipv4Addr>,
    until: u64,
    state: State,
}

impl Line {
    fn of(lease: &Lease) -> Self {
        let identifier = match &lease.client {
            Client::Mac(_) => None,
            Client::Identifier(bytes) => Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        };
        let (mac, serial) = (lease.mac.to_string(), lease.serial.map(|serial| serial.to_string()));
        let Lease { address, relay, until, state, .. } = *lease;
        Self { address, mac, identifier, serial, relay, until, state }
    }

    fn lease(self) -> Option<Lease> {
        let mac = self.mac.parse().ok()?;
        let client = match self.identifier {
            None => Client::Mac(mac),
            Some(hex) => Client::Identifier(bytes_of(&hex)?),
        };
        let serial = self.serial.map(|serial| serial.parse()).transpose().ok()?;
        let Self { address, relay, until, state, .. } = self;
        Some(Lease { address, client, mac, serial, relay, until, state })
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(byte).collect()
}

/// No file of ours is larger: [`SPARE_LINES`] and four lines for each of 65,536 addresses.
const LARGEST: u64 = 256 * 1024 * 1024;
/// The file is written anew when it has four lines for each lease, and these.
const SPARE_LINES: usize = 1024;

/// The file.
#[derive(Debug)]
pub struct LeaseFile {
    path: PathBuf,
    file: File,
    lines: usize,
    /// Not yet written.
    pending: Vec<u8>,
    pending_lines: usize,
    /// A write failed: nobody knows where the file ends.
    broken: bool,
}

impl LeaseFile {
    /// Opens the file, or makes it; gives the leases in it, and how many lines of it could not be read.
    ///
    /// # Errors
    /// Where it cannot be read and written, or another server has it.
    pub fn open(path: &Path) -> Result<(Self, Vec<Lease>, usize)> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("making the folder {}", folder.display()))?;
        }
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = file.with_context(|| format!("opening the lease file {}", path.display()))?;
        lock(&file, path)?;
        let (leases, unread) = read(&file).with_context(|| format!("reading {}", path.display()))?;
        let mut opened = Self {
            path: path.to_owned(),
            file,
            lines: 0,
            pending: Vec::new(),
            pending_lines: 0,
            broken: false,
        };
        // Written anew at once: the last line may be half.
        opened.rewrite(&mut leases.iter())?;
        Ok((opened, leases, unread))
    }

    /// Writes a new file and puts it in the old one's place.
    fn rewrite(&mut self, all: &mut dyn Iterator<Item = &Lease>) -> Result<()> {
        let (mut text, mut lines) = (Vec::new(), 0);
        for lease in all {
            add_line(&mut text, lease);
            lines += 1;
        }
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let new = PathBuf::from(name);
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).open(&new);
        let mut file = file.with_context(|| format!("making {}", new.display()))?;
        lock(&file, &new)?;
        let mut written = || -> std::io::Result<()> {
            file.set_len(0)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)?;
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        written().with_context(|| format!("writing the lease file {} anew", self.path.display()))?;
        (self.file, self.lines, self.broken) = (file, lines, false);
        self.pending.clear();
        self.pending_lines = 0;
        Ok(())
    }
}

impl Store for LeaseFile {
    fn put(&mut self, lease: &Lease) {
        add_line(&mut self.pending, lease);
        self.pending_lines += 1;
    }

    fn sync(&mut self, all: &mut dyn Iterator<Item = &Lease>) -> Result<()> {
        let (count, _) = all.size_hint();
        if self.broken || self.lines + self.pending_lines > SPARE_LINES + 4 * count {
            return self.rewrite(all);
        }
        let written = self.file.write_all(&self.pending).and_then(|()| self.file.sync_data());
        self.broken = written.is_err();
        written.with_context(|| format!("writing the lease file {}", self.path.display()))?;
        self.lines += std::mem::take(&mut self.pending_lines);
        self.pending.clear();
        Ok(())
    }
}

fn add_line(text: &mut Vec<u8>, lease: &Lease) {
    // A line's fields are text and numbers alone, which JSON always can hold.
    if let Ok(line) = serde_json::to_string(&Line::of(lease)) {
        text.extend(line.as_bytes());
        text.push(b'\n');
    }
}

fn lock(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!("{} is in use by another DHCP server: give each its own with --dhcp-leases", path.display())
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("locking {}", path.display()))
        }
    }
}

/// The leases of a file, and how many lines are none.
fn read(file: &File) -> Result<(Vec<Lease>, usize)> {
    if file.metadata()?.len() > LARGEST {
        bail!("it is larger than any lease file of this server: move it away");
    }
    let (mut by_address, mut unread) = (std::collections::BTreeMap::new(), 0);
    for line in BufReader::new(file.take(LARGEST)).split(b'\n') {
        let line = line?;
        match serde_json::from_slice::<Line>(&line).ok().and_then(Line::lease) {
            Some(lease) => _ = by_address.insert(lease.address, lease),
            None => unread += usize::from(!line.is_empty()),
        }
    }
    Ok((by_address.into_values().collect(), unread))
}

#[cfg(test)]
mod tests {
    use super::super::leases::Leases;
    use super::super::leases::tests::lease;
    use super::super::pi::PiSerial;
    use super::*;

    fn all_states() -> Vec<Lease> {
        let identifier = Client::Identifier(vec![255, 0, 1]);
        vec![
            lease(7, 1, 10),
            Lease {
                serial: Some(PiSerial(0x0b15_4510)),
                relay: Some(Ipv4Addr::LOCALHOST),
                ..lease(8, 2, 20)
            },
            Lease { client: identifier, state: State::Released, ..lease(9, 3, 30) },
            Lease { state: State::Taken, ..lease(10, 4, u64::MAX) },
            Lease { state: State::Declined, ..lease(11, 4, 50) },
        ]
    }

    #[test]
    fn what_was_synced_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/leases");
        let (file, kept, unread) = LeaseFile::open(&path).unwrap();
        assert_eq!((kept.len(), unread), (0, 0));
        let mut leases = Leases::new(kept, Box::new(file));
        for lease in all_states() {
            leases.put(lease);
            leases.sync().unwrap();
        }
        leases.put(lease(99, 9, 9));
        drop(leases);
        assert_eq!(LeaseFile::open(&path).unwrap().1, all_states(), "and what was not synced is not");
    }

    #[test]
    fn a_torn_line_costs_itself_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases");
        let mut text = Vec::new();
        all_states().iter().for_each(|lease| add_line(&mut text, lease));
        let ends: Vec<_> = (0..text.len()).filter(|at| text[*at] == b'\n').collect();
        for cut in 0..=text.len() {
            std::fs::write(&path, &text[..cut]).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let (file, kept, _) = LeaseFile::open(&path).unwrap();
            assert_eq!(kept, all_states()[..whole], "{cut}");
            // The next line does not hang on the torn one.
            let mut leases = Leases::new(kept, Box::new(file));
            leases.put(lease(99, 9, 9));
            leases.sync().unwrap();
            drop(leases);
            assert_eq!(LeaseFile::open(&path).unwrap().1.len(), whole + 1, "{cut}");
        }
        std::fs::write(&path, b"\0\0\0\0\n{}\n{\"address\":7}\n\n").unwrap();
        let (_, kept, unread) = LeaseFile::open(&path).unwrap();
        assert_eq!((kept.len(), unread), (0, 3));
    }

    #[test]
    fn the_file_stays_small() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases");
        let (file, kept, _) = LeaseFile::open(&path).unwrap();
        let mut leases = Leases::new(kept, Box::new(file));
        for round in 0..5000 {
            leases.put(lease(7, 1, round));
            if round % 10 == 0 {
                leases.sync().unwrap();
            }
        }
        leases.sync().unwrap();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= SPARE_LINES + 4, "{lines}");
        drop(leases);
        assert_eq!(LeaseFile::open(&path).unwrap().1, [lease(7, 1, 4999)]);
    }

    #[test]
    fn two_servers_do_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases");
        let first = LeaseFile::open(&path).unwrap();
        let error = LeaseFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("in use by another DHCP server"), "{error}");
        drop(first);
        LeaseFile::open(&path).unwrap();
    }

    #[test]
    fn after_a_failed_write_all_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases");
        let (mut file, ..) = LeaseFile::open(&path).unwrap();
        // What cannot be written to.
        file.file = File::open("/dev/null").unwrap();
        let mut leases = Leases::new(Vec::new(), Box::new(file));
        leases.put(lease(7, 1, 1));
        assert!(leases.sync().is_err());
        leases.sync().unwrap();
        drop(leases);
        assert_eq!(LeaseFile::open(&path).unwrap().1, [lease(7, 1, 1)]);
    }
}
