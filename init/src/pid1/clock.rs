//! The system clock of a machine that may have none. It is stepped, never slewed: nothing runs yet that would mind.
//!
//! The floor is what cannot be in the future: the image's build time, then the time at which its OS image was signed. The clock
//! is never set to before it. Above it come, in this order of time, the battery-backed clock where there is one, and a time
//! server, asked by a thread of the boot's worker: no step waits for it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use super::dns::resolver::Resolver;
use super::file;
use super::pace::{self, Backoff};
use super::sntp::{self, SntpError};
use crate::status::{NETWORK_STATUS_PATH, NetworkStatus, RUN_DIR};
use crate::transport::{Transport, host_and_port};

/// Unix seconds; grows only.
static FLOOR: AtomicU64 = AtomicU64::new(0);
/// The battery-backed clock's own Unix seconds (Documentation/ABI/testing/sysfs-class-rtc).
const RTC_PATH: &str = "/sys/class/rtc/rtc0/since_epoch";
/// A clock that is off by less is left alone.
const CLOSE: Duration = Duration::from_millis(500);
/// How long after an answer a server is asked again. A Pi's clock drifts by some milliseconds in this time.
const ASK_AGAIN: Duration = Duration::from_secs(3600);
/// How long it waits where nobody is known who could be asked.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The image's build time is the first floor.
///
/// # Errors
/// When the clock cannot be set.
pub fn begin(built: u64) -> Result<()> {
    raise(built, "this image was built")
}

/// A minisign signature that was checked: its trusted comment says when it was made, and is signed too.
pub fn signed(signature: &str) {
    if let Some(time) = signing_time(signature)
        && let Err(error) = raise(time, "the OS image was signed")
    {
        tracing::warn!("{error:#}");
    }
}

/// `timestamp:SECONDS` in the trusted comment, as `minisign` and `boot-files` write it.
fn signing_time(signature: &str) -> Option<u64> {
    let comment = signature.lines().find_map(|line| line.strip_prefix("trusted comment: "))?;
    comment.split('\t').find_map(|field| field.strip_prefix("timestamp:"))?.trim().parse().ok()
}

/// `what` happened at this time: it is over.
fn raise(to: u64, what: &str) -> Result<()> {
    let to = to.min(LAST_TIME);
    FLOOR.fetch_max(to, Ordering::Relaxed);
    let now = now();
    if now.as_secs() >= to {
        return Ok(());
    }
    set(Duration::from_secs(to))?;
    tracing::info!("clock: {} is before {what}: set to {}", utc(now.as_secs()), utc(to));
    Ok(())
}

/// The end of 9999: nothing here knows later years.
const LAST_TIME: u64 = 253_402_300_799;

/// Once the drivers are there: a battery-backed clock, if it is believable. The kernel takes its time by itself, believable or
/// not (`CONFIG_RTC_HCTOSYS`), so the floor is looked at again.
///
/// # Errors
/// When the clock cannot be set.
pub fn drivers_are_there() -> Result<()> {
    let floor = FLOOR.load(Ordering::Relaxed);
    let rtc = std::fs::read_to_string(RTC_PATH).ok().and_then(|text| text.trim().parse::<u64>().ok());
    match rtc {
        Some(time) if time < floor => {
            tracing::info!(
                "clock: the battery-backed one says {}, before this image was built: not believed",
                utc(time)
            );
        }
        Some(time) if now().as_secs() < time.min(LAST_TIME) => {
            let before = now();
            set(Duration::from_secs(time.min(LAST_TIME)))?;
            tracing::info!(
                "clock: set from {} to the battery-backed one's {}",
                utc(before.as_secs()),
                utc(time)
            );
        }
        Some(time) => tracing::info!("clock: the battery-backed one says {}", utc(time)),
        None => {}
    }
    raise(floor, "this image was built")
}

/// Starts the thread that asks time servers: those of the command line, then DHCP's. One is enough, however often it is asked for.
pub fn start(transport: Transport) {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let keep = move || keep(&transport);
        if let Err(error) = std::thread::Builder::new().name("clock".into()).spawn(keep) {
            tracing::warn!("the clock is not set by a time server: {error}");
        }
    });
}

fn keep(transport: &Transport) {
    let mut asker = Asker::default();
    let mut backoff = Backoff::new(Duration::from_secs(8), Duration::from_secs(1024));
    loop {
        let status: Option<NetworkStatus> = online();
        let leased = status.unwrap_or_default().ntp;
        let mut servers: Vec<&str> = transport.time_servers().collect();
        servers.extend(leased.iter().map(String::as_str));
        if servers.is_empty() {
            std::thread::sleep(LOOK_AGAIN);
        } else if asker.round(&servers) {
            backoff.reset();
            std::thread::sleep(pace::spread(ASK_AGAIN));
        } else {
            std::thread::sleep(backoff.wait());
        }
    }
}

