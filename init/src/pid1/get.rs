//! `init get`: one request for another program of the device ([`crate::answer`]).

use std::io::Write;
use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow, bail};
use reqwest::blocking::Response;
use reqwest::header::{CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use url::Url;

use super::http;
use crate::answer::Answer;

/// Asks, and writes the answer to standard output.
///
/// # Errors
/// When there is no answer, its body breaks off, or nobody reads on.
pub fn run(arguments: &[&str]) -> Result<()> {
    let (mut from, mut validator) = (None, None);
    let mut rest = arguments;
    let url = loop {
        match rest {
            ["--from", byte, more @ ..] => (from, rest) = (Some(byte.parse::<u64>()?), more),
            ["--if-range", value, more @ ..] => (validator, rest) = (Some(*value), more),
            [url] => break Url::parse(url).with_context(|| format!("{url:?} is no URL"))?,
            _ => bail!("usage: init get [--from BYTE] [--if-range VALIDATOR] URL"),
        }
    };
    let mut request = http::client([&url])?.get(url.clone());
    if let Some(from) = from {
        request = request.header(RANGE, format!("bytes={from}-"));
    }
    if let Some(validator) = validator {
        request = request.header(IF_RANGE, validator);
    }
    let response = request.send().map_err(|error| anyhow!("{}", http::causes(&error.without_url())))?;
    pass(response)
}

fn pass(mut response: Response) -> Result<()> {
    // Past the standard library's buffer, which looks for lines.
    let out = std::io::stdout().as_fd().try_clone_to_owned().context("taking standard output")?;
    let mut out = std::fs::File::from(out);
    let mut line = serde_json::to_vec(&answer(&response)).context("writing the answer's head")?;
    line.push(b'\n');
    out.write_all(&line).context("writing to standard output")?;
    let copied = std::io::copy(&mut response, &mut out);
    copied.map_err(|error| anyhow!("{}", http::causes(&error))).map(drop)
}

fn answer(response: &Response) -> Answer {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(String::from);
    Answer {
        status: response.status().as_u16(),
        length: response.content_length(),
        range: header(CONTENT_RANGE),
        etag: header(ETAG),
        modified: header(LAST_MODIFIED),
    }
}
