//! A DHCP answer, to the lease that is made of it. What only says whom it is for is right already.
#![no_main]

use init::pid1::dhcp::message::{Answer, Transaction};

const US: Transaction<'static> =
    Transaction { mac: [2, 0, 0, 0, 0, 1], client_id: &[255, 1, 2], id: 0x1234_5678, seconds: 0 };

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    US.read(bytes);
    let mut packet = bytes.to_vec();
    if packet.len() < 240 {
        packet.resize(240, 0);
    }
    packet[..3].copy_from_slice(&[2, 1, 6]);
    packet[4..8].copy_from_slice(&US.id.to_be_bytes());
    packet[28..34].copy_from_slice(&US.mac);
    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
    let Some(Answer::Offer(lease) | Answer::Ack(lease)) = US.read(&packet) else { return };
    assert!((8..=32).contains(&lease.prefix));
    for address in lease
        .nameservers
        .iter()
        .chain(&lease.ntp)
        .chain(&lease.gateway)
        .chain([&lease.address, &lease.server])
    {
        assert!(!address.is_multicast() && !address.is_broadcast() && !address.is_loopback());
        assert!(!address.is_unspecified() && !address.is_link_local());
    }
    assert!(lease.renew_after <= lease.rebind_after && lease.rebind_after <= lease.lifetime);
    assert!(lease.renew_after.as_secs() >= 15);
    let names = lease.domains.iter().chain(&lease.hostname).chain(&lease.tftp_server);
    assert!(names.into_iter().all(|name| name.bytes().all(|byte| byte.is_ascii_graphic())));
});
