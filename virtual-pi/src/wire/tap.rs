//! The tap device that is the Pi's end of the cable.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::machine::tool;

/// A tap device in a bridge. It is removed when this is dropped; a `kill -9` leaves it behind.
#[derive(Debug)]
pub struct Tap {
    name: String,
}

impl Tap {
    /// Makes one and puts it into `bridge`.
    ///
    /// # Errors
    /// When `ip` is missing, when there is no such bridge, or without root (`CAP_NET_ADMIN`).
    pub fn plug_into(bridge: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vpi{}n{number}", std::process::id());
        ip(&["tuntap", "add", "dev", &name, "mode", "tap"])?;
        let tap = Self { name };
        ip(&["link", "set", "dev", &tap.name, "master", bridge])
            .with_context(|| format!("plugging the Pi's cable into the bridge {bridge}"))?;
        // The bridge's own neighbours speak IPv6; the cable's near end is nobody.
        ip(&["link", "set", "dev", &tap.name, "addrgenmode", "none", "up"])?;
        Ok(tap)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Takes the tap device of this name away.
pub(crate) fn remove(name: &str) {
    // It may be gone with its network namespace.
    let _gone = ip(&["link", "del", "dev", name]);
}

fn ip(words: &[&str]) -> Result<()> {
    tool::run(Command::new("ip").args(words), "iproute2").with_context(|| format!("ip {}", words.join(" ")))
}
