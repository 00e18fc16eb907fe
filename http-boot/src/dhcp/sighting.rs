//! What is seen of Pis, for the table that TFTP and the page look into; and which Ethernet addresses are Pis'.

use init::mac::Mac;
use std::net::Ipv4Addr;
use std::time::SystemTime;

use super::message::{Kind, Message, code};
use super::pi::{PiSerial, Revision, Who};
use super::recent::Recent;

/// How far the Pi is that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its bootloader.
    Bootloader,
    /// Our `init`.
    Init,
    /// The OS after it, or another that does not say.
    System,
}

/// A message of a Pi was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its serial number, where its bootloader was seen.
    pub serial: Option<PiSerial>,
    /// Its board, likewise.
    pub revision: Option<Revision>,
    /// The address that it has or is about to take.
    pub address: Option<Ipv4Addr>,
    /// What asked.
    pub stage: Stage,
    /// When.
    pub at: SystemTime,
}

/// Who wants to know of sightings. It is called between two answers, and must not wait for anything.
pub trait Witness: Send + Sync {
    /// A Pi was seen.
    fn saw(&self, sighting: &Sighting);
}

impl<F: Fn(&Sighting) + Send + Sync> Witness for F {
    fn saw(&self, sighting: &Sighting) {
        self(sighting);
    }
}

/// Pis whose bootloaders were seen: what boots from it asks again under the same Ethernet address, and says less.
#[derive(Debug)]
pub struct Known(Recent<Mac, (PiSerial, Option<Revision>)>);

/// Of Pis that are remembered: far more than a site has, and some hundred KiB.
const PIS: usize = 4096;

impl Default for Known {
    fn default() -> Self {
        Self(Recent::new(PIS))
    }
}

impl Known {
    /// Remembers a Pi from elsewhere.
    pub fn remember(&mut self, mac: Mac, serial: PiSerial) {
        self.0.touch(mac, || (serial, None));
    }

    /// Remembers who asks; gives the sighting, if it is of a Pi, and with it another serial number that its Ethernet address had
    /// before.
    pub fn see(
        &mut self,
        message: &Message,
        who: &Who,
        at: SystemTime,
    ) -> Option<(Sighting, Option<PiSerial>)> {
        let mac = message.mac;
        let mut before = None;
        let (stage, found) = match who {
            Who::Bootloader(found) => {
                let pi = (found.serial, found.revision);
                let known = self.0.touch(mac, || pi);
                before = Some(std::mem::replace(known, pi).0).filter(|serial| *serial != found.serial);
                (Stage::Bootloader, Some(pi))
            }
            Who::Init => (Stage::Init, self.0.get(&mac).copied()),
            Who::Other => (Stage::System, Some(*self.0.get(&mac)?)),
        };
        let in_use = Some(message.in_use).filter(|address| !address.is_unspecified());
        let wanted = (message.kind == Kind::Request).then(|| message.address(code::REQUESTED_ADDRESS));
        let address = in_use.or(wanted.flatten());
        let (serial, revision) = (found.map(|(serial, _)| serial), found.and_then(|(_, revision)| revision));
        Some((Sighting { mac, serial, revision, address, stage, at }, before))
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Reply;
    use super::super::test_pi;
    use super::*;

    fn see(known: &mut Known, question: Reply) -> Option<(Sighting, Option<PiSerial>)> {
        let message = Message::parse(&question.done()).unwrap();
        known.see(&message, &Who::of(&message), SystemTime::now())
    }

    #[test]
    fn a_pi_is_known_again_when_it_has_booted() {
        let (mut known, address) = (Known::default(), Ipv4Addr::new(192, 0, 2, 7));
        let ordinary = || Reply::question(Kind::Discover, 1, test_pi::MAC).with(code::CLASS, b"udhcp 1.36.1");
        assert_eq!(see(&mut known, ordinary()), None, "by its MAC address alone");
        let request = test_pi::question(Kind::Request, 1).with(code::REQUESTED_ADDRESS, &address.octets());
        let (sighting, other) = see(&mut known, request).unwrap();
        let serial = Some(PiSerial(0x5b15_4510));
        assert_eq!((sighting.serial, sighting.stage), (serial, Stage::Bootloader));
        assert_eq!((sighting.address, other), (Some(address), None));
        let (sighting, _) = see(&mut known, ordinary()).unwrap();
        assert_eq!((sighting.serial, sighting.stage, sighting.address), (serial, Stage::System, None));
        assert_eq!(sighting.revision.unwrap().board().unwrap().label(), "Pi 4B");
        let init = Reply::question(Kind::Request, 1, Mac([2, 0, 0, 0, 0, 9])).with(code::CLASS, b"lifeboat");
        let (sighting, _) = see(&mut known, init).unwrap();
        assert_eq!((sighting.serial, sighting.stage), (None, Stage::Init));
    }

    #[test]
    fn two_serials_of_one_mac_are_told() {
        let mut known = Known::default();
        let with = |serial: u8| {
            let mut machine = test_pi::MACHINE;
            machine[13] = serial;
            Reply::question(Kind::Discover, 1, test_pi::MAC).with(code::CLIENT_MACHINE, &machine)
        };
        assert_eq!(see(&mut known, with(1)).unwrap().1, None);
        assert_eq!(see(&mut known, with(2)).unwrap().1, Some(PiSerial(0x5b15_4501)));
    }
}
