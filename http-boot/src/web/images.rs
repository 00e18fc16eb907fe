//! The list of images.

use std::sync::Arc;

use anyhow::Context;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::html;

use super::{failed, layout, show};
use crate::http::Site;
use crate::http::caller::Caller;

/// `GET /ui/images`
pub(super) async fn page(State(site): State<Arc<Site>>, Extension(caller): Extension<Caller>) -> Response {
    let images = match tokio::task::spawn_blocking(move || site.images.list(&site.root))
        .await
        .context("listing images")
    {
        Ok(images) => images,
        Err(error) => return failed(&error),
    };
    let content = html! {
        @if images.is_empty() {
            p.empty { "There is no squashfs below the root. " code { "boot-files image" } " makes one with its manifest." }
        } @else {
            table.list {
                caption { "Squashfs images below the root. Devices check signatures, with the keys in their own image." }
                thead { tr {
                    th scope="col" { "Image" }
                    th scope="col" { "Version" }
                    th.number scope="col" { "Size" }
                    th.wide.number scope="col" { "Serial" }
                    th scope="col" { "Signature" }
                } }
                tbody {
                    @for image in &images {
                        tr {
                            th scope="row" { (image.name) div.muted { (image.path) } }
                            td { (image.version) }
                            td.number { (show::bytes(image.size)) }
                            td.wide.number { @if image.serial > 0 { (image.serial) } }
                            td {
                                @if let Some(key) = &image.key_id { div { "by key " code { (key) } } }
                                @if let Some(problem) = &image.problem { div.error { (problem) } }
                            }
                        }
                    }
                }
            }
        }
    };
    super::html(StatusCode::OK, layout::page("Images", "/ui/images", &caller, None, &content))
}
