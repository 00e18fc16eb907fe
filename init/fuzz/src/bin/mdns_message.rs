//! A packet of multicast DNS, to what is read of it and how it is written again.
#![no_main]

use init::pid1::mdns::message::Message;

libfuzzer_sys::fuzz_target!(|packet: &[u8]| {
    let Some(message) = Message::parse(packet) else { return };
    let again = Message { truncated: false, ..message };
    assert_eq!(Message::parse(&again.encode()), Some(again));
});
