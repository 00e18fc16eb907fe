//! One device: what it does, how its boots went, and what it shall do.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use init::server_plan::PLAN_FORMAT;
use maud::{Markup, html};

use super::form::SessionForm;
use super::{failed, go, layout, refusal, show, timeline};
use crate::devices::{Received, Serial, Summary};
use crate::http::Site;
use crate::http::caller::Caller;
use crate::http::fields::Fields;
use crate::images::Image;
use crate::order_request::OrderRequest;
use crate::orders::{Actor, DeviceOrders, Standing};
use crate::state::State as Kept;
use crate::store::seen::{self, Boot, Sighting, state_name};

/// How many boots the history has.
const BOOTS: u32 = 50;
/// How long a timeline waits for what is about to be recorded, which takes some 50 ms, and more on a slow disk.
const CATCH_UP: Duration = Duration::from_millis(500);
/// How many events an older boot's log shows.
const EVENTS: u32 = 500;

/// What the page shows beside the live state.
struct Past {
    boots: Vec<Boot>,
    /// The boot whose timeline is shown.
    chosen: Option<Boot>,
    steps: Vec<seen::Timing>,
    /// Its events, unless it is the newest boot: that one's are in the live log.
    events: Option<Vec<Received>>,
    bootloaders: Vec<Sighting>,
    images: Vec<Image>,
}

/// `GET /ui/devices/{serial}`
pub(super) async fn page(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    Path(serial): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let chosen = query.get("boot").parse().ok();
    render(site, caller, &serial, chosen, None).await
}

async fn render(
    site: Arc<Site>,
    caller: Caller,
    serial: &str,
    chosen: Option<i64>,
    problem: Option<String>,
) -> Response {
    let Some((device, state)) = serial.parse().ok().and_then(|serial| find(&site, &serial)) else {
        return refusal(StatusCode::NOT_FOUND, "No event of this device is remembered.");
    };
    let past = tokio::task::spawn_blocking({
        let (site, device) = (site.clone(), device.clone());
        move || read_past(&site, &state, &device, chosen)
    });
    let past = match past.await.context("reading a device's past").flatten() {
        Ok(past) => past,
        Err(error) => return failed(&error),
    };
    let live = past.events.is_none().then(|| format!("/ui/devices/{}/live", device.serial));
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let title = format!("Device {}", device.serial);
    let content = content(&site, &caller, &device, &past, problem.as_deref());
    super::html(status, layout::page(&title, "", &caller, live.as_deref(), &content))
}

fn find(site: &Site, serial: &Serial) -> Option<(Summary, Arc<Kept>)> {
    Some((site.devices.summary(serial)?, site.state.clone()?))
}

fn read_past(site: &Site, state: &Kept, device: &Summary, chosen: Option<i64>) -> Result<Past> {
    let images = site.images.list(&site.root);
    state.store.read(|t| {
        let boots = seen::boots(t, Some(&device.serial), None, BOOTS)?;
        let newest = boots.first().map(|boot| boot.id);
        let wanted = chosen.or(newest);
        let chosen = boots.iter().find(|boot| Some(boot.id) == wanted).cloned();
        let steps = chosen.as_ref().map_or(Ok(Vec::new()), |boot| seen::timings(t, boot.id))?;
        let older = chosen.as_ref().filter(|boot| Some(boot.id) != newest);
        let events = older.map(|boot| seen::events(t, boot.id, EVENTS)).transpose()?;
        Ok(Past { boots, chosen, steps, events, bootloaders: seen::bootloaders(t, device.address)?, images })
    })
}

