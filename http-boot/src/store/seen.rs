//! The tables of what was seen: devices, their boots, events and timings, and bootloaders.

use std::net::IpAddr;

use anyhow::Result;
use init::event::{Event, State};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;

use super::{Millis, from_millis};
use crate::devices::{Moment, Received, Serial};

/// An event to be recorded.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Whose it is.
    pub serial: Serial,
    /// Where it came from.
    pub address: IpAddr,
    /// When it came.
    pub received: Millis,
    /// What it says.
    pub event: Event,
}

/// A bootloader that asked for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Where it asked from.
    pub address: IpAddr,
    /// What it says of itself.
    pub version: String,
    /// When.
    pub at: Millis,
}

/// A state as events write it.
pub fn state_name(state: State) -> &'static str {
    match state {
        State::Started => "started",
        State::Progress => "progress",
        State::Waiting => "waiting",
        State::Done => "done",
        State::Failed => "failed",
    }
}

/// Records an event.
///
/// # Errors
/// The database's.
pub fn record(transaction: &Transaction<'_>, seen: &Seen) -> Result<()> {
    let Seen { serial, address, received, event } = seen;
    let addresses =
        (!event.addresses.is_empty()).then(|| serde_json::to_string(&event.addresses)).transpose()?;
    transaction
        .prepare_cached(
            "INSERT INTO devices (serial, first_seen, last_seen, address, model, bootloader, host_key, addresses)
             VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, coalesce(?7, '[]'))
             ON CONFLICT DO UPDATE SET last_seen = ?2, address = ?3, model = coalesce(?4, model),
               bootloader = coalesce(?5, bootloader), host_key = coalesce(?6, host_key),
               addresses = coalesce(?7, addresses)",
        )?
        .execute(params![
            serial.as_str(),
            received,
            address.to_string(),
            event.model,
            event.bootloader,
            event.host_key,
            addresses
        ])?;
    let boot = record_boot(transaction, seen)?;
    transaction
        .prepare_cached("INSERT INTO events (boot, received, address, event) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![boot, received, address.to_string(), serde_json::to_string(event)?])?;
    record_timing(transaction, boot, event)
}

/// Records what the event says of its boot; gives the boot's row.
fn record_boot(transaction: &Transaction<'_>, seen: &Seen) -> Result<i64> {
    let Seen { serial, received, event, .. } = seen;
    let (sequence, state) = (to_sql(event.sequence), state_name(event.state));
    let known: Option<i64> = transaction
        .prepare_cached("SELECT id FROM boots WHERE serial = ?1 AND boot_id = ?2")?
        .query_row(params![serial.as_str(), event.boot_id], |row| row.get(0))
        .optional()?;
    let boot = match known {
        Some(boot) => boot,
        None => {
            transaction
                .prepare_cached(
                    "INSERT INTO boots (serial, boot_id, first_seen, last_seen, sequence, step, state)
                     VALUES (?1, ?2, ?3, ?3, 0, ?4, ?5)",
                )?
                .execute(params![serial.as_str(), event.boot_id, received, event.step, state])?;
            let boot = transaction.last_insert_rowid();
            transaction
                .prepare_cached("UPDATE devices SET boots = boots + 1 WHERE serial = ?1")?
                .execute(params![serial.as_str()])?;
            boot
        }
    };
    transaction
        .prepare_cached(
            "UPDATE boots SET last_seen = ?2, failures = failures + ?3, bytes = max(bytes, ?4) WHERE id = ?1",
        )?
        .execute(params![
            boot,
            received,
            event.state == State::Failed,
            event.progress.map_or(0, |p| to_sql(p.bytes))
        ])?;
    // Events may come late: the newest by its number says where the boot is.
    transaction
        .prepare_cached(
            "UPDATE boots SET sequence = ?2, step = ?3, state = ?4, error = ?5 WHERE id = ?1 AND sequence < ?2",
        )?
        .execute(params![boot, sequence, event.step, state, event.error])?;
    Ok(boot)
}

