//! A request's path, and its Range.
#![no_main]

use std::path::Component;

use http_boot::http::path::FilePath;
use http_boot::http::range::{self, Wanted};

libfuzzer_sys::fuzz_target!(|input: (&str, u64)| {
    let (text, size) = input;
    if let Ok(path) = FilePath::parse(text) {
        let path = path.as_path();
        assert!(path.components().all(|name| matches!(name, Component::Normal(_))), "{path:?}");
    }
    if let Wanted::Part(span) = range::parse(text, size) {
        assert!(span.length > 0 && span.start.checked_add(span.length).is_some_and(|end| end <= size));
    }
});
