//! What follows the length of an Ethernet frame of spanning tree.
#![no_main]

libfuzzer_sys::fuzz_target!(|frame: &[u8]| {
    if let Some(tree) = init::pid1::switch::bpdu::parse(frame) {
        assert!((4..=30).contains(&tree.forward_delay));
    }
});