fn record_timing(transaction: &Transaction<'_>, boot: i64, event: &Event) -> Result<()> {
    let is_over = matches!(event.state, State::Done | State::Failed);
    let at = to_sql(event.uptime_ms);
    transaction
        .prepare_cached(
            // Late events count for the beginning alone. A step that is tried again is not over.
            "INSERT INTO timings (boot, step, started, latest, ended, state) VALUES (?1, ?2, ?3, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET started = min(started, ?3), latest = max(latest, ?3),
               ended = iif(?3 >= latest, ?4, ended), state = iif(?3 >= latest, ?5, state)",
        )?
        .execute(params![boot, event.step, at, is_over.then_some(at), state_name(event.state)])?;
    Ok(())
}

fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Records a bootloader.
///
/// # Errors
/// The database's.
pub fn record_bootloader(transaction: &Transaction<'_>, sighting: &Sighting) -> Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO bootloaders (address, version, first_seen, last_seen) VALUES (?1, ?2, ?3, ?3)
             ON CONFLICT DO UPDATE SET last_seen = ?3",
        )?
        .execute(params![sighting.address.to_string(), sighting.version, sighting.at])?;
    Ok(())
}

/// A boot of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// Grows with each boot of any device.
    pub id: i64,
    /// Whose.
    pub serial: String,
    /// The kernel's name for it.
    pub boot_id: String,
    /// When its first event came.
    pub first_seen: Moment,
    /// When its last event came.
    pub last_seen: Moment,
    /// The step that it came to.
    pub step: String,
    /// Where that step stands.
    pub state: String,
    /// Why that step failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How often a step failed.
    pub failures: u64,
    /// How many bytes its largest transfer had fetched.
    pub bytes: u64,
}

/// When a step began and ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timing {
    /// The step's name.
    pub step: String,
    /// When it was first heard of, in milliseconds since the kernel started.
    pub started_ms: u64,
    /// When it was last done or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// Where it stands.
    pub state: String,
}

/// Boots, newest first: of one device or of all, older than `before` where that is given.
///
/// # Errors
/// The database's.
pub fn boots(
    connection: &Connection,
    serial: Option<&Serial>,
    before: Option<i64>,
    count: u32,
) -> Result<Vec<Boot>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, serial, boot_id, first_seen, last_seen, step, state, error, failures, bytes FROM boots
         WHERE (?1 IS NULL OR serial = ?1) AND id < ?2 ORDER BY id DESC LIMIT ?3",
    )?;
    let rows = statement.query_map(
        params![serial.map(Serial::as_str), before.unwrap_or(i64::MAX), count],
        |row| {
            Ok(Boot {
                id: row.get(0)?,
                serial: row.get(1)?,
                boot_id: row.get(2)?,
                first_seen: Moment(from_millis(row.get(3)?)),
                last_seen: Moment(from_millis(row.get(4)?)),
                step: row.get(5)?,
                state: row.get(6)?,
                error: row.get(7)?,
                failures: row.get(8)?,
                bytes: row.get(9)?,
            })
        },
    )?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The steps of a boot, in the order in which they began.
