//! `init get`: one request for another program of the device ([`crate::answer`]).

use std::io::{Read, Write};
use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow, bail};
use reqwest::blocking::Response;
use reqwest::header::{CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use url::Url;

use super::http;
use super::pace::{Limiter, Paced, Trickle};
use super::tls::Dates;
use crate::answer::Answer;

/// Asks, and writes the answer to standard output.
///
/// # Errors
/// When there is no answer, its body breaks off or only trickles, or nobody reads on.
pub fn run(arguments: &[&str]) -> Result<()> {
    let (mut from, mut validator, mut dates) = (None, None, Dates::Strict);
    let mut rest = arguments;
    let url = loop {
        match rest {
            ["--from", byte, more @ ..] => (from, rest) = (Some(byte.parse::<u64>()?), more),
            ["--if-range", value, more @ ..] => (validator, rest) = (Some(*value), more),
            ["--checked", more @ ..] => (dates, rest) = (Dates::Told, more),
            [url] => break Url::parse(url).with_context(|| format!("{url:?} is no URL"))?,
            _ => bail!("usage: init get [--from BYTE] [--if-range VALIDATOR] [--checked] URL"),
        }
    };
    let transport = http::transport();
    let mut request = http::client(&transport, dates)?.get(url.clone());
    if let Some(from) = from {
        request = request.header(RANGE, format!("bytes={from}-"));
    }
    if let Some(validator) = validator {
        request = request.header(IF_RANGE, validator);
    }
    let response = request.send().map_err(|error| anyhow!("{}", http::causes(&error.without_url())))?;
    pass(response, transport.rate)
}

fn pass(response: Response, rate: Option<u64>) -> Result<()> {
    // Past the standard library's buffer, which looks for lines.
    let out = std::io::stdout().as_fd().try_clone_to_owned().context("taking standard output")?;
    let mut out = std::fs::File::from(out);
    let mut line = serde_json::to_vec(&answer(&response)).context("writing the answer's head")?;
    line.push(b'\n');
    out.write_all(&line).context("writing to standard output")?;
    let (mut limiter, mut trickle) = (Limiter::new(rate), Trickle::default());
    let mut response = Paced::new(response, &mut limiter, &mut trickle);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = response.read(&mut buffer).map_err(|error| anyhow!("{}", http::causes(&error)))?;
        match buffer.get(..count) {
            None | Some([]) => return Ok(()),
            Some(bytes) => out.write_all(bytes).context("writing to standard output")?,
        }
    }
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
