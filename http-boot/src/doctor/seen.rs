//! What a server saw, from its database: bootloaders that are too old, Pis that boot again and again, and what DHCP found.

use std::path::Path;

use anyhow::Result;
use rusqlite::Connection;

use super::{Level, Line};
use crate::bootloader::Agent;
use crate::store::{self, Millis, from_millis, now};

const CHECK: &str = "seen";
/// HTTP boot is in bootloaders since 2022-03-10; those since 2026-02-23 have the mended TLS, TCP and 404 (facts, section 1).
const FIRST_WITH_HTTP: u64 = 1_646_870_400;
const ADVISED: u64 = 1_771_804_800;
const HOUR: Millis = 3_600_000;
/// What DHCP found longer ago is over.
const RECENT: Millis = 7 * 24 * HOUR;
/// So many boots within an hour are a loop.
const LOOP: u32 = 5;
/// Lines of one kind.
const MOST: u32 = 20;

pub(super) fn check(state: &Path) -> Vec<Line> {
    let read = || -> Result<Vec<Line>> {
        let connection = store::look(state)?;
        let mut lines = bootloaders(&connection)?;
        lines.extend(loops(&connection, now())?);
        lines.extend(findings(&connection, now())?);
        Ok(lines)
    };
    match read() {
        Ok(lines) if lines.is_empty() => {
            vec![Line::ok(CHECK, "the server saw no old bootloader, no loop, and nothing in the way of DHCP")]
        }
        Ok(lines) => lines,
        Err(error) => {
            let advice =
                "name the folder that the server has as --state, and run the doctor as its user or as root";
            vec![Line::new(CHECK, Level::Unknown, format!("{error:#}"), advice)]
        }
    }
}

/// The newest one of each address.
fn bootloaders(connection: &Connection) -> Result<Vec<Line>> {
    let mut statement = connection.prepare(
        "SELECT address, version, max(last_seen) FROM bootloaders GROUP BY address ORDER BY address LIMIT ?1",
    )?;
    let rows = statement.query_map([store::prune::Policy::default().bootloaders], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    let mut lines = Vec::new();
    for row in rows {
        let (address, version) = row?;
        let built = Agent::parse(&version).built;
        let line = match built {
            Some(built) if built < FIRST_WITH_HTTP => Line::new(
                CHECK,
                Level::Problem,
                format!(
                    "the bootloader at {address} is of {}: too old for HTTP boot (2022-03-10)",
                    day(built)
                ),
                "update its EEPROM: `boot-files eeprom plan` writes what it takes",
            ),
            Some(built) if built < ADVISED => Line::new(
                CHECK,
                Level::Warning,
                format!(
                    "the bootloader at {address} is of {}: those before 2026-02-23 have faults over the network",
                    day(built)
                ),
                "update its EEPROM: older ones hang on a 404, are slow where packets are reordered, or fail with TLS",
            ),
            _ => continue,
        };
        lines.push(line);
        if lines.len() >= MOST as usize {
            break;
        }
    }
    Ok(lines)
}

fn day(seconds: u64) -> String {
    let moment = from_millis(Millis::try_from(seconds.saturating_mul(1000)).unwrap_or(0));
    let text = humantime::format_rfc3339_seconds(moment).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

fn loops(connection: &Connection, now: Millis) -> Result<Vec<Line>> {
    let mut statement = connection.prepare(
        "SELECT serial, count(*) AS boots, step, coalesce(error, ''), max(id) FROM boots WHERE first_seen > ?1
         GROUP BY serial HAVING boots >= ?2 ORDER BY boots DESC LIMIT ?3",
    )?;
    let rows = statement.query_map((now - HOUR, LOOP, MOST), |row| {
        let (serial, boots): (String, u32) = (row.get(0)?, row.get(1)?);
        let (step, error): (String, String) = (row.get(2)?, row.get(3)?);
        Ok((serial, boots, step, error))
    })?;
    let mut lines = Vec::new();
    for row in rows {
        let (serial, boots, step, error) = row?;
        let why = if error.is_empty() { String::new() } else { format!(": {error}") };
        let found =
            format!("{serial} began {boots} boots within an hour; the last came to the step {step}{why}");
        let advice = "its page shows each boot's steps; order the rescue for it, and look by SSH";
        lines.push(Line::new(CHECK, Level::Warning, found, advice));
    }
    Ok(lines)
}

/// Their text says what to do.
fn findings(connection: &Connection, now: Millis) -> Result<Vec<Line>> {
    let mut statement = connection.prepare(
        "SELECT text, count, last_seen FROM findings WHERE last_seen > ?1 ORDER BY last_seen DESC LIMIT ?2",
    )?;
    let rows = statement.query_map((now - RECENT, MOST), |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?, row.get::<_, Millis>(2)?))
    })?;
    let line = |(text, count, last): (String, u64, Millis)| {
        let last = humantime::format_rfc3339_seconds(from_millis(last));
        Line {
            check: CHECK,
            level: Level::Warning,
            found: format!("{text} ({count} times, last {last})"),
            advice: None,
        }
    };
    Ok(rows.map(|row| row.map(line)).collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use init::event::{Event, State};

    use super::*;
    use crate::store::Store;
    use crate::store::findings::Found;
    use crate::store::seen::{Seen, Sighting, record, record_bootloader};

    fn event(boot: u32) -> Seen {
        let json = format!(
            r#"{{"format":1,"boot_id":"b{boot}","sequence":1,"uptime_ms":1,"step":"fetch","state":"failed","error":"404"}}"#
        );
        let event: Event = serde_json::from_str(&json).unwrap();
        assert_eq!(event.state, State::Failed);
        let address = std::net::IpAddr::from([192, 0, 2, 9]);
        Seen { serial: "10000000abcdef01".parse().unwrap(), address, received: now(), event }
    }

    #[test]
    fn what_a_server_saw_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let ok = check(folder.path());
        assert_eq!(ok[0].level, Level::Ok, "{ok:?}");
        store
            .change(|t| {
                for (last, built) in [(1, 1_600_000_000), (2, 1_700_000_000), (3, 1_790_000_000)] {
                    let version = format!("rpiboot/1.0 (c03112; version:8ba17717 timestamp:{built})");
                    record_bootloader(
                        t,
                        &Sighting { address: [192, 0, 2, last].into(), version, at: now() },
                    )?;
                }
                (0..LOOP).try_for_each(|boot| record(t, &event(boot)))?;
                let found =
                    Found { cause: "{}".into(), text: "a rival".into(), first: 1, last: now(), count: 3 };
                crate::store::findings::record(t, &found)
            })
            .unwrap();
        let lines = check(folder.path());
        let levels: Vec<_> = lines.iter().map(|line| line.level).collect();
        assert_eq!(
            levels,
            [Level::Problem, Level::Warning, Level::Warning, Level::Warning].as_slice(),
            "{lines:?}"
        );
        let all: Vec<_> = lines.iter().map(|line| line.found.as_str()).collect();
        assert!(
            all[0].contains("192.0.2.1 is of 2020-09-13") && all[1].contains("192.0.2.2 is of 2023-11-14"),
            "{all:?}"
        );
        assert!(
            all[2].contains("10000000abcdef01 began 5 boots") && all[2].ends_with("fetch: 404"),
            "{all:?}"
        );
        assert!(all[3].starts_with("a rival (3 times, last "), "{all:?}");
    }

    #[test]
    fn a_folder_without_a_database_is_said_and_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let lines = check(&folder.path().join("state"));
        assert_eq!(lines[0].level, Level::Unknown);
        assert!(!folder.path().join("state").exists());
    }
}
