//! `fleet.toml`, to what each Pi of it is told.
#![no_main]

use http_boot::fleet::{Fleet, report};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(fleet) = Fleet::parse(text, None) {
        let lines = report::lines(&fleet);
        // Each Pi's, and everybody else's.
        assert_eq!(lines.len(), fleet.devices().len() + 1);
        report::table(&lines);
    }
});
