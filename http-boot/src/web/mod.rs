//! The page for people, below `/ui/`: rendered here, readable without JavaScript. One small script keeps it up to date.

mod audit;
mod device;
mod devices;
mod form;
mod images;
mod layout;
mod live;
mod login;
mod show;
mod timeline;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use maud::Markup;

use crate::http::caller::{self, Caller};
use crate::http::fields::FORM_LIMIT;
use crate::http::{Peer, Site};

/// On every answer below `/ui/`. Styles and the script come from their own files alone, so that text of a device that
/// got through the templates as HTML could still run nothing.
const HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
];

/// The routes of the page.
pub fn router(site: &Arc<Site>) -> Router<Arc<Site>> {
    let inside = Router::new()
        .route("/ui/", get(devices::page))
        .route("/ui/live", get(live::devices))
        .route("/ui/devices/{serial}", get(device::page))
        .route("/ui/devices/{serial}/live", get(live::device))
        .route("/ui/devices/{serial}/orders", post(device::order))
        .route("/ui/images", get(images::page))
        .route("/ui/audit", get(audit::page))
        .route("/ui/logout", post(login::logout))
        .route_layer(middleware::from_fn_with_state(site.clone(), guard));
    Router::new()
        .route("/ui", get(async || go_to_the_page()))
        .route("/ui/login", get(login::page).post(login::login))
        .route("/ui/setup", post(login::set_up))
        .route("/ui/style.css", get(async || asset("text/css; charset=utf-8", include_str!("style.css"))))
        .route("/ui/live.js", get(async || asset("text/javascript; charset=utf-8", include_str!("live.js"))))
        .merge(inside)
        .layer(DefaultBodyLimit::max(FORM_LIMIT))
        .layer(middleware::from_fn(harden))
}

/// Whether a browser asks for `/`, where no file can be. A bootloader does not ask for HTML, and could not follow.
pub fn wants_the_page(path: &str, headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    path == "/" && accept.contains("text/html")
}

/// Sends a browser to the page.
pub fn go_to_the_page() -> Response {
    go("/ui/")
}

/// 303: look there. `place` is a path of ours.
fn go(place: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    if let Ok(place) = HeaderValue::from_str(place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn html(status: StatusCode, markup: Markup) -> Response {
    let mut response = Response::new(Body::from(markup.into_string()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn asset(kind: &'static str, content: &'static str) -> Response {
    let mut response = Response::new(Body::from(content));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A page that says why there is none, or why nothing was done.
fn refusal(status: StatusCode, why: impl std::fmt::Display) -> Response {
    let title = status.canonical_reason().unwrap_or("Refused");
    let content = maud::html! {
        p.alert role="alert" { (why) }
        p { a href="/ui/" { "Devices" } }
    };
    html(status, layout::strangers_page(title, &content))
}

/// The page for what went wrong in the server.
fn failed(error: &anyhow::Error) -> Response {
    tracing::error!("answering with a page: {error:#}");
    refusal(StatusCode::INTERNAL_SERVER_ERROR, "The server failed; its log says why.")
}

async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Lets those in who are logged in; the others may log in first.
async fn guard(
    State(site): State<Arc<Site>>,
    Extension(Peer { address: peer, .. }): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(state) = &site.state else {
        return html(StatusCode::SERVICE_UNAVAILABLE, login::turned_off());
    };
    match caller::find(state.clone(), peer, request.headers()).await {
        Ok(Some(caller @ Caller { session: Some(_), .. })) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Ok(_) if request.method() == Method::GET => {
            let wanted = request.uri().path_and_query().map_or("/ui/", |place| place.as_str());
            let query: String =
                form_urlencoded::Serializer::new(String::new()).append_pair("next", wanted).finish();
            go(&format!("/ui/login?{query}"))
        }
        Ok(_) => go("/ui/login"),
        Err(error) => failed(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_browser_is_sent_on() {
        let accepts =
            |kinds: &'static str| HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(kinds))]);
        assert!(wants_the_page("/", &accepts("text/html,application/xhtml+xml,*/*;q=0.8")));
        assert!(!wants_the_page("/", &accepts("*/*")));
        assert!(!wants_the_page("/", &HeaderMap::new()));
        assert!(!wants_the_page("/boot.img", &accepts("text/html")));
    }
}