///
/// # Errors
/// The database's.
pub fn timings(connection: &Connection, boot: i64) -> Result<Vec<Timing>> {
    let mut statement = connection.prepare_cached(
        "SELECT step, started, ended, state FROM timings WHERE boot = ?1 ORDER BY started, step LIMIT 64",
    )?;
    let rows = statement.query_map([boot], |row| {
        Ok(Timing { step: row.get(0)?, started_ms: row.get(1)?, ended_ms: row.get(2)?, state: row.get(3)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The last events of a boot, oldest first.
///
/// # Errors
/// The database's.
pub fn events(connection: &Connection, boot: i64, count: u32) -> Result<Vec<Received>> {
    let mut statement = connection
        .prepare_cached("SELECT received, event FROM events WHERE boot = ?1 ORDER BY id DESC LIMIT ?2")?;
    let mut rows = statement.query(params![boot, count])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let json: String = row.get(1)?;
        let event = serde_json::from_str(&json)?;
        events.push(Received::new(Moment(from_millis(row.get(0)?)), event, json.len()));
    }
    events.reverse();
    Ok(events)
}

/// Bootloaders of all addresses, with when they were first and last seen; the last seen first.
///
/// # Errors
/// The database's.
pub fn all_bootloaders(connection: &Connection, count: u32) -> Result<Vec<(Sighting, Millis)>> {
    let mut statement = connection.prepare_cached(
        "SELECT address, version, last_seen, first_seen FROM bootloaders ORDER BY last_seen DESC, address LIMIT ?1",
    )?;
    let mut rows = statement.query([count])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let address: String = row.get(0)?;
        let sighting = Sighting { address: address.parse()?, version: row.get(1)?, at: row.get(2)? };
        all.push((sighting, row.get(3)?));
    }
    Ok(all)
}

/// Bootloaders that asked for files, the last seen first.
///
/// # Errors
/// The database's.
pub fn bootloaders(connection: &Connection, address: IpAddr) -> Result<Vec<Sighting>> {
    let mut statement = connection.prepare_cached(
        "SELECT version, last_seen FROM bootloaders WHERE address = ?1 ORDER BY last_seen DESC LIMIT 8",
    )?;
    let rows = statement.query_map([address.to_string()], |row| {
        Ok(Sighting { address, version: row.get(0)?, at: row.get(1)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A device as it was before this server started.
#[derive(Debug)]
pub struct Known {
    /// Its serial number.
    pub serial: Serial,
    /// When its first event came.
    pub first_seen: Moment,
    /// How many boots it had.
    pub boots: u64,
    /// The device tree's `model`.
    pub model: Option<String>,
    /// The bootloader's version.
    pub bootloader: Option<String>,
    /// Its SSH host key's fingerprint.
    pub host_key: Option<String>,
    /// Its own addresses.
    pub addresses: Vec<String>,
    /// Its last events, oldest first, and where each came from.
    pub events: Vec<(IpAddr, Received)>,
}

/// All devices with at most `events` events of each; those that were silent for longest first.
///
/// # Errors
/// The database's, or that something in it is none of ours.
pub fn known(
    connection: &Connection,
    devices: usize,
    events: usize,
    mut each: impl FnMut(Known),
) -> Result<()> {
    let mut statement = connection.prepare(
        "SELECT * FROM (SELECT serial, first_seen, boots, model, bootloader, host_key, addresses, last_seen
           FROM devices ORDER BY last_seen DESC LIMIT ?1) ORDER BY last_seen",
    )?;
    let mut newest = connection.prepare(
        "SELECT received, events.address, event FROM events JOIN boots ON boots.id = boot
         WHERE serial = ?1 ORDER BY events.id DESC LIMIT ?2",
    )?;
    let mut rows = statement.query([devices])?;
    while let Some(row) = rows.next()? {
        let serial: String = row.get(0)?;
        let mut found = newest.query(params![serial, events])?;
        let mut events = Vec::new();
        while let Some(row) = found.next()? {
            let (address, json): (String, String) = (row.get(1)?, row.get(2)?);
            let event = serde_json::from_str(&json)?;
            events
                .push((address.parse()?, Received::new(Moment(from_millis(row.get(0)?)), event, json.len())));
        }
        events.reverse();
        let addresses: String = row.get(6)?;
        each(Known {
            serial: serial.parse()?,
            first_seen: Moment(from_millis(row.get(1)?)),
            boots: row.get(2)?,
            model: row.get(3)?,
            bootloader: row.get(4)?,
            host_key: row.get(5)?,
            addresses: serde_json::from_str(&addresses)?,
            events,
        });
    }
    Ok(())
}
