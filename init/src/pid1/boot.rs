//! The boot: a list of steps, and what happens when one fails. This is the file to read first.
//!
//! It runs in a child of PID 1. Should it die, it is started again and goes through the list from the top: each step
//! finds what is already done and leaves it.

use std::time::Duration;

use anyhow::Result;
use url::Url;

use super::announce::Announcer;
use super::image::Image;
use super::kept::Kept;
use super::step::Policy::{Optional, Required};
use super::step::Step;
use super::{ask, mounts, pace, steps};
use crate::cmdline::CommandLine;
use crate::config::Config;
use crate::plan::{DiskBoot, Goal, Hold, Plan, RamBoot};
use crate::server_plan::ServerPlan;
use crate::status::Machine;

/// The steps every boot takes.
pub const COMMON: [Step; 8] = [
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
        name: "zram",
        run: steps::zram::run,
        policy: Optional,
        deadline: secs(30),
        on_failure: "going on without swap",
    },
    Step {
        name: "state",
        run: steps::state::run,
        policy: Optional,
        deadline: secs(90),
        on_failure: "going on; what earlier boots knew is not known, and reboots are not counted",
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
pub const DISK_BOOT: [Step; 4] = [
    Step {
        name: "install",
        run: steps::install::run,
        policy: Required,
        deadline: None,
        on_failure: "trying again, after as long as this try took",
    },
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

/// A failed boot is tried again after up to 2, 4, 8 … seconds, at most this many, and by chance as little as half.
const LAST_WAIT_S: u64 = 60;

const fn secs(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

/// What the steps know and hand on.
pub struct Boot {
    /// The image's own settings.
    pub config: Config,
    /// The command line.
    line: CommandLine,
    /// What it asks for, or the boot server where it leaves that open.
    pub plan: Plan,
    /// The boot server's plan, where there is one.
    followed: Option<ServerPlan>,
    /// From `filesystems` on: what this machine is.
    pub machine: Machine,
    /// The voice.
    pub announcer: Announcer,
    /// From `manifest` on: what is fetched, the lowest image first.
    pub images: Vec<Image>,
    /// From `state` on, or from the start of a worker that was started again: what earlier boots left.
    pub kept: Option<Kept>,
    /// From `zram` on: the size of the swap in compressed RAM, in bytes.
    pub zram_bytes: u64,
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
        let line = CommandLine::running();
        let config = steps::plan::read_config();
        Boot {
            machine: Machine::default(),
            plan: Plan::parse(&line),
            line,
            followed: None,
            config,
            announcer: Announcer::new(),
            images: Vec::new(),
            kept: None,
            zram_bytes: 0,
            overlay_bytes: 0,
            fetches: 0,
        }
    }

    /// The boot server, if there is one.
    pub fn server(&self) -> Option<&Url> {
        self.plan.server.as_ref().or(self.config.server.as_ref())
    }

    /// Takes the boot server's plan, or its having none; gives whether it leads out of the rescue.
    ///
    /// # Errors
    /// When something in it cannot be understood. The plan is then the command line's own.
    pub fn follow(&mut self, given: Option<ServerPlan>) -> Result<bool> {
        let line = given.as_ref().map_or_else(|| self.line.clone(), |given| given.before(&self.line));
        let plan = Plan::parse(&line);
        if let Some(problem) = plan.problems.first() {
            self.follow(None)?;
            anyhow::bail!("the boot server's plan is not understood: {problem}");
        }
        let is_changed = plan.goal != self.plan.goal;
        self.plan = plan;
        // Still to be asked, whatever it said.
        self.plan.is_open = true;
        self.followed = given;
        if is_changed {
            (self.images, self.fetches) = (Vec::new(), 0);
            steps::plan::tell_settings(self)?;
        }
        Ok(self.plan.goal != Goal::Rescue)
    }

    /// After a failure: whether the boot server, whose plan this boot follows, has another one by now.
    fn has_other_plan(&mut self) -> bool {
        let (Some(followed), Some(server)) = (&self.followed, self.server()) else { return false };
        // Who is at work here is not disturbed by another boot that begins.
        if steps::hand_over::is_waited_for() {
            return false;
        }
        let Ok(given) = ask::ask(server, &self.machine.serial, &self.plan.transport) else { return false };
        if given.as_ref() == Some(followed) {
            return false;
        }
        if let Err(error) = self.follow(given) {
            tracing::warn!("{error:#}");
        }
        true
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

    /// What is fetched, the lowest image first.
    ///
    /// # Errors
    /// Before the step `manifest`.
    pub fn images(&self) -> Result<Vec<Image>> {
        anyhow::ensure!(!self.images.is_empty(), "there is no manifest yet");
        Ok(self.images.clone())
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
    let total = COMMON.len() + further(&boot).len().max(1);
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
    loop {
        if boot.plan.goal == Goal::Rescue {
            steps::rescue::stay(&mut boot, COMMON.len() + 1);
        }
        let further = further(&boot);
        let total = COMMON.len() + further.len();
        steps::hand_over::stay_if_failed(&mut boot, total);
        for attempt in 1.. {
            let wait = pace::spread(Duration::from_secs((1 << attempt.min(6)).min(LAST_WAIT_S)));
            go_through(&mut boot, further, total, wait);
            std::thread::sleep(wait);
            if boot.has_other_plan() {
                break;
            }
        }
    }
}

/// The steps behind [`COMMON`]; none for the rescue.
fn further(boot: &Boot) -> &'static [Step] {
    match boot.plan.goal {
        Goal::Rescue => &[],
        Goal::RamBoot(_) => &RAM_BOOT,
        Goal::DiskBoot(_) => &DISK_BOOT,
    }
}

/// Goes through the list once. Where it succeeds it does not come back.
fn go_through(boot: &mut Boot, steps: &[Step], total: usize, wait: Duration) {
    let first = steps.first().map_or("", |step| step.name);
    if let Err(error) = steps::hand_over::wait_before_root(boot, first, COMMON.len() + 1, total) {
        tracing::warn!("{error:#}: the boot is not held");
    }
    for (step, number) in steps.iter().zip(COMMON.len() + 1..) {
        if let Err(error) = step.take(boot, number, total) {
            let next = format!("{} (in {:.0} s; SSH is up meanwhile)", step.on_failure, wait.as_secs_f64());
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
