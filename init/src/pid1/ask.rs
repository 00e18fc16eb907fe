//! Asks the boot server for its plan (`GET /v1/boot/SERIAL`, [`crate::server_plan`]), where the command line leaves open what
//! the boot is to become.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use reqwest::blocking::Client;
use url::Url;

use super::http;
use super::steps::manifest::keys;
use super::tls::Dates;
use crate::config::KEYS_DIR;
use crate::server_plan::{PLAN_LIMIT, ServerPlan};
use crate::signed::SIGNATURE_LIMIT;
use crate::transport::Transport;

/// The plan that the server has for this Pi; `None`: it has none.
///
/// # Errors
/// When the server cannot be asked, or its plan is not one that may be followed.
pub fn ask(server: &Url, serial: &str, transport: &Transport) -> Result<Option<ServerPlan>> {
    let url = server.join(&format!("/v1/boot/{serial}")).context("making the plan's URL")?;
    let signature_url =
        server.join(&format!("/v1/boot/{serial}/minisig")).context("making the plan's URL")?;
    let client = http::client(transport, Dates::Told)?;
    let Some(json) = small(&client, &url, PLAN_LIMIT)? else { return Ok(None) };
    let signature = small(&client, &signature_url, SIGNATURE_LIMIT)?;
    let signature = signature.map(String::from_utf8).transpose();
    let signature = signature.with_context(|| format!("reading {signature_url}: it is no text"))?;
    let plan = ServerPlan::read(&json, signature.as_deref(), &keys(Path::new(KEYS_DIR))?, serial);
    plan.map(Some).with_context(|| format!("reading the plan {url}"))
}

/// A small file; `None`: the server has no such thing.
fn small(client: &Client, url: &Url, limit: usize) -> Result<Option<Vec<u8>>> {
    let response = client.get(url.clone()).send().with_context(|| format!("fetching {url}"))?;
    if response.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    ensure!(response.status() == StatusCode::OK, "fetching {url}: the server says {}", response.status());
    http::body(response, url, limit).map(Some)
}
