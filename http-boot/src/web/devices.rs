//! The list of devices.

use std::sync::Arc;

use axum::extract::{Extension, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};

use super::{layout, show};
use crate::devices::Summary;
use crate::http::Site;
use crate::http::caller::Caller;
use crate::http::fields::Fields;
use crate::orders::{DeviceOrders, Standing};
use crate::store::seen::state_name;

/// States that one can choose, and how they are called there.
const STATES: &[(&str, &str)] = &[
    ("", "any state"),
    ("running", "running"),
    ("waiting", "waiting"),
    ("failed", "failed"),
    ("done", "done"),
];

/// Which devices are shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    text: String,
    state: String,
}

impl Filter {
    /// Reads it from a query.
    pub(super) fn read(query: Option<&str>) -> Self {
        let fields = Fields::parse(query.unwrap_or_default().as_bytes());
        Self { text: fields.get("q").trim().to_owned(), state: fields.get("state").to_owned() }
    }

    /// Whether a device is shown: each word of the text is somewhere in what the list says of it.
    pub(super) fn shows(&self, device: &Summary) -> bool {
        let state = state_name(device.state);
        let is_state = match self.state.as_str() {
            "" => true,
            "running" => matches!(state, "started" | "progress"),
            wanted => wanted == state,
        };
        let mut said =
            vec![device.serial.to_string(), device.address.to_string(), device.step.clone(), state.into()];
        said.extend([&device.model, &device.error, &device.bootloader].into_iter().flatten().cloned());
        let said = said.join("\n").to_lowercase();
        is_state && self.text.to_lowercase().split_whitespace().all(|word| said.contains(word))
    }

    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("q", &self.text).append_pair("state", &self.state).finish()
    }
}

/// `GET /ui/`
pub(super) async fn page(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Response {
    let filter = Filter::read(query.as_deref());
    let content = html! {
        form.filter method="get" action="/ui/" role="search" {
            label for="q" { "Search" }
            input #q name="q" type="search" value=(filter.text) placeholder="serial, address, step, error …";
            label for="state" { "State" }
            select #state name="state" {
                @for (value, name) in STATES {
                    option value=(value) selected[*value == filter.state] { (name) }
                }
            }
            button type="submit" { "Show" }
        }
        (table(&site, &filter).markup)
    };
    let live = format!("/ui/live?{}", filter.query());
    super::html(StatusCode::OK, layout::page("Devices", "/ui/", &caller, Some(&live), &content))
}

/// The table of all devices that the filter shows.
pub(super) struct Table {
    /// How many those are.
    pub(super) shown: usize,
    pub(super) markup: Markup,
}

/// Makes the table.
pub(super) fn table(site: &Site, filter: &Filter) -> Table {
    let devices = site.devices.summaries();
    let is_all_empty = devices.is_empty();
    let shown: Vec<_> = devices.into_iter().filter(|device| filter.shows(device)).collect();
    let markup = html! {
        div #devices {
            (count(site, filter))
            @if is_all_empty {
                p.empty { "No device has reported yet. A Pi reports when its init has a network and knows this server." }
            } @else if shown.is_empty() {
                p.empty { "No device is like that." }
            } @else {
                table.list aria-labelledby="count" {
                    thead { tr {
                        th scope="col" { "Device" }
                        th scope="col" { "State" }
                        th.wide scope="col" { "Address" }
                        th.wide.number scope="col" { "Boots" }
                        th.wide scope="col" { "Order" }
                        th.mid scope="col" { "Last heard" }
                    } }
                    tbody #rows { @for device in &shown { (row(site, device)) } }
                }
            }
        }
    };
    Table { shown: shown.len(), markup }
}

/// How many devices there are, and how many of them are shown.
pub(super) fn count(site: &Site, filter: &Filter) -> Markup {
    let devices = site.devices.summaries();
    let shown = devices.iter().filter(|device| filter.shows(device)).count();
    let all = devices.len();
    html! { p #count.muted { (shown) " of " (all) @if all == 1 { " device" } @else { " devices" } } }
}

/// What a device's row is called in the page.
pub(super) fn row_id(device: &Summary) -> String {
    format!("device-{}", device.serial)
}

/// A device's row.
pub(super) fn row(site: &Site, device: &Summary) -> Markup {
    let orders = site.state.as_ref().map(|state| state.orders.of(&device.serial)).unwrap_or_default();
    html! {
        tr id=(row_id(device)) {
            th scope="row" {
                a.serial href={ "/ui/devices/" (device.serial) } { (device.serial) }
                @if let Some(model) = &device.model { div.muted { (model) } }
            }
            td { (show::state(device)) }
            td.wide.fixed { (device.address) }
            td.wide.number { (device.boots) }
            td.wide { (short(&orders)) }
            td.mid { (show::moment(device.last_seen)) }
        }
    }
}

/// A device's orders in short.
fn short(orders: &DeviceOrders) -> Markup {
    html! {
        @if orders.rescue_next.is_some() { div { "rescue next" } }
        @match orders.standing.as_ref().map(|order| &order.what) {
            Some(Standing::Assign { image }) => div { (image) },
            Some(Standing::Plan { .. }) => div { "signed plan" },
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::devices::Devices;
    use crate::http::events::parse;

    #[test]
    fn filters() {
        let devices = Devices::default();
        let event = parse(br#"{"format":1,"boot_id":"b","sequence":1,"uptime_ms":5,"step":"fetch","state":"progress","model":"Raspberry Pi 4 Model B"}"#).unwrap();
        devices.record(
            &"10000000abcdef01".parse().unwrap(),
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
            event,
            1,
        );
        let device = devices.summaries().pop().unwrap();
        for (query, is_shown) in [
            ("", true),
            ("q=ABCDEF", true),
            ("q=fetch+pi+4&state=running", true),
            ("q=192.0.2.7&state=", true),
            ("q=192.0.2.8", false),
            ("state=failed", false),
            ("state=progress", true),
            ("state=nonsense", false),
        ] {
            assert_eq!(Filter::read(Some(query)).shows(&device), is_shown, "{query}");
        }
        assert_eq!(Filter::read(Some("q=a%26b&state=x")).query(), "q=a%26b&state=x");
    }
}
