//! Plans: what a Pi shall do whose command line leaves that open ([`init::server_plan`]). An order of a person counts
//! first ([`crate::orders`]), then what the fleet's file says ([`crate::fleet`]); else a plan is a file of the root,
//! `plans/SERIAL.json`, else `plans/default.json`, and its signature is the `.minisig` beside it.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use init::server_plan::PlanFile;

use super::files;
use super::path::FilePath;
use super::{Peer, Site, text};
use crate::clients::Identity;
use crate::devices::{BadSerial, Serial};
use crate::fleet::assignment::Answer;
use crate::orders::OrderedPlan;

/// The plan for every Pi that has none of its own.
const DEFAULT: &str = "/plans/default.json";

/// A plan or its signature.
#[derive(Clone, Copy)]
enum Part {
    Plan,
    Signature,
}

/// `GET /v1/boot/{serial}`
pub async fn plan(
    State(site): State<Arc<Site>>,
    Path(serial): Path<String>,
    Extension(peer): Extension<Peer>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let origin = origin(&headers, peer);
    answer(site, &serial, Part::Plan, &method, &headers, (peer, origin)).await
}

/// `GET /v1/boot/{serial}/minisig`: the signature of just this plan.
pub async fn signature(
    State(site): State<Arc<Site>>,
    Path(serial): Path<String>,
    Extension(peer): Extension<Peer>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let origin = origin(&headers, peer);
    answer(site, &serial, Part::Signature, &method, &headers, (peer, origin)).await
}

/// Scheme, host and port, or why they are not known.
type Origin = Result<String, &'static str>;

/// Which plan counts.
enum Chosen {
    /// One that an order makes.
    Ordered(OrderedPlan),
    /// The file at this path of the root.
    File(String),
    /// One that the fleet's file makes.
    Made(PlanFile),
    /// None, because of how it was asked for.
    Refused(Cow<'static, str>),
}

async fn answer(
    site: Arc<Site>,
    serial: &str,
    part: Part,
    method: &Method,
    headers: &HeaderMap,
    (peer, origin): (Peer, Origin),
) -> Response {
    let serial: Serial = match serial.parse() {
        Ok(serial) => serial,
        Err(error @ BadSerial) => return text(StatusCode::BAD_REQUEST, error),
    };
    let chosen = tokio::task::spawn_blocking({
        let site = site.clone();
        move || choose(&site, &serial, peer, origin)
    });
    match (chosen.await, part) {
        (Ok(Chosen::File(path)), Part::Plan) => files::file_at(site, &path, method, headers, None).await,
        (Ok(Chosen::File(path)), Part::Signature) => {
            files::file_at(site, &(path + ".minisig"), method, headers, None).await
        }
        (Ok(Chosen::Ordered(plan)), Part::Plan) => made(plan.json, "application/json"),
        (Ok(Chosen::Ordered(OrderedPlan { minisig: Some(minisig), .. })), Part::Signature) => {
            made(minisig, "text/plain; charset=utf-8")
        }
        (Ok(Chosen::Made(plan)), Part::Plan) => match serde_json::to_string(&plan) {
            Ok(json) => made(json, "application/json"),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format_args!("writing the plan: {error}")),
        },
        (Ok(Chosen::Ordered(_) | Chosen::Made(_)), Part::Signature) => {
            text(StatusCode::NOT_FOUND, "this plan is not signed")
        }
        (Ok(Chosen::Refused(reason)), _) => text(StatusCode::BAD_REQUEST, reason),
        (Err(_), _) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, "the server failed while looking for the plan")
        }
    }
}

/// The plan that counts for a device: an order, else its own file, else everyone's.
fn choose(site: &Site, serial: &Serial, peer: Peer, origin: Origin) -> Chosen {
    let orders = site.state.as_ref().map(|state| &state.orders);
    if let Some(orders) = orders.filter(|orders| orders.has(serial)) {
        match origin.clone().map(|origin| orders.plan(serial, &origin)) {
            Ok(Some(plan)) => return Chosen::Ordered(plan),
            Ok(None) => {}
            // Another plan than the one that was ordered would be worse than none: the Pi asks again.
            Err(reason) => return Chosen::Refused(reason.into()),
        }
    }
    match by_fleet(site, serial, peer, origin) {
        Ok(Answer::Plan(plan)) => return Chosen::Made(plan),
        Ok(Answer::Files) => {}
        Err(reason) => return Chosen::Refused(reason),
    }
    let own = format!("/plans/{serial}.json");
    let is_there = FilePath::parse(&own).is_ok_and(|path| site.root.has(&path));
    Chosen::File(if is_there { own } else { DEFAULT.into() })
}

/// What the fleet's file says, where there is one.
fn by_fleet(site: &Site, serial: &Serial, peer: Peer, origin: Origin) -> Result<Answer, Cow<'static, str>> {
    let Some(fleet) = &site.fleet else { return Ok(Answer::Files) };
    let fleet = fleet.fleet();
    // A serial number that is no Pi's own is nobody's in the file: what holds for all holds for it.
    let who = site.clients.identity(peer.address.ip().to_canonical());
    let who = who.with(Identity { serial: serial.to_string().parse().ok(), ..Identity::default() });
    Ok(fleet.assignment(who).answer(&origin?)?)
}

fn made(content: String, kind: &'static str) -> Response {
    let mut response = Response::new(Body::from(content));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// This server as the device named it in its request: images of an order come from the same place. The name goes into
/// kernel parameters, so that it may have nothing but what a host name, an address and a port consist of.
fn origin(headers: &HeaderMap, peer: Peer) -> Origin {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let known = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
    if !(1..=255).contains(&host.len()) || !host.bytes().all(known) {
        return Err("the Host header is missing or names no host");
    }
    Ok(format!("{}://{host}", peer.scheme()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(is_tls: bool) -> Peer {
        Peer { address: ([192, 0, 2, 7], 1).into(), is_tls }
    }

    #[test]
    fn the_server_as_the_device_names_it() {
        let of = |host: &'static str| {
            origin(&HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]), peer(false))
        };
        for good in ["192.0.2.1", "192.0.2.1:8080", "[2001:db8::1]:80", "boot.example.org"] {
            assert_eq!(of(good).unwrap(), format!("http://{good}"));
        }
        for bad in ["", "a b", "a/b", "a?b", "a\"b", "a,b", "a%20b", "u@h"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert!(origin(&HeaderMap::new(), peer(false)).is_err());
        let host = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("b"))]);
        assert_eq!(origin(&host, peer(true)).unwrap(), "https://b");
    }
}
