//! The HTTP client: blocking, rustls with ring, names by our own resolver (a static program must not load the C library's).

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderName};
use reqwest::header::{IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{NoProxy, Proxy};
use url::Url;

use super::dns::resolver::Resolver;
use super::tls::{self, Authorities, Dates};
use crate::cmdline::CommandLine;
use crate::transport::Transport;

/// A server that is silent for so long is asked again.
const SILENCE: Duration = Duration::from_secs(20);
/// Name, connection and TLS: on a line with two seconds of delay each way they take twelve.
const CONNECT: Duration = Duration::from_secs(15);
/// How often a server may send us on.
const REDIRECTS: usize = 5;

/// What the running kernel's command line says of the transport.
pub fn transport() -> Transport {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    Transport::parse(&CommandLine::parse(&line))
}

/// A client that lives as long as its owner likes: name servers that change later are seen.
///
/// # Errors
/// When a proxy cannot be used.
pub fn client(transport: &Transport, dates: Dates) -> Result<Client> {
    client_with(transport, dates, &Authorities::default(), Resolver::default())
}

/// The same with its certificates and name servers from elsewhere.
///
/// # Errors
/// As [`client`].
pub fn client_with(
    transport: &Transport,
    dates: Dates,
    authorities: &Authorities,
    resolver: Resolver,
) -> Result<Client> {
    let builder = Client::builder()
        .user_agent(concat!("lifeboat/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .timeout(SILENCE)
        .tcp_nodelay(true)
        .http1_only()
        .pool_max_idle_per_host(1)
        .redirect(Policy::custom(follow))
        .dns_resolver(Arc::new(resolver))
        .tls_backend_preconfigured(tls::config(transport.pins.as_deref(), dates, authorities)?);
    // The environment is not asked: the command line says it.
    let mut builder = builder.no_proxy();
    let direct = || transport.no_proxy.as_deref().and_then(NoProxy::from_string);
    if let Some(url) = transport.proxy_for("http") {
        builder = builder.proxy(Proxy::http(url.clone()).context("using http_proxy=")?.no_proxy(direct()));
    }
    if let Some(url) = transport.proxy_for("https") {
        builder = builder.proxy(Proxy::https(url.clone()).context("using https_proxy=")?.no_proxy(direct()));
    }
    builder.build().context("making an HTTP client")
}

/// How an image is fetched: whom to ask by, and how fast.
#[derive(Clone, Debug)]
pub struct Way {
    /// The client.
    pub client: Client,
    /// The most bytes in a second.
    pub rate: Option<u64>,
}

impl Way {
    /// For what is checked by itself.
    ///
    /// # Errors
    /// As [`client`].
    pub fn new(transport: &Transport) -> Result<Self> {
        Ok(Way { client: client(transport, Dates::Told)?, rate: transport.rate })
    }
}

/// A redirect leads anywhere but out of TLS.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > REDIRECTS {
        return attempt.error(format!("the servers send us on more than {REDIRECTS} times"));
    }
    let from_https = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if from_https && attempt.url().scheme() != "https" {
        let to = attempt.url().to_string();
        return attempt.error(format!("the server sends us on from https: to {to}, which is refused"));
    }
    attempt.follow()
}

/// A small file, whole.
///
/// # Errors
/// Any status but 200, or more than `limit` bytes.
pub fn small_file(client: &Client, url: &Url, limit: usize) -> Result<Vec<u8>> {
    let response = client.get(url.clone()).send().with_context(|| format!("fetching {url}"))?;
    ensure!(response.status() == StatusCode::OK, "fetching {url}: {}", says(response.status()));
    body(response, url, limit)
}

/// All of an answer that is a small file.
///
/// # Errors
/// For a web page, or more than `limit` bytes.
pub fn body(response: Response, url: &Url, limit: usize) -> Result<Vec<u8>> {
    if let Some(page) = page(&response, url) {
        anyhow::bail!("fetching {url}: {page}");
    }
    let mut bytes = Vec::new();
    response.take(limit as u64 + 1).read_to_end(&mut bytes).with_context(|| format!("reading {url}"))?;
    ensure!(bytes.len() <= limit, "{url} has more than {limit} bytes");
    Ok(bytes)
}

/// A file's size, from a HEAD request.
///
/// # Errors
/// When the server does not say it.
pub fn size(client: &Client, url: &Url) -> Result<u64> {
    let response = client.head(url.clone()).send().with_context(|| format!("asking for {url}"))?;
    ensure!(response.status() == StatusCode::OK, "asking for {url}: {}", says(response.status()));
    if let Some(page) = page(&response, url) {
        anyhow::bail!("asking for {url}: {page}");
    }
    let size: Option<u64> = header(&response, CONTENT_LENGTH).and_then(|length| length.parse().ok());
    size.filter(|size| *size > 0).with_context(|| format!("{url}: the server does not say how long it is"))
}

/// A status that is no success, in words.
fn says(status: StatusCode) -> String {
    match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            format!("the proxy says {status} (http_proxy=http://USER:PASSWORD@HOST:PORT)")
        }
        // RFC 6585, section 6: what a captive portal should say.
        StatusCode::NETWORK_AUTHENTICATION_REQUIRED => {
            format!(
                "the network says {status}: it is a captive portal, log in by another machine or go around it"
            )
        }
        _ => format!("the server says {status}"),
    }
}

