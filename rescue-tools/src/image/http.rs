//! The HTTP client: blocking, rustls with ring, names resolved from `/etc/resolv.conf` by its own resolver (a static
//! program must not load the C library's).

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use reqwest::blocking::Client;
use url::Url;

/// A server that is silent for so long is asked again.
const SILENCE: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(10);

/// A client for this URL's scheme. Reading a bundle of a hundred CA certificates is left out where nothing needs it; then
/// a redirect to https fails.
///
/// # Errors
/// When https is wanted and the image has no CA certificates.
pub fn client(url: &Url) -> Result<Client> {
    // A second installation in this process fails and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .user_agent(concat!("lifeboat/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .timeout(SILENCE)
        .tcp_nodelay(true)
        .http1_only()
        .pool_max_idle_per_host(1);
    let builder = if url.scheme() == "https" { builder } else { builder.tls_certs_only([]) };
    builder.build().context("making an HTTP client (are there CA certificates in the image?)")
}

/// A small file, whole.
///
/// # Errors
/// Any status but 200, or more than `limit` bytes.
pub fn small_file(client: &Client, url: &Url, limit: usize) -> Result<Vec<u8>> {
    let response = client.get(url.clone()).send().with_context(|| format!("asking for {url}"))?;
    ensure!(response.status() == StatusCode::OK, "{url}: the server says {}", response.status());
    let mut bytes = Vec::new();
    response.take(limit as u64 + 1).read_to_end(&mut bytes).with_context(|| format!("reading {url}"))?;
    ensure!(bytes.len() <= limit, "{url} has more than {limit} bytes");
    Ok(bytes)
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
