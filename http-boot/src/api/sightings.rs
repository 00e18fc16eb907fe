//! What was seen of bootloaders, and what was found to be wrong at the site.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::{RawQuery, State};
use serde::Serialize;

use super::answers::{Answer, Page, json, with_store};
use super::problem::Problem;
use crate::bootloader::Agent;
use crate::devices::Moment;
use crate::http::Site;
use crate::http::fields::Fields;
use crate::pi::{Board, PiSerial, Revision};
use crate::store::seen::{self, Sighting};
use crate::store::{Millis, findings, from_millis};

/// A bootloader that asked for a file over HTTP.
#[derive(Serialize)]
struct Bootloader<'a> {
    address: IpAddr,
    /// Its User-Agent.
    agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    built: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    board: Option<&'static str>,
    /// Who has this address now, as far as that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<PiSerial>,
    first_seen: Moment,
    last_seen: Moment,
}

impl<'a> Bootloader<'a> {
    fn new(site: &Site, sighting: &'a Sighting, first: Millis) -> Self {
        let agent = Agent::parse(&sighting.version);
        // A year that RFC 3339 has no four digits for is nobody's.
        let built =
            agent.built.and_then(|seconds| Millis::try_from(seconds).ok()).filter(|s| *s < 250_000_000_000);
        Self {
            address: sighting.address,
            agent: &sighting.version,
            version: agent.version,
            built: built.map(|seconds| Moment(from_millis(seconds * 1000))),
            revision: agent.revision.map(|revision| revision.to_string()),
            board: agent.revision.and_then(Revision::board).map(Board::label),
            serial: site.clients.identity(sighting.address).serial,
            first_seen: Moment(from_millis(first)),
            last_seen: Moment(from_millis(sighting.at)),
        }
    }
}

/// `GET /v1/bootloaders`: bootloaders that asked for files, the last seen first.
pub(super) async fn bootloaders(State(site): State<Arc<Site>>, RawQuery(query): RawQuery) -> Answer {
    let page = page(query)?;
    let all = with_store(&site, move |state| state.store.read(|t| seen::all_bootloaders(t, page.limit)));
    let all = all.await?;
    let all: Vec<_> = all.iter().map(|(sighting, first)| Bootloader::new(&site, sighting, *first)).collect();
    json(&serde_json::json!({ "bootloaders": all }))
}

#[derive(Serialize)]
struct Finding {
    /// What it is, and with whom.
    cause: serde_json::Value,
    text: String,
    first: Moment,
    last: Moment,
    count: u64,
}

/// `GET /v1/findings`: what is wrong at the site as far as DHCP shows it, the last found first.
pub(super) async fn findings(State(site): State<Arc<Site>>, RawQuery(query): RawQuery) -> Answer {
    let page = page(query)?;
    let found = with_store(&site, move |state| state.store.read(|t| findings::newest(t, page.limit))).await?;
    let read = |found: findings::Found| {
        Ok(Finding {
            cause: serde_json::from_str(&found.cause).context("reading a finding")?,
            text: found.text,
            first: Moment(from_millis(found.first)),
            last: Moment(from_millis(found.last)),
            count: found.count,
        })
    };
    let all = found.into_iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    json(&serde_json::json!({ "findings": all }))
}

fn page(query: Option<String>) -> Result<Page, Problem> {
    Page::read(&Fields::parse(query.unwrap_or_default().as_bytes()), &["limit"])
}
