//! What all pages have around them.

use maud::{DOCTYPE, Markup, html};

use crate::http::caller::Caller;

/// The places in the navigation.
const PLACES: &[(&str, &str)] = &[("/ui/", "Devices"), ("/ui/images", "Images"), ("/ui/audit", "Audit log")];

/// A page for somebody who is logged in. `place` is its path in the navigation; `live`, where its updates come from.
pub(super) fn page(
    title: &str,
    place: &str,
    caller: &Caller,
    live: Option<&str>,
    content: &Markup,
) -> Markup {
    let header = html! {
        nav aria-label="Pages" {
            @for (path, name) in PLACES {
                a href=(path) aria-current=[(*path == place).then_some("page")] { (name) }
            }
        }
        form.logout method="post" action="/ui/logout" {
            (csrf(caller))
            span.who { (caller.who) " (" (caller.role.as_str()) ")" }
            button type="submit" { "Log out" }
        }
    };
    let main = html! {
        div.title {
            h1 { (title) }
            @if live.is_some() { span #live role="status" { "as of loading" } }
        }
        div data-live=[live] { (content) }
    };
    around(title, &header, &main)
}

/// A page for strangers.
pub(super) fn strangers_page(title: &str, content: &Markup) -> Markup {
    let main = html! { div.narrow { h1 { (title) } (content) } };
    around(title, &html! {}, &main)
}

fn around(title: &str, header: &Markup, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – http-boot" }
                link rel="stylesheet" href="/ui/style.css";
                script src="/ui/live.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header {
                    a.brand href="/ui/" { "http-boot" }
                    (header)
                }
                main #main { (main) }
                footer { "Pi Lifeboat http-boot " (env!("CARGO_PKG_VERSION")) " · times are UTC" }
            }
        }
    }
}

/// The field by which a form proves that it is ours.
pub(super) fn csrf(caller: &Caller) -> Markup {
    let secret = caller.session.as_ref().map_or("", |session| session.csrf.as_str());
    html! { input type="hidden" name="csrf" value=(secret); }
}
