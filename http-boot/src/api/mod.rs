//! The JSON API: what the page shows and does, for programs. `openapi.json` beside this file describes it; a test holds
//! the two together.

mod answers;
mod metrics;
mod problem;
mod sightings;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use crate::http::caller::{self, Caller};
use crate::http::{Peer, Site};
use crate::people::secret;
use problem::Problem;

/// The most bytes of a request's body: a plan and its signature, as JSON strings.
const BODY_LIMIT: usize = 64 * 1024;
/// The header by which a change proves that it comes from our own page, when a cookie says who asks.
const CSRF: &str = "x-csrf-token";

fn routes() -> Vec<(&'static str, MethodRouter<Arc<Site>>)> {
    vec![
        ("/v1/devices", get(answers::devices)),
        ("/v1/devices/{serial}", get(answers::device)),
        ("/v1/devices/{serial}/events", get(answers::events)),
        ("/v1/boots", get(answers::boots)),
        ("/v1/boots/{number}", get(answers::boot)),
        ("/v1/bootloaders", get(sightings::bootloaders)),
        ("/v1/findings", get(sightings::findings)),
        ("/v1/images", get(answers::images)),
        ("/v1/orders", get(answers::orders).post(answers::order)),
        ("/v1/audit", get(answers::audit)),
        ("/v1/openapi.json", get(answers::openapi)),
        ("/metrics", get(metrics::answer)),
    ]
}

/// The API's routes, behind their guard.
pub fn router(site: &Arc<Site>) -> Router<Arc<Site>> {
    let routes = routes().into_iter();
    routes
        .fold(Router::new(), |router, (path, handler)| router.route(path, handler))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .route_layer(middleware::from_fn_with_state(site.clone(), guard))
}

async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
}

/// Lets those in who are logged in or bring a token along. Without `--state` there is nobody who could, and what is in
/// memory is for everyone.
async fn guard(
    State(site): State<Arc<Site>>,
    Extension(Peer { address: peer, .. }): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let is_open = site.metrics_open && request.uri().path() == "/metrics";
    let caller = match &site.state {
        _ if is_open => Caller::anybody(peer),
        None => Caller::anybody(peer),
        Some(state) => match caller::find(state.clone(), peer, request.headers()).await {
            Ok(Some(caller)) => caller,
            Ok(None) => return stranger(),
            Err(error) => return Problem::from(error).into_response(),
        },
    };
    let changes = request.method() != Method::GET && request.method() != Method::HEAD;
    if let Some(session) = caller.session.as_ref().filter(|_| changes) {
        let given = request.headers().get(CSRF).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !secret::are_equal(given, &session.csrf) {
            let why = "a change by a session's cookie needs the header X-CSRF-Token; programs use a token";
            return Problem::new(StatusCode::FORBIDDEN, why).into_response();
        }
    }
    request.extensions_mut().insert(caller);
    one_form(next.run(request).await)
}

/// Gives refusals that are not our own (a path that is no UTF-8, a body that is too long) the form of the others.
fn one_form(response: Response) -> Response {
    let status = response.status();
    let is_ours = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == problem::KIND);
    if !status.is_client_error() || is_ours {
        return response;
    }
    let why = match status {
        StatusCode::PAYLOAD_TOO_LARGE => format!("a body has at most {BODY_LIMIT} bytes"),
        _ => "the request's path or body cannot be read".into(),
    };
    Problem::new(status, why).into_response()
}

fn stranger() -> Response {
    let why = "this needs a token (Authorization: Bearer …, made by `http-boot token add`) or a session of the page";
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, why).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_has_each_route_and_no_other() {
        let described: serde_json::Value = serde_json::from_str(answers::OPENAPI).unwrap();
        assert_eq!(described["openapi"], "3.1.0");
        assert_eq!(described["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut in_description = BTreeSet::new();
        for (path, item) in described["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                in_description.insert(format!("{method} {path}"));
            }
        }
        let mut in_router = BTreeSet::new();
        for (path, handler) in routes() {
            // MethodRouter shows its methods in no other way.
            let shown = format!("{handler:?}");
            for method in ["get", "post", "put", "patch", "delete", "head", "options", "trace"] {
                assert!(shown.contains(&format!(" {method}: ")), "{shown}");
                if !shown.contains(&format!(" {method}: None")) {
                    in_router.insert(format!("{method} {path}"));
                }
            }
        }
        assert_eq!(in_description, in_router);
    }

    #[test]
    fn each_reference_leads_somewhere() {
        let described: serde_json::Value = serde_json::from_str(answers::OPENAPI).unwrap();
        let mut left = vec![&described];
        let mut references = 0;
        while let Some(value) = left.pop() {
            if let Some(reference) = value.get("$ref").and_then(|r| r.as_str()) {
                references += 1;
                assert!(described.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
            }
            match value {
                serde_json::Value::Array(values) => left.extend(values),
                serde_json::Value::Object(values) => left.extend(values.values()),
                _ => {}
            }
        }
        assert!(references > 10);
    }
}
