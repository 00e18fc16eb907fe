//! Orders: what people want a device to do at its next boots. They are kept in the store, with a copy here that answers
//! `GET /v1/boot/SERIAL`; a change is in the store before it is acknowledged.
//!
//! A device has at most one order that stands until changed, and one for its next boot: the rescue. The latter counts
//! for the whole of the boot that begins after it was given, because a Pi in the rescue asks again each minute, and is
//! taken off when the boot after that one reports (`the_rescue_order_counts_for_one_boot`).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::Result;
use init::server_plan::{PLAN_FORMAT, PlanFile};
use serde::{Deserialize, Serialize};

use crate::devices::{Moment, Serial};
use crate::store::audit::{self, Entry};
use crate::store::{self, Store};

/// What counts until changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Standing {
    /// Boot an image of this server into RAM.
    Assign {
        /// The path of its squashfs below the root.
        image: String,
    },
    /// Follow a plan that was signed elsewhere.
    Plan {
        /// The plan, byte by byte as it was signed.
        plan: String,
        /// Its minisign signature.
        minisig: String,
    },
}

/// The rescue at the next boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Once {
    /// The boot that went on when it was ordered: not that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_boot: Option<String>,
    /// The boot that it counts for, once that has reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_by: Option<String>,
}

/// An order, who gave it and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Order<T> {
    /// What to do.
    #[serde(flatten)]
    pub what: T,
    /// Who gave it.
    pub who: String,
    /// When.
    pub made: Moment,
}

/// Which of a device's two orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The one that counts until changed.
    Standing,
    /// The one for the next boot.
    Once,
}

impl Slot {
    /// The slot's name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standing => "standing",
            Self::Once => "once",
        }
    }
}

/// A device's orders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceOrders {
    /// The rescue at the next boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rescue_next: Option<Order<Once>>,
    /// What counts otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<Order<Standing>>,
}

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The rescue at the next boot.
    RescueNext,
    /// Something until changed.
    Stand(Standing),
    /// No order any more.
    Clear,
}

impl Command {
    /// The word for the audit log.
    pub const fn action(&self) -> &'static str {
        match self {
            Self::RescueNext => "rescue_next",
            Self::Stand(Standing::Assign { .. }) => "assign",
            Self::Stand(Standing::Plan { .. }) => "plan",
            Self::Clear => "clear",
        }
    }

    fn detail(&self) -> &str {
        match self {
            Self::Stand(Standing::Assign { image }) => image,
            _ => "",
        }
    }
}

/// Who gives an order, and where from.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    /// The name for the audit log.
    pub who: &'a str,
    /// The address.
    pub address: &'a str,
}

/// A plan that an order makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderedPlan {
    /// The plan.
    pub json: String,
    /// Its signature, where somebody signed it.
    pub minisig: Option<String>,
}

/// All orders.
#[derive(Debug)]
pub struct Orders {
    /// Held while the store and the memory change, so that they agree.
    changing: Mutex<()>,
    memory: Mutex<BTreeMap<Serial, DeviceOrders>>,
}

