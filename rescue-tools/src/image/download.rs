//! A download that goes on where it broke: no byte is fetched twice (RFC 9110, Range and If-Range).

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use init::size::human;
use url::Url;

use super::http::{self, Ask, Response};
use super::progress::Progress;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_secs(30);
/// So often in a row, without a byte in between, a server is asked again where nobody says otherwise: seven minutes.
pub const RETRIES: u32 = 20;

/// A file being fetched.
pub struct Download {
    /// What fetches: [`init::answer`].
    init: PathBuf,
    url: Url,
    /// Whether somebody checks what comes: [`Ask::checked`].
    checked: bool,
    response: Option<Response>,
    /// The place of the next byte.
    at: u64,
    size: Option<u64>,
    /// What says that the file is still the same one.
    validator: Option<String>,
    retries: Retries,
    progress: Arc<Progress>,
}

/// How often to try, and how long to wait: doubled from half a second to half a minute, and from the start again after
/// each byte that came.
struct Retries {
    allowed: u32,
    used: u32,
    wait: Duration,
}

/// Why a request gave nothing.
enum Stop {
    /// Worth another try.
    Broken(anyhow::Error),
    /// The same answer would come again.
    Final(anyhow::Error),
}

impl Retries {
    fn new(allowed: u32) -> Self {
        Retries { allowed, used: 0, wait: FIRST_WAIT }
    }

    /// Tells of the trouble and waits; after the last try gives the error back.
    fn wait(&mut self, error: anyhow::Error, progress: &Progress) -> Result<()> {
        if self.used >= self.allowed {
            return Err(error.context(format!("giving up after {} tries in a row", self.used + 1)));
        }
        self.used += 1;
        let seconds = self.wait.as_secs_f32();
        progress.say(&format!("{error:#}; trying again in {seconds} s ({} of {})", self.used, self.allowed));
        std::thread::sleep(self.wait);
        self.wait = (self.wait * 2).min(LAST_WAIT);
        Ok(())
    }
}

impl Download {
    /// Asks for the file; the first answer says how long it is.
    ///
    /// # Errors
    /// When the server has no such file, or is not reached in `retries` tries more.
    pub fn open(
        init: PathBuf,
        url: Url,
        checked: bool,
        retries: u32,
        progress: Arc<Progress>,
    ) -> Result<Self> {
        let retries = Retries::new(retries);
        let mut download = Download {
            init,
            url,
            checked,
            response: None,
            at: 0,
            size: None,
            validator: None,
            retries,
            progress,
        };
        download.connect()?;
        Ok(download)
    }

    /// The file's length, where the server says it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Asks for the rest, until an answer comes.
    fn connect(&mut self) -> Result<()> {
        loop {
            let stop = if self.at == 0 { self.begin() } else { self.resume() };
            match stop {
                Ok(response) => {
                    self.response = Some(response);
                    return Ok(());
                }
                Err(Stop::Final(error)) => return Err(error),
                Err(Stop::Broken(error)) => self.retries.wait(error, &self.progress)?,
            }
        }
    }

    fn begin(&mut self) -> Result<Response, Stop> {
        let response = self.ask(None, None)?;
        let answer = &response.answer;
        if answer.status != 200 {
            return Err(self.status(answer.status));
        }
        if self.size.is_some() && self.size != answer.length {
            return Err(Stop::Final(anyhow!("{}: the file has changed on the server", self.url)));
        }
        self.size = answer.length;
        // A weak tag says nothing about bytes (RFC 9110, 13.1.5).
        let tag = answer.etag.clone().filter(|tag| !tag.starts_with("W/"));
        self.validator = tag.or_else(|| answer.modified.clone());
        Ok(response)
    }

    fn resume(&mut self) -> Result<Response, Stop> {
        let response = self.ask(Some(self.at), self.validator.as_deref())?;
        match response.answer.status {
            206 => {}
            // 416: range not satisfiable.
            200 | 416 => {
                let why =
                    "the server gives no part of the file: it has changed there, or the server cannot resume";
                return Err(Stop::Final(anyhow!("going on at {} of {}: {why}", human(self.at), self.url)));
            }
            status => return Err(self.status(status)),
        }
        let given = response.answer.range.as_deref().unwrap_or("");
        if !fits(given, self.at, self.size) {
            let error = anyhow!(
                "{}: asked for the bytes from {} on, the server gives {given:?}: has the file changed?",
                self.url,
                self.at
            );
            return Err(Stop::Final(error));
        }
        self.progress.say(&format!("going on at {}", human(self.at)));
        self.progress.resumed();
        Ok(response)
    }

    fn ask(&self, from: Option<u64>, if_range: Option<&str>) -> Result<Response, Stop> {
        let ask = Ask { from, if_range, checked: self.checked };
        http::get(&self.init, &self.url, ask).map_err(Stop::Broken)
    }

    /// A request that timed out (408), one too many (429) and a server in trouble (5xx) may go better next time.
    fn status(&self, status: u16) -> Stop {
        let error = anyhow!("fetching {}: the server says {status}", self.url);
        if matches!(status, 408 | 429 | 500..) { Stop::Broken(error) } else { Stop::Final(error) }
    }

    /// Reads from the open response; an end before the end is an error.
    fn read_open(&mut self, into: &mut [u8]) -> Result<usize> {
        let response = self.response.as_mut().context("no connection")?;
        let count = response.read(into).map_err(|error| anyhow!("{error}"))?;
        match self.size {
            Some(size) if count == 0 && self.at < size => Err(anyhow!("the connection ended early")),
            _ => Ok(count),
        }
    }
}

impl Read for Download {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.size.is_some_and(|size| self.at >= size) || into.is_empty() {
            return Ok(0);
        }
        loop {
            match self.read_open(into) {
                Ok(count) => {
                    self.at += count as u64;
                    self.retries = Retries::new(self.retries.allowed);
                    return Ok(count);
                }
                Err(error) => {
                    self.response = None;
                    let error = error.context(format!("reading {} at {}", self.url, human(self.at)));
                    let again = self.retries.wait(error, &self.progress).and_then(|()| self.connect());
                    again.map_err(|error| io::Error::other(format!("{error:#}")))?;
                }
            }
        }
    }
}

/// Whether `Content-Range: GIVEN` is the file's rest from `at` on.
fn fits(given: &str, at: u64, size: Option<u64>) -> bool {
    let Some((range, total)) = given.strip_prefix("bytes ").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let Some((first, last)) = range.split_once('-') else { return false };
    let (first, last, total) =
        (first.parse::<u64>().ok(), last.parse::<u64>().ok(), total.parse::<u64>().ok());
    let whole = match (size, total) {
        (Some(size), Some(total)) => size == total && last.and_then(|last| last.checked_add(1)) == Some(size),
        (Some(size), None) => last.and_then(|last| last.checked_add(1)) == Some(size),
        (None, _) => true,
    };
    first == Some(at) && whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rest_of_the_same_file_fits() {
        assert!(fits("bytes 5-9/10", 5, Some(10)));
        assert!(fits("bytes 5-9/*", 5, Some(10)));
        assert!(fits("bytes 5-9/10", 5, None));
        for bad in [
            "",
            "bytes 4-9/10",
            "bytes 5-8/10",
            "bytes 5-9/11",
            "bytes */10",
            "5-9/10",
            "bytes 5-18446744073709551615/10",
        ] {
            assert!(!fits(bad, 5, Some(10)), "{bad}");
        }
    }
}
