//! What happened between two looks, in bytes a second.

use std::collections::BTreeMap;

use super::sample::{Counts, Sample};

/// Bytes a second by disk and by interface. Empty after the first look: one needs two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// By disk: read and written.
    pub disks: BTreeMap<String, Counts>,
    /// By interface: received and sent.
    pub interfaces: BTreeMap<String, Counts>,
}

/// Compares a look with the one before.
pub fn between(before: &Sample, now: &Sample) -> Rates {
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
    let rates = |old: &BTreeMap<String, Counts>, new: &BTreeMap<String, Counts>| {
        new.iter()
            .filter_map(|(name, new)| Some((name.clone(), rate(*old.get(name)?, *new, seconds))))
            .collect()
    };
    Rates { disks: rates(&before.disks, &now.disks), interfaces: rates(&before.interfaces, &now.interfaces) }
}

fn rate(old: Counts, new: Counts, seconds: f64) -> Counts {
    let per_second = |old: u64, new: u64| (new.saturating_sub(old) as f64 / seconds.max(0.001)) as u64;
    Counts { input: per_second(old.input, new.input), output: per_second(old.output, new.output) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_a_second_and_never_less_than_none() {
        let (old, new) = (Counts { input: 100, output: 50 }, Counts { input: 2100, output: 10 });
        assert_eq!(rate(old, new, 2.0), Counts { input: 1000, output: 0 });
    }
}
