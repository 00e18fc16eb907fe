//! Which address is whose, in memory and in a [`Store`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::Result;
use init::mac::Mac;
use serde::{Deserialize, Serialize};

use super::pi::PiSerial;

/// By what a client is told from others.
///
/// A Pi by its Ethernet address: its bootloader says no client identifier (option 61), its `init` and its OS say one each,
/// and it is to have one address in all of them. Others by their identifier, as RFC 2131 (section 4.2) asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Client {
    /// A Pi, or who says no identifier.
    Mac(Mac),
    /// Others, by option 61.
    Identifier(Vec<u8>),
}

/// Where an address stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its client may use it until then; afterwards others may, who find no address that was nobody's.
    Leased,
    /// Its client gave it back. It gets it again, unless others need it.
    Released,
    /// Somebody uses it without a lease: nobody else gets it until then.
    Taken,
    /// Its client found that somebody uses it: nobody gets it until then.
    Declined,
}

/// An address and its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Whose it is.
    pub client: Client,
    /// That client's Ethernet address.
    pub mac: Mac,
    /// Its serial number, where it is a Pi whose bootloader was seen.
    pub serial: Option<PiSerial>,
    /// The relay that stands between; it is the client's router.
    pub relay: Option<Ipv4Addr>,
    /// In seconds since 1970 by this machine's clock. A clock that leaps costs a lease its protection, or an address some hours,
    /// and no more: an address is probed before it is offered.
    pub until: u64,
    /// Where it stands.
    pub state: State,
}

/// Keeps leases where a power cut does not reach them.
pub trait Store: Send {
    /// Takes a lease; it may be lost until [`Store::sync`] has returned.
    fn put(&mut self, lease: &Lease);

    /// Writes what was taken, so that it is there after a power cut. `all`: every lease there is.
    ///
    /// # Errors
    /// Where that is not sure. What was taken is kept for the next try.
    fn sync(&mut self, all: &mut dyn Iterator<Item = &Lease>) -> Result<()>;
}

/// All leases.
pub struct Leases {
    by_address: BTreeMap<Ipv4Addr, Lease>,
    by_client: BTreeSet<(Client, Ipv4Addr)>,
    store: Box<dyn Store>,
    changed: bool,
}

impl Leases {
    /// What a store had, and the store.
    pub fn new(kept: Vec<Lease>, store: Box<dyn Store>) -> Self {
        let (by_address, by_client) = (BTreeMap::new(), BTreeSet::new());
        let mut leases = Self { by_address, by_client, store, changed: false };
        kept.into_iter().for_each(|lease| leases.remember(lease));
        leases
    }

    fn remember(&mut self, lease: Lease) {
        if let Some(before) = self.by_address.get(&lease.address) {
            self.by_client.remove(&(before.client.clone(), before.address));
        }
        self.by_client.insert((lease.client.clone(), lease.address));
        self.by_address.insert(lease.address, lease);
    }

    /// Remembers a lease; [`Leases::sync`] makes it last.
    pub fn put(&mut self, lease: Lease) {
        self.store.put(&lease);
        self.changed = true;
        self.remember(lease);
    }

    /// The lease of an address.
    pub fn get(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.by_address.get(&address)
    }

    /// The leases of a client, past ones too.
    pub fn of<'a>(&'a self, client: &'a Client) -> impl Iterator<Item = &'a Lease> + 'a {
        let from = (client.clone(), Ipv4Addr::UNSPECIFIED);
        let own = self.by_client.range(from..).take_while(move |(of, _)| of == client);
        own.filter_map(|(_, address)| self.get(*address))
    }

    /// All of them, by address.
    pub fn all(&self) -> impl Iterator<Item = &Lease> {
        self.by_address.values()
    }

    /// Writes what changed.
    ///
    /// # Errors
    /// The store's.
    pub fn sync(&mut self) -> Result<()> {
        if self.changed {
            self.store.sync(&mut self.by_address.values())?;
            self.changed = false;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Keeps nothing.
    pub(in super::super) struct Nowhere;

    impl Store for Nowhere {
        fn put(&mut self, _: &Lease) {}
        fn sync(&mut self, _: &mut dyn Iterator<Item = &Lease>) -> Result<()> {
            Ok(())
        }
    }

    /// Of an address and a client by their last bytes.
    pub(in super::super) fn lease(last: u8, mac: u8, until: u64) -> Lease {
        let mac = Mac([2, 0, 0, 0, 0, mac]);
        let (address, state) = (Ipv4Addr::new(192, 0, 2, last), State::Leased);
        Lease { address, client: Client::Mac(mac), mac, serial: None, relay: None, until, state }
    }

    #[test]
    fn an_address_has_one_client_and_a_client_its_addresses() {
        let mut leases =
            Leases::new(vec![lease(7, 1, 10), lease(8, 1, 20), lease(9, 2, 30)], Box::new(Nowhere));
        let of = |leases: &Leases, mac| {
            let client = Client::Mac(Mac([2, 0, 0, 0, 0, mac]));
            leases.of(&client).map(|lease| lease.address.octets()[3]).collect::<Vec<_>>()
        };
        assert_eq!((of(&leases, 1), of(&leases, 2), of(&leases, 3)), (vec![7, 8], vec![9], vec![]));
        leases.put(lease(8, 3, 40));
        assert_eq!((of(&leases, 1), of(&leases, 3)), (vec![7], vec![8]));
        assert_eq!(leases.all().count(), 3);
    }
}
