//! Forms: each brings along a secret that only our own pages know.

use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::refusal;
use crate::http::Site;
use crate::http::caller::{self, Caller};
use crate::http::fields::{FORM_LIMIT, Fields};
use crate::people::secret;

/// The cookie whose value a form has to have, where nobody is logged in yet.
pub(super) const LOGIN_COOKIE: &str = "http-boot-form";
/// How long a browser may take to send a form.
const SEND_TIMEOUT: Duration = Duration::from_secs(15);

/// The form of somebody who is logged in, with the session's secret in `csrf`.
pub(super) struct SessionForm(pub(super) Fields);

/// A form of somebody who is not logged in, with the secret of [`LOGIN_COOKIE`] in `csrf`.
pub(super) struct StrangersForm(pub(super) Fields);

impl FromRequest<Arc<Site>> for SessionForm {
    type Rejection = Response;

    async fn from_request(request: Request, _: &Arc<Site>) -> Result<Self, Response> {
        let session = request.extensions().get::<Caller>().and_then(|caller| caller.session.clone());
        let fields = read(request).await?;
        let is_ours = has_secret(&fields, session.as_ref().map(|session| session.csrf.as_str()));
        if is_ours { Ok(Self(fields)) } else { Err(refused()) }
    }
}

impl FromRequest<Arc<Site>> for StrangersForm {
    type Rejection = Response;

    async fn from_request(request: Request, _: &Arc<Site>) -> Result<Self, Response> {
        let cookie = caller::cookie(request.headers(), LOGIN_COOKIE).map(str::to_owned);
        let fields = read(request).await?;
        if has_secret(&fields, cookie.as_deref()) { Ok(Self(fields)) } else { Err(refused()) }
    }
}

async fn read(request: Request) -> Result<Fields, Response> {
    if is_from_elsewhere(request.headers()) {
        return Err(refused());
    }
    match tokio::time::timeout(SEND_TIMEOUT, to_bytes(request.into_body(), FORM_LIMIT)).await {
        Ok(Ok(bytes)) => Ok(Fields::parse(&bytes)),
        Ok(Err(_)) => Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, "The form is too long.")),
        Err(_) => Err(refusal(StatusCode::REQUEST_TIMEOUT, "The form did not arrive in time.")),
    }
}

/// What browsers say of a request that another site's page makes (Fetch Metadata). Others say nothing.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
}

fn has_secret(fields: &Fields, secret: Option<&str>) -> bool {
    let secret = secret.filter(|secret| !secret.is_empty());
    secret.is_some_and(|secret| secret::are_equal(secret, fields.get("csrf")))
}

fn refused() -> Response {
    refusal(
        StatusCode::FORBIDDEN,
        "This form is none of this server's pages, or an old one. Go back, load the page again, and send it again. Cookies have to be allowed.",
    )
}
