//! Step `state`: reads what earlier boots left, and counts this one (`lifeboat.state=`, `lifeboat.reboots=`).

use anyhow::{Context, Result};

use super::plan;
use crate::pid1::boot::Boot;
use crate::pid1::control;
use crate::pid1::kept::{self, Kept};
use crate::plan::Goal;

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let reboots = plan::reboot_after(boot) > 0;
    let Some(file) = boot.plan.state.file.clone() else {
        if reboots {
            boot.announcer.set_reboots("not counted: there is no lifeboat.state=".into());
        }
        return Ok(());
    };
    let kept = Kept::read(&file);
    if kept.is_err() && reboots {
        boot.announcer.set_reboots(format!("not counted: {file} cannot be read"));
    }
    let kept = kept?;
    boot.kept = Some(kept.clone());
    let is_asked_for = boot.plan.goal == Goal::Rescue && boot.plan.problems.is_empty();
    if is_asked_for || kept.visited {
        boot.announcer.set_reboots("none is needed: this boot is where it should be".into());
        // It wears the disk less to write only what is new.
        return if kept.unfinished > 0 { kept::count(&file, 0) } else { Ok(()) };
    }
    if !reboots {
        boot.announcer.set_reboots("none: lifeboat.reboot_after=0".into());
        return Ok(());
    }
    say_how_many_are_left(boot, kept.unfinished)?;
    let counted = kept::count(&file, kept.unfinished.saturating_add(1));
    if counted.is_err() && !is_used_up(boot) {
        boot.announcer.set_reboots(format!("not counted: {file} cannot be written"));
    }
    counted.context("counting this boot")?;
    kept::count_none_once_somebody_logs_in(file);
    Ok(())
}

/// Whether so many boots in a row came to nothing that another start will not help.
pub(crate) fn is_used_up(boot: &Boot) -> bool {
    boot.kept.as_ref().is_some_and(|kept| kept.unfinished >= boot.plan.state.reboots)
}

fn say_how_many_are_left(boot: &mut Boot, unfinished: u32) -> Result<()> {
    let limit = boot.plan.state.reboots;
    if !is_used_up(boot) {
        boot.announcer.set_reboots(format!(
            "{unfinished} of {limit} were made: so many boots in a row came to nothing"
        ));
        return Ok(());
    }
    let words =
        format!("none any more: {unfinished} boots in a row came to nothing (lifeboat.reboots={limit})");
    boot.announcer.set_reboots(words.clone());
    let next = "it goes on trying, and stays here with SSH; `rescue reboot` starts anew";
    boot.announcer.failed(&anyhow::anyhow!("reboots: {words}"), None, next);
    control::send(&plan::settings(boot))
}
