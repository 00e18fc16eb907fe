//! Step `rescue`: where a boot stays that goes nowhere else. SSH answers. Where the command line leaves open what the boot is to
//! become, the boot server is asked ([`crate::server_plan`]), for as long as the rescue lasts.

use std::path::Path;
use std::time::Duration;

use url::Url;

use super::hand_over::is_waited_for;
use crate::pid1::boot::Boot;
use crate::pid1::{ask, file};
use crate::status::{HOST_KEY_FINGERPRINT_PATH, RUN_DIR};

/// The SSH server takes no longer to find its key, or makes one.
const HOST_KEY_LIMIT: Duration = Duration::from_secs(15);
/// The boot server is asked at once, then after 2, 4 … seconds, at most this many; so often also where it has no plan yet.
const LAST_WAIT_S: u64 = 60;

/// Comes back when the boot server has a plan that leads on from here.
pub(crate) fn stay(boot: &mut Boot, total: usize) {
    boot.announcer.started(crate::steps::RESCUE, total, total);
    // A key that is kept on a disk comes late, and what follows is the last that the boot server is told.
    let key = || std::fs::read_to_string(HOST_KEY_FINGERPRINT_PATH).ok();
    let fingerprint = file::wait_for(Path::new(RUN_DIR), HOST_KEY_LIMIT, key).ok().flatten();
    let problems = &boot.plan.problems;
    if problems.is_empty() {
        boot.announcer.waiting("log in by SSH");
    } else {
        let list = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let next = "staying in the rescue: log in by SSH, or mend the command line and start anew";
        boot.announcer.failed(&anyhow::anyhow!("kernel parameters not understood: {list}"), None, next);
    }
    if let Some(fingerprint) = fingerprint {
        tracing::info!("SSH host key {}", fingerprint.trim());
    }
    match boot.server().cloned().filter(|_| boot.plan.is_open) {
        Some(server) => wait_for_plan(boot, &server),
        None => {
            boot.announcer.pulse.rest();
            park()
        }
    }
}

fn wait_for_plan(boot: &mut Boot, server: &Url) {
    let mut wait = 1;
    // To ask takes its time at most, and a wait is over in a minute.
    boot.announcer.pulse.open(crate::steps::RESCUE);
    loop {
        boot.announcer.pulse.renew();
        // Who is at work here is not disturbed by a boot that begins.
        if !is_waited_for() {
            let next = match ask::ask(server, &boot.machine.serial, &boot.plan.transport)
                .and_then(|plan| boot.follow(plan))
            {
                Ok(true) => return,
                Ok(false) => {
                    wait = LAST_WAIT_S;
                    "log in by SSH; the boot server has nothing else for this Pi".into()
                }
                Err(error) => format!("log in by SSH; asking the boot server again, since: {error:#}"),
            };
            boot.announcer.waiting(&next);
        }
        wait = (wait * 2).min(LAST_WAIT_S);
        std::thread::sleep(Duration::from_secs(wait));
    }
}

/// Sleeps for ever.
pub(crate) fn park() -> ! {
    loop {
        std::thread::park();
    }
}
