//! Step `network`: waits for an address, however long it takes. The child `network` does the work; SSH answers meanwhile
//! on whatever address there is.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::pid1::boot::Boot;
use crate::pid1::file;
use crate::plan::Goal;
use crate::status::{NETWORK_STATUS_PATH, NetworkStatus, RUN_DIR};

/// How often it says what it waits for.
const SAY_EVERY: Duration = Duration::from_secs(5);

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    loop {
        let status = || file::read_json::<NetworkStatus>(Path::new(NETWORK_STATUS_PATH));
        let online =
            file::wait_for(Path::new(RUN_DIR), SAY_EVERY, || status().filter(|status| status.online))?;
        if online.is_some() {
            return Ok(());
        }
        boot.announcer.waiting(&waits_for(status()));
        if boot.plan.goal == Goal::Rescue && status().is_some_and(|status| status.interfaces.is_empty()) {
            tracing::warn!("no wired interface: this rescue can be reached by its console only");
        }
    }
}

/// What it waits for, in words.
fn waits_for(status: Option<NetworkStatus>) -> String {
    let interfaces = status.unwrap_or_default().interfaces;
    if interfaces.is_empty() {
        return "waiting for a wired interface to appear (is its driver in the image?)".into();
    }
    let each = interfaces.iter().map(|interface| format!("{}: {}", interface.name, interface.state));
    format!("waiting for an address; {}", each.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::InterfaceStatus;

    #[test]
    fn it_says_what_it_waits_for() {
        assert!(waits_for(None).contains("wired interface"));
        let eth0 =
            InterfaceStatus { name: "eth0".into(), state: "waiting for a link".into(), ..Default::default() };
        let status = NetworkStatus { interfaces: vec![eth0], ..Default::default() };
        assert_eq!(waits_for(Some(status)), "waiting for an address; eth0: waiting for a link");
    }
}