fn content(site: &Site, caller: &Caller, device: &Summary, past: &Past, problem: Option<&str>) -> Markup {
    let orders = site.state.as_ref().map(|state| state.orders.of(&device.serial)).unwrap_or_default();
    let chosen = past.chosen.as_ref();
    html! {
        @if let Some(problem) = problem { p.alert role="alert" { "Nothing was ordered: " (problem) } }
        div.columns {
            div {
                @if past.events.is_none() {
                    section aria-labelledby="now" { h2 #now { "Now" } (now(device)) }
                }
                section aria-labelledby="boot" {
                    h2 #boot {
                        "Timeline"
                        @if let Some(boot) = chosen { " of boot " code { (boot.boot_id) } }
                    }
                    (timeline::table(&past.steps, timeline_end(device, chosen)))
                }
                section aria-labelledby="log-title" {
                    h2 #log-title { "Log" }
                    @match &past.events {
                        Some(events) => (log(events)),
                        None => (log(&site.devices.events(&device.serial).unwrap_or_default())),
                    }
                }
            }
            div {
                section aria-labelledby="orders-title" {
                    h2 #orders-title { "Orders" }
                    (current_orders(&orders))
                    @if caller.may_operate() { (actions(caller, device, &orders, &past.images)) }
                    @else { p.muted { "Who may operate gives orders here; you may view." } }
                }
                section aria-labelledby="facts" { h2 #facts { "Facts" } (facts(device, &past.bootloaders)) }
                section aria-labelledby="history" { h2 #history { "Boots" } (history(device, past)) }
            }
        }
    }
}

/// How long the chosen boot went on, by its own clock: only the newest one's is known to the event.
fn timeline_end(device: &Summary, chosen: Option<&Boot>) -> u64 {
    match chosen {
        Some(boot) if boot.boot_id == device.boot_id => device.uptime_ms,
        _ => 0,
    }
}

/// The live state.
pub(super) fn now(device: &Summary) -> Markup {
    html! {
        div #state.now {
            (show::state(device))
            div.muted { "heard " (show::moment(device.last_seen)) ", " (show::duration(device.uptime_ms)) " after the kernel's start" }
            @if let Some(crash) = &device.last_crash { div.error { "an earlier boot crashed: " (crash) } }
        }
    }
}

/// The timeline of a device's newest boot. Waits a little for what has just been reported: nothing may follow that would have it
/// shown again.
///
/// # Errors
/// The store's.
pub(super) fn newest_timeline(state: &Kept, device: &Summary) -> Result<Markup> {
    state.recorder.catch_up(CATCH_UP);
    let steps = state.store.read(|t| {
        let newest = seen::boots(t, Some(&device.serial), None, 1)?.pop();
        newest.map_or(Ok(Vec::new()), |boot| seen::timings(t, boot.id))
    })?;
    Ok(timeline::table(&steps, device.uptime_ms))
}

/// The log, newest first.
pub(super) fn log(events: &[Received]) -> Markup {
    html! {
        ol #log.log reversed tabindex="0" aria-labelledby="log-title" { @for event in events.iter().rev() { (line(event)) } }
    }
}

/// A line of the log.
pub(super) fn line(Received { received, event, .. }: &Received) -> Markup {
    html! {
        li {
            (show::clock(*received)) " "
            (show::badge(&event.step, state_name(event.state)))
            @if let Some(progress) = event.progress {
                " " span.muted { (show::bytes(progress.bytes)) " of " (show::bytes(progress.total)) }
            }
            @if let Some(error) = &event.error { " " span.error { (error) } }
            @if let Some(seconds) = event.retry_in_s { " " span.muted { "again in " (seconds) " s" } }
        }
    }
}

fn facts(device: &Summary, bootloaders: &[Sighting]) -> Markup {
    html! {
        dl.facts {
            @if let Some(model) = &device.model { dt { "Model" } dd { (model) } }
            dt { "Seen at" } dd { (device.address) }
            @if !device.addresses.is_empty() { dt { "Its addresses" } dd { (device.addresses.join(", ")) } }
            @if let Some(key) = &device.host_key { dt { "SSH host key" } dd { code { (key) } } }
            @if let Some(version) = &device.bootloader { dt { "Bootloader" } dd { (version) } }
            @for seen in bootloaders { dt { "Bootloader that asked from there" } dd { (seen.version) } }
            dt { "First heard" } dd { (show::moment(device.first_seen)) }
            dt { "Boots" } dd { (device.boots) }
        }
    }
}

fn history(device: &Summary, past: &Past) -> Markup {
    html! {
        table.list {
            thead { tr {
                th scope="col" { "Began" }
                th scope="col" { "Came to" }
                th.number scope="col" { "Failures" }
            } }
            tbody {
                @for boot in &past.boots {
                    tr.chosen[past.chosen.as_ref().is_some_and(|chosen| chosen.id == boot.id)] {
                        th scope="row" {
                            a href={ "/ui/devices/" (device.serial) "?boot=" (boot.id) } { (show::moment(boot.first_seen)) }
                            div.muted { (lasted(boot)) }
                        }
                        td { (show::badge(&boot.step, &boot.state)) @if let Some(error) = &boot.error { div.error { (error) } } }
                        td.number { (boot.failures) }
                    }
                }
            }
        }
    }
}

fn lasted(boot: &Boot) -> String {
    let lasted = boot.last_seen.0.duration_since(boot.first_seen.0).unwrap_or_default();
    let fetched =
        if boot.bytes > 0 { format!(", {} fetched", show::bytes(boot.bytes)) } else { String::new() };
    format!("heard for {}{fetched}", show::duration(u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX)))
}

/// What a device was told to do.
pub(super) fn current_orders(orders: &DeviceOrders) -> Markup {
    html! {
        div #orders {
            @if let Some(order) = &orders.rescue_next {
                p {
                    strong { "Rescue" }
                    @match &order.what.used_by {
                        Some(boot) => { " in this boot (" code { (boot) } ")" },
                        None => " at the next boot",
                    }
                    span.muted { ", by " (order.who) " at " (show::moment(order.made)) }
                }
            }
            @if let Some(order) = &orders.standing {
                p {
                    @match &order.what {
                        Standing::Assign { image } => { strong { "Boot " code { (image) } } " until changed" },
                        Standing::Plan { .. } => { strong { "Follow a signed plan" } " until changed" },
                    }
                    span.muted { ", by " (order.who) " at " (show::moment(order.made)) }
                }
                @if let Standing::Plan { plan, .. } = &order.what { pre { code { (plan) } } }
            }
            @if orders == &DeviceOrders::default() {
                p.muted { "None: the device's own plan file counts, else " code { "plans/default.json" } "." }
            }
        }
    }
}

