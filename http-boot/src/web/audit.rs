//! The audit log.

use std::sync::Arc;

use anyhow::Context;
use axum::extract::{Extension, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::html;

use super::{failed, go, layout, show};
use crate::http::Site;
use crate::http::caller::Caller;
use crate::http::fields::Fields;
use crate::store::audit;

/// How many entries a page has.
const ENTRIES: u32 = 100;

/// `GET /ui/audit`
pub(super) async fn page(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(state) = site.state.clone() else { return go("/ui/") };
    let before = Fields::parse(query.unwrap_or_default().as_bytes()).get("before").parse().ok();
    let read = tokio::task::spawn_blocking(move || state.store.read(|t| audit::newest(t, before, ENTRIES)));
    let entries = match read.await.context("reading the audit log").flatten() {
        Ok(entries) => entries,
        Err(error) => return failed(&error),
    };
    let older = entries.last().filter(|_| entries.len() == ENTRIES as usize).map(|entry| entry.id);
    let content = html! {
        @if entries.is_empty() { p.empty { "Nothing yet." } }
        @else {
            table.list {
                caption { "Who did what, newest first" }
                thead { tr {
                    th scope="col" { "When" }
                    th scope="col" { "Who" }
                    th scope="col" { "What" }
                    th scope="col" { "To" }
                    th.wide scope="col" { "From" }
                } }
                tbody {
                    @for entry in &entries {
                        tr {
                            td { (show::moment(entry.at)) }
                            td { (entry.who) }
                            td { (entry.action) @if !entry.detail.is_empty() { div.muted { (entry.detail) } } }
                            td { (entry.subject) }
                            td.wide { (entry.address) }
                        }
                    }
                }
            }
        }
        @if let Some(older) = older { p { a href={ "/ui/audit?before=" (older) } { "Older entries" } } }
    };
    super::html(StatusCode::OK, layout::page("Audit log", "/ui/audit", &caller, None, &content))
}
