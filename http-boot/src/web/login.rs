//! Logging in and out, and the first person.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use maud::{Markup, html};

use super::form::{LOGIN_COOKIE, SessionForm, StrangersForm};
use super::{failed, go, layout, refusal};
use crate::http::caller::{self, COOKIE, Caller};
use crate::http::fields::Fields;
use crate::http::{Peer, Site};
use crate::people::{Name, Role, password, secret};
use crate::state::State as Kept;
use crate::store::audit::{self, Entry};
use crate::store::{people, sessions};

/// How long a login waits for its turn to be checked.
const TURN: Duration = Duration::from_secs(10);

/// The page of a server that keeps nothing.
pub(super) fn turned_off() -> Markup {
    let content = html! {
        p { "This server keeps nothing: nobody can log in. To turn the page on, start it with a folder for its database:" }
        pre { code { "http-boot serve --root DIR --state /var/lib/http-boot" } }
        p { "What devices reported since the start is at " a href="/v1/devices" { "/v1/devices" } "." }
    };
    layout::strangers_page("The page is turned off", &content)
}

/// `GET /ui/login`
pub(super) async fn page(
    State(site): State<Arc<Site>>,
    Extension(Peer { is_tls, .. }): Extension<Peer>,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(state) = site.state.clone() else {
        return super::html(StatusCode::SERVICE_UNAVAILABLE, turned_off());
    };
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    show(state, is_tls, StatusCode::OK, None, query.get("next")).await
}

/// The login form, or that for the first person where there is nobody.
async fn show(
    state: Arc<Kept>,
    tls: bool,
    status: StatusCode,
    problem: Option<&str>,
    next: &str,
) -> Response {
    let nobody = tokio::task::spawn_blocking(move || state.store.read(|t| people::is_empty(t)));
    let (nobody, csrf) = match (nobody.await.context("looking for people").flatten(), secret::new()) {
        (Ok(nobody), Ok(csrf)) => (nobody, csrf),
        (Err(error), _) | (_, Err(error)) => return failed(&error),
    };
    let problem = html! { @if let Some(problem) = problem { p.alert role="alert" { (problem) } } };
    let page = if nobody {
        layout::strangers_page("Nobody can log in yet", &html! { (problem) (set_up_form(&csrf)) })
    } else {
        layout::strangers_page("Log in", &html! { (problem) (login_form(&csrf, next)) })
    };
    let mut response = super::html(status, page);
    set_cookie(&mut response, LOGIN_COOKIE, &csrf, tls);
    response
}

fn login_form(csrf: &str, next: &str) -> Markup {
    html! {
        form method="post" action="/ui/login" {
            input type="hidden" name="csrf" value=(csrf);
            input type="hidden" name="next" value=(next);
            label for="name" { "Name" }
            input #name name="name" required autocomplete="username" autocapitalize="none" spellcheck="false" autofocus;
            label for="password" { "Password" }
            input #password name="password" type="password" required autocomplete="current-password";
            button.primary type="submit" { "Log in" }
        }
    }
}

fn set_up_form(csrf: &str) -> Markup {
    html! {
        p { "Add somebody on the machine that this server runs on:" }
        pre { code { "http-boot user add NAME --role operate --state DIR" } }
        p { "Or here, with the set-up code from the server's log:" }
        form method="post" action="/ui/setup" {
            input type="hidden" name="csrf" value=(csrf);
            label for="code" { "Set-up code" }
            input #code name="code" required autocomplete="off" autocapitalize="characters" spellcheck="false";
            label for="name" { "Your name" }
            input #name name="name" required maxlength="32" autocomplete="username" autocapitalize="none" spellcheck="false";
            label for="password" { "A new password (" (password::SHORTEST) " characters or more)" }
            input #password name="password" type="password" required minlength=(password::SHORTEST) autocomplete="new-password";
            button.primary type="submit" { "Add me" }
        }
    }
}

/// `POST /ui/login`
pub(super) async fn login(
    State(site): State<Arc<Site>>,
    Extension(Peer { address: peer, is_tls }): Extension<Peer>,
    StrangersForm(fields): StrangersForm,
) -> Response {
    let Some(state) = site.state.clone() else { return go("/ui/") };
    let address = peer.ip().to_canonical();
    if let Err(wait) = state.logins.take(address, Instant::now()) {
        return too_many_tries(address, wait);
    }
    let Some(_turn) = turn(&state).await else { return busy() };
    let next = own_place(fields.get("next")).to_owned();
    let entered = tokio::task::spawn_blocking({
        let (state, fields) = (state.clone(), fields.clone());
        move || enter(&state, fields.get("name"), fields.get("password"), address)
    });
    match entered.await.context("checking a password").flatten() {
        Ok(Some(cookie)) => logged_in(&cookie, &next, is_tls),
        Ok(None) => {
            site.metrics.failed_login();
            let problem = Some("The name or the password is wrong.");
            show(state, is_tls, StatusCode::UNAUTHORIZED, problem, &next).await
        }
        Err(error) => failed(&error),
    }
}

/// `POST /ui/setup`: adds the first person.
pub(super) async fn set_up(
    State(site): State<Arc<Site>>,
    Extension(Peer { address: peer, is_tls }): Extension<Peer>,
    StrangersForm(fields): StrangersForm,
) -> Response {
    let Some(state) = site.state.clone() else { return go("/ui/") };
    let address = peer.ip().to_canonical();
    if let Err(wait) = state.logins.take(address, Instant::now()) {
        return too_many_tries(address, wait);
    }
    let Some(_turn) = turn(&state).await else { return busy() };
    let added = tokio::task::spawn_blocking({
        let state = state.clone();
        move || add_first(&state, &fields, address)
    });
    match added.await.context("adding the first person") {
        Ok(Ok(cookie)) => logged_in(&cookie, "/ui/", is_tls),
        Ok(Err(error)) => {
            site.metrics.failed_login();
            let problem = error.to_string();
            show(state, is_tls, StatusCode::FORBIDDEN, Some(&problem), "").await
        }
        Err(error) => failed(&error),
    }
}

