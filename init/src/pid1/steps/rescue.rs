//! Step `rescue`: where a boot stays that goes nowhere else. SSH answers; nothing else happens.

use std::path::Path;
use std::time::Duration;

use crate::pid1::boot::Boot;
use crate::pid1::file;
use crate::status::{HOST_KEY_FINGERPRINT_PATH, RUN_DIR};

/// The SSH server takes no longer to find its key, or makes one.
const HOST_KEY_LIMIT: Duration = Duration::from_secs(15);

pub(crate) fn stay(boot: &mut Boot, total: usize) -> ! {
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
    boot.announcer.pulse.rest();
    park()
}

/// Sleeps for ever.
pub(crate) fn park() -> ! {
    loop {
        std::thread::park();
    }
}
