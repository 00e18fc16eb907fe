//! Step `hand-over`: asks PID 1 to leave for the OS. When that works, this process is ended by it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::mount::ROOT;
use crate::cmdline::CommandLine;
use crate::pid1::boot::Boot;
use crate::pid1::control::{self, Destination, Message};
use crate::pid1::{kept, mounts};
use crate::plan::{Goal, Hold};
use crate::status::{CONTINUE_PATH, HAND_OVER_FAILED_PATH, HOLD_PATH, SESSIONS_DIR};
use crate::watchdog;

/// PID 1 ends this process first of all; when it has not after so long, it never will.
const LIMIT: Duration = Duration::from_secs(30);
/// How often the marks of people are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Stays here after a hand-over that failed: another try would end every SSH session, and what is mounted is what a human
/// wants to look at. The reboot timer runs. `rescue continue` takes the file away, and the boot goes through its steps again.
pub(crate) fn stay_if_failed(boot: &mut Boot, total: usize) {
    let Ok(error) = std::fs::read_to_string(HAND_OVER_FAILED_PATH) else { return };
    boot.announcer.started("hand-over", total, total);
    let next = format!(
        "it is not tried again by itself: look at {ROOT} by SSH; `rescue continue` tries again, `rescue reboot` starts anew"
    );
    boot.announcer.failed(&anyhow::anyhow!(error), None, &next);
    boot.announcer.pulse.rest();
    while Path::new(HAND_OVER_FAILED_PATH).exists() {
        std::thread::sleep(LOOK_AGAIN);
    }
    boot.announcer.pulse.open("hand-over");
}

/// `rd.break=pre-mount`: waits before anything is fetched.
pub(crate) fn wait_before_root(
    boot: &mut Boot,
    first: &'static str,
    number: usize,
    total: usize,
) -> Result<()> {
    if boot.hold() == Some(Hold::BeforeRoot) {
        hold_from_the_start()?;
        boot.announcer.started(first, number, total);
        while let Some(next) = hold() {
            boot.announcer.waiting(&next);
            std::thread::sleep(LOOK_AGAIN);
        }
    }
    Ok(())
}

/// Whether somebody holds the boot, in words.
fn hold() -> Option<String> {
    let mark = std::fs::read_to_string(HOLD_PATH).ok()?;
    let by = mark.lines().next().unwrap_or("somebody");
    Some(format!("held by {by}: `rescue continue` lets it go on"))
}

/// Nobody's work is cut off: a hand-over ends every session. It waits for all that is in the sessions' folder, a hold
/// among it, but what `rescue continue` excepted.
fn wait_for_humans(boot: &mut Boot) {
    while is_waited_for() {
        let next = hold().unwrap_or_else(|| {
            "somebody is logged in: the OS is ready, and goes on when they log out or type `rescue continue`".into()
        });
        boot.announcer.waiting(&next);
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Whether somebody is at work here.
pub(in crate::pid1) fn is_waited_for() -> bool {
    let excepted = std::fs::read_to_string(CONTINUE_PATH).unwrap_or_default();
    let mut sessions = std::fs::read_dir(SESSIONS_DIR).into_iter().flatten().flatten();
    sessions.any(|session| !excepted.lines().any(|name| session.file_name() == name))
}

/// `rd.break`: a hold from the start. Not again once somebody said `rescue continue`, also when this process was started
/// again.
fn hold_from_the_start() -> Result<()> {
    if Path::new(CONTINUE_PATH).exists() || Path::new(HOLD_PATH).exists() {
        return Ok(());
    }
    let mark = std::fs::create_dir_all(SESSIONS_DIR)
        .and_then(|()| std::fs::write(HOLD_PATH, "rd.break on the kernel command line\n"));
    mark.with_context(|| format!("writing {HOLD_PATH}"))
}

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    if boot.hold() == Some(Hold::BeforeHandOver) {
        hold_from_the_start()?;
    }
    wait_for_humans(boot);
    let destination = |init: &str, arguments: &[String]| {
        let feeds_watchdog = watchdog::is_fed_by(Path::new(ROOT), init, &CommandLine::running());
        let arguments = arguments.to_vec();
        Message::HandOver(Destination { root: ROOT.into(), init: init.into(), arguments, feeds_watchdog })
    };
    let message = match &boot.plan.goal {
        Goal::RamBoot(boot) => destination(&boot.init, &boot.init_arguments),
        Goal::DiskBoot(boot) if boot.kexec => Message::Kexec,
        Goal::DiskBoot(boot) => destination(&boot.init, &boot.init_arguments),
        Goal::Rescue => bail!("this boot stays in the rescue"),
    };
    // A person may have undone what the steps before did, while the boot was held.
    let ready =
        if message == Message::Kexec { crate::control::is_kernel_loaded() } else { mounts::is_mounted(ROOT) };
    ensure!(ready, "what was prepared is not there any more");
    // Now or never: PID 1 writes nothing, and behind the exec nobody of us is left.
    if let Some(file) = &boot.plan.state.file
        && let Err(error) = kept::finish(file)
    {
        tracing::warn!("this boot goes on counting as one that came to nothing: {error:#}");
    }
    control::send(&message)?;
    std::thread::sleep(LIMIT);
    bail!("PID 1 did not hand over within {} s", LIMIT.as_secs())
}
