//! Boot events, taken from devices.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use init::event::{EVENT_FORMAT, EVENT_LIMIT, Event};

use super::{Peer, Site, text};
use crate::clients::Identity;
use crate::devices::{BadSerial, Serial};
use crate::store::now;
use crate::store::seen::Seen;

/// How long a device may take to send an event.
const SEND_TIMEOUT: Duration = Duration::from_secs(15);

/// `POST /v1/boot/{serial}/events`: one [`Event`] as JSON.
pub async fn post(
    State(site): State<Arc<Site>>,
    Extension(Peer { address: peer, .. }): Extension<Peer>,
    Path(serial): Path<String>,
    body: Body,
) -> Response {
    let serial: Serial = match serial.parse() {
        Ok(serial) => serial,
        Err(error @ BadSerial) => return text(StatusCode::BAD_REQUEST, error),
    };
    let body = match tokio::time::timeout(SEND_TIMEOUT, to_bytes(body, EVENT_LIMIT)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return text(
                StatusCode::PAYLOAD_TOO_LARGE,
                format_args!("an event has at most {EVENT_LIMIT} bytes"),
            );
        }
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the event did not arrive in time"),
    };
    match parse(&body) {
        Ok(event) => {
            tracing::debug!(%serial, address = %peer, step = ?event.step, state = ?event.state, error = ?event.error, "event");
            let identity = Identity::of_event(&serial.to_string(), event.model.as_deref());
            site.clients.learn(peer.ip(), identity);
            record(&site, serial, peer.ip().to_canonical(), event, body.len());
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Err(error) => text(StatusCode::BAD_REQUEST, error),
    }
}

fn record(site: &Site, serial: Serial, address: IpAddr, event: Event, bytes: usize) {
    let is_newest = site.devices.record(&serial, address, event.clone(), bytes);
    site.metrics.event();
    if let Some(state) = &site.state {
        state.saw_event(Seen { serial: serial.clone(), address, received: now(), event }, is_newest);
    }
    // Last: whoever looks now waits for the event to be recorded.
    site.live.ring(&serial);
}

/// Why bytes are no event: the field and what is wrong with it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct BadEvent {
    field: String,
    reason: String,
}

/// Parses an event.
///
/// # Errors
/// When it is no JSON, lacks a field, or a field has a value that it cannot have.
pub fn parse(json: &[u8]) -> Result<Event, BadEvent> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let event: Event = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let field = match error.path().to_string() {
            whole if whole == "." => "event".to_owned(),
            field => field,
        };
        BadEvent { field, reason: one_line(&error.into_inner()) }
    })?;
    deserializer.end().map_err(|error| BadEvent { field: "event".into(), reason: one_line(&error) })?;
    let bad = |field: &str, reason: String| Err(BadEvent { field: field.into(), reason });
    if event.format != EVENT_FORMAT {
        return bad(
            "format",
            format!("{} is not known; this server reads format {EVENT_FORMAT}", event.format),
        );
    }
    if !is_name(&event.boot_id) {
        return bad("boot_id", "not 1 to 64 characters of 0-9, A-Z, a-z, _ and -".into());
    }
    if !is_name(&event.step) {
        return bad("step", "not 1 to 64 characters of 0-9, A-Z, a-z, _ and -".into());
    }
    if event.sequence == 0 {
        return bad("sequence", "counts from 1".into());
    }
    Ok(event)
}

fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().replace(char::is_control, " ")
}

/// Steps are not compared with [`init::steps`]: a Pi may run a newer image than this server knows.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"format":1,"boot_id":"b","sequence":1,"uptime_ms":5,"step":"fetch","state":"progress","progress":{"bytes":1,"total":2,"rate":3}}"#;

    fn error(from: &str, to: &str) -> String {
        let json = GOOD.replace(from, to);
        assert_ne!(json, GOOD);
        parse(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_field() {
        parse(GOOD.as_bytes()).unwrap();
        assert!(error(r#""sequence":1"#, r#""sequence":"1""#).starts_with("sequence: invalid type: string"));
        assert!(error(r#""total":2"#, r#""total":-2"#).starts_with("progress.total: invalid value"));
        assert!(error(r#""step":"fetch","#, "").contains("missing field `step`"));
        assert!(error("fetch", "a b").starts_with("step: not 1 to 64"));
        assert!(error(r#""b""#, r#""""#).starts_with("boot_id: not 1 to 64"));
        assert!(error(r#""format":1"#, r#""format":2"#).starts_with("format: 2 is not known"));
        assert!(error(r#""sequence":1"#, r#""sequence":0"#).starts_with("sequence: counts from 1"));
        assert!(error(r#""progress","#, r#""resting","#).starts_with("state: unknown variant `resting`"));
        assert!(error("}}", "}} x").starts_with("event: trailing characters"));
        assert!(parse(b"").unwrap_err().to_string().starts_with("event: EOF"));
    }

    proptest! {
        #[test]
        fn any_error_is_one_line(at in 0..GOOD.len(), byte in any::<u8>()) {
            let mut json = GOOD.as_bytes().to_vec();
            json[at] = byte;
            if let Err(error) = parse(&json) {
                prop_assert!(!error.to_string().contains(char::is_control));
            }
        }
    }
}
