//! The status for people: no wider than a phone held upright.

use init::event::State;
use init::size::human;
use init::status::{BootStatus, InterfaceStatus};

use super::disks::Disk;
use super::gather::Status;

/// No line is longer, in characters.
pub const WIDTH: usize = 60;
/// The column of the values: the fingerprint of a key, 50 characters, still fits behind it.
const INDENT: usize = 10;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// The status as lines of at most [`WIDTH`] characters.
pub fn render(status: &Status, colour: bool) -> String {
    let mut page = Page { text: String::new(), colour };
    let machine = &status.machine;
    page.field("Machine", &machine.model);
    page.field("Serial", &machine.serial);
    page.field("Memory", &human(machine.memory));
    page.field("Kernel", &machine.kernel);
    page.field("Image", &machine.image);
    let name = status.network.mdns_name.iter().map(|name| format!("{name} (mDNS)"));
    page.list("Network", name.chain(status.network.interfaces.iter().map(interface)), "no interface");
    page.list("Disks", status.disks.iter().flat_map(disk), "none");
    match &status.boot {
        Some(boot) => boot_lines(&mut page, boot),
        None => page.field("Goal", "not known: the boot has not said anything yet"),
    }
    if let Some(crash) = &status.last_crash {
        page.coloured("Crash", &format!("{} (`rescue log --crash`)", crash.describe()), RED);
    }
    page.field("Host key", status.host_key.as_deref().unwrap_or("not made yet"));
    page.text
}

/// One word for a step's state.
pub fn state_word(state: State) -> &'static str {
    match state {
        State::Started => "started",
        State::Progress => "running",
        State::Waiting => "waiting",
        State::Done => "done",
        State::Failed => "failed",
    }
}

fn boot_lines(page: &mut Page, boot: &BootStatus) {
    page.field("Goal", &boot.goal);
    let colour = match boot.state {
        State::Done => GREEN,
        State::Failed => RED,
        State::Waiting => YELLOW,
        State::Started | State::Progress => "",
    };
    page.coloured(
        "Step",
        &format!("{}/{} {}: {}", boot.number, boot.total, boot.step, state_word(boot.state)),
        colour,
    );
    if let Some(progress) = boot.progress {
        let percent = progress.bytes.saturating_mul(100).checked_div(progress.total).unwrap_or(0);
        let (bytes, total, rate) = (human(progress.bytes), human(progress.total), human(progress.rate));
        page.field("", &format!("{percent}%: {bytes} of {total}"));
        page.field("", &format!("{rate}/s{}", remaining(boot)));
    }
    if let Some(error) = &boot.last_error {
        page.coloured("Error", &format!("{}: {}", error.step, error.error), RED);
    }
    page.field("Next", &boot.next);
    page.field("Reboots", boot.reboots.as_deref().unwrap_or_default());
}

/// How long a transfer still takes, behind a comma; nothing where that is not known.
pub fn remaining(boot: &BootStatus) -> String {
    let seconds = boot
        .progress
        .and_then(|progress| progress.total.saturating_sub(progress.bytes).checked_div(progress.rate));
    match seconds {
        Some(seconds) if seconds >= 60 => format!(", {} min left", seconds / 60),
        Some(seconds) => format!(", {seconds} s left"),
        None => String::new(),
    }
}

fn interface(interface: &InterfaceStatus) -> String {
    let carrier = if interface.carrier { "" } else { " (no cable)" };
    let mut line = format!("{}{carrier} {}", interface.name, interface.mac);
    let (ipv6, heard) = (interface.ipv6.words(), interface.heard());
    let parts = interface.addresses.iter().chain([&interface.state]).chain(&ipv6).chain(&heard);
    for part in parts.filter(|part| !part.is_empty()) {
        line.push_str(", ");
        line.push_str(part);
    }
    line
}

fn disk(disk: &Disk) -> Vec<String> {
    let model = disk.model.as_deref().unwrap_or_default();
    let first = format!("{} {} {model}", disk.name, human(disk.size));
    let partitions =
        disk.partitions.iter().map(|partition| format!("  {} {}", partition.name, human(partition.size)));
    std::iter::once(first).chain(partitions).collect()
}

struct Page {
    text: String,
    colour: bool,
}

impl Page {
    fn field(&mut self, label: &str, value: &str) {
        self.coloured(label, value, "");
    }

    fn list(&mut self, label: &str, values: impl Iterator<Item = String>, none: &str) {
        let mut label = label;
        for value in values {
            self.field(label, &value);
            label = "";
        }
        if !label.is_empty() {
            self.field(label, none);
        }
    }

