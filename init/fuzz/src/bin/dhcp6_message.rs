//! A DHCPv6 server's message, to the client's answer.
#![no_main]

use init::pid1::dhcp6::address::is_usable;
use init::pid1::dhcp6::answer::{Answer, read};
use init::pid1::dhcp6::question::Identity;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The beginning that every answer to us has: what the server says stands behind it.
    let who = Identity { duid: vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 1], iaid: 7 };
    let Some((kind, rest)) = bytes.split_first() else { return };
    let mut message = vec![if kind % 2 == 0 { 2 } else { 7 }, 1, 2, 3, 0, 1, 0, 10];
    message.extend(&who.duid);
    message.extend([0, 2, 0, 10, 0, 3, 0, 1, 9, 9, 9, 9, 9, 9]);
    message.extend(rest);
    let received = read(&message, [1, 2, 3], &who);
    if let Some(Answer::Offer(lease, _) | Answer::Granted(lease)) = received.map(|received| received.answer) {
        assert!((1..=4).contains(&lease.addresses.len()));
        assert!(lease.addresses.iter().all(|one| is_usable(&one.address) && one.preferred <= one.valid));
        assert!(lease.information.nameservers.iter().all(is_usable));
    }
    read(bytes, [1, 2, 3], &who);
});
