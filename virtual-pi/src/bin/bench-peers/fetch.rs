//! Init's fetch, verified on the way, against curl's into a tmpfs: the same file, guest, kernel and server.

use std::fmt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use init::event::State;
use init::status::BootStatus;
use regex::Regex;
use serde::Serialize;
use virtual_pi::machine::Machine;

use crate::boot::{self, LIMIT};
use crate::case::Case;
use crate::site::Site;

/// What curl is asked to do in the guest. The tmpfs may hold half of the memory.
const CURL: &str = "mkdir /mnt/curl && mount -t tmpfs curl /mnt/curl && \
    curl --silent --show-error --fail --output /mnt/curl/image --write-out '%{time_total}'";

/// What came out, in MB (10^6 bytes) a second.
#[derive(Debug, Serialize)]
pub(crate) struct Fetched {
    #[serde(flatten)]
    case: Case,
    /// By init.
    pub(crate) ours: f64,
    /// By curl.
    pub(crate) curl: f64,
}

/// Boots into RAM, stops before the hand-over, and lets curl fetch the image once more.
pub(crate) fn run(site: &Site, case: Case) -> Result<Fetched> {
    let (machine, _recording) = boot::start(site, case)?;
    let held = |status: &BootStatus| status.step == "hand-over" && status.state == State::Waiting;
    machine.wait_for_report(held, LIMIT)?;
    let ms = Regex::new(r"fetch: done, (\d+) ms").context("reading a pattern")?;
    let ms = ms.captures(&machine.console()).and_then(|found| found.get(1)?.as_str().parse::<f64>().ok());
    let ms = ms.context("init did not say how long its fetch took")?;
    let seconds = curl(site, case, &machine)?;
    let megabytes = site.image_size(case.goal)? as f64 / 1e6;
    Ok(Fetched { case, ours: megabytes / (ms / 1e3), curl: megabytes / seconds })
}

/// Returns the seconds that curl counted.
fn curl(site: &Site, case: Case, machine: &Machine) -> Result<f64> {
    let port = machine.ssh_port().context("QEMU forwards no port to the guest's SSH")?;
    let output = Command::new("ssh")
        .args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=60", "-o", "LogLevel=ERROR"])
        .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
        .args(["-p", &port.to_string(), "-i"])
        .arg(site.ours.join("ssh_key"))
        .args(["root@127.0.0.1", &format!("{CURL} {}", site.url(case.goal))])
        .stdin(Stdio::null())
        .output()
        .context("running ssh (Debian package: openssh-client)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("curl in the guest: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    text.trim().parse().with_context(|| format!("curl said {text:?}"))
}

impl fmt::Display for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "init {:.1} MB/s, curl {:.1} MB/s", self.ours, self.curl)
    }
}