/// Waits for the network.
fn online() -> Option<NetworkStatus> {
    let status =
        || file::read_json::<NetworkStatus>(Path::new(NETWORK_STATUS_PATH)).filter(|status| status.online);
    file::wait_for(Path::new(RUN_DIR), ASK_AGAIN, status).ok().flatten()
}

/// Who asks, and what he has said of it: once each.
#[derive(Default)]
struct Asker {
    resolver: Resolver,
    said: BTreeSet<String>,
    /// Who does not want to be asked again.
    gone: BTreeSet<String>,
}

impl Asker {
    /// Asks one after the other; `true`: one has answered.
    fn round(&mut self, servers: &[&str]) -> bool {
        for server in servers {
            if self.gone.contains(*server) {
                continue;
            }
            let (host, port) = host_and_port(server, sntp::PORT);
            match sntp::ask(host, port, &self.resolver) {
                Ok(time) => {
                    if self.take(server, time) {
                        return true;
                    }
                }
                Err(error) => {
                    // RFC 4330, section 8: DENY and RSTR are for good; to RATE we come back late as it is.
                    if matches!(&error, SntpError::Kiss(code) if code != "RATE") {
                        self.gone.insert((*server).into());
                    }
                    let kind = std::mem::discriminant(&error);
                    self.say(server, &format!("{kind:?}"), &format!("time server {server}: {error}"));
                }
            }
        }
        false
    }

    /// Sets the clock, if the answer can be believed.
    fn take(&mut self, server: &str, time: Duration) -> bool {
        let now = now();
        match weigh(now, time, FLOOR.load(Ordering::Relaxed)) {
            Verdict::BeforeFloor => {
                let time = utc(time.as_secs());
                let text = "before what is known to be over: not believed";
                self.say(server, "floor", &format!("time server {server} says {time}, {text}"));
                return false;
            }
            Verdict::Close => {
                self.say(server, "right", &format!("{} is right, says {server}", utc(now.as_secs())));
            }
            Verdict::Step => match set(time) {
                Ok(()) => {
                    let (from, to) = (utc(now.as_secs()), utc(time.as_secs()));
                    tracing::info!("clock: set from {from} to {to}, as {server} says");
                }
                Err(error) => self.say(server, "set", &format!("{error:#}")),
            },
        }
        true
    }

    /// Once for each server and kind of message.
    fn say(&mut self, server: &str, kind: &str, text: &str) {
        if self.said.insert(format!("{server} {kind}")) {
            tracing::info!("clock: {text}");
        }
    }
}

/// What is done about a server's time.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    BeforeFloor,
    Close,
    Step,
}

fn weigh(now: Duration, told: Duration, floor: u64) -> Verdict {
    if told.as_secs() < floor {
        Verdict::BeforeFloor
    } else if now.abs_diff(told) < CLOSE {
        Verdict::Close
    } else {
        Verdict::Step
    }
}

/// Since 1970.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Realtime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn set(time: Duration) -> Result<()> {
    let tv_sec = i64::try_from(time.as_secs()).context("setting the clock")?;
    let time = Timespec { tv_sec, tv_nsec: time.subsec_nanos().into() };
    clock_settime(ClockId::Realtime, time).context("setting the clock")
}

/// Unix seconds for people: `2026-11-28 08:00:00 UTC`. Days to a date as in RFC 3339's calendar, the proleptic Gregorian one.
pub fn utc(seconds: u64) -> String {
    let seconds = seconds.min(LAST_TIME);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March have their odd day at their end.
    let from_march = days + 719_468;
    let (era, day) = (from_march / 146_097, from_march % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..=9 => (era * 400 + year, month + 3),
        _ => (era * 400 + year + 1, month - 9),
    };
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_date_does() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_854_496, "2026-11-28 08:28:16 UTC"),
            (4_102_444_799, "2099-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (u64::MAX, "9999-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn a_signature_says_when() {
        let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let signed =
            |comment| minisign::sign(None, &pair.sk, &b"x"[..], comment, None).unwrap().into_string();
        assert_eq!(
            signing_time(&signed(Some("timestamp:1795824000\tfile:x.json\thashed"))),
            Some(1_795_824_000)
        );
        // minisign's own comment.
        assert!(signing_time(&signed(None)).is_some_and(|time| time > 1_700_000_000));
        assert_eq!(signing_time(&signed(Some("no time"))), None);
        assert_eq!(signing_time("untrusted comment: timestamp:7\n"), None);
    }

    #[test]
    fn a_server_is_believed_from_the_floor_on() {
        let seconds = Duration::from_secs;
        assert_eq!(weigh(seconds(2000), seconds(999), 1000), Verdict::BeforeFloor);
        assert_eq!(weigh(seconds(2000), seconds(1000), 1000), Verdict::Step);
        assert_eq!(weigh(seconds(1000), seconds(5000), 1000), Verdict::Step);
        assert_eq!(weigh(seconds(2000), Duration::from_millis(2_000_499), 1000), Verdict::Close);
    }
}
