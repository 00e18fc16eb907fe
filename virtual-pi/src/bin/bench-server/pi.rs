//! A Pi 4 as its TFTP server sees it: the questions of EEPROM and start4.elf in their order, and whether what came is enough
//! to boot.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};

use crate::site::{Site, noise};
use crate::tftp::{Answer, Question, Script};

/// A file that a Pi needs, and its size in bytes: near those of Debian's and Raspberry Pi's, the two largest ones cut so that
/// 64 Pis do not take minutes.
const FILES: [(&str, usize); 8] = [
    ("start4.elf", 2_260_000),
    ("fixup4.dat", 5_400),
    ("config.txt", 900),
    ("cmdline.txt", 300),
    ("bcm2711-rpi-4-b.dtb", 56_000),
    ("overlays/overlay_map.dtb", 5_300),
    ("initramfs8", 4_000_000),
    ("kernel8.img", 4_000_000),
];

/// Whether a file is read, or only asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Probe,
}

use Use::{Probe, Read};

/// What is asked once it is known which folder counts.
const ORDER: [(&str, Use); 28] = [
    ("config.txt", Read),
    ("vl805.sig", Read),
    ("pieeprom.sig", Read),
    ("recover4.elf", Probe),
    ("recovery.elf", Probe),
    ("start4.elf", Read),
    ("fixup4.dat", Read),
    // start4.elf takes over.
    ("recovery.elf", Probe),
    ("config.txt", Read),
    ("dt-blob.bin", Read),
    ("recovery.elf", Probe),
    ("config.txt", Read),
    ("bootcfg.txt", Read),
    ("initramfs8", Probe),
    ("initramfs8", Read),
    ("bcm2711-rpi-4-b.dtb", Probe),
    ("bcm2711-rpi-4-b.dtb", Read),
    ("overlays/overlay_map.dtb", Probe),
    ("overlays/overlay_map.dtb", Read),
    ("config.txt", Read),
    ("cmdline.txt", Probe),
    ("cmdline.txt", Read),
    ("recovery8.img", Probe),
    ("kernel8.img", Probe),
    ("kernel8.img", Probe),
    ("armstub8-gic.bin", Read),
    ("kernel8.img", Probe),
    ("kernel8.img", Read),
];

/// The boot files, as they are served.
#[derive(Debug)]
pub(crate) struct BootFiles(Vec<(&'static str, Vec<u8>)>);

impl BootFiles {
    /// Writes them for the servers.
    pub(crate) fn put(site: &Site) -> Result<Arc<Self>> {
        let mut files = Vec::new();
        for (seed, (name, size)) in FILES.into_iter().enumerate() {
            let is_text = name.ends_with(".txt");
            let bytes = if is_text { b"#bench\n".repeat(size / 7) } else { noise(size, seed as u64 + 77) };
            site.put(&format!("tftp/{name}"), &bytes)?;
            files.push((name, bytes));
        }
        Ok(Arc::new(Self(files)))
    }

    fn find(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, bytes)| bytes.as_slice())
    }
}

/// One that boots.
pub(crate) struct Pi {
    files: Arc<BootFiles>,
    /// With a slash at its end; empty once it was dropped.
    prefix: String,
    state: State,
}

enum State {
    /// Has not asked yet.
    Off,
    /// Asked for one of these in its own folder.
    Prefix(&'static str),
    /// Asked for this line of [`ORDER`].
    Line(usize),
}

impl Pi {
    /// With the folder of a serial number.
    pub(crate) fn new(files: &Arc<BootFiles>, serial: u32) -> Self {
        Self { files: Arc::clone(files), prefix: format!("{serial:08x}/"), state: State::Off }
    }

    fn ask(&self, name: &str, is_probe: bool) -> Option<Question> {
        Some(Question { name: format!("{}{name}", self.prefix), is_probe })
    }

    fn line(&mut self, line: usize) -> Option<Question> {
        self.state = State::Line(line);
        let (name, how) = ORDER.get(line)?;
        self.ask(name, *how == Probe)
    }

    /// Whether it could go on with this.
    fn check(&self, line: usize, answer: &Answer) -> Result<()> {
        let Some((name, how)) = ORDER.get(line).copied() else { return Ok(()) };
        match (answer, self.files.find(name)) {
            (Answer::Missing, None) => Ok(()),
            (Answer::Missing, Some(_)) => bail!("{}{name} is missing", self.prefix),
            (Answer::Got(_), None) => bail!("{}{name} is there, and should not be", self.prefix),
            (Answer::Got(bytes), Some(served)) => {
                ensure!(how == Probe || bytes == served, "{}{name} came damaged", self.prefix);
                Ok(())
            }
        }
    }
}

impl Script for Pi {
    fn next(&mut self, before: Option<Answer>) -> Result<Option<Question>> {
        let Some(answer) = before else {
            self.state = State::Prefix("start4.elf");
            return Ok(self.ask("start4.elf", true));
        };
        match (&self.state, answer) {
            (State::Prefix("start4.elf"), Answer::Missing) => {
                self.state = State::Prefix("start.elf");
                Ok(self.ask("start.elf", true))
            }
            (State::Prefix(_), Answer::Missing) => {
                self.prefix.clear();
                Ok(self.line(0))
            }
            (State::Off | State::Prefix(_), _) => Ok(self.line(0)),
            (State::Line(line), answer) => {
                let line = *line;
                self.check(line, &answer)?;
                Ok(self.line(line + 1))
            }
        }
    }
}

/// A client that fetches one file, and looks at every byte.
pub(crate) struct Fetch {
    pub(crate) name: String,
    pub(crate) served: Arc<Vec<u8>>,
}

impl Script for Fetch {
    fn next(&mut self, before: Option<Answer>) -> Result<Option<Question>> {
        match before {
            None => Ok(Some(Question { name: self.name.clone(), is_probe: false })),
            Some(Answer::Missing) => bail!("{} is missing", self.name),
            Some(Answer::Got(bytes)) => {
                ensure!(bytes == *self.served, "{} came damaged", self.name);
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pi_whose_folder_is_missing_drops_it() {
        let files = Arc::new(BootFiles(FILES.map(|(name, _)| (name, vec![1])).into()));
        let mut pi = Pi::new(&files, 0x5b15_0001);
        let mut next = |before| pi.next(before).unwrap().map(|question| question.name);
        assert_eq!(next(None).as_deref(), Some("5b150001/start4.elf"));
        assert_eq!(next(Some(Answer::Missing)).as_deref(), Some("5b150001/start.elf"));
        assert_eq!(next(Some(Answer::Missing)).as_deref(), Some("config.txt"));
        let mut asked = next(Some(Answer::Got(vec![1])));
        let mut count = 1;
        while let Some(name) = asked {
            count += 1;
            let answer = files.find(&name).map_or(Answer::Missing, |bytes| Answer::Got(bytes.to_vec()));
            asked = next(Some(answer));
        }
        assert_eq!(count, ORDER.len());
    }

    #[test]
    fn a_damaged_kernel_boots_no_pi() {
        let files = Arc::new(BootFiles(FILES.map(|(name, _)| (name, vec![1])).into()));
        let pi = Pi::new(&files, 1);
        assert!(pi.check(ORDER.len() - 1, &Answer::Got(vec![1])).is_ok());
        assert!(pi.check(ORDER.len() - 1, &Answer::Got(vec![2])).is_err());
        assert!(pi.check(ORDER.len() - 1, &Answer::Missing).is_err());
    }
}
