//! The hardware watchdog (`Documentation/watchdog/watchdog-api.rst`): while PID 1 lives, and finds the boot's worker alive
//! or a person logged in, it writes a byte now and then; else the hardware resets the machine.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use rustix::ioctl::{Getter, Opcode, Updater, ioctl, opcode};

use crate::watchdog::Policy;

/// Seconds between two bytes: a third of the shortest timer.
pub const FEED_EVERY_S: u64 = 5;
/// A worker that is silent for longer hangs.
pub const SILENCE: Duration = Duration::from_secs(60);

const DEVICE: &str = "/dev/watchdog0";
/// Whether the driver cannot be told to stop (`Documentation/ABI/testing/sysfs-class-watchdog`).
const NOWAYOUT: &str = "/sys/class/watchdog/watchdog0/nowayout";
/// The timers in seconds that are asked for while PID 1 feeds. `bcm2835_wdt` counts 15 at most up to Linux 6.5; later the
/// kernel feeds it in between.
const OWN: [i32; 3] = [30, 15, 10];
/// Those for the time in which an OS starts.
const FOR_AN_OS: [i32; 6] = [600, 300, 120, 60, 30, 15];

/// `struct watchdog_info` (`include/uapi/linux/watchdog.h`).
#[repr(C)]
struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

const _: () = assert!(size_of::<Info>() == 40);

const GETSUPPORT: Opcode = opcode::read::<Info>(b'W', 0);
const SETTIMEOUT: Opcode = opcode::read_write::<i32>(b'W', 6);
const GETTIMEOUT: Opcode = opcode::read::<i32>(b'W', 7);
/// `WDIOF_MAGICCLOSE`: it stops only after a `V`; without it, whenever it is closed.
const MAGIC_CLOSE: u32 = 0x0100;

/// `/dev/watchdog0` once its driver is there.
#[derive(Default)]
pub struct Watchdog {
    /// `None` until the boot has read the command line: opening a watchdog starts it.
    policy: Option<Policy>,
    device: Option<File>,
    is_hungry: bool,
    /// Whether it is another system's: it is not opened any more.
    is_left: bool,
}

impl Watchdog {
    /// What the command line says.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = Some(policy);
    }

    /// Feeds it, opening it first if need be. Opening starts the timer.
    pub fn feed(&mut self) {
        let is_wanted = matches!(self.policy, Some(Policy::On | Policy::Keep)) && !self.is_left;
        if self.device.is_none() && is_wanted {
            self.device = open();
        }
        if let Some(device) = &mut self.device {
            if self.is_hungry {
                tracing::warn!("the watchdog is fed again");
                self.is_hungry = false;
            }
            if let Err(error) = device.write_all(b".") {
                tracing::warn!("feeding the watchdog: {error}");
            }
        }
    }

    /// Lets it bite: says so, and does nothing more.
    pub fn starve(&mut self) {
        if let Some(device) = &self.device
            && !self.is_hungry
        {
            self.is_hungry = true;
            let left = timeout(device).map_or("some".into(), |seconds| seconds.to_string());
            tracing::error!(
                "the boot's worker was silent for {} s and nobody is logged in: the watchdog is fed no more and resets \
                 this machine in {left} s",
                SILENCE.as_secs()
            );
        }
    }

    /// Before another system takes over: one that feeds it finds it running, with its longest timer. Else it is stopped,
    /// so that an OS that does not know of it is not reset. It stays open in the first case: [`Watchdog::feed`] goes on
    /// until the exec closes it, which feeds it once more.
    pub fn leave(&mut self, is_fed: bool) {
        self.is_left = true;
        let Some(device) = self.device.take() else { return };
        let set = set_timeout(&device, &FOR_AN_OS);
        let seconds = set.or_else(|| timeout(&device)).unwrap_or_default();
        if is_fed || self.policy == Some(Policy::Keep) {
            tracing::info!("the watchdog stays armed: the OS has {seconds} s to feed it");
            self.device = Some(device);
            return;
        }
        stop(device, seconds);
    }

    /// After a hand-over that failed: PID 1 feeds it as before.
    pub fn take_back(&mut self) {
        // Closing it without a word feeds it; opening it anew sets its timer.
        (self.device, self.is_left) = (None, false);
        self.feed();
    }
}