/// `POST /ui/logout`
pub(super) async fn logout(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    SessionForm(_): SessionForm,
) -> Response {
    let hash = caller::cookie(&headers, COOKIE).map(secret::hash);
    if let (Some(state), Some(hash)) = (site.state.clone(), hash) {
        let ended = tokio::task::spawn_blocking(move || {
            state.store.change(|t| {
                sessions::end(t, &hash)?;
                log(t, &caller.who, caller.address, "logout", "")
            })
        });
        if let Err(error) = ended.await.context("ending a session").flatten() {
            return failed(&error);
        }
    }
    let mut response = go("/ui/login");
    let gone = HeaderValue::from_static("http-boot-session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    response.headers_mut().append(header::SET_COOKIE, gone);
    response
}

/// Begins a session, if the password is right; gives its cookie. Both outcomes are in the audit log.
fn enter(state: &Kept, name: &str, typed: &str, address: IpAddr) -> Result<Option<String>> {
    let name: Option<Name> = name.parse().ok();
    let found = match &name {
        Some(name) => state.store.read(|t| people::find(t, name))?,
        None => None,
    };
    let is_right = password::is_right(typed, found.as_ref().map(|(_, hash)| hash.as_str()));
    let Some((person, _)) = found.filter(|_| is_right) else {
        // What is no name may be a password that was typed into the wrong field.
        let subject = name.as_ref().map_or("", Name::as_str);
        state.store.change(|t| log(t, "somebody", address, "login failed", subject))?;
        return Ok(None);
    };
    state.logins.give_back(address);
    begin(state, &person.name, address, |_| Ok(())).map(Some)
}

fn add_first(state: &Kept, fields: &Fields, address: IpAddr) -> Result<String> {
    if !state.setup_code.is(fields.get("code")) {
        state.store.change(|t| log(t, "somebody", address, "set-up failed", ""))?;
        bail!("This is not the set-up code in the server's log. Each start of the server makes another.");
    }
    let name: Name = fields.get("name").parse()?;
    let hash = password::hash(fields.get("password"))?;
    state.logins.give_back(address);
    begin(state, name.as_str(), address, |t| {
        if !people::is_empty(t)? {
            bail!("Somebody has been added meanwhile: log in, or ask them.");
        }
        people::add(t, &name, Role::Operate, &hash)?;
        log(t, name.as_str(), address, "user add", name.as_str())
    })
}

/// Begins a session after `first`, in one change.
fn begin(
    state: &Kept,
    person: &str,
    address: IpAddr,
    first: impl FnOnce(&rusqlite::Connection) -> Result<()>,
) -> Result<String> {
    let (cookie, csrf) = (secret::new()?, secret::new()?);
    state.store.change(|t| {
        first(t)?;
        sessions::begin(t, &secret::hash(&cookie), person, &csrf)?;
        log(t, person, address, "login", "")
    })?;
    Ok(cookie)
}

fn log(t: &rusqlite::Connection, who: &str, address: IpAddr, action: &str, subject: &str) -> Result<()> {
    audit::add(t, &Entry { who, address: &address.to_string(), action, subject, detail: "" })
}

fn logged_in(cookie: &str, next: &str, tls: bool) -> Response {
    let mut response = go(next);
    set_cookie(&mut response, COOKIE, cookie, tls);
    response
}

fn set_cookie(response: &mut Response, name: &str, value: &str, tls: bool) {
    let secure = if tls { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

/// Where to go after the login: a place of ours, never another site's (`//evil` would be one).
fn own_place(next: &str) -> &str {
    let is_ours = next.starts_with("/ui/") && next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if is_ours { next } else { "/ui/" }
}

fn too_many_tries(address: IpAddr, wait: Duration) -> Response {
    let seconds = wait.as_secs() + 1;
    let line = format!("Too many tries from {address}: the next one is in {seconds} s.");
    let mut response = refusal(StatusCode::TOO_MANY_REQUESTS, line);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

async fn turn(state: &Kept) -> Option<tokio::sync::OwnedSemaphorePermit> {
    tokio::time::timeout(TURN, state.hashing.clone().acquire_owned()).await.ok()?.ok()
}

fn busy() -> Response {
    refusal(StatusCode::SERVICE_UNAVAILABLE, "Too many people log in at once: try again.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_tls_a_cookie_never_goes_in_the_clear() {
        let cookie = |tls| {
            let response = logged_in("secret", "/ui/", tls);
            response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned()
        };
        assert!(cookie(true).ends_with("; HttpOnly; SameSite=Strict; Secure"));
        assert!(cookie(false).ends_with("; HttpOnly; SameSite=Strict"));
    }

    #[test]
    fn after_the_login_one_stays_here() {
        assert_eq!(own_place("/ui/devices/1?boot=2"), "/ui/devices/1?boot=2");
        for other in
            ["", "/", "//evil.example/ui/", "https://evil.example/ui/", "/ui/\\evil", "/ui/ x", "/ui/\n"]
        {
            assert_eq!(own_place(other), "/ui/", "{other}");
        }
    }
}
