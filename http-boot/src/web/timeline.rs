//! A boot's steps as bars on one scale, drawn as SVG: the page's policy permits no style of an element's own.

use maud::{Markup, html};

use super::show;
use crate::store::seen::Timing;

/// The scale's width in its own units.
const WIDTH: u64 = 1000;
/// The least width of a bar, so that a step that took no time is seen.
const LEAST: u64 = 4;

/// The table of a boot's steps. A step that is not over lasts until `now_ms`.
pub(super) fn table(steps: &[Timing], now_ms: u64) -> Markup {
    let end = steps
        .iter()
        .map(|step| step.ended_ms.unwrap_or(step.started_ms))
        .max()
        .unwrap_or(0)
        .max(now_ms)
        .max(1);
    html! {
        div #timeline {
            @if steps.is_empty() {
                p.empty { "Nothing is known of this boot's steps." }
            } @else {
                table.timeline {
                    caption { "From the kernel's start to " (show::duration(end)) }
                    thead { tr {
                        th scope="col" { "Step" }
                        th.number.mid scope="col" { "Began" }
                        th.number scope="col" { "Took" }
                        th.bars scope="col" { "Time" }
                    } }
                    tbody { @for step in steps { (row(step, now_ms, end)) } }
                }
            }
        }
    }
}

fn row(step: &Timing, now_ms: u64, end: u64) -> Markup {
    let until = step.ended_ms.unwrap_or(now_ms).max(step.started_ms);
    let (from, width) = bar(step.started_ms, until, end);
    html! {
        tr {
            th scope="row" { (show::badge(&step.step, &step.state)) }
            td.number.mid { (show::duration(step.started_ms)) }
            td.number { (show::duration(until - step.started_ms)) }
            td.bars {
                svg viewBox={ "0 0 " (WIDTH) " 10" } preserveAspectRatio="none" aria-hidden="true" focusable="false" {
                    rect.rail x="0" y="0" width=(WIDTH) height="10" {}
                    rect class={ "bar " (step.state) } x=(from) y="0" width=(width) height="10" {}
                }
            }
        }
    }
}

/// Where a bar begins and how wide it is.
fn bar(from: u64, until: u64, end: u64) -> (u64, u64) {
    let scale = |ms: u64| u64::try_from(u128::from(ms.min(end)) * u128::from(WIDTH) / u128::from(end.max(1)));
    let (from, until) = (scale(from).unwrap_or(0), scale(until).unwrap_or(WIDTH));
    let from = from.min(WIDTH - LEAST);
    (from, (until.max(from) - from).max(LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bar_is_on_the_scale(from: u64, until: u64, end: u64) {
            let (at, width) = bar(from, until, end);
            prop_assert!(width >= LEAST && at + width <= WIDTH);
        }
    }
}