fn actions(caller: &Caller, device: &Summary, orders: &DeviceOrders, images: &[Image]) -> Markup {
    let place = format!("/ui/devices/{}/orders", device.serial);
    let assigned = match orders.standing.as_ref().map(|order| &order.what) {
        Some(Standing::Assign { image }) => image.as_str(),
        _ => "",
    };
    let form = |order: &str, content: &Markup| {
        html! {
            form.action method="post" action=(place) {
                (layout::csrf(caller))
                input type="hidden" name="order" value=(order);
                (content)
            }
        }
    };
    html! {
        (form("assign", &html! {
            label for="image" { "Image until changed" }
            select #image name="image" required {
                option value="" { "choose an image" }
                @for image in images.iter().filter(|image| image.problem.is_none()) {
                    option value=(image.path) selected[image.path == assigned] { (image.name) " " (image.version) " – " (image.path) }
                }
            }
            button.primary type="submit" { "Assign" }
        }))
        (form("rescue_next", &html! { button type="submit" { "Rescue at the next boot" } }))
        @if orders != &DeviceOrders::default() {
            (form("clear", &html! { button type="submit" { "Take all orders off" } }))
        }
        details {
            summary { "Sign-off by a signed plan: install, boot the disk" }
            p.muted { "A plan that was signed for just this device. The device checks the signature. To install a disk image, whatever is on the disk, in the boot that goes on:" }
            pre { code { (install_plan(device)) } }
            p.muted { "with your own image, disk and root, in a file " code { "plan.json" } ", then " code { "boot-files sign plan.json --key image.key" } ". In any other boot it writes nothing, and boots the disk." }
            (form("plan", &html! {
                label for="plan" { "The plan (JSON)" }
                textarea #plan name="plan" rows="4" required spellcheck="false" {}
                label for="minisig" { "Its signature (.minisig)" }
                textarea #minisig name="minisig" rows="4" required spellcheck="false" {}
                button type="submit" { "Sign off" }
            }))
        }
    }
}

/// A plan to begin with: this server does not know the image, and has no key.
fn install_plan(device: &Summary) -> String {
    // Whoever reports may write what he likes there; somebody is about to sign it.
    let boot = init::install::boot_id(&device.boot_id).unwrap_or_else(|_| "ID".into());
    let parameters = format!(
        "lifeboat.install=http://SERVER/disk.img.xz lifeboat.install_to=/dev/mmcblk0 lifeboat.install_boot={boot} root=LABEL=rootfs"
    );
    serde_json::json!({"format": PLAN_FORMAT, "device": device.serial, "parameters": parameters}).to_string()
}

/// `POST /ui/devices/{serial}/orders`
pub(super) async fn order(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    Path(serial): Path<String>,
    SessionForm(fields): SessionForm,
) -> Response {
    if !caller.may_operate() {
        return refusal(StatusCode::FORBIDDEN, "You may view, not operate.");
    }
    let Some((device, state)) = serial.parse().ok().and_then(|serial| find(&site, &serial)) else {
        return refusal(StatusCode::NOT_FOUND, "No event of this device is remembered.");
    };
    let given = tokio::task::spawn_blocking({
        let (site, caller) = (site.clone(), caller.clone());
        move || give(&site, &state, &device, &caller, &fields)
    });
    match given.await.context("giving an order").flatten() {
        Ok(Ok(())) => go(&format!("/ui/devices/{serial}")),
        Ok(Err(why)) => render(site, caller, &serial, None, Some(why)).await,
        Err(error) => failed(&error),
    }
}

fn give(
    site: &Site,
    state: &Kept,
    device: &Summary,
    caller: &Caller,
    fields: &Fields,
) -> Result<Result<(), String>> {
    let request = match fields.get("order") {
        "rescue_next" => OrderRequest::RescueNext {},
        "assign" => OrderRequest::Assign { image: fields.get("image").into() },
        "clear" => OrderRequest::Clear {},
        // A browser sends the ends of lines as CR LF. A signature of the form is over LF, as files have them.
        "plan" => OrderRequest::Plan {
            plan: fields.get("plan").replace("\r\n", "\n"),
            minisig: fields.get("minisig").replace("\r\n", "\n"),
        },
        other => return Ok(Err(format!("{other:?} is no order"))),
    };
    let command = match request.check(site, &device.serial) {
        Ok(command) => command,
        Err(why) => return Ok(Err(why)),
    };
    let address = caller.address.to_string();
    let actor = Actor { who: &caller.who, address: &address };
    state.orders.give(&state.store, &device.serial, &command, Some(device.boot_id.clone()), actor)?;
    site.live.ring(&device.serial);
    Ok(Ok(()))
}
