//! The answers of the API.

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::devices::{BadSerial, Serial};
use crate::http::Site;
use crate::http::caller::Caller;
use crate::http::fields::Fields;
use crate::order_request::OrderRequest;
use crate::orders::Actor;
use crate::state;
use crate::store::{audit, seen};

/// The description of the API.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

pub(super) type Answer = Result<Response, Problem>;

/// `GET /v1/devices`: all devices in short.
pub(super) async fn devices(State(site): State<Arc<Site>>) -> Answer {
    json(&serde_json::json!({ "devices": site.devices.summaries() }))
}

/// `GET /v1/devices/{serial}`: a device in short, with its orders.
pub(super) async fn device(State(site): State<Arc<Site>>, Path(serial): Path<String>) -> Answer {
    let serial = read_serial(&serial)?;
    let Some(summary) = site.devices.summary(&serial) else { return Err(unknown_device()) };
    let orders = site.state.as_ref().map(|state| state.orders.of(&serial)).unwrap_or_default();
    json(&serde_json::json!({ "device": summary, "orders": orders }))
}

/// `GET /v1/devices/{serial}/events`: a device's last events, oldest first.
pub(super) async fn events(State(site): State<Arc<Site>>, Path(serial): Path<String>) -> Answer {
    let serial = read_serial(&serial)?;
    match site.devices.events(&serial) {
        Some(events) => json(&serde_json::json!({ "serial": serial, "events": events })),
        None => Err(unknown_device()),
    }
}

/// `GET /v1/boots`: boots, newest first.
pub(super) async fn boots(State(site): State<Arc<Site>>, RawQuery(query): RawQuery) -> Answer {
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let page = Page::read(&query, &["serial", "before", "limit"])?;
    let serial = query.find("serial").map(read_serial).transpose()?;
    let boots = with_store(&site, move |state| {
        state.store.read(|t| seen::boots(t, serial.as_ref(), page.before, page.limit))
    });
    json(&serde_json::json!({ "boots": boots.await? }))
}

/// `GET /v1/boots/{number}`: a boot's steps and events.
pub(super) async fn boot(State(site): State<Arc<Site>>, Path(number): Path<String>) -> Answer {
    let id: i64 = number.parse().map_err(|_| Problem::bad("number: not a whole number"))?;
    let found = with_store(&site, move |state| {
        state.store.read(|t| {
            let boot = seen::boots(t, None, id.checked_add(1), 1)?.pop().filter(|boot| boot.id == id);
            Ok((boot, seen::timings(t, id)?, seen::events(t, id, 1000)?))
        })
    });
    match found.await? {
        (Some(boot), steps, events) => {
            json(&serde_json::json!({ "boot": boot, "steps": steps, "events": events }))
        }
        (None, ..) => Err(Problem::not_found("no such boot is remembered")),
    }
}

/// `GET /v1/images`: the images below the root.
pub(super) async fn images(State(site): State<Arc<Site>>) -> Answer {
    with_store(&site, |_| Ok(())).await?;
    let images = tokio::task::spawn_blocking(move || site.images.list(&site.root));
    json(&serde_json::json!({ "images": images.await.context("listing images")? }))
}

#[derive(Serialize)]
struct OfDevice {
    serial: Serial,
    #[serde(flatten)]
    orders: crate::orders::DeviceOrders,
}

/// `GET /v1/orders`: all devices that have orders.
pub(super) async fn orders(State(site): State<Arc<Site>>) -> Answer {
    let all = with_store(&site, |state| Ok(state.orders.all())).await?;
    let all: Vec<_> = all.into_iter().map(|(serial, orders)| OfDevice { serial, orders }).collect();
    json(&serde_json::json!({ "orders": all }))
}

#[derive(Deserialize)]
struct ForDevice {
    serial: String,
    #[serde(flatten)]
    order: serde_json::Map<String, serde_json::Value>,
}

/// `POST /v1/orders`: gives an order.
pub(super) async fn order(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Answer {
    if !caller.may_operate() {
        with_store(&site, |_| Ok(())).await?;
        return Err(Problem::new(StatusCode::FORBIDDEN, format!("{} may view, not operate", caller.who)));
    }
    let request: ForDevice =
        serde_json::from_slice(&body).map_err(|error| Problem::bad(format!("order: {error}")))?;
    let serial = read_serial(&request.serial)?;
    let order: OrderRequest = serde_json::from_value(request.order.into())
        .map_err(|error| Problem::bad(format!("order: {error}")))?;
    let checking = site.clone();
    let given = with_store(&site, move |state| {
        let command = match order.check(&checking, &serial) {
            Ok(command) => command,
            Err(why) => return Ok(Err(why)),
        };
        let newest = checking.devices.summary(&serial).map(|summary| summary.boot_id);
        let address = caller.address.to_string();
        let actor = Actor { who: &caller.who, address: &address };
        state.orders.give(&state.store, &serial, &command, newest, actor)?;
        checking.live.ring(&serial);
        Ok(Ok(OfDevice { orders: state.orders.of(&serial), serial }))
    });
    match given.await? {
        Ok(orders) => json(&orders),
        Err(why) => Err(Problem::new(StatusCode::CONFLICT, why)),
    }
}

/// `GET /v1/audit`: who did what, newest first.
pub(super) async fn audit(State(site): State<Arc<Site>>, RawQuery(query): RawQuery) -> Answer {
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let page = Page::read(&query, &["before", "limit"])?;
    let entries =
        with_store(&site, move |state| state.store.read(|t| audit::newest(t, page.before, page.limit)));
    json(&serde_json::json!({ "entries": entries.await? }))
}

/// `GET /v1/openapi.json`
pub(super) async fn openapi() -> Answer {
    Ok(json_text(OPENAPI.into()))
}

/// Which part of a long list.
pub(super) struct Page {
    before: Option<i64>,
    pub(super) limit: u32,
}

impl Page {
    /// # Errors
    /// A field that is none of `known`, or has no number that it could have.
    pub(super) fn read(query: &Fields, known: &[&str]) -> Result<Self, Problem> {
        if let Some(name) = query.unknown(known) {
            return Err(Problem::bad(format!("{name:?}: no such parameter; there are {}", known.join(", "))));
        }
        let before = query.find("before").map(str::parse).transpose();
        let before = before.map_err(|_| Problem::bad("before: not a whole number"))?;
        let limit = query.find("limit").map(str::parse).transpose();
        let (Ok(None) | Ok(Some(1..=1000))) = limit else {
            return Err(Problem::bad("limit: not a whole number from 1 to 1000"));
        };
        let limit = limit.ok().flatten().unwrap_or(100);
        Ok(Self { before, limit })
    }
}

/// Does something with the store, off the async threads.
pub(super) async fn with_store<T: Send + 'static>(
    site: &Site,
    work: impl FnOnce(&state::State) -> Result<T> + Send + 'static,
) -> Result<T, Problem> {
    let Some(state) = site.state.clone() else {
        return Err(Problem::not_found("this server keeps nothing: start it with --state DIR"));
    };
    let done = tokio::task::spawn_blocking(move || work(&state)).await.context("asking the store")?;
    Ok(done?)
}

fn read_serial(text: &str) -> Result<Serial, Problem> {
    text.parse().map_err(|error: BadSerial| Problem::bad(error.to_string()))
}

fn unknown_device() -> Problem {
    Problem::not_found("no event of this device is remembered")
}

pub(super) fn json(value: &impl Serialize) -> Answer {
    let mut text = serde_json::to_string(value).context("writing JSON")?;
    text.push('\n');
    Ok(json_text(text))
}

fn json_text(text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
