//! Where an image comes from.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use url::Url;

use super::download::Download;
use super::progress::Progress;
use crate::verbs::Usage;

/// Where something is to be read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// http or https.
    Url(Url),
    /// A file or a block device.
    File(PathBuf),
    /// `-`.
    Stdin,
}

impl Place {
    /// As a person writes it.
    ///
    /// # Errors
    /// A URL that is none, or of another scheme.
    pub fn parse(word: &str) -> Result<Self, Usage> {
        if word == "-" {
            return Ok(Place::Stdin);
        }
        let Some((scheme, _)) = word.split_once("://") else { return Ok(Place::File(word.into())) };
        if !matches!(scheme, "http" | "https") {
            return Err(Usage(format!("{word}: only http:// and https:// can be fetched")));
        }
        Url::parse(word).map(Place::Url).map_err(|error| Usage(format!("{word}: {error}")))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Url(url) => write!(f, "{url}"),
            Place::File(path) => write!(f, "{}", path.display()),
            Place::Stdin => write!(f, "standard input"),
        }
    }
}

/// An open source. What is read from it is counted.
pub struct Source {
    bytes: Box<dyn Read + Send>,
    /// How many bytes, where that is known beforehand.
    pub size: Option<u64>,
    progress: Arc<Progress>,
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(into)?;
        self.progress.add(count as u64);
        Ok(count)
    }
}

impl Source {
    /// Opens it; `init` fetches; `checked`: its bytes are held against a hash or signature. A download tells `progress` of its troubles, and how much came again after a break.
    ///
    /// # Errors
    /// When it is not there.
    pub fn open(
        place: &Place,
        init: &Path,
        checked: bool,
        retries: u32,
        progress: &Arc<Progress>,
    ) -> Result<Self> {
        let (bytes, size) = open(place, init, checked, retries, progress)?;
        progress.begin("read", size);
        Ok(Source { bytes, size, progress: progress.clone() })
    }
}

type Open = (Box<dyn Read + Send>, Option<u64>);

fn open(place: &Place, init: &Path, checked: bool, retries: u32, progress: &Arc<Progress>) -> Result<Open> {
    {
        match place {
            Place::Url(url) => {
                let download = Download::open(init.into(), url.clone(), checked, retries, progress.clone())?;
                let size = download.size();
                Ok((Box::new(download), size))
            }
            Place::File(path) => {
                let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
                let data = file.metadata().with_context(|| format!("looking at {}", path.display()))?;
                Ok((Box::new(file), data.is_file().then_some(data.len())))
            }
            Place::Stdin => {
                if io::stdin().is_terminal() {
                    let how = "ssh pi rescue write - /dev/DISK --yes … < IMAGE";
                    return Err(
                        Usage(format!("standard input is a terminal; an image comes by: {how}")).into()
                    );
                }
                let stdin = io::stdin().as_fd().try_clone_to_owned().context("taking standard input")?;
                Ok((Box::new(File::from(stdin)), None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_place() {
        assert_eq!(Place::parse("-").unwrap(), Place::Stdin);
        assert_eq!(Place::parse("./-").unwrap(), Place::File("./-".into()));
        assert!(matches!(Place::parse("https://a/b").unwrap(), Place::Url(_)));
        for bad in ["ftp://a/b", "http://", "file:///x"] {
            assert!(Place::parse(bad).unwrap_err().to_string().contains(bad));
        }
    }
}
