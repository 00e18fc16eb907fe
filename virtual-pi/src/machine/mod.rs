//! The machine: QEMU with what the bootloader loaded.

mod device_tree;
pub mod line;
pub mod options;
mod process;
mod qmp;
mod ssh;
mod state;
pub(crate) mod tool;
mod usage;
use init::mac::Mac;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use init::status::BootStatus;
use regex::bytes::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;

pub use line::{Line, Traffic};
pub use options::{Forward, Model, Options};
pub use process::{Killer, Sinks};
pub use state::{End, Mark};
pub use usage::Usage;

use line::Listening;
use process::{Process, Start};
use qmp::Qmp;
use state::Missed;

/// Nodes of the Pi 4's tree whose hardware QEMU lacks, and whose drivers stumble over that.
const MISSING_IN_RASPI4B: [&str; 6] = [
    "/soc/clock@7ef00000",
    "/soc/interrupt-controller@7ef00100",
    "/soc/hdmi@7ef00700",
    "/soc/i2c@7ef04500",
    "/soc/hdmi@7ef05700",
    "/soc/i2c@7ef09500",
];
/// `virt`'s real-time clock: a Pi 4 has none, but boards with one exist.
const CLOCK_OF_VIRT: &str = "/pl031@9010000";

/// A running machine. It is killed when this is dropped.
#[derive(Debug)]
pub struct Machine {
    process: Process,
    qmp: Arc<Qmp>,
    forwards: Vec<Forward>,
    mac: Mac,
    traffic: Option<Arc<Traffic>>,
    /// The sockets, as long as QEMU may want them.
    _folder: TempDir,
}

impl Machine {
    /// Starts a machine.
    ///
    /// # Errors
    /// When QEMU or another program is missing or does not take what it is given.
    pub fn start(options: &Options) -> Result<Self> {
        Self::start_with(options, Sinks::default())
    }

    /// Starts a machine and copies what it says to `sinks`.
    ///
    /// # Errors
    /// As [`Machine::start`].
    pub fn start_with(options: &Options, sinks: Sinks) -> Result<Self> {
        check_qemu(&options.qemu, options.model)?;
        let folder =
            tempfile::Builder::new().prefix("virtual-pi-").tempdir().context("making a temporary folder")?;
        let files = write_files(options, folder.path())?;
        let line = options.line.map(|line| Ok::<_, anyhow::Error>((line, Listening::new(folder.path())?)));
        let line = line.transpose()?;
        let (process, qmp) = Process::start(Start {
            qemu: options.qemu.clone(),
            arguments: options.arguments(folder.path())?,
            folder: folder.path().to_owned(),
            has_reports: options.model == Model::Virt,
            time_limit: options.time_limit,
            sinks,
        })
        .context("starting QEMU")?;
        // They are in the guest's memory now; RAM is scarce where /tmp is a tmpfs.
        for file in files {
            fs::remove_file(folder.path().join(file))
                .with_context(|| format!("removing the temporary {file}"))?;
        }
        let traffic = line.map(|(line, listening)| listening.run(line)).transpose()?;
        let mut machine = Self {
            process,
            qmp: Arc::new(qmp),
            forwards: Vec::new(),
            mac: options.pi.mac,
            traffic,
            _folder: folder,
        };
        machine.forwards = machine.find_forwards(&options.forwards)?;
        machine.qmp("cont", &Value::Null)?;
        if !options.no_dhcp_for.is_zero() {
            machine.let_frames_pass_after(options.no_dhcp_for);
        }
        Ok(machine)
    }

    /// Asks QEMU which ports it took, so that a free one cannot be lost to another program in between.
    fn find_forwards(&self, wanted: &[Forward]) -> Result<Vec<Forward>> {
        let network = self.qmp("human-monitor-command", &json!({"command-line": "info usernet"}))?;
        let found = forwarded_ports(network.as_str().unwrap_or_default());
        let find = |want: &Forward| {
            let fits = |f: &&Forward| f.guest == want.guest && (want.host == 0 || want.host == f.host);
            found
                .iter()
                .find(fits)
                .copied()
                .with_context(|| format!("QEMU forwards no port to the guest's port {}", want.guest))
        };
        wanted.iter().map(find).collect()
    }

    fn let_frames_pass_after(&self, time: Duration) {
        let (shared, qmp) = (self.process.shared.clone(), self.qmp.clone());
        thread::spawn(move || {
            if shared.wait(time, |_| None::<()>) == Err(Missed::Timeout) {
                // A machine that ends meanwhile needs no network.
                let _gone = qmp.execute("qom-set", &drop_frames(false));
            }
        });
    }

    /// The console's text so far.
    pub fn console(&self) -> String {
        self.console_after(Mark::default())
    }

    /// The console's text since a moment.
    pub fn console_after(&self, mark: Mark) -> String {
        String::from_utf8_lossy(self.process.shared.lock().console(mark.console)).into_owned()
    }

    /// This moment.
    pub fn mark(&self) -> Mark {
        self.process.shared.lock().mark()
    }

