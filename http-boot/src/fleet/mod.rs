//! The fleet: what each Pi of a site shall do, from a file that people keep (`fleet.toml`, `docs/fleet-toml.md`).
//!
//! [`file`] is what is written, [`check`] makes a [`Fleet`] of it or says what is wrong, [`assignment`] is what comes of it for one
//! Pi, [`watch`] reads it again when it has changed.

pub mod assignment;
pub mod check;
pub mod dhcp;
pub mod file;
pub mod report;
pub mod template;
pub mod watch;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use assignment::Assignment;
use file::Orders;
use init::mac::Mac;

use crate::clients::Identity;
use crate::dhcp::settings::Settings;
use crate::pi::PiSerial;

/// A fleet that was checked: its names lead somewhere, no Pi is in it twice, and each plan that it makes is one that an `init`
/// follows.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// This server's URL, as Pis reach it.
    server: Option<String>,
    defaults: Orders,
    images: BTreeMap<String, Image>,
    groups: Vec<Group>,
    devices: Vec<Device>,
    /// The table `[dhcp]`.
    dhcp: Option<Settings>,
}

/// An OS image, as paths below the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The squashfs.
    pub path: String,
    /// Those that are stacked on it, the lowest first.
    pub layers: Vec<String>,
}

/// Pis that are told the same.
#[derive(Clone, Debug)]
struct Group {
    name: String,
    tags: Vec<String>,
    boards: Vec<String>,
    orders: Orders,
}

/// One Pi.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its serial number.
    pub serial: Option<PiSerial>,
    /// The address of its Ethernet port.
    pub mac: Option<Mac>,
    /// What people call it.
    pub name: Option<String>,
    /// Its address, where this server gives them.
    pub address: Option<Ipv4Addr>,
    tags: Vec<String>,
    groups: Vec<String>,
    orders: Orders,
}

impl Fleet {
    /// The Pis that the file names.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The image of this name.
    pub fn image(&self, name: &str) -> Option<&Image> {
        self.images.get(name)
    }

    /// Who asks: the one with this serial number, else the one with this Ethernet address.
    fn device(&self, who: Identity) -> Option<&Device> {
        let find = |is: &dyn Fn(&Device) -> bool| self.devices.iter().find(|device| is(device));
        let by_serial = who.serial.and_then(|serial| find(&|device| device.serial == Some(serial)));
        by_serial.or_else(|| {
            let mac = who.mac?;
            find(&|device| device.mac == Some(mac) && (device.serial.is_none() || who.serial.is_none()))
        })
    }

    /// What this one shall do. One that the file does not name gets the defaults.
    pub fn assignment(&self, who: Identity) -> Assignment<'_> {
        let device = self.device(who);
        let is_of =
            |group: &&Group| who.board.is_some_and(|board| group.boards.iter().any(|b| b == board.name()));
        let is_in = |group: &&Group| device.is_some_and(|device| device.is_in(group));
        let groups = self.groups.iter().filter(|group| is_of(group) || is_in(group));
        let layers = std::iter::once(&self.defaults)
            .chain(groups.map(|group| &group.orders))
            .chain(device.map(|device| &device.orders));
        let server = self.server.as_deref();
        let mut assignment = Assignment { who, device, server, ..Assignment::default() };
        for orders in layers {
            assignment.boot = orders.boot.or(assignment.boot);
            let image = orders.image.as_ref().and_then(|name| self.images.get_key_value(name));
            assignment.image = image.or(assignment.image);
            assignment.files = orders.files.as_deref().or(assignment.files);
            assignment.parameters.extend(orders.parameters.as_deref());
            assignment.keys.extend(orders.keys.iter().map(String::as_str));
            assignment.cmdline.extend(orders.cmdline.as_deref());
            assignment.config.extend(orders.config.as_deref());
        }
        assignment
    }
}

impl Device {
    fn is_in(&self, group: &Group) -> bool {
        self.groups.contains(&group.name) || group.tags.iter().any(|tag| self.tags.contains(tag))
    }
}
