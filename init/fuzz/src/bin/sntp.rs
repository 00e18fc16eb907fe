//! A time server's answer, to a time.
#![no_main]

libfuzzer_sys::fuzz_target!(|packet: &[u8]| {
    let number = packet.get(24..32).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
    let _ = init::pid1::sntp::read(packet, number.wrapping_add(1));
    if let Ok(time) = init::pid1::sntp::read(packet, number) {
        let _ = init::pid1::clock::utc(time.as_secs());
    }
});
