//! Spanning tree's BPDUs (IEEE 802.1D-2004 section 9, 802.1Q for MSTP), and Cisco's PVST+, which has the same with another
//! header.

use crate::neighbours::SpanningTree;

/// The header of LLC: 802.1D's own, and SNAP with Cisco's number for PVST+.
const LLC: [u8; 3] = [0x42, 0x42, 0x03];
const SNAP_PVST: [u8; 8] = [0xaa, 0xaa, 0x03, 0x00, 0x00, 0x0c, 0x01, 0x0b];
/// Types of BPDUs; 0x80, a change of topology, says nothing of the port.
const CONFIGURATION: u8 = 0x00;
const RAPID: u8 = 0x02;
/// Flags of a rapid one (section 9.3.3).
const LEARNING: u8 = 0x10;
const FORWARDING: u8 = 0x20;
/// Times are in units of 1/256 s. No forward delay is outside of this (table 17-1).
const FORWARD_DELAYS: std::ops::RangeInclusive<u16> = 4..=30;

/// Reads what follows the Ethernet header's length. `None`: it is no BPDU that says how a port is.
pub fn parse(bytes: &[u8]) -> Option<SpanningTree> {
    let (bpdu, is_pvst) = match bytes.strip_prefix(&LLC) {
        Some(bpdu) => (bpdu, false),
        None => (bytes.strip_prefix(&SNAP_PVST)?, true),
    };
    let (head, body) = bpdu.split_at_checked(4)?;
    let [0, 0, version, kind] = head else { return None };
    let (flags, body) = body.split_first()?;
    let (root, body) = body.split_at_checked(8)?;
    let (_cost, body) = body.split_at_checked(4)?;
    let (bridge, body) = body.split_at_checked(8)?;
    let number = |at: usize| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
    // The port, then four times: the message's age, its most, the time between two hellos, the forward delay.
    let (port, delay) = (number(0)?, number(8)? >> 8);
    let protocol = match (*kind, version) {
        (CONFIGURATION | RAPID, _) if is_pvst => "PVST+",
        (CONFIGURATION, _) => "STP",
        (RAPID, 3..) => "MSTP",
        (RAPID, _) => "RSTP",
        _ => return None,
    };
    let port_state = match flags & (LEARNING | FORWARDING) {
        _ if *kind == CONFIGURATION => None,
        0 => Some("discarding"),
        LEARNING => Some("learning"),
        _ => Some("forwarding"),
    };
    Some(SpanningTree {
        protocol: protocol.into(),
        root: bridge_name(root)?,
        bridge: bridge_name(bridge)?,
        // Twelve bits of number below four of priority.
        port: port & 0x0fff,
        forward_delay: delay.clamp(*FORWARD_DELAYS.start(), *FORWARD_DELAYS.end()),
        may_block: port_state.is_some_and(|state| state != "forwarding"),
        port_state: port_state.map(str::to_owned),
    })
}

/// Priority and address, as `bridge` and most switches show it.
fn bridge_name(bytes: &[u8]) -> Option<String> {
    let (priority, address) = bytes.split_at_checked(2)?;
    let priority = u16::from_be_bytes(priority.try_into().ok()?);
    Some(format!("{priority:04x}.{}", super::mac(address)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bpdu(version: u8, kind: u8, flags: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, version, kind, flags];
        bytes.extend([0x80, 0, 0, 0x11, 0x22, 0x33, 0x44, 0x55]);
        bytes.extend([0, 0, 0, 4]);
        bytes.extend([0x80, 0, 2, 0, 0, 0, 0, 1]);
        bytes.extend([0x80, 7, 0, 0, 20, 0, 2, 0, 15, 0]);
        bytes
    }

    #[test]
    fn each_protocol_is_known() {
        for (version, kind, flags, protocol, state) in [
            (0, 0, 0, "STP", None),
            (0, 0, 0x31, "STP", None),
            (2, 2, 0x0e, "RSTP", Some("discarding")),
            (2, 2, 0x1e, "RSTP", Some("learning")),
            (2, 2, 0x3c, "RSTP", Some("forwarding")),
            (3, 2, 0x3c, "MSTP", Some("forwarding")),
        ] {
            let tree = parse(&[&LLC[..], &bpdu(version, kind, flags)].concat()).unwrap();
            assert_eq!((tree.protocol.as_str(), tree.port_state.as_deref()), (protocol, state));
            assert_eq!(
                (tree.root.as_str(), tree.port, tree.forward_delay),
                ("8000.00:11:22:33:44:55", 7, 15)
            );
            assert_eq!(tree.may_block, matches!(state, Some("discarding" | "learning")));
        }
        let cisco = parse(&[&SNAP_PVST[..], &bpdu(2, 2, 0x0e), &[0, 0, 0, 2, 0, 5]].concat()).unwrap();
        assert_eq!(cisco.protocol, "PVST+");
    }

    #[test]
    fn what_is_no_bpdu_of_a_port_is_none() {
        let whole = [&LLC[..], &bpdu(0, 0, 0)].concat();
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
        // A change of topology, another protocol, CDP.
        assert_eq!(parse(&[&LLC[..], &bpdu(0, 0x80, 0)].concat()), None);
        assert_eq!(parse(&[&LLC[..], &[1], &bpdu(0, 0, 0)].concat()), None);
        assert_eq!(parse(&[&[0xaa, 0xaa, 0x03, 0, 0, 0x0c, 0x20, 0][..], &bpdu(0, 0, 0)].concat()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            parse(&bytes);
            if let Some(tree) = parse(&[&LLC[..], &[0, 0], &bytes].concat()) {
                prop_assert!(FORWARD_DELAYS.contains(&tree.forward_delay));
            }
        }
    }
}
