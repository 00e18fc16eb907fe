//! An image in a file, by GNU ddrescue: what reads well first, what does not after that, and a map of all of it, so that
//! the same command goes on where the last one ended.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use init::size::human;
use sha2::{Digest, Sha256};

use super::map::{self, Map};
use crate::disk::inventory::Device;
use crate::image::progress::Progress;
use crate::refusal::refused;
use crate::tool::Tool;

/// How often the map is looked at where there is no terminal.
const LOOK: Duration = Duration::from_secs(10);

/// An image on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    path: PathBuf,
    map: PathBuf,
    /// Whether an earlier run began it.
    pub resumed: bool,
    /// Bytes that an earlier run left.
    pub present: u64,
}

impl Image {
    /// At `path`, with the map at `path.map`.
    ///
    /// # Errors
    /// A refusal, when there is something that is not of an earlier run.
    pub fn at(path: &Path, device: &Device) -> Result<Self> {
        let mut map = path.as_os_str().to_os_string();
        map.push(".map");
        let map = PathBuf::from(map);
        let present = std::fs::metadata(path).ok();
        let text = std::fs::read_to_string(&map).ok();
        match (&present, &text) {
            (Some(data), None) if !data.is_file() || data.len() > 0 => {
                return Err(refused(format!(
                    "{} is there, and no {} beside it: it is no image that could go on; take another name",
                    path.display(),
                    map.display()
                )));
            }
            (_, Some(text)) => {
                let end = map::parse(text).with_context(|| format!("reading {}", map.display()))?.end;
                if end != device.size {
                    return Err(refused(format!(
                        "{} is the map of a disk of {end} bytes, {} has {}: take another name",
                        map.display(),
                        device.path.display(),
                        device.size
                    )));
                }
            }
            _ => {}
        }
        let present = present.map_or(0, |data| data.blocks() * 512);
        Ok(Image { path: path.into(), map, resumed: text.is_some(), present })
    }

    /// Runs ddrescue to its end. On a terminal it shows itself; otherwise a line from time to time.
    ///
    /// # Errors
    /// When it fails or is ended; what was read is kept.
    pub fn rescue(&self, device: &Device, retries: u32, quiet: bool) -> Result<Map> {
        let mut command = Tool::new("ddrescue")?
            .args(["--sparse", "--idirect"])
            .arg(format!("--sector-size={}", device.logical_sector))
            .arg(format!("--retry-passes={retries}"))
            .args([&device.path, &self.path, &self.map])
            .into_command();
        // How far it is goes to its standard output, what is wrong to its standard error.
        let shown = std::io::stderr().is_terminal() && !quiet;
        let screen = if shown { Stdio::from(std::io::stderr()) } else { Stdio::null() };
        command.stdin(Stdio::null()).stdout(screen);
        let mut child = command.spawn().context("starting ddrescue")?;
        let status = if shown || quiet {
            child.wait().context("waiting for ddrescue")?
        } else {
            self.watch(&mut child)?
        };
        let again = "run the same command again to go on";
        ensure!(status.success(), "ddrescue ended early ({status}): {again}");
        let map = self.read_map()?;
        ensure!(map.end == device.size, "the map ends at {} of {} bytes: {again}", map.end, device.size);
        Ok(map)
    }

    fn read_map(&self) -> Result<Map> {
        let text =
            std::fs::read_to_string(&self.map).with_context(|| format!("reading {}", self.map.display()))?;
        map::parse(&text).with_context(|| format!("reading {}", self.map.display()))
    }

    fn watch(&self, child: &mut Child) -> Result<ExitStatus> {
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                let status = child.wait();
                let _ = ended.send(());
                status
            });
            while end
                .recv_timeout(LOOK)
                .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                if let Ok(map) = self.read_map() {
                    eprintln!("read {} of {}", human(map.rescued), human(map.end));
                }
            }
            match waiting.join() {
                Ok(status) => status.context("waiting for ddrescue"),
                Err(_) => bail!("the waiting thread panicked"),
            }
        })
    }

    /// Gives the file its full size, has it on its disk, and hashes it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn finish(&self, size: u64, progress: &Progress) -> Result<[u8; 32]> {
        let name = self.path.display();
        let file = OpenOptions::new().read(true).write(true).open(&self.path);
        let file = file.with_context(|| format!("opening {name}"))?;
        let length = file.metadata().with_context(|| format!("looking at {name}"))?.len();
        if length != size {
            file.set_len(size).with_context(|| format!("giving {name} its full size"))?;
        }
        file.sync_all().with_context(|| format!("flushing {name}"))?;
        progress.begin("hash", Some(size));
        let hash = hash(&file, progress).with_context(|| format!("reading {name}"))?;
        progress.end();
        Ok(hash)
    }
}

fn hash(mut file: &File, progress: &Progress) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(buffer.get(..count).unwrap_or_default());
        progress.add(count as u64);
    }
}