/// Whether the boot's worker, or a person, is there to be fed for.
pub fn is_somebody_there(last_sign: Instant, is_logged_in: impl FnOnce() -> bool) -> bool {
    last_sign.elapsed() < SILENCE || is_logged_in()
}

fn open() -> Option<File> {
    let device = OpenOptions::new().write(true).open(DEVICE).ok()?;
    let set = set_timeout(&device, &OWN);
    let seconds = set.or_else(|| timeout(&device)).map_or("an unknown number of".into(), |s| s.to_string());
    let name = info(&device).map_or(String::new(), |info| format!(" ({})", identity(&info)));
    tracing::info!("feeding the watchdog {DEVICE}{name} every {FEED_EVERY_S} s; it bites after {seconds} s");
    Some(device)
}

/// The magic close, `V`, where that is possible.
fn stop(mut device: File, seconds: i32) {
    let cannot = std::fs::read_to_string(NOWAYOUT).is_ok_and(|text| text.trim() == "1");
    let is_magic = info(&device).is_none_or(|info| info.options & MAGIC_CLOSE != 0);
    if cannot {
        tracing::error!(
            "the watchdog cannot be stopped (nowayout): an OS that does not feed it is reset {seconds} s from now"
        );
    } else if is_magic && let Err(error) = device.write_all(b"V") {
        tracing::warn!("stopping the watchdog: {error}");
    }
}

fn identity(info: &Info) -> String {
    let end = info.identity.iter().position(|byte| *byte == 0).unwrap_or(info.identity.len());
    String::from_utf8_lossy(info.identity.get(..end).unwrap_or_default()).into_owned()
}

fn info(device: &File) -> Option<Info> {
    // SAFETY: WDIOC_GETSUPPORT fills one struct watchdog_info, whose size is asserted above; any bytes are one.
    #[allow(unsafe_code, reason = "an ioctl")]
    unsafe { ioctl(device, Getter::<GETSUPPORT, Info>::new()) }.ok()
}

fn timeout(device: &File) -> Option<i32> {
    // SAFETY: WDIOC_GETTIMEOUT fills one int.
    #[allow(unsafe_code, reason = "an ioctl")]
    unsafe { ioctl(device, Getter::<GETTIMEOUT, i32>::new()) }.ok()
}

/// Sets the first of these timers that the driver takes, and gives the one that it has then.
fn set_timeout(device: &File, wanted: &[i32]) -> Option<i32> {
    wanted.iter().find_map(|seconds| {
        let mut seconds = *seconds;
        // SAFETY: WDIOC_SETTIMEOUT reads and writes one int.
        #[allow(unsafe_code, reason = "an ioctl")]
        unsafe { ioctl(device, Updater::<SETTIMEOUT, i32>::new(&mut seconds)) }.ok()?;
        Some(seconds)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fed_for_a_worker_that_lives_or_a_person() {
        let now = Instant::now();
        let Some(long_ago) = now.checked_sub(SILENCE * 2) else { return };
        assert!(is_somebody_there(now, || false));
        assert!(is_somebody_there(long_ago, || true));
        assert!(!is_somebody_there(long_ago, || false));
    }

    #[test]
    fn what_is_no_watchdog_is_left_alone() {
        let file = File::open("/dev/null").unwrap();
        assert!(info(&file).is_none());
        assert_eq!((timeout(&file), set_timeout(&file, &OWN)), (None, None));
        let mut watchdog = Watchdog::default();
        watchdog.feed();
        watchdog.set_policy(Policy::Off);
        watchdog.feed();
        assert!(watchdog.device.is_none());
    }
}
