//! A look in one line, for dumb terminals and pipes.

use init::size::human;

use super::rates::Rates;
use super::sample::Sample;
use crate::status::text::{remaining, state_word};

/// The line, without its newline.
pub fn line(sample: &Sample, rates: &Rates) -> String {
    let mut parts = vec![format!("{} s", sample.uptime)];
    if let Some(boot) = &sample.boot {
        parts.push(format!("{}/{} {} {}", boot.number, boot.total, boot.step, state_word(boot.state)));
        if let Some(progress) = boot.progress {
            parts.push(format!("{} of {}{}", human(progress.bytes), human(progress.total), remaining(boot)));
        }
    }
    parts.push(format!("load {}", sample.load.split(' ').next().unwrap_or_default()));
    parts.push(format!("{} free", human(sample.memory.available)));
    parts.extend(sample.temperature.map(|heat| format!("{} °C", heat / 1000)));
    for (name, rate) in rates.disks.iter().chain(&rates.interfaces) {
        if rate.input > 0 || rate.output > 0 {
            parts.push(format!("{name} {}/s in {}/s out", human(rate.input), human(rate.output)));
        }
    }
    parts.extend(sample.people.iter().map(super::screen::person));
    parts.join("; ")
}
