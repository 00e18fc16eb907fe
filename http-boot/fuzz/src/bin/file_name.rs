//! Names as TFTP and HTTP have them: whatever comes, the path is one below the folder.
#![no_main]

use std::path::Component;

use http_boot::http::path::FilePath;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let paths = [FilePath::literal(bytes).ok(), std::str::from_utf8(bytes).ok().and_then(|text| FilePath::parse(text).ok())];
    for path in paths.into_iter().flatten() {
        for component in path.as_path().components() {
            let Component::Normal(name) = component else { panic!("{path:?}") };
            assert!(!name.as_encoded_bytes().starts_with(b"."));
        }
        if let Some((_, rest)) = path.split_first() {
            assert!(rest.below(&path).as_path().is_relative());
        }
    }
});
