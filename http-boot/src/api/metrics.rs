//! `GET /metrics`: Prometheus' text format (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use anyhow::Context;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use crate::http::Site;
use crate::store::{seen, sessions};

/// `GET /metrics`
pub(super) async fn answer(State(site): State<Arc<Site>>) -> Response {
    if site.state.is_none() && !site.metrics_open {
        let why = "metrics are for those who are logged in, and nobody can be: start the server with --state DIR, or with --metrics-open";
        return Problem::new(StatusCode::UNAUTHORIZED, why).into_response();
    }
    let sessions = match site.state.clone() {
        Some(state) => {
            let counted = tokio::task::spawn_blocking(move || state.store.read(|t| sessions::count(t)));
            match counted.await.context("counting sessions").flatten() {
                Ok(count) => count,
                Err(error) => return Problem::from(error).into_response(),
            }
        }
        None => 0,
    };
    let mut response = Response::new(Body::from(text(&site, sessions)));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Names, kinds and explanations stand here, once each.
fn text(site: &Site, sessions: u64) -> String {
    let devices = site.devices.summaries();
    let mut states = BTreeMap::from(["started", "progress", "waiting", "done", "failed"].map(|s| (s, 0_u64)));
    for device in &devices {
        *states.entry(seen::state_name(device.state)).or_default() += 1;
    }
    let dropped = site.state.as_ref().map_or(0, |state| state.recorder.dropped());
    let orders = site.state.as_ref().map_or(0, |state| state.orders.all().len() as u64);
    let mut out = Text::default();
    out.family("http_boot_info", "gauge", "The server's version.");
    out.labelled("http_boot_info", "version", env!("CARGO_PKG_VERSION"), 1);
    out.family("http_boot_devices", "gauge", "Devices, by the state of the step that they are in.");
    for (state, count) in states {
        out.labelled("http_boot_devices", "state", state, count);
    }
    let boots = devices.iter().map(|device| device.boots).sum();
    out.single("http_boot_boots", "gauge", "Boots of the devices that are remembered.", boots);
    out.family("http_boot_requests_total", "counter", "Answers of HTTP, by status.");
    for (status, count) in site.metrics.requests() {
        out.labelled("http_boot_requests_total", "status", &status.to_string(), count);
    }
    for (name, kind, help, value) in [
        ("http_boot_sent_bytes_total", "counter", "Bytes of bodies sent by HTTP.", site.metrics.bytes()),
        ("http_boot_events_total", "counter", "Boot events that came.", site.metrics.events()),
        ("http_boot_events_dropped_total", "counter", "Reports that could not be recorded.", dropped),
        ("http_boot_orders", "gauge", "Devices that have an order.", orders),
        ("http_boot_sessions", "gauge", "People's sessions.", sessions),
        ("http_boot_logins_failed_total", "counter", "Logins that failed.", site.metrics.failed_logins()),
        ("http_boot_live_pages", "gauge", "Pages that are updated live.", site.live.listeners() as u64),
    ] {
        out.single(name, kind, help, value);
    }
    out.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _never_fails = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// `value` may have neither `"` nor `\` nor a line's end in it: it is never a stranger's.
    fn labelled(&mut self, name: &str, label: &str, value: &str, number: u64) {
        let _never_fails = writeln!(self.0, "{name}{{{label}=\"{value}\"}} {number}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, number: u64) {
        self.family(name, kind, help);
        let _never_fails = writeln!(self.0, "{name} {number}");
    }
}