    /// A label and its value, wrapped; nothing where there is no value.
    fn coloured(&mut self, label: &str, value: &str, colour: &str) {
        let mut label = label;
        for line in wrap(value, WIDTH - INDENT) {
            let label = std::mem::take(&mut label);
            let blanks = " ".repeat(INDENT.saturating_sub(label.len()));
            let line = format!("{}{blanks}{}", self.paint(label, BOLD), self.paint(&line, colour));
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
    }

    fn paint(&self, text: &str, colour: &str) -> String {
        if self.colour && !colour.is_empty() && !text.is_empty() {
            format!("{colour}{text}{PLAIN}")
        } else {
            text.to_string()
        }
    }
}

/// Lines of at most `width` characters (10 at least), broken at blanks where there are some. Control characters go: the
/// values come from the network and from disks.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let clean: String =
        text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    let indent: String = clean.chars().take_while(|character| *character == ' ').take(width / 2).collect();
    // A window may have no room at all.
    let width = width.max(1);
    let mut lines: Vec<String> = Vec::new();
    let mut line = indent.clone();
    for word in clean.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for piece in letters.chunks(width - indent.len()) {
            let used = line.chars().count();
            if used > indent.len() && used + 1 + piece.len() > width {
                lines.push(std::mem::replace(&mut line, indent.clone()));
            }
            if line.len() > indent.len() {
                line.push(' ');
            }
            line.extend(piece);
        }
    }
    if line.len() > indent.len() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use init::event::Progress;
    use init::neighbours::Switch;
    use init::status::{LastCrash, Machine, NetworkStatus, StepError};
    use proptest::prelude::*;

    use super::*;
    use crate::status::gather::STATUS_FORMAT;

    fn status(error: &str) -> Status {
        Status {
            format: STATUS_FORMAT,
            machine: Machine {
                model: "Raspberry Pi 4 Model B Rev 1.4".into(),
                serial: "10000000abcdef01".into(),
                memory: 4 << 30,
                kernel: "6.12.47-v8+".into(),
                image: "demo".into(),
                bootloader: None,
            },
            network: NetworkStatus {
                interfaces: vec![InterfaceStatus {
                    name: "eth0".into(),
                    mac: "dc:a6:32:01:02:03".into(),
                    carrier: true,
                    addresses: vec!["192.168.1.20/24".into(), "fe80::dea6:32ff:fe01:203/64".into()],
                    state: "DHCP: bound".into(),
                    switch: Some(Switch { name: "sw1".into(), port: "7".into(), ..Switch::default() }),
                    ..InterfaceStatus::default()
                }],
                mdns_name: Some("cm4-7.local".into()),
                ..NetworkStatus::default()
            },
            disks: Vec::new(),
            boot: Some(BootStatus {
                goal: "RAM boot of http://boot.example.net:8080/images/debian-12.squashfs".into(),
                step: "fetch".into(),
                number: 8,
                total: 11,
                state: State::Progress,
                uptime_ms: 1,
                progress: Some(Progress { bytes: 100 << 20, total: 400 << 20, rate: 10 << 20 }),
                last_error: Some(StepError { step: "fetch".into(), error: error.into(), uptime_ms: 1 }),
                next: "tries again in 8 s".into(),
                reboots: Some("none any more: 3 boots in a row came to nothing".into()),
            }),
            host_key: Some(format!("SHA256:{}", "A".repeat(43))),
            last_crash: Some(LastCrash { is_panic: true, line: "Oops".into(), files: Vec::new() }),
        }
    }

    #[test]
    fn a_page_says_it_all_within_its_width() {
        let page = render(&status("connecting to boot.example.net: refused"), false);
        assert!(page.lines().all(|line| line.chars().count() <= WIDTH), "{page}");
        for part in [
            "8/11 fetch: running",
            "25%: 100.0 MiB of 400.0 MiB\n",
            "10.0 MiB/s, 30 s left\n",
            "refused",
            "an earlier boot crashed: Oops",
            "10000000abcdef01",
            "Network   cm4-7.local (mDNS)\n",
            "sw1, port 7 (LLDP)",
            "Reboots   none any more: 3 boots",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(page.contains(&format!("Host key  SHA256:{}\n", "A".repeat(43))), "{page}");
    }

    #[test]
    fn colour_only_where_it_is_wanted() {
        assert!(!render(&status("x"), false).contains('\x1b'));
        assert!(render(&status("x"), true).contains("\x1b[31mfetch: x"));
    }

    proptest! {
        #[test]
        fn any_text_keeps_to_the_width(error in "(?s).{0,400}") {
            for line in render(&status(&error), false).lines() {
                prop_assert!(line.chars().count() <= WIDTH, "{line:?}");
                prop_assert!(!line.contains(char::is_control));
            }
        }
    }
}
