//! Step `modules`: waits until the child `devices` has loaded the drivers of what is there.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::pid1::boot::Boot;
use crate::pid1::devices::COLDPLUG_DONE_PATH;
use crate::pid1::{file, last_crash};
use crate::plan::Goal;
use crate::status::RUN_DIR;

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let loaded = wait();
    // Its driver is one of them.
    tell_last_crash(boot);
    loaded
}

/// Tells, once, how an earlier boot crashed.
fn tell_last_crash(boot: &mut Boot) {
    match last_crash::look(boot.plan.goal == Goal::Rescue) {
        Ok(Some(crash)) => {
            tracing::error!("{}; `rescue log --crash` shows what it left", crash.describe());
            boot.announcer.last_crash = Some(crash.describe());
        }
        Ok(None) => {}
        Err(error) => tracing::warn!("looking for what an earlier crash left: {error:#}"),
    }
}

fn wait() -> Result<()> {
    let done = || file::read_json::<usize>(Path::new(COLDPLUG_DONE_PATH));
    match file::wait_for(Path::new(RUN_DIR), LIMIT, done)? {
        Some(_) => Ok(()),
        None => bail!("the devices' drivers were not loaded within {} s", LIMIT.as_secs()),
    }
}
