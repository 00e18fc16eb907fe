//! The boot: a list of steps, and what happens when one fails. This is the file to read first.
//!
//! It runs in a child of PID 1. Should it die, it is started again and goes through the list from the top: each step
//! finds what is already done and leaves it.

use std::time::Duration;

use anyhow::Result;

use super::announce::Announcer;
use super::image::Image;
use super::step::Policy::{Optional, Required};
use super::step::Step;
use super::{mounts, steps};
use crate::cmdline::CommandLine;
use crate::config::Config;
use crate::plan::{DiskBoot, Goal, Hold, Plan, RamBoot};
use crate::status::Machine;

/// The steps every boot takes.
pub const COMMON: [Step; 6] = [
    Step {
        name: "console",
        run: steps::console::run,
        policy: Optional,
        deadline: secs(10),
        on_failure: "going on; messages may be missing",
    },
    Step {
        name: "filesystems",
        run: steps::filesystems::run,
        policy: Required,
        deadline: secs(20),
        on_failure: "trying again",
    },
    Step {
        name: "plan",
        run: steps::plan::run,
        policy: Required,
        deadline: secs(20),
        on_failure: "trying again",
    },
    Step {
        name: "usr",
        run: steps::usr::run,
        policy: Required,
        deadline: secs(60),
        on_failure: "trying again; SSH comes up meanwhile if the network's driver is built into the kernel",
    },
    Step {
        name: "modules",
        run: steps::modules::run,
        policy: Optional,
        deadline: secs(90),
        on_failure: "going on with the drivers that are built into the kernel",
    },
    Step {
        name: "network",
        run: steps::network::run,
        policy: Required,
        deadline: None,
        on_failure: "trying again",
    },
];

/// The further steps of a boot into RAM. A failure starts this list over; what is in RAM and verified stays there.
pub const RAM_BOOT: [Step; 6] = [
    Step {
        name: "manifest",
        run: steps::manifest::run,
        policy: Required,
        deadline: secs(120),
        on_failure: "asking again; check that the image, its .json and its .json.minisig are on the server, and the key",
    },
    Step {
        name: "budget",
        run: steps::budget::run,
        policy: Required,
        deadline: secs(20),
        on_failure: "looking again; a smaller image, lifeboat.overlay= or lifeboat.floor= would help",
    },
    Step {
        name: "fetch",
        run: steps::fetch::run,
        policy: Required,
        deadline: None,
        on_failure: "starting over with the manifest; what is verified stays",
    },
    Step {
        name: "mount",
        run: steps::mount::run,
        policy: Required,
        deadline: secs(60),
        on_failure: "starting over with the manifest; put an image with an OS in it on the server",
    },
    Step {
        name: "overlay",
        run: steps::overlay::run,
        policy: Required,
        deadline: secs(60),
        on_failure: "starting over with the manifest",
    },
    Step {
        name: "hand-over",
        run: steps::hand_over::run,
        policy: Required,
        deadline: None,
        on_failure: "starting over with the manifest",
    },
];

/// The further steps of a boot from a disk.
pub const DISK_BOOT: [Step; 3] = [
    Step {
        name: "unlock",
        run: steps::unlock::run,
        policy: Required,
        deadline: None,
        on_failure: "looking again",
    },
    Step {
        name: "root",
        run: steps::root::run,
        policy: Required,
        deadline: None,
        on_failure: "trying again; look at the disk with `rescue disks` and `rescue fsck`",
    },
    Step {
        name: "hand-over",
        run: steps::hand_over::run,
        policy: Required,
        deadline: None,
        on_failure: "trying again",
    },
];

/// A failed boot is tried again after 2, 4, 8 … seconds, at most this many.
const LAST_WAIT_S: u64 = 60;