    /// Waits until a regular expression matches in a line of the console, also one that is there already, and gives the
    /// line (which may not be complete yet).
    ///
    /// # Errors
    /// When the time is over or the machine has ended without it: with the console's last lines.
    pub fn wait_for_console(&self, pattern: &str, timeout: Duration) -> Result<String> {
        self.wait_for_console_after(Mark::default(), pattern, timeout)
    }

    /// As [`Machine::wait_for_console`], for text that comes after a moment.
    ///
    /// # Errors
    /// As [`Machine::wait_for_console`].
    pub fn wait_for_console_after(&self, mark: Mark, pattern: &str, timeout: Duration) -> Result<String> {
        let regex = Regex::new(pattern).with_context(|| format!("reading the pattern {pattern:?}"))?;
        let mut from = mark.console;
        let found = self.process.shared.wait(timeout, |state| {
            let text = state.console(from);
            let mut at = state.mark().console - text.len();
            for line in text.split_inclusive(|b| *b == b'\n') {
                if regex.is_match(line) {
                    return Some(String::from_utf8_lossy(line).trim_end().to_owned());
                }
                at += line.len();
                // A line that is not complete is looked at again.
                if line.ends_with(b"\n") {
                    from = at;
                }
            }
            None
        });
        found.map_err(|missed| self.missed(&format!("{pattern:?} on the console"), &missed, timeout))
    }

    /// Waits until the guest has reported a status that fits, also one that it has reported already.
    ///
    /// # Errors
    /// When the time is over or the machine has ended without it: with the last report and the console's last lines.
    pub fn wait_for_report(
        &self,
        fits: impl Fn(&BootStatus) -> bool,
        timeout: Duration,
    ) -> Result<BootStatus> {
        self.wait_for_report_after(Mark::default(), fits, timeout)
    }

    /// As [`Machine::wait_for_report`], for reports that come after a moment.
    ///
    /// # Errors
    /// As [`Machine::wait_for_report`].
    pub fn wait_for_report_after(
        &self,
        mark: Mark,
        fits: impl Fn(&BootStatus) -> bool,
        timeout: Duration,
    ) -> Result<BootStatus> {
        let found = self
            .process
            .shared
            .wait(timeout, |state| state.reports(mark.reports).iter().find(|r| fits(r)).cloned());
        found.map_err(|missed| self.missed("a status that fits on the report port", &missed, timeout))
    }

    /// All reports so far (the last 10000).
    pub fn reports(&self) -> Vec<BootStatus> {
        self.process.shared.lock().reports(0).to_vec()
    }

    /// Lines of the report port that are no status, with the reason.
    pub fn bad_reports(&self) -> Vec<String> {
        self.process.shared.lock().bad_reports.clone()
    }

    /// Types on the serial console.
    ///
    /// # Errors
    /// When QEMU is gone.
    pub fn type_on_console(&mut self, text: &str) -> Result<()> {
        let stdin = self.process.stdin.as_mut().context("the console is closed")?;
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).context("typing on the console")
    }

    /// The host's port for one of the guest's.
    pub fn host_port(&self, guest: u16) -> Option<u16> {
        self.forwards.iter().find(|f| f.guest == guest).map(|f| f.host)
    }

    /// The host's port for the guest's SSH.
    pub fn ssh_port(&self) -> Option<u16> {
        self.host_port(22)
    }

    /// Waits until an SSH server answers, and gives its greeting.
    ///
    /// # Errors
    /// When none does, or no port leads there.
    pub fn ssh_banner(&self, timeout: Duration) -> Result<String> {
        let port = self.ssh_port().context("no port of the host leads to the guest's port 22")?;
        let over = || self.process.shared.lock().end.is_some();
        ssh::banner(port, timeout, over).ok_or_else(|| {
            let end = self.process.shared.lock().end.clone();
            self.missed("an SSH greeting", &end.map_or(Missed::Timeout, Missed::Ended), timeout)
        })
    }

    /// Runs a command of QEMU's monitor: `set_link` with `{"name": "net", "up": false}`, `system_reset`, `stop` …
    ///
    /// # Errors
    /// When QEMU refuses or is gone.
    pub fn qmp(&self, command: &str, arguments: &Value) -> Result<Value> {
        self.qmp.execute(command, arguments)
    }

    /// Pulls the network cable, or plugs it in.
    ///
    /// # Errors
    /// When QEMU is gone.
    pub fn set_link(&self, up: bool) -> Result<()> {
        self.qmp("set_link", &json!({"name": "net", "up": up})).map(drop)
    }

    /// Drops what the guest sends, while its link stays up; or lets it pass.
    ///
    /// # Errors
    /// When QEMU is gone.
    pub fn set_frames_dropped(&self, dropped: bool) -> Result<()> {
        self.qmp("qom-set", &drop_frames(dropped)).map(drop)
    }

    /// Plugs the network card in that [`Options::card`] left out.
    ///
    /// # Errors
    /// When QEMU refuses: there is one already.
    pub fn plug_card_in(&self) -> Result<()> {
        let mac = self.mac.to_string();
        let card = json!({"driver": "virtio-net-pci", "netdev": "net", "bus": options::SLOT, "mac": mac, "romfile": ""});
        self.qmp("device_add", &card).map(drop)
    }

    /// What passed over the line of [`Options::line`].
    pub fn traffic(&self) -> Option<&Traffic> {
        self.traffic.as_deref()
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// What QEMU has used so far.
    pub fn usage(&self) -> Usage {
        let mut state = self.process.shared.lock();
        if !state.reaped {
            state.usage.update(self.process.pid);
        }
        state.usage
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<End> {
        self.process.shared.lock().end.clone()
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// When it still runs after the time.
    pub fn wait_for_end(&self, timeout: Duration) -> Result<End> {
        match self.process.shared.wait(timeout, |state| state.end.clone()) {
            Ok(end) | Err(Missed::Ended(end)) => Ok(end),
            Err(missed @ Missed::Timeout) => Err(self.missed("its end", &missed, timeout)),
        }
    }

    /// What kills it, for another thread.
    pub fn killer(&self) -> Killer {
        self.process.killer()
    }

    /// Kills it. [`Machine::wait_for_end`] then gives [`End::Killed`].
    pub fn kill(&self) {
        self.killer().kill();
    }

    fn missed(&self, what: &str, missed: &Missed, timeout: Duration) -> anyhow::Error {
        let state = self.process.shared.lock();
        let why = match missed {
            Missed::Timeout => format!("within {} s", timeout.as_secs()),
            Missed::Ended(end) => format!("before the machine ended ({end})"),
        };
        let report = state.reports(0).last().and_then(|report| serde_json::to_string(report).ok());
        let report = report.map(|report| format!("\nlast report: {report}")).unwrap_or_default();
        anyhow!(
            "the machine did not show {what} {why}{report}\n--- the console's last lines\n{}",
            state.tail()
        )
    }
}

fn drop_frames(on: bool) -> Value {
    json!({"path": "/objects/drop", "property": "status", "value": if on { "on" } else { "off" }})
}

/// Reads `info usernet`: `TCP[HOST_FORWARD]  12  127.0.0.1 40001  10.0.2.15 22  0 0`.
fn forwarded_ports(text: &str) -> Vec<Forward> {
    let port = |line: &str| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["TCP[HOST_FORWARD]", _, _, host, _, guest, ..] => {
                Some(Forward { host: host.parse().ok()?, guest: guest.parse().ok()? })
            }
            _ => None,
        }
    };
    text.lines().filter_map(port).collect()
}

