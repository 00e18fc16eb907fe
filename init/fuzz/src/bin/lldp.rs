//! What follows the Ethernet header of an LLDP frame.
#![no_main]

use init::pid1::switch::lldp::Announcement;

libfuzzer_sys::fuzz_target!(|frame: &[u8]| {
    if let Some(announcement) = Announcement::parse(frame) {
        assert!(!announcement.switch.to_string().contains(char::is_control));
    }
});
