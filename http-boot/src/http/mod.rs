//! HTTP: which path goes to which answer.
//!
//! The client that matters most is a boot ROM's (`docs/http-boot.md`): every answer that it could get has a
//! `Content-Length`, none is chunked, compressed or a redirect. (A browser is redirected, and gets live updates in chunks.)

pub mod answered;
pub mod body;
pub mod caller;
pub mod conditions;
pub mod devices;
pub mod events;
pub mod fields;
pub mod files;
pub mod path;
pub mod plans;
pub mod range;
pub mod request_log;
pub mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use init::event::EVENT_LIMIT;

use crate::clients::Clients;
use crate::devices::Devices;
use crate::fleet::watch::Watched;
use crate::images::Images;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::state::State;
use crate::{api, bootloader, web};
use files::Root;

/// What all requests share.
#[derive(Debug)]
pub struct Site {
    /// The files.
    pub root: Arc<Root>,
    /// What devices reported.
    pub devices: Devices,
    /// What each of them shall do, where somebody wrote that down.
    pub fleet: Option<Arc<Watched>>,
    /// Who has which address.
    pub clients: Arc<Clients>,
    /// The images among the files.
    pub images: Images,
    /// What `--state` adds.
    pub state: Option<Arc<State>>,
    /// Tells open pages what changes.
    pub live: Live,
    /// What `/metrics` counts.
    pub metrics: Arc<Metrics>,
    /// Whether `/metrics` is for everyone.
    pub metrics_open: bool,
}

impl Site {
    /// A site with no reports yet.
    pub fn new(root: Arc<Root>, fleet: Option<Arc<Watched>>, clients: Arc<Clients>) -> Self {
        Self {
            root,
            devices: Devices::default(),
            fleet,
            clients,
            images: Images::default(),
            state: None,
            live: Live::default(),
            metrics: Arc::default(),
            metrics_open: false,
        }
    }
}

impl Site {
    /// Notes the bootloader that a request came from, if one says so.
    fn saw_agent(&self, peer: SocketAddr, headers: &HeaderMap) {
        let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        if let Some(state) = self.state.as_ref().filter(|_| agent.starts_with(bootloader::PREFIX)) {
            state.saw_bootloader(peer.ip().to_canonical(), agent);
        }
    }
}

/// A connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The address at the other end.
    pub address: SocketAddr,
    /// Whether it is encrypted.
    pub is_tls: bool,
}

impl Peer {
    /// `http` or `https`.
    pub fn scheme(self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }
}

/// The routes of all connections. Requests have to come with the extension [`Peer`], and may with a [`wire::Outgoing`].
pub fn router(site: &Arc<Site>) -> Router {
    Router::new()
        .route("/v1/boot/{serial}", get(plans::plan))
        .route("/v1/boot/{serial}/minisig", get(plans::signature))
        .route("/v1/boot/{serial}/events", post(events::post))
        .layer(DefaultBodyLimit::max(EVENT_LIMIT))
        .merge(api::router(site))
        .merge(web::router(site))
        .fallback(files::answer)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(site.clone())
        .layer(axum::middleware::from_fn(request_log::log))
        .layer(axum::Extension(site.metrics.clone()))
}

async fn method_not_allowed() -> Response {
    text(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
}

/// An answer of one line.
pub(crate) fn text(status: StatusCode, line: impl std::fmt::Display) -> Response {
    let line = format!("{line}\n");
    let mut response = Response::new(Body::from(line));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