/// Makes sure that QEMU is there and, for `raspi4b`, new enough.
fn check_qemu(qemu: &Path, model: Model) -> Result<()> {
    let mut command = Command::new(qemu);
    let output = tool::output(command.arg("--version"), "qemu-system-arm")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text
        .split_once("version ")
        .and_then(|(_, rest)| rest.split('.').next())
        .and_then(|n| n.parse::<u32>().ok());
    match (model, number) {
        (_, None) => bail!("{} does not say that it is QEMU: {}", qemu.display(), text.trim()),
        (Model::Raspi4B, Some(number @ ..9)) => {
            bail!(
                "QEMU {number} has no raspi4b machine: 9.0 or newer is needed (Debian 12: qemu-system-arm from bookworm-backports)"
            )
        }
        _ => Ok(()),
    }
}

/// Writes what QEMU reads at its start, and gives the names.
fn write_files(options: &Options, folder: &Path) -> Result<[&'static str; 3]> {
    let boot = &options.boot;
    let write = |name: &str, content: &[u8]| {
        fs::write(folder.join(name), content)
            .with_context(|| format!("writing the temporary {name} ({} bytes)", content.len()))
    };
    write("kernel", &boot.kernel)?;
    write("initramfs", &boot.initramfs)?;
    let tree = folder.join("tree.dtb");
    match options.model {
        Model::Virt => {
            let mut command = Command::new(&options.qemu);
            let mut words = options.board_arguments();
            if let Some(machine) = words.get_mut(1) {
                machine.push(format!(",dumpdtb={}", tree.to_string_lossy().replace(',', ",,")));
            }
            tool::run(command.args(words), "qemu-system-arm").context("asking QEMU for its device tree")?;
            if options.battery_clock.is_none() {
                device_tree::disable(&tree, CLOCK_OF_VIRT)?;
            }
            if options.ramoops {
                device_tree::add_ramoops(&tree, options.pi.memory)?;
            }
        }
        Model::Raspi4B => {
            write("tree.dtb", &boot.device_tree)?;
            for node in MISSING_IN_RASPI4B {
                device_tree::disable(&tree, node)?;
            }
        }
    }
    device_tree::add_firmware_facts(&tree, &options.pi, options.boot_mode)?;
    Ok(["kernel", "initramfs", "tree.dtb"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_qemu_took() {
        let text = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  TCP[HOST_FORWARD]  11       127.0.0.1 40123       10.0.2.15    22     0     0\r\n  UDP[HOST_FORWARD]  12       127.0.0.1 40124       10.0.2.15    53     0     0\r\n";
        assert_eq!(forwarded_ports(text), [Forward { host: 40123, guest: 22 }]);
    }
}