/// What a network that wants a login first answers, whatever is asked for: a page, often another host's. Nothing that we
/// fetch is one.
fn page(response: &Response, asked: &Url) -> Option<String> {
    let kind = header(response, CONTENT_TYPE)?;
    if !kind.trim_start().to_ascii_lowercase().starts_with("text/html") {
        return None;
    }
    let whose = match response.url() {
        url if url.host_str() == asked.host_str() => String::new(),
        url => format!(" from {}, where we were sent on to", url.host_str().unwrap_or("elsewhere")),
    };
    Some(format!("a web page came instead{whose}: is there a captive portal, or a proxy that wants a login?"))
}

fn header(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

/// What tells one state of a file from the next (RFC 9110, section 8.8): a strong `ETag`, else a `Last-Modified` that is not of
/// the same second as the answer.
pub fn validator(response: &Response) -> Option<String> {
    let tag = header(response, ETAG).filter(|tag| tag.starts_with('"'));
    let modified = || {
        header(response, LAST_MODIFIED).filter(|time| header(response, DATE).is_some_and(|now| now != *time))
    };
    tag.or_else(modified).map(str::to_owned)
}

/// Why a range was not given.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// The server was not reached, or is in trouble of its own: worth asking again.
    #[error("fetching {0}: {1}")]
    Trouble(Url, String),
    /// The server has no such bytes: asking again gives the same answer, until somebody changes the file.
    #[error("fetching {0}: {1}")]
    Refused(Url, String),
    /// It is not the file any more that the first bytes were of.
    #[error("fetching {0}: the file has changed on the server since its first bytes came ({1})")]
    Changed(Url, String),
}

/// The bytes `part` of a file of `total` bytes, as long as the file is still that of the validator.
///
/// # Errors
/// When the server answers anything but exactly these bytes.
pub fn range(
    client: &Client,
    url: &Url,
    part: Range<u64>,
    total: u64,
    validator: Option<&str>,
) -> Result<Response, RangeError> {
    let mut request = client.get(url.clone()).header(RANGE, format!("bytes={}-{}", part.start, part.end - 1));
    if let Some(validator) = validator {
        request = request.header(IF_RANGE, validator);
    }
    let response = request.send().map_err(|error| RangeError::Trouble(url.clone(), causes(&error)))?;
    let refuse = |why: String| Err(RangeError::Refused(url.clone(), why));
    if response.status().is_success() {
        if let Some(page) = page(&response, url) {
            return refuse(page);
        }
        if let (Some(before), Some(now)) = (validator, self::validator(&response))
            && before != now
        {
            return Err(RangeError::Changed(url.clone(), format!("it was {before}, now it is {now}")));
        }
    }
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let given = header(&response, CONTENT_RANGE).unwrap_or("");
            let wanted = format!("bytes {}-{}/{total}", part.start, part.end - 1);
            if given != wanted {
                return refuse(format!(
                    "asked for {wanted:?}, the server gives {given:?}: has the file changed?"
                ));
            }
        }
        // A server without Range gives everything: right where everything was asked for.
        StatusCode::OK if part == (0..total) => {
            if let Some(length) = response.content_length().filter(|length| *length != total) {
                return refuse(format!("it has {length} bytes, its manifest says {total}"));
            }
        }
        StatusCode::OK => return refuse("the server cannot resume (it ignores Range)".into()),
        StatusCode::RANGE_NOT_SATISFIABLE => {
            return refuse(format!("it has fewer bytes than the manifest's {total}: the file is truncated"));
        }
        status if status.is_server_error() => {
            return Err(RangeError::Trouble(url.clone(), says(status)));
        }
        status => return refuse(says(status)),
    }
    Ok(response)
}

/// An error's whole chain in one line: reqwest itself says only "error sending request".
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}
