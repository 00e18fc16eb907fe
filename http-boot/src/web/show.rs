//! How figures and states are shown.

use init::event::{Progress, State};
use maud::{Markup, html};

use crate::devices::{Moment, Summary};
use crate::store::seen::state_name;

/// A moment, to the second.
pub(super) fn moment(moment: Moment) -> Markup {
    let text = humantime::format_rfc3339_seconds(moment.0).to_string();
    let shown = text.replace('T', " ").replace('Z', "");
    html! { time.fixed datetime=(text) { (shown) } }
}

/// A moment of a day that is known, to the second.
pub(super) fn clock(moment: Moment) -> Markup {
    let text = humantime::format_rfc3339_seconds(moment.0).to_string();
    let shown = text.get(11..19).unwrap_or_default();
    html! { time.fixed datetime=(text) title=(text) { (shown) } }
}

/// A number of bytes.
pub(super) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// Milliseconds, as seconds or minutes.
pub(super) fn duration(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{:.2} s", ms as f64 / 1000.0),
        10_000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// A step and where it stands. The state is a word, never a colour alone.
pub(super) fn badge(step: &str, state: &str) -> Markup {
    html! { span.step { (step) } " " span class={ "badge " (state) } { (state) } }
}

/// The whole of what a device's state says.
pub(super) fn state(device: &Summary) -> Markup {
    html! {
        div { (badge(&device.step, state_name(device.state))) }
        @if let Some(progress) = device.progress.filter(|_| device.state != State::Done) {
            (self::progress(progress))
        }
        @if let Some(error) = &device.error { div.error { (error) } }
        @if let Some(seconds) = device.retry_in_s { div.muted { "tries again in " (seconds) " s" } }
    }
}

/// How far a transfer is.
pub(super) fn progress(progress: Progress) -> Markup {
    let Progress { bytes: done, total, rate } = progress;
    let percent = percent(done, total);
    html! {
        div.transfer {
            progress value=(percent) max="100" aria-label="fetched" { (percent) "%" }
            span.muted { (percent) "% of " (bytes(total)) @if rate > 0 { ", " (bytes(rate)) "/s" } }
        }
    }
}

fn percent(done: u64, total: u64) -> u64 {
    let percent = u128::from(done.min(total)) * 100 / u128::from(total.max(1));
    u64::try_from(percent).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!(duration(1234), "1.23 s");
        assert_eq!(duration(61_000), "1 min 1 s");
        assert!(duration(u64::MAX).ends_with(" min"));
        assert_eq!(
            (percent(5, 10), percent(0, 0), percent(u64::MAX, u64::MAX), percent(9, 3)),
            (50, 0, 100, 100)
        );
    }
}
