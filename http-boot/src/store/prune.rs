//! What is forgotten: by age and by number. Devices' reports come from anyone who can reach the port, so every table of
//! theirs has a bound.

use anyhow::Result;
use rusqlite::{Transaction, params};

use super::{Millis, now};

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Days that events, boots and silent devices are kept.
    pub days: u32,
    /// Days that the audit log is kept.
    pub audit_days: u32,
    /// Devices; the one that was silent for longest goes first.
    pub devices: u64,
    /// Boots of one device.
    pub boots: u64,
    /// Events of all devices; the oldest go first.
    pub events: u64,
    /// Bytes of all events; the oldest go first.
    pub bytes: u64,
    /// Entries of the audit log.
    pub audit: u64,
    /// Bootloaders.
    pub bootloaders: u64,
    /// Findings.
    pub findings: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            days: 90,
            audit_days: 400,
            devices: 4096,
            boots: 200,
            events: 100_000,
            bytes: 256 << 20,
            audit: 100_000,
            bootloaders: 8192,
            findings: 1024,
        }
    }
}

const DAY: Millis = 24 * 3600 * 1000;

/// Forgets what is older or more than the policy says.
///
/// # Errors
/// The database's.
pub fn prune(transaction: &Transaction<'_>, policy: &Policy) -> Result<()> {
    let before = now() - Millis::from(policy.days) * DAY;
    transaction.execute("DELETE FROM devices WHERE last_seen < ?1", params![before])?;
    transaction.execute("DELETE FROM boots WHERE last_seen < ?1", params![before])?;
    transaction.execute("DELETE FROM bootloaders WHERE last_seen < ?1", params![before])?;
    transaction.execute(
        "DELETE FROM devices WHERE serial IN
           (SELECT serial FROM devices ORDER BY last_seen DESC LIMIT -1 OFFSET ?1)",
        params![policy.devices],
    )?;
    transaction.execute(
        "DELETE FROM boots WHERE id IN (SELECT id FROM
           (SELECT id, row_number() OVER (PARTITION BY serial ORDER BY id DESC) AS place FROM boots)
           WHERE place > ?1)",
        params![policy.boots],
    )?;
    transaction.execute(
        "DELETE FROM events WHERE id <= coalesce((SELECT max(id) FROM
           (SELECT id, row_number() OVER newest AS place, sum(length(event)) OVER newest AS bytes FROM events
            WINDOW newest AS (ORDER BY id DESC))
           WHERE place > ?1 OR bytes > ?2), -1)",
        params![policy.events, policy.bytes],
    )?;
    transaction.execute(
        "DELETE FROM bootloaders WHERE (address, version) IN
           (SELECT address, version FROM bootloaders ORDER BY last_seen DESC LIMIT -1 OFFSET ?1)",
        params![policy.bootloaders],
    )?;
    transaction.execute("DELETE FROM findings WHERE last_seen < ?1", params![before])?;
    transaction.execute(
        "DELETE FROM findings WHERE cause IN
           (SELECT cause FROM findings ORDER BY last_seen DESC LIMIT -1 OFFSET ?1)",
        params![policy.findings],
    )?;
    let audit_before = now() - Millis::from(policy.audit_days) * DAY;
    transaction.execute(
        "DELETE FROM audit WHERE at < ?1 OR id <= (SELECT max(id) FROM audit) - ?2",
        params![audit_before, policy.audit],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use init::event::{EVENT_FORMAT, Event, State};

    use super::*;
    use crate::store::audit::{self, Entry};
    use crate::store::seen::{self, Seen};
    use crate::store::{Store, to_millis};

    fn seen(serial: &str, boot: &str, sequence: u64, received: Millis) -> Seen {
        let event = Event {
            format: EVENT_FORMAT,
            boot_id: boot.into(),
            sequence,
            uptime_ms: sequence * 1000,
            step: "fetch".into(),
            state: State::Progress,
            progress: None,
            error: None,
            retry_in_s: None,
            addresses: vec![],
            host_key: None,
            model: None,
            bootloader: None,
            last_crash: None,
        };
        Seen { serial: serial.parse().unwrap(), address: IpAddr::V4(Ipv4Addr::LOCALHOST), received, event }
    }

    #[test]
    fn everything_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let now = to_millis(std::time::SystemTime::now());
        let policy = Policy { days: 1, devices: 2, boots: 2, events: 5, audit: 3, ..Policy::default() };
        store
            .change(|t| {
                seen::record(t, &seen("ancient", "a", 1, now - 2 * DAY))?;
                for (serial, boots) in [("silent", 1), ("one", 3), ("two", 3)] {
                    for boot in 0..boots {
                        for sequence in 1..4 {
                            seen::record(t, &seen(serial, &boot.to_string(), sequence, now))?;
                        }
                    }
                    t.execute("UPDATE devices SET last_seen = ?1 WHERE serial = 'silent'", [now - 9])?;
                }
                for _ in 0..5 {
                    audit::add(t, &Entry::example())?;
                }
                prune(t, &policy)
            })
            .unwrap();
        let count = |what: &str| -> i64 {
            store
                .read(|t| Ok(t.query_row(&format!("SELECT count(*) FROM {what}"), [], |r| r.get(0))?))
                .unwrap()
        };
        assert_eq!((count("devices"), count("boots"), count("events"), count("audit")), (2, 4, 5, 3));
        assert_eq!(count("timings"), 4);
        let small = Policy { bytes: 1, ..policy };
        store.change(|t| prune(t, &small)).unwrap();
        assert_eq!(count("events"), 0);
    }
}
