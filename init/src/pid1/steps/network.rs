//! Step `network`: waits for an address, however long it takes. The child `network` does the work; SSH answers meanwhile
//! on whatever address there is.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::pid1::boot::Boot;
use crate::pid1::{clock, file, pace};
use crate::plan::Goal;
use crate::status::{NETWORK_STATUS_PATH, NetworkStatus, RUN_DIR};

/// How often it says what it waits for: at first soon, later so that days of waiting do not fill the kernel's log.
const SAY_FIRST: Duration = Duration::from_secs(5);
const SAY_LAST: Duration = Duration::from_secs(80);
/// The mark of a wait by chance that is over.
const WAITED_PATH: &str = "/run/lifeboat/waited";

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    // The drivers are loaded; a clock that is wrong holds nothing up.
    if let Err(error) = clock::drivers_are_there() {
        tracing::warn!("{error:#}");
    }
    clock::start(boot.plan.transport.clone());
    wait_for_an_address(boot)?;
    wait_by_chance(boot, Path::new(WAITED_PATH));
    Ok(())
}

/// `lifeboat.jitter=`: machines that power up together do not ask together. A worker that starts anew does not wait again.
fn wait_by_chance(boot: &mut Boot, waited: &Path) {
    let Some(most) =
        boot.plan.transport.jitter.filter(|_| !waited.exists() && matches!(boot.plan.goal, Goal::RamBoot(_)))
    else {
        return;
    };
    let wait = pace::up_to(most);
    boot.announcer.waiting(&format!(
        "waiting {} s before the first request, of at most {} s (lifeboat.jitter=)",
        wait.as_secs(),
        most.as_secs()
    ));
    std::thread::sleep(wait);
    // Without this mark it waits once more, which is no harm.
    let _ = file::replace(waited, b"");
}

fn wait_for_an_address(boot: &mut Boot) -> Result<()> {
    let mut say_after = SAY_FIRST;
    loop {
        let status = || file::read_json::<NetworkStatus>(Path::new(NETWORK_STATUS_PATH));
        let online =
            file::wait_for(Path::new(RUN_DIR), say_after, || status().filter(|status| status.online))?;
        if online.is_some() {
            return Ok(());
        }
        boot.announcer.waiting(&waits_for(status()));
        say_after = (say_after * 2).min(SAY_LAST);
    }
}

/// What it waits for, in words.
fn waits_for(status: Option<NetworkStatus>) -> String {
    let interfaces = status.unwrap_or_default().interfaces;
    if interfaces.is_empty() {
        return "waiting for a wired interface (is its driver in the image?); the console is the only way in"
            .into();
    }
    let each = interfaces.iter().map(|interface| {
        let beside = interface.ipv6.words().into_iter().chain(interface.heard());
        let words = [interface.state.clone()].into_iter().chain(beside);
        format!("{}: {}", interface.name, words.collect::<Vec<_>>().join("; "))
    });
    format!("waiting for an address; {}", each.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighbours::SpanningTree;
    use crate::status::InterfaceStatus;

    #[test]
    fn it_says_what_it_waits_for() {
        assert!(waits_for(None).contains("wired interface"));
        let eth0 =
            InterfaceStatus { name: "eth0".into(), state: "waiting for a link".into(), ..Default::default() };
        let mut status = NetworkStatus { interfaces: vec![eth0], ..Default::default() };
        assert_eq!(waits_for(Some(status.clone())), "waiting for an address; eth0: waiting for a link");
        let tree =
            SpanningTree { protocol: "STP".into(), forward_delay: 15, may_block: true, ..Default::default() };
        status.interfaces[0].spanning_tree = Some(tree);
        let words = waits_for(Some(status));
        assert!(words.contains("(STP, root ): the switch's port may still be blocking"), "{words}");
    }
}
