//! Who we are to a server (option 61), byte for byte as systemd-networkd would say it: so that the OS which comes after us
//! gets our address. Its sources: `src/libsystemd-network/dhcp-identifier.c`, `src/shared/netif-util.c` of systemd.

use crate::identity::{ClientId, MachineId};

/// RFC 4361, section 6.1: the identifier is an IAID and a DUID.
const IAID_AND_DUID: u8 = 255;
/// RFC 8415, section 11.3.
const DUID_EN: [u8; 2] = [0, 2];
/// systemd's number at IANA.
const SYSTEMD: u32 = 43_793;
/// What systemd mixes into its hashes.
const KEY: [u8; 16] =
    [0x80, 0x11, 0x8c, 0xc2, 0xfe, 0x4a, 0x03, 0xee, 0x3e, 0xd6, 0x0c, 0x6f, 0x36, 0x39, 0x14, 0x09];

/// The value of option 61. `name`: the interface's persistent one, where it has such. Without a machine ID there is nothing
/// but the MAC address.
pub fn client_id(kind: ClientId, machine: Option<MachineId>, name: Option<&str>, mac: [u8; 6]) -> Vec<u8> {
    /// RFC 2132, section 9.14: the hardware's type.
    const ETHERNET: u8 = 1;
    match (kind, machine) {
        (ClientId::Duid, Some(machine)) => [&[IAID_AND_DUID][..], &iaid(name, mac), &duid(machine)].concat(),
        _ => [&[ETHERNET][..], &mac].concat(),
    }
}

/// The machine's DUID, the same for DHCPv4 and DHCPv6.
pub fn duid(machine: MachineId) -> [u8; 14] {
    let mut duid = [0; 14];
    let parts = DUID_EN.into_iter().chain(SYSTEMD.to_be_bytes()).chain(siphash24(&machine.0).to_le_bytes());
    duid.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
    duid
}

/// The interface's IAID: of its persistent name, else of its MAC address.
pub fn iaid(name: Option<&str>, mac: [u8; 6]) -> [u8; 4] {
    let hash = siphash24(name.map_or(&mac, str::as_bytes));
    ((hash as u32) ^ (hash >> 32) as u32).to_be_bytes()
}

/// SipHash-2-4 (Aumasson, Bernstein: SipHash: a fast short-input PRF) with systemd's key.
fn siphash24(bytes: &[u8]) -> u64 {
    let (half, rest) = KEY.as_chunks::<8>();
    let [k0, k1] = match half {
        [low, high] if rest.is_empty() => [u64::from_le_bytes(*low), u64::from_le_bytes(*high)],
        _ => [0, 0],
    };
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(byte, part)| *byte = *part);
    let last = u64::from_le_bytes(last) | (bytes.len() as u64) << 56;
    for word in words.iter().map(|word| u64::from_le_bytes(*word)).chain([last]) {
        v[3] ^= word;
        (0..2).for_each(|_| round(&mut v));
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn round(v: &mut [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = *v;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    *v = [a, b, c, d];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(deprecated, reason = "std's hasher is SipHash-2-4 by this name only")]
    fn the_hash_is_siphash24() {
        use std::hash::{Hasher, SipHasher};
        let (k0, k1) = (0xee03_4afe_c28c_1180, 0x0914_3936_6f0c_d63e);
        for length in 0..40u8 {
            let bytes: Vec<u8> = (0..length).collect();
            let mut known = SipHasher::new_with_keys(k0, k1);
            known.write(&bytes);
            assert_eq!(siphash24(&bytes), known.finish(), "{length} bytes");
        }
    }

    #[test]
    fn it_is_what_networkd_sends() {
        // From systemd's own test (src/libsystemd-network/test-dhcp-client.c): the machine ID 0102…10.
        let machine = MachineId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        let wanted = [0, 2, 0, 0, 0xab, 0x11, 0x61, 0x77, 0x40, 0xde, 0x13, 0x42, 0xc3, 0xa2];
        assert_eq!(duid(machine), wanted);
        let mac = [2, 0, 0, 0, 0, 1];
        assert_eq!(client_id(ClientId::Duid, None, None, mac), [1, 2, 0, 0, 0, 0, 1]);
        assert_eq!(client_id(ClientId::Mac, Some(machine), None, mac), [1, 2, 0, 0, 0, 0, 1]);
        let long = client_id(ClientId::Duid, Some(machine), Some("end0"), mac);
        assert_eq!((long.len(), long[0]), (19, 255));
        assert_eq!(long[5..], wanted);
        assert_ne!(iaid(Some("end0"), mac), iaid(None, mac));
    }
}
