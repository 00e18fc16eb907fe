//! Live updates: server-sent events (WHATWG HTML, section 9.2). Each carries an element of the page as HTML, which the
//! script puts in the place of the old one.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body::Frame;
use maud::Markup;
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::devices::Filter;
use super::{device, devices};
use crate::devices::{Moment, Serial};
use crate::http::{Peer, Site, caller, text};

/// How long changes are gathered into one update.
const GATHER: Duration = Duration::from_millis(250);
/// How often a page without changes hears that the server is there, and is asked whether it still may listen.
const ALIVE: Duration = Duration::from_secs(15);
/// How long a page that cannot follow waits for the whole table.
const AGAIN: Duration = Duration::from_secs(2);
/// Updates that wait for a slow browser; then the server waits for it.
const QUEUE: usize = 8;

/// One element of the page.
#[derive(Serialize)]
struct Change<'a> {
    /// Its id: the element with this id is replaced.
    id: &'a str,
    /// Where it goes, when there is none with this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    into: Option<&'a str>,
    html: String,
}

/// `GET /ui/live`: the list of devices.
pub(super) async fn devices(
    State(site): State<Arc<Site>>,
    Extension(Peer { address: peer, .. }): Extension<Peer>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let filter = Filter::read(query.as_deref());
    start(site, peer, headers, move |stream| async move { stream.list(&filter).await })
}

/// `GET /ui/devices/{serial}/live`: one device.
pub(super) async fn device(
    State(site): State<Arc<Site>>,
    Extension(Peer { address: peer, .. }): Extension<Peer>,
    headers: HeaderMap,
    Path(serial): Path<String>,
) -> Response {
    match serial.parse() {
        Ok(serial) => start(site, peer, headers, move |stream| async move { stream.one(&serial).await }),
        Err(error) => text(StatusCode::BAD_REQUEST, error),
    }
}

fn start<F>(site: Arc<Site>, peer: SocketAddr, headers: HeaderMap, feed: impl FnOnce(Stream) -> F) -> Response
where
    F: Future<Output = Option<Infallible>> + Send + 'static,
{
    let Some(seat) = site.live.seats.admit(peer.ip(), Instant::now()) else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "too many pages are updated live");
    };
    let (sender, receiver) = mpsc::channel(QUEUE);
    let changes = site.live.listen();
    let mut stopping = site.live.stopping();
    let feeding = feed(Stream { site, peer, headers, sender, changes, checked: Instant::now() });
    tokio::spawn(async move {
        tokio::select! {
            _ = feeding => {}
            _ = stopping.wait_for(|stops| *stops) => {}
            // The browser comes again, as it does after any cut.
            () = seat.lost() => {}
        }
    });
    let mut response = Response::new(Body::new(Feed(receiver)));
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// What feeds one page. Its functions end, with `None`, when nobody listens any more or the session is over.
struct Stream {
    site: Arc<Site>,
    peer: SocketAddr,
    headers: HeaderMap,
    sender: mpsc::Sender<Bytes>,
    changes: Receiver<Serial>,
    /// When it was last made sure that the caller may listen.
    checked: Instant,
}

impl Stream {
    async fn list(mut self, filter: &Filter) -> Option<Infallible> {
        loop {
            // Whatever changed before, or between: the whole table.
            let table = devices::table(&self.site, filter);
            self.send("devices", None, &table.markup).await?;
            let mut is_empty = table.shown == 0;
            while let Some(changed) = self.next().await? {
                for serial in changed {
                    let Some(device) = self.site.devices.summary(&serial) else { continue };
                    if filter.shows(&device) && !is_empty {
                        let row = devices::row(&self.site, &device);
                        self.send(&devices::row_id(&device), Some("rows"), &row).await?;
                    } else if filter.shows(&device) {
                        is_empty = false;
                        self.send("devices", None, &devices::table(&self.site, filter).markup).await?;
                    }
                }
                self.send("count", None, &devices::count(&self.site, filter)).await?;
            }
            // There were more changes than can be told one by one; the table is long, and need not come at once.
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn one(mut self, serial: &Serial) -> Option<Infallible> {
        let mut shown: Option<Moment> = None;
        loop {
            let device = self.site.devices.summary(serial)?;
            let state = self.site.state.clone()?;
            self.send("state", None, &device::now(&device)).await?;
            self.send("orders", None, &device::current_orders(&state.orders.of(serial))).await?;
            let events = self.site.devices.events(serial)?;
            match shown {
                None => self.send("log", None, &device::log(&events)).await?,
                Some(last) => {
                    for event in events.iter().filter(|event| event.received > last) {
                        self.send("", Some("log"), &device::line(event)).await?;
                    }
                }
            }
            shown = events.last().map(|event| event.received).or(shown);
            let timeline = tokio::task::spawn_blocking(move || device::newest_timeline(&state, &device));
            match timeline.await.ok()? {
                Ok(timeline) => self.send("timeline", None, &timeline).await?,
                Err(error) => tracing::error!("reading a timeline: {error:#}"),
            }
            while self.next().await?.is_some_and(|changed| !changed.contains(serial)) {}
        }
    }

    /// The devices that changed within a moment; an empty set after a while without. `Some(None)`: too many to tell.
    async fn next(&mut self) -> Option<Option<BTreeSet<Serial>>> {
        // By the clock, not by silence: a busy site has none.
        if self.checked.elapsed() >= ALIVE {
            self.still_may_listen().await?;
            self.checked = Instant::now();
        }
        let first = match tokio::time::timeout(ALIVE, self.changes.recv()).await {
            Ok(Ok(serial)) => serial,
            Ok(Err(RecvError::Lagged(_))) => return Some(None),
            Ok(Err(RecvError::Closed)) => return None,
            Err(_) => {
                self.sender.send(Bytes::from_static(b": alive\n\n")).await.ok()?;
                return Some(Some(BTreeSet::new()));
            }
        };
        let mut changed = BTreeSet::from([first]);
        tokio::time::sleep(GATHER).await;
        loop {
            match self.changes.try_recv() {
                Ok(serial) => changed.insert(serial),
                Err(tokio::sync::broadcast::error::TryRecvError::Lagged(_)) => return Some(None),
                Err(_) => return Some(Some(changed)),
            };
        }
    }

    async fn still_may_listen(&self) -> Option<()> {
        let state = self.site.state.clone()?;
        caller::find(state, self.peer, &self.headers).await.ok()?.map(|_| ())
    }

    async fn send(&self, id: &str, into: Option<&str>, html: &Markup) -> Option<()> {
        let json = serde_json::to_string(&Change { id, into, html: html.0.clone() }).ok()?;
        self.sender.send(Bytes::from(format!("data: {json}\n\n"))).await.ok()
    }
}

/// The receiving end as a response's body.
struct Feed(mpsc::Receiver<Bytes>);

impl http_body::Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
