//! An OS image's manifest.
#![no_main]

use init::manifest::{CHUNK_SIZES, Manifest, valid_name};

libfuzzer_sys::fuzz_target!(|json: &[u8]| {
    if let Ok(manifest) = Manifest::parse(json) {
        assert!(CHUNK_SIZES.contains(&manifest.chunk_size) && valid_name(&manifest.name));
        assert_eq!(manifest.size.div_ceil(manifest.chunk_size), manifest.chunks.len() as u64);
    }
});
