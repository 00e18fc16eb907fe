//! `/etc/lifeboat.toml`, and the plan's words for a disk's file.
#![no_main]

use init::config::Config;
use init::disk_file::DiskFile;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = Config::parse(text);
    if let Ok(file) = DiskFile::parse(text) {
        assert_eq!(DiskFile::parse(&file.to_string()), Ok(file));
    }
});
