//! One HTTP request, by the device's one HTTP client: `init get` (`init::answer`). What a server sends is parsed in a
//! process of its own.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use init::answer::{ANSWER_LIMIT, Answer};
use url::Url;

/// What is kept of a complaint.
const COMPLAINT_LIMIT: u64 = 4096;

/// A server's answer: its head, and its body to be read.
pub struct Response {
    /// The head.
    pub answer: Answer,
    child: Child,
    body: BufReader<ChildStdout>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask<'a> {
    /// The first byte that is wanted, if it is not the first of all.
    pub from: Option<u64>,
    /// `If-Range`.
    pub if_range: Option<&'a str>,
    /// Whether what comes is checked by its hash or signature: see [`init::answer`].
    pub checked: bool,
}

/// Asks for `url` by the program `init`.
///
/// # Errors
/// When no answer comes; a status that is an error is an answer.
pub fn get(init: &Path, url: &Url, ask: Ask<'_>) -> Result<Response> {
    let mut command = Command::new(init);
    command.arg("get");
    if let Some(from) = ask.from {
        command.args(["--from", &from.to_string()]);
    }
    if let Some(validator) = ask.if_range {
        command.args(["--if-range", validator]);
    }
    if ask.checked {
        command.arg("--checked");
    }
    command.arg(url.as_str()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // The end of the session is not its end: see `hangup`.
    let mut child = command
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {} to fetch {url}", init.display()))?;
    let stdout = child.stdout.take().context("talking to init get")?;
    let mut response = Response { answer: Answer::default(), child, body: BufReader::new(stdout) };
    let mut line = Vec::new();
    let head = (&mut response.body).take(ANSWER_LIMIT as u64).read_until(b'\n', &mut line);
    head.context("reading the answer's head")?;
    if line.is_empty() {
        return Err(anyhow!("fetching {url}: {}", response.complaint()));
    }
    response.answer = serde_json::from_slice(&line).context("reading the answer's head")?;
    Ok(response)
}

/// A small file, whole, that is a signature or has one.
///
/// # Errors
/// Any status but 200, or more than `limit` bytes.
pub fn small_file(init: &Path, url: &Url, limit: usize) -> Result<Vec<u8>> {
    let response = get(init, url, Ask { checked: true, ..Ask::default() })?;
    ensure!(response.answer.status == 200, "{url}: the server says {}", response.answer.status);
    let mut bytes = Vec::new();
    response.take(limit as u64 + 1).read_to_end(&mut bytes).with_context(|| format!("reading {url}"))?;
    ensure!(bytes.len() <= limit, "{url} has more than {limit} bytes");
    Ok(bytes)
}

impl Response {
    /// Why it ended early.
    fn complaint(&mut self) -> String {
        let mut text = Vec::new();
        let stderr =
            self.child.stderr.as_mut().map(|stderr| stderr.take(COMPLAINT_LIMIT).read_to_end(&mut text));
        let said = String::from_utf8_lossy(&text);
        match said.trim() {
            "" => format!("init get said nothing ({stderr:?})"),
            said => said.strip_prefix("init: ").unwrap_or(said).to_string(),
        }
    }
}

impl Read for Response {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(into)?;
        if count == 0 && !into.is_empty() && !self.child.wait()?.success() {
            return Err(io::Error::other(self.complaint()));
        }
        Ok(count)
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        // It may hang on a server that says nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
