//! Step `modules`: waits until the child `devices` has loaded the drivers of what is there.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::pid1::boot::Boot;
use crate::pid1::devices::COLDPLUG_DONE_PATH;
use crate::pid1::file;
use crate::status::RUN_DIR;

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run(_: &mut Boot) -> Result<()> {
    let done = || file::read_json::<usize>(Path::new(COLDPLUG_DONE_PATH));
    match file::wait_for(Path::new(RUN_DIR), LIMIT, done)? {
        Some(_) => Ok(()),
        None => bail!("the devices' drivers were not loaded within {} s", LIMIT.as_secs()),
    }
}
