//! A step of the boot, and the runner that takes steps in their order.

use std::time::Duration;

use anyhow::Result;

use super::boot::Boot;

/// Whether a boot can go on without a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It cannot: the step's failure ends this try.
    Required,
    /// It can: the failure is said, and the next step comes.
    Optional,
}

/// One step.
pub struct Step {
    /// Its name: see [`crate::steps`].
    pub name: &'static str,
    /// What it does.
    pub run: fn(&mut Boot) -> Result<()>,
    /// Whether a boot can go on without it.
    pub policy: Policy,
    /// A step that takes longer hangs: the worker ends, and PID 1 starts it anew. `None`: the step waits for the world
    /// outside, with time limits of its own, and announces something now and then ([`super::pulse`]).
    pub deadline: Option<Duration>,
    /// What happens when it has failed, and what a human can do.
    pub on_failure: &'static str,
}

impl Step {
    /// Runs this step, number `number` of `total`; its start and end are announced, its failure is the caller's to tell.
    ///
    /// # Errors
    /// The step's own.
    pub fn take(&self, boot: &mut Boot, number: usize, total: usize) -> Result<()> {
        boot.announcer.started(self.name, number, total);
        match self.deadline {
            Some(limit) => boot.announcer.pulse.within(self.name, limit),
            None => boot.announcer.pulse.open(self.name),
        }
        let result = injected_failure(boot, self.name).and_then(|()| (self.run)(boot));
        // What comes between two steps is a pause, or a hold.
        boot.announcer.pulse.open(self.name);
        if result.is_ok() {
            boot.announcer.done();
        }
        result
    }
}

/// `lifeboat.fail=STEP:TIMES`, for tests.
fn injected_failure(boot: &mut Boot, name: &str) -> Result<()> {
    match boot.plan.fail.iter_mut().find(|(step, times)| step == name && *times > 0) {
        Some((_, times)) => {
            *times -= 1;
            anyhow::bail!("asked to fail by lifeboat.fail= ({times} more times)")
        }
        None => Ok(()),
    }
}
