//! A request's Range: whatever comes, the part is in the file.
#![no_main]

use http_boot::http::range::{self, Wanted};

libfuzzer_sys::fuzz_target!(|input: (&str, u64)| {
    let (text, size) = input;
    if let Wanted::Part(span) = range::parse(text, size) {
        assert!(span.length > 0 && span.start.checked_add(span.length).is_some_and(|end| end <= size));
    }
});
