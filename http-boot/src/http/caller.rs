//! Who is asking: by the cookie of a session, or by a token.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::http::{HeaderMap, header};

use crate::people::{Role, secret};
use crate::state::State;
use crate::store::sessions::{self, Session};
use crate::store::tokens::{self, Token};
use crate::store::{Store, now};

/// The cookie of a session. `__Host-` cannot be used: the name would have to change with TLS.
pub const COOKIE: &str = "http-boot-session";
/// No cookie or token of ours is longer.
const SECRET_LIMIT: usize = 128;

/// Somebody whom the server knows.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The name for the audit log.
    pub who: String,
    /// What they may do.
    pub role: Role,
    /// The session, unless it is a token.
    pub session: Option<Session>,
    /// Where they are.
    pub address: IpAddr,
}

impl Caller {
    /// Whoever can reach a server that has no `--state`.
    pub fn anybody(peer: SocketAddr) -> Self {
        Self { who: "anybody".into(), role: Role::View, session: None, address: peer.ip().to_canonical() }
    }

    /// Whether they may give orders.
    pub fn may_operate(&self) -> bool {
        self.role >= Role::Operate
    }
}

/// A cookie of the request. A browser sends several in one header.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let value = all.flat_map(|value| value.split(';')).find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then_some(value)
    });
    value.filter(|value| value.len() <= SECRET_LIMIT)
}

/// The bearer token of a request (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && token.len() <= SECRET_LIMIT).then_some(token)
}

/// Whether the request brings a token along, right or wrong.
pub fn has_token(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION)
}

/// Finds out who is asking. A token, right or wrong, counts before a cookie.
///
/// # Errors
/// The store's.
pub async fn find(state: Arc<State>, peer: SocketAddr, headers: &HeaderMap) -> Result<Option<Caller>> {
    let address = peer.ip().to_canonical();
    let token = bearer(headers).map(secret::hash);
    let cookie = cookie(headers, COOKIE).map(secret::hash).filter(|_| !has_token(headers));
    if token.is_none() && cookie.is_none() {
        return Ok(None);
    }
    let found = tokio::task::spawn_blocking(move || match (token, cookie) {
        (Some(hash), _) => by_token(&state.store, &hash),
        (None, Some(hash)) => by_cookie(&state.store, &hash),
        (None, None) => Ok(None),
    });
    let found = found.await.context("looking for who is asking")??;
    Ok(found.map(|(who, role, session)| Caller { who, role, session, address }))
}

type Found = (String, Role, Option<Session>);

fn by_token(store: &Store, hash: &[u8]) -> Result<Option<Found>> {
    let Some(Token { name, role, last_used, .. }) = store.read(|t| tokens::find(t, hash))? else {
        return Ok(None);
    };
    if last_used.is_none_or(|at| now() - at > 60_000) {
        note_use(store.change(|t| tokens::touch(t, &name)));
    }
    Ok(Some((format!("token {name}"), role, None)))
}

/// On a full disk people can still look.
fn note_use(noted: Result<()>) {
    if let Err(error) = noted {
        tracing::debug!("noting that a token or session is in use: {error:#}");
    }
}

fn by_cookie(store: &Store, hash: &[u8]) -> Result<Option<Found>> {
    let Some(session) = store.read(|t| sessions::find(t, hash))? else { return Ok(None) };
    if session.is_stale() {
        note_use(store.change(|t| sessions::touch(t, hash)));
    }
    Ok(Some((session.person.clone(), session.role, Some(session))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, header::HeaderValue::from_static(value))])
    }

    #[test]
    fn cookies() {
        let of = |value| cookie(&headers(header::COOKIE, value), COOKIE).map(str::to_owned);
        assert_eq!(of("a=b; http-boot-session=x; c=d").as_deref(), Some("x"));
        assert_eq!(of("http-boot-session=").as_deref(), Some(""));
        for none in ["", "a=b", "xhttp-boot-session=x", "http-boot-session"] {
            assert_eq!(of(none), None, "{none}");
        }
        let long = format!("{COOKIE}={}", "x".repeat(SECRET_LIMIT + 1));
        let long = HeaderMap::from_iter([(header::COOKIE, long.parse().unwrap())]);
        assert_eq!(cookie(&long, COOKIE), None);
    }

    #[test]
    fn bearers() {
        let of = |value| bearer(&headers(header::AUTHORIZATION, value)).map(str::to_owned);
        assert_eq!(of("Bearer x").as_deref(), Some("x"));
        assert_eq!(of("bearer x").as_deref(), Some("x"));
        assert_eq!(of("Basic x"), None);
        assert_eq!(of("Bearer"), None);
    }
}
