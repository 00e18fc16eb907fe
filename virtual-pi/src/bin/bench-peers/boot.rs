//! One boot, measured.

use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use virtual_pi::board::{Board, Pi, Serial};
use virtual_pi::bootloader::firmware::Boot;
use virtual_pi::machine::{Forward, Machine, Options, Sinks, Usage};

use crate::banner;
use crate::case::{Case, Goal, System};
use crate::console::{self, Recorder, Recording};
use crate::site::{self, Site};
use crate::ssh_throughput;

/// No boot may take longer, whatever happens. The slowest known one takes 250 s on a quiet machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);
/// The same for the SSH server in an initramfs.
const SSH_LIMIT: Duration = Duration::from_secs(120);

/// What one boot gave. Times are in seconds.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    #[serde(flatten)]
    pub(crate) case: Case,
    /// From kernel start to `/init`.
    pub(crate) init: f64,
    /// From kernel start until the OS's systemd greets.
    pub(crate) exec: Option<f64>,
    /// From kernel start to multi-user.target.
    pub(crate) multi_user: Option<f64>,
    /// From `/init` to the first SSH greeting.
    pub(crate) init_to_banner: Option<f64>,
    /// QEMU's processor time until the OS's systemd greets.
    pub(crate) exec_cpu_seconds: Option<f64>,
    /// QEMU's largest resident set until then, in MiB.
    pub(crate) exec_peak_rss: Option<f64>,
    /// QEMU's processor time up to multi-user.target.
    pub(crate) cpu_seconds: Option<f64>,
    /// QEMU's largest resident set, in MiB.
    pub(crate) peak_rss: f64,
    /// `/proc/meminfo` at multi-user.target, in MiB.
    pub(crate) memory: BTreeMap<String, f64>,
    /// The host's load before.
    load: Option<f64>,
}

/// Boots it and looks on.
pub(crate) fn run(site: &Site, case: Case) -> Result<Run> {
    let load = load();
    let (machine, recording) = start(site, case)?;
    let port = machine.ssh_port().context("QEMU forwards no port to the guest's SSH")?;
    let greeted;
    let (mut at_exec, mut at_multi_user) = (None, None);
    if case.goal == Goal::Ssh {
        machine.wait_for_console(console::INIT, SSH_LIMIT)?;
        greeted = Some(banner::first(port, SSH_LIMIT).context("no SSH greeting came")?);
    } else {
        // Only ours has an SSH server on the way; the others are spared the asking.
        let asked =
            (case.system == System::Ours).then(|| thread::spawn(move || banner::first(port, SSH_LIMIT)));
        machine.wait_for_console(console::EXEC, LIMIT)?;
        at_exec = Some(machine.usage());
        machine.wait_for_console(console::MULTI_USER, LIMIT)?;
        at_multi_user = Some(machine.usage());
        machine.wait_for_console(console::END, LIMIT)?;
        greeted = asked.and_then(|thread| thread.join().ok().flatten());
    }
    let at_end = machine.usage();
    // All that the console said is recorded when the machine is gone.
    drop(machine);
    let kernel_start = recording.kernel_start().context("the console has no line of the kernel")?;
    let since = |from: Instant, at: Instant| at.saturating_duration_since(from).as_secs_f64();
    let init = recording.first(console::INIT).context("the kernel ran no /init")?;
    let mark = |pattern| recording.first(pattern).map(|at| since(kernel_start, at));
    Ok(Run {
        case,
        init: since(kernel_start, init),
        exec: mark(console::EXEC),
        multi_user: mark(console::MULTI_USER),
        init_to_banner: greeted.map(|at| since(init, at)),
        exec_cpu_seconds: at_exec.map(|usage| usage.cpu_seconds),
        exec_peak_rss: at_exec.map(peak_rss),
        cpu_seconds: at_multi_user.map(|usage| usage.cpu_seconds),
        peak_rss: peak_rss(at_end),
        memory: recording.memory(),
        load,
    })
}

/// Starts a machine; what its console says goes to the log as well.
pub(crate) fn start(site: &Site, case: Case) -> Result<(Machine, Recording)> {
    let boot = Boot {
        kernel: site.kernel.clone(),
        initramfs: site::read(&case.initramfs(site))?,
        command_line: case.command_line(site),
        device_tree: Vec::new(),
    };
    let mut options = Options::new(Pi::new(Board::Pi4B, Serial::default(), case.memory()), boot);
    options.time_limit = LIMIT;
    if case.goal == Goal::SshThroughput {
        options.forwards.push(Forward { host: 0, guest: ssh_throughput::PEER_PORT });
    }
    let (recorder, recording) = Recorder::new(&site.log.join(format!("{case}.console")))?;
    let sinks = Sinks { console: Some(Box::new(recorder)), reports: None };
    Ok((Machine::start_with(&options, sinks)?, recording))
}

/// In MiB.
fn peak_rss(usage: Usage) -> f64 {
    usage.peak_rss as f64 / f64::from(1 << 20)
}

fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/init {:.1} s", self.init)?;
        let parts = [
            ("SSH", self.init_to_banner.map(|banner| self.init + banner)),
            ("systemd", self.exec),
            ("multi-user", self.multi_user),
            ("QEMU's CPU", self.cpu_seconds),
        ];
        for (name, seconds) in parts {
            if let Some(seconds) = seconds {
                write!(f, ", {name} {seconds:.1} s")?;
            }
        }
        write!(f, ", peak {:.0} MiB", self.peak_rss)
    }
}
