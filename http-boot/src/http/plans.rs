//! Plans: what a Pi shall do whose command line leaves that open ([`init::server_plan`]). The fleet's file makes one; where it
//! says nothing, a plan is a file of the root, `plans/SERIAL.json`, else `plans/default.json`, and its signature the `.minisig`
//! beside it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use init::server_plan::PlanFile;

use super::files::{self, Root};
use super::path::FilePath;
use super::{Peer, Site, text};
use crate::clients::Identity;
use crate::devices::{BadSerial, Serial};
use crate::fleet::assignment::Answer;

/// The plan for every Pi that has none of its own.
const DEFAULT: &str = "/plans/default.json";

/// `GET /v1/boot/{serial}`
pub async fn plan(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    Path(serial): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    match choose(&site, peer, &serial, &headers) {
        Ok(Chosen::Plan(plan)) => json(&plan),
        Ok(Chosen::Files(serial)) => file(site, &serial, "", &method, &headers).await,
        Err(response) => *response,
    }
}

/// `GET /v1/boot/{serial}/minisig`: the signature of just this plan. What the server made itself has none.
pub async fn signature(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    Path(serial): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    match choose(&site, peer, &serial, &headers) {
        Ok(Chosen::Plan(_)) => text(StatusCode::NOT_FOUND, "this plan is made by the server, and not signed"),
        Ok(Chosen::Files(serial)) => file(site, &serial, ".minisig", &method, &headers).await,
        Err(response) => *response,
    }
}

/// What counts for a Pi.
enum Chosen {
    Plan(PlanFile),
    Files(Serial),
}

fn choose(site: &Site, peer: Peer, serial: &str, headers: &HeaderMap) -> Result<Chosen, Box<Response>> {
    let refuse = |status, line: &dyn std::fmt::Display| Box::new(text(status, line));
    let serial: Serial =
        serial.parse().map_err(|error: BadSerial| refuse(StatusCode::BAD_REQUEST, &error))?;
    let Some(fleet) = &site.fleet else { return Ok(Chosen::Files(serial)) };
    let fleet = fleet.fleet();
    // A serial number that is no Pi's own is nobody's in the file: what holds for all holds for it.
    let who = site.clients.identity(peer.address.ip().to_canonical());
    let who = who.with(Identity { serial: serial.to_string().parse().ok(), ..Identity::default() });
    let assignment = fleet.assignment(who);
    let answer = assignment.answer(&server(peer, headers)).map_err(|error| {
        tracing::error!(%serial, "making a plan: {error}");
        refuse(StatusCode::INTERNAL_SERVER_ERROR, &error)
    })?;
    Ok(match answer {
        Answer::Plan(plan) => Chosen::Plan(plan),
        Answer::Files => Chosen::Files(serial),
    })
}

/// This server, as the Pi named it in its request.
fn server(peer: Peer, headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    format!("{}://{host}", peer.scheme())
}

fn json(plan: &PlanFile) -> Response {
    let Ok(body) = serde_json::to_vec(plan) else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the plan cannot be written as JSON");
    };
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn file(
    site: Arc<Site>,
    serial: &Serial,
    suffix: &'static str,
    method: &Method,
    headers: &HeaderMap,
) -> Response {
    let own = format!("/plans/{serial}.json");
    let chosen = tokio::task::spawn_blocking({
        let site = site.clone();
        move || the_one_there(&site.root, own) + suffix
    });
    match chosen.await {
        Ok(path) => files::file_at(site, &path, method, headers).await,
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the server failed while looking for the plan"),
    }
}

/// The path of the plan that counts.
fn the_one_there(root: &Root, own: String) -> String {
    let is_there = FilePath::parse(&own).is_ok_and(|path| root.has(&path));
    if is_there { own } else { DEFAULT.into() }
}
