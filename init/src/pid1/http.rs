//! The HTTP client: blocking, rustls with ring, names resolved from `/etc/resolv.conf` by its own resolver (a static
//! program must not load the C library's).

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header::{CONTENT_RANGE, RANGE};
use url::Url;

/// A server that is silent for so long is asked again.
const SILENCE: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(10);

/// A client for the schemes of these URLs. Reading a bundle of a hundred CA certificates is left out where nothing needs it.
///
/// # Errors
/// When https is wanted and the image has no CA certificates.
pub fn client<'a>(urls: impl IntoIterator<Item = &'a Url>) -> Result<Client> {
    let builder = Client::builder()
        .user_agent(concat!("lifeboat/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .timeout(SILENCE)
        .tcp_nodelay(true)
        .http1_only()
        .pool_max_idle_per_host(1);
    // A second installation in this process fails and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let secure = urls.into_iter().any(|url| url.scheme() == "https");
    let builder = if secure { builder } else { builder.tls_certs_only([]) };
    builder.build().context("making an HTTP client (are there CA certificates in the image?)")
}

/// A small file, whole.
///
/// # Errors
/// Any status but 200, or more than `limit` bytes.
pub fn small_file(client: &Client, url: &Url, limit: usize) -> Result<Vec<u8>> {
    let response = client.get(url.clone()).send().with_context(|| format!("fetching {url}"))?;
    ensure!(response.status() == StatusCode::OK, "fetching {url}: the server says {}", response.status());
    body(response, url, limit)
}

/// All of an answer that is a small file.
///
/// # Errors
/// For a web page, or more than `limit` bytes.
pub fn body(response: Response, url: &Url, limit: usize) -> Result<Vec<u8>> {
    ensure!(!is_page(&response), "fetching {url}: {PAGE}");
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
    ensure!(response.status() == StatusCode::OK, "asking for {url}: the server says {}", response.status());
    let length = response.headers().get(reqwest::header::CONTENT_LENGTH);
    let size: Option<u64> = length.and_then(|value| value.to_str().ok()?.parse().ok());
    size.filter(|size| *size > 0).with_context(|| format!("{url}: the server does not say how long it is"))
}

/// What a network that wants a login first answers, whatever is asked for.
const PAGE: &str = "a web page came instead: is there a captive portal, or a proxy that wants a login?";

/// Nothing that we fetch is one.
fn is_page(response: &Response) -> bool {
    let kind = response.headers().get(reqwest::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"))
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
}

/// The bytes `start..end` of a file of `total` bytes.
///
/// # Errors
/// When the server answers anything but exactly these bytes.
pub fn range(client: &Client, url: &Url, start: u64, end: u64, total: u64) -> Result<Response, RangeError> {
    let asked = format!("bytes={start}-{}", end - 1);
    let sent = client.get(url.clone()).header(RANGE, asked).send();
    let response = sent.map_err(|error| RangeError::Trouble(url.clone(), causes(&error)))?;
    let refuse = |why: String| Err(RangeError::Refused(url.clone(), why));
    if response.status().is_success() && is_page(&response) {
        return refuse(PAGE.into());
    }
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let given =
                response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or("");
            let wanted = format!("bytes {start}-{}/{total}", end - 1);
            if given != wanted {
                return refuse(format!(
                    "asked for {wanted:?}, the server gives {given:?}: has the file changed?"
                ));
            }
        }
        // A server without Range gives everything: right where everything was asked for.
        StatusCode::OK if start == 0 && end == total => {
            if let Some(length) = response.content_length().filter(|length| *length != total) {
                return refuse(format!("it has {length} bytes, its manifest says {total}"));
            }
        }
        StatusCode::OK => return refuse("the server cannot resume (it ignores Range)".into()),
        StatusCode::RANGE_NOT_SATISFIABLE => {
            return refuse(format!("it has fewer bytes than the manifest's {total}: the file is truncated"));
        }
        status if status.is_server_error() => {
            return Err(RangeError::Trouble(url.clone(), format!("the server says {status}")));
        }
        status => return refuse(format!("the server says {status}")),
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
