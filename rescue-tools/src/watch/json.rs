//! A look for machines: `rescue watch --json`.

use serde_json::{Value, json};

use super::rates::Rates;
use super::sample::Sample;

/// The version of the object.
const FORMAT: u32 = 1;

/// The object. Rates are bytes a second; they are missing in the first one.
pub fn object(sample: &Sample, rates: &Rates) -> Value {
    json!({
        "format": FORMAT,
        "uptime": sample.uptime,
        "load": sample.load,
        "memory": sample.memory,
        "temperature_mc": sample.temperature,
        "boot": sample.boot,
        "people": sample.people,
        "disks": rates.disks,
        "interfaces": rates.interfaces,
    })
}
