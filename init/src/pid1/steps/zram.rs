//! Step `zram`: swap in compressed RAM, where `lifeboat.zram=` asks for it.

use anyhow::Result;

use crate::pid1::boot::Boot;
use crate::pid1::zram;
use crate::size::human;

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let Some(size) = boot.plan.zram else { return Ok(()) };
    boot.zram_bytes = zram::swap_on(size.of(boot.machine.memory), &boot.machine.kernel)?;
    tracing::info!("swap in compressed RAM: {}", human(boot.zram_bytes));
    Ok(())
}
