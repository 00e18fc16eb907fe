//! What a switch says of spanning tree on our port (IEEE 802.1D-2004, section 9.3). A port that is no edge port passes
//! nothing for twice its forward delay after each link-up, and a Pi's link goes up and down while it boots.

use super::{Level, Line};

const CHECK: &str = "switch";
/// LLC for spanning tree, then its protocol 0; and Cisco's per-VLAN one behind SNAP.
const STANDARD: &[u8] = &[0x42, 0x42, 3, 0, 0];
const PER_VLAN: &[u8] = &[0xaa, 0xaa, 3, 0, 0, 0x0c, 1, 0x0b, 0, 0];
/// Where the forward delay stands behind the protocol, in 256ths of a second.
const FORWARD_DELAY: usize = 31;

/// Reads a frame without its Ethernet header: the forward delay in seconds, where it is a configuration.
pub(super) fn forward_delay(frame: &[u8]) -> Option<u16> {
    let behind = frame.strip_prefix(STANDARD).or_else(|| frame.strip_prefix(PER_VLAN))?;
    let (version, kind) = (behind.first()?, behind.get(1)?);
    // Configurations of STP, and of RSTP and MSTP.
    if !matches!((version, kind), (0, 0) | (2 | 3, 2)) {
        return None;
    }
    let [seconds, _] = *behind.get(FORWARD_DELAY..)?.first_chunk()?;
    Some(u16::from(seconds))
}

/// What was heard on one interface; `None`: nothing.
pub(super) fn judge(interface: &str, delay: Option<u16>) -> Line {
    match delay {
        None => Line::ok(CHECK, format!("{interface}: no spanning tree is heard")),
        Some(delay) => Line::new(
            CHECK,
            Level::Warning,
            format!(
                "{interface}: the switch runs spanning tree: a port that is no edge port passes nothing for {} s after link-up",
                2 * delay
            ),
            "make the Pis' ports edge ports (portfast, admin-edge): else a Pi's first questions are lost, and it may give up \
             (DHCP_TIMEOUT is 45 s)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(llc: &[u8], version: u8, kind: u8) -> Vec<u8> {
        let mut frame = [llc, &[version, kind, 0]].concat();
        frame.extend([0x80, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x80, 0, 2, 0, 0, 0, 0, 1, 0x80, 1]);
        frame.extend([0, 0, 20, 0, 2, 0, 15, 0]);
        frame
    }

    #[test]
    fn configurations() {
        assert_eq!(forward_delay(&configuration(STANDARD, 0, 0)), Some(15));
        assert_eq!(forward_delay(&configuration(STANDARD, 2, 2)), Some(15));
        assert_eq!(forward_delay(&configuration(PER_VLAN, 0, 0)), Some(15));
        assert_eq!(forward_delay(&configuration(STANDARD, 0, 0x80)), None, "a change of topology");
        let whole = configuration(STANDARD, 0, 0);
        for length in 0..whole.len() - 1 {
            assert_eq!(forward_delay(&whole[..length]), None, "{length}");
        }
        assert!(judge("eth0", Some(15)).found.contains("nothing for 30 s"));
        assert_eq!(judge("eth0", None).level, Level::Ok);
    }
}