impl Orders {
    /// Takes them from the store.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn load(store: &Store) -> Result<Self> {
        let mut memory: BTreeMap<Serial, DeviceOrders> = BTreeMap::new();
        for (serial, row) in store.read(|t| store::orders::all(t))? {
            let orders = memory.entry(serial).or_default();
            match row {
                store::orders::Row::Standing(order) => orders.standing = Some(order),
                store::orders::Row::Once(order) => orders.rescue_next = Some(order),
            }
        }
        Ok(Self { changing: Mutex::default(), memory: Mutex::new(memory) })
    }

    /// A device's orders.
    pub fn of(&self, serial: &Serial) -> DeviceOrders {
        self.memory().get(serial).cloned().unwrap_or_default()
    }

    /// Whether a device has orders.
    pub fn has(&self, serial: &Serial) -> bool {
        self.memory().contains_key(serial)
    }

    /// All devices that have orders.
    pub fn all(&self) -> Vec<(Serial, DeviceOrders)> {
        self.memory().iter().map(|(serial, orders)| (serial.clone(), orders.clone())).collect()
    }

    /// The plan that counts for a device, if an order says something. `origin` is the server as the device names it, like
    /// `http://192.0.2.1`: images are fetched from there.
    pub fn plan(&self, serial: &Serial, origin: &str) -> Option<OrderedPlan> {
        let orders = self.of(serial);
        let parameters = match (orders.rescue_next, orders.standing.map(|order| order.what)) {
            (Some(_), _) => "lifeboat.rescue".to_owned(),
            (None, Some(Standing::Assign { image })) => format!("root=live:{origin}/{}", encode(&image)),
            (None, Some(Standing::Plan { plan, minisig })) => {
                return Some(OrderedPlan { json: plan, minisig: Some(minisig) });
            }
            (None, None) => return None,
        };
        let file = PlanFile { format: PLAN_FORMAT, parameters, device: Some(serial.to_string()) };
        let json = serde_json::to_string(&file).ok()?;
        Some(OrderedPlan { json: json + "\n", minisig: None })
    }

    /// Gives an order. `newest_boot` is the device's newest boot that is known. When this returns, it is on the disk.
    ///
    /// # Errors
    /// The store's; then nothing has changed.
    pub fn give(
        &self,
        store: &Store,
        serial: &Serial,
        command: &Command,
        newest_boot: Option<String>,
        actor: Actor<'_>,
    ) -> Result<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (who, made) = (actor.who.to_owned(), Moment(SystemTime::now()));
        let apply = |orders: &mut DeviceOrders| match command {
            Command::RescueNext => {
                let what = Once { after_boot: newest_boot.clone(), used_by: None };
                orders.rescue_next = Some(Order { what, who: who.clone(), made });
            }
            Command::Stand(what) => {
                orders.standing = Some(Order { what: what.clone(), who: who.clone(), made });
            }
            Command::Clear => *orders = DeviceOrders::default(),
        };
        let mut orders = self.of(serial);
        apply(&mut orders);
        store.change(|t| {
            write(t, serial, &orders)?;
            let (action, detail) = (command.action(), command.detail());
            let Actor { who, address } = actor;
            audit::add(t, &Entry { who, address, action, subject: serial.as_str(), detail })
        })?;
        // A boot may have been noted meanwhile, which `keep` will write: what it changed stays.
        apply(self.memory().entry(serial.clone()).or_default());
        self.forget_empty(serial);
        Ok(())
    }

    /// Notes that a device's newest boot reported. Says whether [`Self::keep`] has something to write down.
    pub fn note_boot(&self, serial: &Serial, boot: &str) -> bool {
        let mut memory = self.memory();
        let Some(orders) = memory.get_mut(serial) else { return false };
        let Some(Order { what, .. }) = &mut orders.rescue_next else { return false };
        if what.used_by.as_deref() == Some(boot) || what.after_boot.as_deref() == Some(boot) {
            return false;
        }
        if what.used_by.is_none() {
            what.used_by = Some(boot.to_owned());
        } else {
            orders.rescue_next = None;
        }
        true
    }

    /// Writes down what [`Self::note_boot`] changed.
    ///
    /// # Errors
    /// The store's. The memory counts until the server stops; then the next report of the device sets it right.
    pub fn keep(&self, store: &Store, serial: &Serial) -> Result<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = self.of(serial);
        let (action, boot) = match &orders.rescue_next {
            Some(order) => ("rescue_next used", order.what.used_by.as_deref().unwrap_or_default()),
            None => ("rescue_next over", ""),
        };
        store.change(|t| {
            write(t, serial, &orders)?;
            let subject = serial.as_str();
            audit::add(t, &Entry { who: "server", address: "", action, subject, detail: boot })
        })?;
        self.forget_empty(serial);
        Ok(())
    }

    fn forget_empty(&self, serial: &Serial) {
        let mut memory = self.memory();
        if memory.get(serial).is_some_and(|orders| *orders == DeviceOrders::default()) {
            memory.remove(serial);
        }
    }

    fn memory(&self) -> MutexGuard<'_, BTreeMap<Serial, DeviceOrders>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(transaction: &rusqlite::Connection, serial: &Serial, orders: &DeviceOrders) -> Result<()> {
    match &orders.standing {
        Some(order) => store::orders::set_standing(transaction, serial, order)?,
        None => store::orders::clear(transaction, serial, Slot::Standing)?,
    }
    match &orders.rescue_next {
        Some(order) => store::orders::set_once(transaction, serial, order),
        None => store::orders::clear(transaction, serial, Slot::Once),
    }
}

