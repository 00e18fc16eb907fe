//! Step `rescue`: where a boot stays that goes nowhere else. SSH answers; nothing else happens.

use crate::pid1::boot::Boot;
use crate::status::HOST_KEY_FINGERPRINT_PATH;

pub(crate) fn stay(boot: &mut Boot, total: usize) -> ! {
    boot.announcer.started(crate::steps::RESCUE, total, total);
    let problems = &boot.plan.problems;
    if problems.is_empty() {
        boot.announcer.waiting("log in by SSH");
    } else {
        let list = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let next = "staying in the rescue: log in by SSH, or mend the command line and start anew";
        boot.announcer.failed(&anyhow::anyhow!("kernel parameters not understood: {list}"), None, next);
    }
    if let Ok(fingerprint) = std::fs::read_to_string(HOST_KEY_FINGERPRINT_PATH) {
        tracing::info!("SSH host key {}", fingerprint.trim());
    }
    park()
}

/// Sleeps for ever.
pub(crate) fn park() -> ! {
    loop {
        std::thread::park();
    }
}
