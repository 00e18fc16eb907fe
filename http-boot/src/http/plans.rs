//! Plans: what a Pi shall do whose command line leaves that open ([`init::server_plan`]). A plan is a file of the root,
//! `plans/SERIAL.json`, else `plans/default.json`; its signature is the `.minisig` beside it.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;

use super::files::{self, Root};
use super::path::FilePath;
use super::{Site, text};
use crate::devices::{BadSerial, Serial};

/// The plan for every Pi that has none of its own.
const DEFAULT: &str = "/plans/default.json";

/// `GET /v1/boot/{serial}`
pub async fn plan(
    State(site): State<Arc<Site>>,
    Path(serial): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    answer(site, &serial, "", &method, &headers).await
}

/// `GET /v1/boot/{serial}/minisig`: the signature of just this plan.
pub async fn signature(
    State(site): State<Arc<Site>>,
    Path(serial): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    answer(site, &serial, ".minisig", &method, &headers).await
}

async fn answer(
    site: Arc<Site>,
    serial: &str,
    suffix: &'static str,
    method: &Method,
    headers: &HeaderMap,
) -> Response {
    let serial: Serial = match serial.parse() {
        Ok(serial) => serial,
        Err(error @ BadSerial) => return text(StatusCode::BAD_REQUEST, error),
    };
    let own = format!("/plans/{serial}.json");
    let chosen = tokio::task::spawn_blocking({
        let site = site.clone();
        move || choose(&site.root, own) + suffix
    });
    match chosen.await {
        Ok(path) => files::file_at(site, &path, method, headers).await,
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the server failed while looking for the plan"),
    }
}

/// The path of the plan that counts.
fn choose(root: &Root, own: String) -> String {
    let is_there = FilePath::parse(&own).is_ok_and(|path| root.has(&path));
    if is_there { own } else { DEFAULT.into() }
}
