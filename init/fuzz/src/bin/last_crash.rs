//! What a crash left in RAM: any bytes at all.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes).into_owned();
    for kind in ["dmesg-ramoops-0", "console-ramoops-0"] {
        if let Some(crash) = init::pid1::last_crash::told(&[(kind.into(), text.clone())]) {
            assert!(!crash.line.contains(char::is_control));
        }
    }
});