const fn secs(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

/// What the steps know and hand on.
pub struct Boot {
    /// The image's own settings.
    pub config: Config,
    /// What the command line asks for.
    pub plan: Plan,
    /// From `filesystems` on: what this machine is.
    pub machine: Machine,
    /// The voice.
    pub announcer: Announcer,
    /// From `manifest` on: what is fetched.
    pub image: Option<Image>,
    /// From `budget` on: the most that the writable layer may hold, in bytes.
    pub overlay_bytes: u64,
    /// How often the image's fetch was begun.
    pub fetches: usize,
}

impl Boot {
    fn new() -> Self {
        // /proc has the command line, and the level up to which the kernel shows messages.
        if let Err(error) = mounts::mount_proc() {
            tracing::error!("{error:#}");
        }
        // Of all children this one alone begins before /proc is there.
        super::become_service();
        // The kernel drops all but ten lines in five seconds otherwise (Documentation/admin-guide/sysctl/kernel.rst). It
        // takes the word only with its newline.
        let _ = std::fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
        let config = steps::plan::read_config();
        Boot {
            machine: Machine::default(),
            plan: Plan::parse(&CommandLine::running()),
            config,
            announcer: Announcer::new(),
            image: None,
            overlay_bytes: 0,
            fetches: 0,
        }
    }

    /// The RAM boot that the plan asks for; the steps of [`RAM_BOOT`] run for no other goal.
    ///
    /// # Errors
    /// For another goal.
    pub fn ram_boot(&self) -> Result<RamBoot> {
        match &self.plan.goal {
            Goal::RamBoot(ram_boot) => Ok(RamBoot::clone(ram_boot)),
            _ => anyhow::bail!("this is no boot into RAM"),
        }
    }

    /// The boot from a disk that the plan asks for; the steps of [`DISK_BOOT`] run for no other goal.
    ///
    /// # Errors
    /// For another goal.
    pub fn disk_boot(&self) -> Result<DiskBoot> {
        match &self.plan.goal {
            Goal::DiskBoot(disk_boot) => Ok(DiskBoot::clone(disk_boot)),
            _ => anyhow::bail!("this is no boot from a disk"),
        }
    }

    /// Where this boot is held.
    pub fn hold(&self) -> Option<Hold> {
        match &self.plan.goal {
            Goal::Rescue => None,
            Goal::RamBoot(boot) => boot.hold,
            Goal::DiskBoot(boot) => boot.hold,
        }
    }
}

/// Runs the boot. It ends only by PID 1's hand: at a hand-over or the machine's end.
pub fn run() -> ! {
    let mut boot = Boot::new();
    if let Err(error) = boot.announcer.pulse.start() {
        // PID 1 would miss it, and have the machine reset: better to begin anew at once.
        tracing::error!("{error:#}");
        std::process::exit(1);
    }
    let further: &[Step] = match boot.plan.goal {
        Goal::Rescue => &[],
        Goal::RamBoot(_) => &RAM_BOOT,
        Goal::DiskBoot(_) => &DISK_BOOT,
    };
    let total = COMMON.len() + further.len().max(1);
    for (step, number) in COMMON.iter().zip(1..) {
        while let Err(error) = step.take(&mut boot, number, total) {
            let retry = (step.policy == Required).then_some(Duration::from_secs(2));
            boot.announcer.failed(&error, retry, step.on_failure);
            match retry {
                Some(wait) => std::thread::sleep(wait),
                None => break,
            }
        }
    }
    if boot.plan.goal == Goal::Rescue {
        steps::rescue::stay(&mut boot, total);
    }
    steps::hand_over::stay_if_failed(&mut boot, total);
    for attempt in 1.. {
        let wait = Duration::from_secs((1 << attempt.min(6)).min(LAST_WAIT_S));
        go_through(&mut boot, further, total, wait);
        std::thread::sleep(wait);
    }
    unreachable!("the attempts have no end")
}

/// Goes through the list once. Where it succeeds it does not come back.
fn go_through(boot: &mut Boot, steps: &[Step], total: usize, wait: Duration) {
    let first = steps.first().map_or("", |step| step.name);
    if let Err(error) = steps::hand_over::wait_before_root(boot, first, COMMON.len() + 1, total) {
        tracing::warn!("{error:#}: the boot is not held");
    }
    for (step, number) in steps.iter().zip(COMMON.len() + 1..) {
        if let Err(error) = step.take(boot, number, total) {
            let next = format!("{} (in {} s; SSH is up meanwhile)", step.on_failure, wait.as_secs());
            return boot.announcer.failed(&error, Some(wait), &next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_and_the_contract_name_the_same_steps() {
        assert_eq!(COMMON.each_ref().map(|step| step.name), crate::steps::COMMON);
        assert_eq!(RAM_BOOT.each_ref().map(|step| step.name), crate::steps::RAM_BOOT);
        assert_eq!(DISK_BOOT.each_ref().map(|step| step.name), crate::steps::DISK_BOOT);
    }
}
