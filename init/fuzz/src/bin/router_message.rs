//! The kernel's messages of what routers announce, to name servers and search domains.
#![no_main]

use init::pid1::dhcp6::address::is_usable;
use init::pid1::network::rdnss::messages;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for announced in messages(bytes) {
        assert!(announced.servers.len() <= 8 && announced.servers.iter().all(is_usable));
        assert!(announced.domains.len() <= 8);
    }
});
