//! The disks for people: no wider than a phone held upright, as `rescue status` is.

use init::size::human;

use super::health::Health;
use super::inventory::Device;
use super::overview::{Entry, Overview};
use super::volumes::VolumeGroup;
use crate::status::text::{WIDTH, wrap};

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// The overview as lines of at most [`WIDTH`] characters.
pub fn render(overview: &Overview, colour: bool) -> String {
    let mut page = Page { text: String::new(), colour };
    for device in &overview.devices {
        page.device(device, 0);
    }
    for group in &overview.volume_groups {
        page.group(group);
    }
    if overview.devices.is_empty() {
        page.line(0, "no disk");
    }
    page.text
}

struct Page {
    text: String,
    colour: bool,
}

impl Page {
    fn device(&mut self, entry: &Entry, depth: usize) {
        let device = &entry.device;
        let indent = 2 * depth;
        self.coloured(indent, &headline(device), BOLD);
        let indent = indent + 2;
        if let Some(system) = &entry.system {
            let subvolume = system.subvolume.as_ref().map(|name| format!(" (subvolume {name})"));
            self.line(indent, &format!("Linux root: {}{}", system.name, subvolume.unwrap_or_default()));
        }
        for line in self::state(entry) {
            self.line(indent, &line);
        }
        for line in troubles(entry) {
            self.coloured(indent, &line, RED);
        }
        let content = device.content.as_ref().and_then(|content| content.uuid.as_ref());
        for (label, uuid) in [
            ("UUID", content),
            ("PARTUUID", device.partition.as_ref().and_then(|partition| partition.uuid.as_ref())),
        ] {
            if let Some(uuid) = uuid {
                self.line(indent, &format!("{label} {uuid}"));
            }
        }
        for child in &entry.children {
            self.device(child, depth + 1);
        }
    }

    fn group(&mut self, group: &VolumeGroup) {
        self.coloured(0, &format!("LVM volume group {}", group.name), BOLD);
        if group.missing > 0 {
            self.coloured(2, &format!("{} of its disks are missing", group.missing), RED);
        }
        for volume in &group.volumes {
            let (path, size) = (volume.path.display(), human(volume.size));
            let state = if volume.active { "active" } else { "not active" };
            self.line(2, &format!("{path}: {size}, {state}"));
        }
        if group.volumes.iter().any(|volume| !volume.active) {
            self.line(2, &format!("To activate: lvm vgchange --activate y {}", group.name));
        }
    }

    fn line(&mut self, indent: usize, text: &str) {
        self.coloured(indent, text, "");
    }

    fn coloured(&mut self, indent: usize, text: &str, colour: &str) {
        // However deep: half of the width stays for the text.
        let indent = indent.min(WIDTH / 2);
        for (number, line) in wrap(text, WIDTH - indent - 2).into_iter().enumerate() {
            let blanks = if number == 0 { indent } else { indent + 2 };
            let (start, end) = if self.colour && !colour.is_empty() { (colour, PLAIN) } else { ("", "") };
            self.text.push_str(&format!("{:blanks$}{start}{line}{end}\n", ""));
        }
    }
}

/// `/dev/sda2: 29.0 GiB, ext4 "root", mounted on /`.
fn headline(device: &Device) -> String {
    let mut parts = vec![human(device.size)];
    parts.extend(device.model.clone());
    parts.extend(device.transport.clone().filter(|_| device.partition.is_none()));
    parts.extend(device.serial.as_ref().map(|serial| format!("serial {serial}")));
    parts.extend(device.table.as_ref().map(|table| format!("{} table", table.kind)));
    parts.extend(content(device));
    if device.read_only {
        parts.push("read-only".into());
    }
    parts.extend(device.mounts.iter().map(|at| format!("mounted on {}", at.display())));
    if device.swap {
        parts.push("in use as swap".into());
    }
    parts.extend(device.backing.as_ref().map(|backing| format!("shows {}", backing.display())));
    format!("{}: {}", device.path.display(), parts.join(", "))
}

/// What is on it, as people say it.
fn content(device: &Device) -> Option<String> {
    let content = device.content.as_ref()?;
    let version = content.version.as_deref().unwrap_or_default();
    let name = match content.kind.as_str() {
        "crypto_LUKS" => format!("LUKS{version}"),
        "LVM2_member" => "part of LVM".into(),
        "linux_raid_member" => "part of a RAID".into(),
        "vfat" if version.starts_with("FAT") => format!("vfat ({version})"),
        other => other.into(),
    };
    Some(content.label.as_ref().map_or(name.clone(), |label| format!("{name} \"{label}\"")))
}

/// What a person does next with it.
fn state(entry: &Entry) -> Vec<String> {
    let path = entry.device.path.display();
    let mut lines = Vec::new();
    if entry.locked {
        lines.push(format!("locked: rescue unlock {path}"));
    }
    if let Some(raid) = &entry.raid {
        lines.push(format!("{} of {} devices, {}", raid.level, raid.devices, raid.name));
    }
    if let Some(health) = &entry.health {
        lines.extend(summary(health));
    }
    if let Some(error) = &entry.health_error {
        lines.push(format!("health: not known: {error}"));
    }
    lines
}

fn summary(health: &Health) -> Option<String> {
    let mut parts = Vec::new();
    parts.extend(health.passed.map(|passed| if passed { "passed" } else { "failed" }.to_string()));
    parts.extend(health.temperature.map(|degrees| format!("{degrees} °C")));
    parts.extend(health.hours.map(|hours| format!("{hours} hours")));
    parts.extend(health.worn.map(|worn| format!("{worn}% of its life used")));
    (!parts.is_empty()).then(|| format!("health: {}", parts.join(", ")))
}

/// What is wrong with it.
fn troubles(entry: &Entry) -> Vec<String> {
    let path = entry.device.path.display();
    let mut lines = Vec::new();
    if let Some(trace) = &entry.trace {
        lines.push(format!("its beginning is lost; there was {trace} on it: rescue fsck {path}"));
    }
    if entry.device.content_kind() == Some("ambivalent") {
        lines.push("signatures of several file systems: wipefs shows them".into());
    }
    if let Some(errors) = &entry.errors {
        for (count, what) in [
            (errors.read, "read errors"),
            (errors.write, "write errors"),
            (errors.file_system, "complaints of the file system"),
        ] {
            if count > 0 {
                lines.push(format!("{count} {what} in the kernel's log"));
            }
        }
    }
    lines.extend(entry.health.iter().flat_map(|health| health.warnings.iter().cloned()));
    lines
}
