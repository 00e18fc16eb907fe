//! Options of DHCP that are lists of their own making.
#![no_main]

use init::pid1::dhcp::options;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for route in options::routes(bytes).into_iter().flatten() {
        assert!(route.prefix <= 32);
        let hosts = u32::MAX.checked_shr(route.prefix.into()).unwrap_or(0);
        assert_eq!(route.network.to_bits() & hosts, 0);
    }
    let domains = options::domains(bytes);
    assert!(domains.len() <= 6);
    assert!(domains.iter().all(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())));
});