/// A path below the root as a URL's path: what could end a kernel parameter or the path is percent-encoded.
fn encode(path: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'+').remove(b'~');
    utf8_percent_encode(path, KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use init::server_plan::ServerPlan;

    const ORIGIN: &str = "http://192.0.2.1";
    const ANNA: Actor<'static> = Actor { who: "anna", address: "192.0.2.9" };

    struct Kept {
        _folder: tempfile::TempDir,
        store: Store,
        orders: Orders,
        one: Serial,
    }

    impl Kept {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap();
            let orders = Orders::load(&store).unwrap();
            Self { _folder: folder, store, orders, one: "one".parse().unwrap() }
        }

        fn give(&self, command: &Command, boot: Option<&str>) {
            self.orders.give(&self.store, &self.one, command, boot.map(str::to_owned), ANNA).unwrap();
        }

        fn note(&self, boot: &str) {
            if self.orders.note_boot(&self.one, boot) {
                self.orders.keep(&self.store, &self.one).unwrap();
            }
            let loaded = Orders::load(&self.store).unwrap();
            assert_eq!(
                loaded.of(&self.one).rescue_next.is_some(),
                self.orders.of(&self.one).rescue_next.is_some()
            );
        }

        fn parameters(&self) -> Option<String> {
            let plan = self.orders.plan(&self.one, ORIGIN)?;
            ServerPlan::read(plan.json.as_bytes(), None, &[], "one")
                .expect("an unsigned plan that a Pi may follow");
            Some(serde_json::from_str::<PlanFile>(&plan.json).unwrap().parameters)
        }
    }

    #[test]
    fn the_rescue_order_counts_for_one_boot() {
        let kept = Kept::new();
        let image = Command::Stand(Standing::Assign { image: "os/de bian.squashfs".into() });
        kept.give(&image, Some("a"));
        let assigned = Some("root=live:http://192.0.2.1/os/de%20bian.squashfs".to_owned());
        assert_eq!(kept.parameters(), assigned);
        kept.give(&Command::RescueNext, Some("a"));
        for boot in ["a", "b", "b"] {
            kept.note(boot);
            assert_eq!(kept.parameters().as_deref(), Some("lifeboat.rescue"), "{boot}");
        }
        kept.note("c");
        assert_eq!(kept.parameters(), assigned);
        kept.give(&Command::Clear, Some("c"));
        assert_eq!(kept.parameters(), None);
        let actions: Vec<_> =
            kept.store.read(|t| audit::newest(t, None, 9)).unwrap().into_iter().map(|e| e.action).collect();
        assert_eq!(actions, ["clear", "rescue_next over", "rescue_next used", "rescue_next", "assign"]);
    }

    #[test]
    fn the_rescue_needs_no_other_order() {
        let kept = Kept::new();
        kept.give(&Command::RescueNext, None);
        assert_eq!(kept.parameters().as_deref(), Some("lifeboat.rescue"));
    }

    #[test]
    fn a_signed_plan_is_served_as_it_was_signed() {
        let kept = Kept::new();
        let (plan, minisig) = ("{ \"format\": 1 }".to_owned(), "signature".to_owned());
        kept.give(&Command::Stand(Standing::Plan { plan: plan.clone(), minisig: minisig.clone() }), None);
        let loaded = Orders::load(&kept.store).unwrap();
        assert_eq!(loaded.plan(&kept.one, ORIGIN), Some(OrderedPlan { json: plan, minisig: Some(minisig) }));
    }
}
