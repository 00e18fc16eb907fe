//! DHCP as the fleet's file has it: the table `[dhcp]`, and an `address` of a device. The settings are those of the flags
//! `--dhcp…`, which either has.

use std::sync::Arc;

use super::Fleet;
use super::check::Findings;
use super::watch::Gate;
use crate::dhcp::reload::Reload;
use crate::dhcp::settings::{Mode, Reservation, ReservedFor, Settings};

/// How flags are called in the table, longer ones first.
const WORDS: [(&str, &str); 15] = [
    ("--dhcp-lease-time", "dhcp.lease-time"),
    ("--dhcp-interface", "dhcp.interfaces"),
    ("--dhcp-reserve", "dhcp.reserve or an address of a device"),
    ("--dhcp-router", "dhcp.router"),
    ("--dhcp-server", "dhcp.server"),
    ("--dhcp-domain", "dhcp.domain"),
    ("--dhcp-leases", "dhcp.leases"),
    ("--dhcp-anyone", "dhcp.anyone"),
    ("--dhcp-range", "dhcp.ranges"),
    ("--dhcp-dns", "dhcp.dns"),
    ("--dhcp-ntp", "dhcp.ntp"),
    ("--dhcp full", "dhcp.mode = \"full\""),
    ("--dhcp proxy", "dhcp.mode = \"proxy\""),
    ("--dhcp has", "dhcp.mode has"),
    ("--dhcp:", "dhcp.mode:"),
];

/// A finding about settings, in the words of the table.
pub(super) fn in_table_words(finding: &str) -> String {
    WORDS.iter().fold(finding.to_owned(), |text, (flag, key)| text.replace(flag, key))
}

/// Lets a changed file through where its DHCP settings are right on this machine, and has the server take them.
pub fn gate(flags: Option<Settings>, running: Option<Arc<Reload>>) -> Gate {
    Box::new(move |fleet| {
        let one = |finding: String| Findings(vec![finding]);
        match (fleet.dhcp(flags.as_ref()).map_err(one)?, &running) {
            (Some(settings), Some(running)) => running.change(&settings).map_err(|wrong| {
                let words = |finding: &String| match flags {
                    Some(_) => finding.clone(),
                    None => in_table_words(finding),
                };
                Findings(wrong.0.iter().map(words).collect())
            }),
            (None, None) => Ok(()),
            (Some(_), None) => Err(one("[dhcp] is new: that takes a new start of the server".into())),
            (None, Some(_)) => Err(one("[dhcp] is gone: that takes a new start of the server".into())),
        }
    })
}

impl Fleet {
    /// The addresses of devices. One that is named by both has its address by both.
    pub fn reservations(&self) -> Vec<Reservation> {
        let of = |device: &super::Device| {
            let address = device.address?;
            let who = device.serial.map(ReservedFor::Serial).or(device.mac.map(ReservedFor::Mac))?;
            let also = device.serial.and(device.mac);
            Some(Reservation { who, address, also })
        };
        self.devices.iter().filter_map(of).collect()
    }

    /// What DHCP shall do: by `flags`, or by the table; with the addresses of devices. `None`: there is to be none.
    ///
    /// # Errors
    /// Where both say something.
    pub fn dhcp(&self, flags: Option<&Settings>) -> Result<Option<Settings>, String> {
        let settings = match (flags, &self.dhcp) {
            (Some(flags), Some(_)) => {
                return Err(format!(
                    "[dhcp] is in the file, and {} on the command line: say all of it in one place",
                    flags.flags().join(", ")
                ));
            }
            (Some(settings), None) | (None, Some(settings)) => settings,
            (None, None) => return Ok(None),
        };
        let mut settings = settings.clone();
        // A proxy gives none; a file may be for a site that has both.
        if settings.mode == Mode::Full || self.dhcp.is_some() {
            settings.reserve.extend(self.reservations());
        }
        Ok(Some(settings))
    }
}
