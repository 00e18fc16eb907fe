//! One log line for each request, written when its answer has been sent or given up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Extension, Request};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::Peer;
use crate::metrics::Metrics;

/// Sends a request on and logs what became of it.
pub async fn log(
    Extension(peer): Extension<Peer>,
    Extension(metrics): Extension<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let range = text(request.headers(), &header::RANGE);
    let agent = text(request.headers(), &header::USER_AGENT);
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let length = if method == Method::HEAD { 0 } else { response.body().size_hint().exact().unwrap_or(0) };
    let line = Line {
        address: peer.address.to_string(),
        method,
        path,
        range,
        agent,
        status,
        length,
        bytes: 0,
        error: None,
        started,
        metrics,
    };
    response.map(|body| Body::new(Logged { body, line }))
}

fn text(headers: &HeaderMap, name: &header::HeaderName) -> String {
    headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).unwrap_or_default()
}

/// What the line says. `bytes` counts what was handed to the connection.
struct Line {
    address: String,
    method: Method,
    path: String,
    range: String,
    agent: String,
    status: u16,
    length: u64,
    bytes: u64,
    error: Option<String>,
    started: Instant,
    metrics: Arc<Metrics>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let Self { address, method, path, range, agent, status, bytes, length, .. } = &*self;
        self.metrics.answered(*status, *bytes);
        let seconds = (self.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        match &self.error {
            _ if *bytes >= *length => {
                tracing::info!(%address, %method, ?path, status, bytes, ?range, ?agent, seconds, "request")
            }
            Some(error) => {
                tracing::warn!(%address, %method, ?path, status, bytes, length, ?range, ?agent, seconds, "request cut: {error}");
            }
            None => {
                tracing::warn!(%address, %method, ?path, status, bytes, length, ?range, ?agent, seconds, "request cut: the client left");
            }
        }
    }
}

/// A body that counts what passes.
struct Logged {
    body: Body,
    line: Line,
}

impl http_body::Body for Logged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.line.bytes += frame.data_ref().map_or(0, |data| data.len() as u64)
            }
            Poll::Ready(Some(Err(error))) => self.line.error = Some(error.to_string()),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
