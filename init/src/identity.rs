//! Who this Pi is to DHCP servers, and what of our network the OS finds: words that say so.

use std::fmt;

use crate::plan::Parameter;

/// Our own parameters that this file reads: see [`crate::plan::parameters`].
pub(crate) const PARAMETERS: &[Parameter] = &[
    (
        "lifeboat.client_id",
        "duid|mac",
        "by what DHCP servers know this Pi: as systemd-networkd's default says it (default), or its MAC address",
    ),
    ("lifeboat.flush", "", "take addresses and routes away at the hand-over"),
];

/// A machine ID (machine-id(5)).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MachineId(pub [u8; 16]);

impl MachineId {
    /// Reads 32 hexadecimal digits, with or without a UUID's dashes.
    ///
    /// # Errors
    /// For anything else, and for all zeros (sd_id128_get_machine(3) refuses that as well).
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let number = u128::from_str_radix(&digits, 16).ok().filter(|number| *number != 0);
        let good = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number =
            number.filter(|_| good).ok_or("a machine ID is 32 hexadecimal digits, not all of them zero")?;
        Ok(MachineId(number.to_be_bytes()))
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a DHCP server is told of who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientId {
    /// An IAID and a DUID (RFC 4361), made of the machine ID as systemd-networkd makes it.
    #[default]
    Duid,
    /// The MAC address.
    Mac,
}

/// What the command line says of all that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// What a DHCP server is told.
    pub client_id: ClientId,
    /// `systemd.machine_id=`; `None`: it is made of the board's serial number.
    pub machine_id: Option<MachineId>,
    /// Whether the OS finds its interfaces without addresses and routes (`lifeboat.flush`).
    pub flush: bool,
}

impl Identity {
    /// Reads a word; `false`: it is none of these.
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "lifeboat.client_id" => {
                self.client_id = match value {
                    "duid" => ClientId::Duid,
                    "mac" => ClientId::Mac,
                    _ => return Err("it is duid or mac".into()),
                }
            }
            "lifeboat.flush" => {
                self.flush = match value {
                    "" | "1" | "yes" => true,
                    "0" | "no" => false,
                    _ => return Err("it has no value, or is 0 or 1".into()),
                }
            }
            // systemd takes "firmware" as well (kernel-command-line(7)); a Pi's firmware has none to give.
            "systemd.machine_id" if value != "firmware" => self.machine_id = Some(MachineId::parse(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use crate::cmdline::CommandLine;
    use crate::plan::Plan;

    use super::*;

    fn read(line: &str) -> Result<Identity, String> {
        let plan = Plan::parse(&CommandLine::parse(line));
        match plan.problems.first() {
            Some(problem) => Err(problem.word.clone()),
            None => Ok(plan.identity),
        }
    }

    #[test]
    fn words_are_read_and_the_last_counts() {
        let id = MachineId::parse("0102030405060708090a0b0c0d0e0f10").unwrap();
        let with = |client_id, machine_id, flush| Ok(Identity { client_id, machine_id, flush });
        for (line, wanted) in [
            ("quiet", with(ClientId::Duid, None, false)),
            ("lifeboat.client_id=mac", with(ClientId::Mac, None, false)),
            ("lifeboat.client_id=mac lifeboat.client_id=duid", with(ClientId::Duid, None, false)),
            ("lifeboat.flush", with(ClientId::Duid, None, true)),
            ("lifeboat.flush=1 lifeboat.flush=0", with(ClientId::Duid, None, false)),
            (
                "systemd.machine_id=01020304-0506-0708-090a-0b0c0d0e0f10",
                with(ClientId::Duid, Some(id), false),
            ),
            ("systemd.machine_id=0102030405060708090A0B0C0D0E0F10", with(ClientId::Duid, Some(id), false)),
            ("systemd.machine_id=firmware", with(ClientId::Duid, None, false)),
        ] {
            assert_eq!(read(line), wanted, "{line}");
        }
        for bad in [
            "lifeboat.client_id=",
            "lifeboat.client_id",
            "lifeboat.client_id=MAC",
            "lifeboat.flush=maybe",
            "systemd.machine_id=",
            "systemd.machine_id=00000000000000000000000000000000",
            "systemd.machine_id=0102030405060708090a0b0c0d0e0f1",
            "systemd.machine_id=+102030405060708090a0b0c0d0e0f10",
        ] {
            assert_eq!(read(bad), Err(bad.into()));
        }
    }
}
