//! Step `plan`: settles what the boot is to become, says so, and tells PID 1 the settings it needs.

use std::path::Path;

use anyhow::{Context, Result};

use crate::config::{AUTHORIZED_KEYS_PATH, CONFIG_PATH, Config};
use crate::pid1::authorized_keys;
use crate::pid1::boot::Boot;
use crate::pid1::control::{self, Message};
use crate::pid1::events::Sender;
use crate::pid1::kept::Kept;
use crate::plan::{Goal, Plan};

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    std::fs::metadata("/proc/cmdline").context("reading /proc/cmdline")?;
    let server = boot.plan.server.as_ref().or(boot.config.server.as_ref());
    let events = server.map_or_else(Sender::none, |server| Sender::start(server, &boot.machine.serial));
    boot.announcer.set_goal(goal(&boot.plan), boot.machine.clone(), events);
    for problem in &boot.plan.problems {
        tracing::error!("kernel parameter not understood: {problem}");
    }
    tell_settings(boot)
}

/// Says what the boot is to become, and tells PID 1 what it needs to know of it.
pub(crate) fn tell_settings(boot: &mut Boot) -> Result<()> {
    boot.announcer.change_goal(goal(&boot.plan));
    tracing::info!("plan: {}", goal(&boot.plan));
    let added = authorized_keys::add(Path::new(AUTHORIZED_KEYS_PATH), &boot.plan.authorized_keys);
    if let Err(error) = added {
        tracing::error!("lifeboat.authorized_key: {error:#}");
    }
    // Another worker may have been through the step `state` in this boot.
    boot.kept = Kept::recall();
    control::send(&settings(boot))
}

/// What PID 1 needs to know.
pub(crate) fn settings(boot: &Boot) -> Message {
    let reboot_after = if super::state::is_used_up(boot) { 0 } else { reboot_after(boot) };
    Message::Settings { reboot_after, watchdog: boot.plan.watchdog }
}

/// After how many seconds without progress this boot starts anew, however often it has done so; 0: never.
pub(crate) fn reboot_after(boot: &Boot) -> u64 {
    // A rescue that was asked for is no failure: it waits for its human. So does a boot that is to be held.
    let asked_for = match &boot.plan.goal {
        Goal::Rescue => boot.plan.problems.is_empty(),
        Goal::RamBoot(ram_boot) => ram_boot.hold.is_some(),
        // Starting anew brings nobody who knows the passphrase.
        Goal::DiskBoot(disk_boot) => disk_boot.hold.is_some() || !disk_boot.luks.is_empty(),
    };
    match boot.plan.reboot_after {
        Some(seconds) => seconds,
        None if asked_for => 0,
        None => boot.config.reboot_after,
    }
}

/// The goal in words.
pub(crate) fn goal(plan: &Plan) -> String {
    match &plan.goal {
        Goal::Rescue => "rescue".into(),
        Goal::RamBoot(ram_boot) => {
            let layers = ram_boot.layers.iter().map(|layer| format!(" + {}", layer.url)).collect::<String>();
            format!("RAM boot of {}{layers}, checked {}", ram_boot.url, ram_boot.trust.describe())
        }
        Goal::DiskBoot(boot) => {
            let install = boot.install.as_ref();
            let install = install.map_or(String::new(), |i| format!("install {} on {}, ", i.url, i.to));
            match &boot.root {
                Some(root) => format!("{install}boot from the disk {root}"),
                None => format!("{install}boot from this machine's disk"),
            }
        }
    }
}

/// `/etc/lifeboat.toml`; where it cannot be read, the defaults, said so: a rescue with defaults beats none.
pub(crate) fn read_config() -> Config {
    let read = std::fs::read_to_string(CONFIG_PATH).context("reading it");
    let read = read.and_then(|text| Config::parse(&text).map_err(anyhow::Error::msg));
    read.unwrap_or_else(|error| {
        tracing::error!("{CONFIG_PATH}: {error:#}; going on with defaults");
        Config::default()
    })
}
