//! From what is written to a [`Fleet`]. All that is wrong is said at once, each with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use init::cmdline::CommandLine;
use init::mac::BadMac;
use init::manifest::{MANIFEST_LIMIT, Manifest};
use init::plan::{Goal, Plan};
use init::server_plan::{PLAN_LIMIT, PlanError, PlanFile, ServerPlan};

use super::assignment::Answer;
use super::dhcp::in_table_words;
use super::file::{Boot, DeviceEntry, FLEET_FORMAT, FLEET_LIMIT, FleetFile, GroupEntry, ImageEntry, Orders};
use super::{Device, Fleet, Group, Image};
use crate::clients::Identity;
use crate::http::files::Root;
use crate::http::path::FilePath;
use crate::pi::{BadSerial, Board, PiSerial};

/// What stands for the server's address where a plan is tried.
const SOME_SERVER: &str = "http://192.0.2.1:8080";
/// The most that `config.txt` may have in bytes, and a line of it: the firmware drops the rest (facts, section 3).
const CONFIG_LIMIT: usize = 4096;
const CONFIG_LINE_LIMIT: usize = 98;

/// What there is room for behind the words of the firmware and of the image, in bytes: an arm64 kernel's line has 2048.
const CMDLINE_LIMIT: usize = 1500;

/// All that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Findings(pub Vec<String>);

impl Findings {
    /// Each with the file before it.
    #[must_use]
    pub fn at(self, path: &Path) -> Self {
        Self(self.0.iter().map(|one| format!("{}: {one}", path.display())).collect())
    }
}

impl Fleet {
    /// Reads a file.
    ///
    /// # Errors
    /// All that is wrong with it, a line each.
    pub fn read(path: &Path, root: Option<&Root>) -> Result<Self, Findings> {
        let one = |finding: String| Findings(vec![finding]);
        let size = path.metadata().map_err(|error| one(format!("{}: {error}", path.display())))?.len();
        if size > FLEET_LIMIT {
            return Err(one(format!(
                "{}: {size} bytes, more than the limit of {FLEET_LIMIT}",
                path.display()
            )));
        }
        let text =
            std::fs::read_to_string(path).map_err(|error| one(format!("{}: {error}", path.display())))?;
        Self::parse(&text, root).map_err(|findings| findings.at(path))
    }

    /// Reads a text. With a root, the files that it names have to be there.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str, root: Option<&Root>) -> Result<Self, Findings> {
        let file: FleetFile =
            toml::from_str(text).map_err(|error| Findings(vec![error.to_string().trim_end().to_owned()]))?;
        if file.format != FLEET_FORMAT {
            return Err(Findings(vec![format!(
                "format is {}, this server knows {FLEET_FORMAT}",
                file.format
            )]));
        }
        let mut check = Check { root, findings: Vec::new() };
        let fleet = check.fleet(file);
        // What is wrong above would be said again below in other words.
        if check.findings.is_empty() {
            check.assignments(&fleet);
        }
        if check.findings.is_empty() { Ok(fleet) } else { Err(Findings(check.findings)) }
    }
}

struct Check<'a> {
    root: Option<&'a Root>,
    findings: Vec<String>,
}

impl Check<'_> {
    fn say(&mut self, place: &str, finding: impl std::fmt::Display) {
        self.findings.push(format!("{place}: {finding}"));
    }

    /// The value, or a finding.
    fn take<T>(&mut self, place: &str, value: Result<T, impl std::fmt::Display>) -> Option<T> {
        value.map_err(|error| self.say(place, error)).ok()
    }

    fn fleet(&mut self, file: FleetFile) -> Fleet {
        let mut images = BTreeMap::new();
        for (name, entry) in file.images {
            let image = self.image(&format!("images.{name}"), entry);
            images.insert(name, image);
        }
        let server = file.server.and_then(|server| self.server(server));
        self.orders("defaults", &file.defaults, &images);
        let groups = self.groups(file.groups, &images);
        let names: BTreeSet<&str> = groups.iter().map(|group| group.name.as_str()).collect();
        let mut devices: Vec<Device> = Vec::with_capacity(file.devices.len());
        for entry in file.devices {
            devices.extend(self.device(entry, &images, &names));
        }
        self.unique(&devices);
        let fleet = Fleet { server, defaults: file.defaults, images, groups, devices, dhcp: file.dhcp };
        // Without a table, flags may say the rest.
        if let Ok(Some(settings)) = fleet.dhcp(None) {
            for finding in settings.wrong_anywhere() {
                self.say("dhcp", in_table_words(&finding));
            }
        }
        fleet
    }

    /// Without a slash at its end.
    fn server(&mut self, text: String) -> Option<String> {
        let is_plain = |url: &url::Url| {
            matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.query().is_none()
        };
        if url::Url::parse(&text).is_ok_and(|url| is_plain(&url)) {
            return Some(text.trim_end_matches('/').to_owned());
        }
        self.say("server", format!("{text:?} is no URL like http://192.0.2.1:8080"));
        None
    }

    fn image(&mut self, place: &str, entry: ImageEntry) -> Image {
        for path in std::iter::once(&entry.path).chain(&entry.layers) {
            let Some(parsed) = self.take(place, relative(path)) else { continue };
            let Some(root) = self.root else { continue };
            for name in [path.clone(), beside(path, "json"), beside(path, "json.minisig")] {
                let there = FilePath::parse(&format!("/{name}")).is_ok_and(|path| root.has(&path));
                if !there {
                    self.say(place, format!("there is no {name} below the root"));
                }
            }
            if let (Some(version), true) = (&entry.version, *path == entry.path) {
                let manifest = beside(&parsed.as_path().display().to_string(), "json");
                self.version(place, root, &manifest, version);
            }
        }
        Image { path: entry.path, layers: entry.layers }
    }

    fn version(&mut self, place: &str, root: &Root, manifest: &str, wanted: &str) {
        let Ok(path) = FilePath::parse(&format!("/{manifest}")) else { return };
        // That it is missing is said already.
        let Some(bytes) = root.read(&path, MANIFEST_LIMIT) else { return };
        let read = Manifest::parse(&bytes).map_err(|error| format!("{manifest}: {error}"));
        let Some(read) = self.take(place, read) else { return };
        if read.version != wanted {
            self.say(place, format!("version {wanted:?} is wanted, and {manifest} says {:?}", read.version));
        }
    }

    fn groups(&mut self, entries: Vec<GroupEntry>, images: &BTreeMap<String, Image>) -> Vec<Group> {
        let mut names = BTreeSet::new();
        let mut groups = Vec::with_capacity(entries.len());
        for GroupEntry { name, tags, boards, orders } in entries {
            let place = format!("group {name:?}");
            if !names.insert(name.clone()) {
                self.say(&place, "it is there twice");
            }
            for board in boards.iter().filter(|board| !Board::names().contains(&board.as_str())) {
                self.say(
                    &place,
                    format!("there is no board {board:?}: it is one of {}", Board::names().join(", ")),
                );
            }
            self.orders(&place, &orders, images);
            groups.push(Group { name, tags, boards, orders });
        }
        groups
    }

    fn device(
        &mut self,
        entry: DeviceEntry,
        images: &BTreeMap<String, Image>,
        groups: &BTreeSet<&str>,
    ) -> Option<Device> {
        let known = entry.name.as_ref().or(entry.serial.as_ref()).or(entry.mac.as_ref());
        let Some(known) = known else {
            self.say("a device", "it has neither serial nor mac");
            return None;
        };
        let place = format!("device {known:?}");
        if entry.serial.is_none() && entry.mac.is_none() {
            self.say(&place, "it has neither serial nor mac");
        }
        let serial = entry.serial.as_deref().and_then(|text| {
            self.take(&place, text.parse().map_err(|error: BadSerial| format!("serial {text:?}: {error}")))
        });
        let mac = entry.mac.as_deref().and_then(|text| {
            self.take(&place, text.parse().map_err(|error: BadMac| format!("mac: {error}")))
        });
        if let Some(name) = entry.name.as_deref().filter(|name| !is_host_name(name)) {
            self.say(&place, format!("name {name:?} is no host name: a-z, 0-9 and -, 63 at most"));
        }
        for group in entry.groups.iter().filter(|group| !groups.contains(group.as_str())) {
            self.say(&place, format!("there is no group {group:?}"));
        }
        self.orders(&place, &entry.orders, images);
        let DeviceEntry { name, address, tags, groups, orders, .. } = entry;
        Some(Device { serial, mac, name, address, tags, groups, orders })
    }

    fn unique(&mut self, devices: &[Device]) {
        let mut seen = BTreeSet::new();
        for device in devices {
            let serial = device.serial.map(|serial| format!("serial {serial}"));
            let mac = device.mac.map(|mac| format!("mac {mac}"));
            let name = device.name.as_ref().map(|name| format!("name {name}"));
            let address = device.address.map(|address| format!("address {address}"));
            for what in [serial, mac, name, address].into_iter().flatten() {
                if !seen.insert(what.clone()) {
                    self.say("devices", format!("two of them have the {what}"));
                }
            }
        }
    }

    fn orders(&mut self, place: &str, orders: &Orders, images: &BTreeMap<String, Image>) {
        if let Some(image) = orders.image.as_ref().filter(|image| !images.contains_key(*image)) {
            self.say(place, format!("there is no image {image:?} under [images]"));
        }
        if let Some(files) = &orders.files {
            self.take(place, relative(files));
        }
        for (key, text) in [("parameters", &orders.parameters), ("cmdline", &orders.cmdline)] {
            if text.as_ref().is_some_and(|text| text.contains(['\n', '\r', '\0'])) {
                self.say(place, format!("{key} is one line"));
            }
        }
        let config = orders.config.as_deref().unwrap_or_default();
        if config.lines().any(|line| line.len() > CONFIG_LINE_LIMIT) || config.len() > CONFIG_LIMIT {
            let limits = format!("{CONFIG_LIMIT} bytes, and {CONFIG_LINE_LIMIT} in a line");
            self.say(place, format!("config: the firmware reads no more than {limits}"));
        }
        for key in &orders.keys {
            self.take(place, key_line(key));
        }
        let texts = [&orders.parameters, &orders.cmdline, &orders.config];
        if texts.into_iter().flatten().any(|text| !text.is_ascii()) {
            self.say(place, "what a Pi's firmware reads has to be ASCII");
        }
    }

    /// Each plan that the file makes has to be one that an `init` follows; each placeholder needs its value.
    fn assignments(&mut self, fleet: &Fleet) {
        let named = fleet.devices.iter().map(|device| device.identity());
        // One that nobody named, and of which only the serial number is known.
        let stranger = Identity { serial: Some(PiSerial(0)), ..Identity::default() };
        for who in named.chain([stranger]) {
            let assignment = fleet.assignment(who);
            let place = match assignment.device {
                None => "defaults".to_owned(),
                Some(device) => format!("device {:?}", device.label()),
            };
            if let Some(boot) = assignment.boot.filter(|boot| boot.takes_signature()) {
                match assignment.device {
                    Some(device) => self.signed_plan(&place, device, boot),
                    None => self.say(
                        &place,
                        "a signed plan is for one Pi, not for all: its boot cannot be the default",
                    ),
                }
            }
            if let Some(Answer::Plan(plan)) = self.take(&place, assignment.answer(SOME_SERVER)) {
                self.plan(&place, &plan);
            }
            let line = self.take(&place, assignment.cmdline("")).unwrap_or_default();
            if line.len() > CMDLINE_LIMIT {
                let length = line.len();
                self.say(&place, format!("cmdline and keys have {length} bytes; with the image's own more than {CMDLINE_LIMIT} do not fit, and a kernel cuts the line"));
            }
            self.take(&place, assignment.config(""));
        }
    }

    /// With a root, the signed plan has to be there, and to lead where `boot` says. Whose signature it is the Pi alone can tell.
    fn signed_plan(&mut self, place: &str, device: &Device, boot: Boot) {
        let (Some(root), Some(serial)) = (self.root, device.serial) else { return };
        // A bootloader says the lower half of the number; the plan is named by all of it, which in Pis begins so.
        let names = ["10000000", "00000000"].map(|half| format!("{half}{serial}"));
        let found = names.iter().find_map(|serial| {
            let read = |ending: &str| {
                let path = FilePath::parse(&format!("/plans/{serial}.{ending}")).ok()?;
                root.read(&path, PLAN_LIMIT)
            };
            Some((serial, read("json")?, read("json.minisig")?))
        });
        let Some((serial, json, _)) = found else {
            let [name, _] = names;
            return self
                .say(place, format!("there is no plans/{name}.json with its .minisig below the root"));
        };
        let file = format!("plans/{serial}.json");
        let form = ServerPlan::check_form(&json, true, serial).map_err(|error| format!("{file}: {error}"));
        let Some(()) = self.take(place, form) else { return };
        let parameters =
            serde_json::from_slice::<PlanFile>(&json).map(|plan| plan.parameters).unwrap_or_default();
        let plan = Plan::parse(&CommandLine::parse(&parameters));
        for problem in &plan.problems {
            self.say(place, format!("{file}: {problem}"));
        }
        let installs = match plan.goal {
            Goal::DiskBoot(disk) => Some(disk.install.is_some()),
            _ => None,
        };
        let leads_there = match boot {
            Boot::Disk => installs == Some(false),
            Boot::Install => installs == Some(true),
            _ => true,
        };
        if plan.problems.is_empty() && !leads_there {
            let wanted = if boot == Boot::Disk { "boot a disk" } else { "install (lifeboat.install=)" };
            self.say(place, format!("{file} does not {wanted}: it says {parameters:?}"));
        }
    }

    fn plan(&mut self, place: &str, plan: &init::server_plan::PlanFile) {
        let json = serde_json::to_vec(plan).map_err(PlanError::Json);
        let read = json.and_then(|json| ServerPlan::read(&json, None, &[], ""));
        if let Some(plan) = self.take(place, read) {
            for problem in Plan::parse(&plan.line).problems {
                self.say(place, problem);
            }
        }
    }
}

impl Device {
    /// What is known of it.
    pub fn identity(&self) -> Identity {
        Identity { serial: self.serial, mac: self.mac, ..Identity::default() }
    }

    /// What it is called in messages.
    pub fn label(&self) -> String {
        let serial = self.serial.map(|serial| serial.to_string());
        let mac = || self.mac.map(|mac| mac.to_string());
        self.name.clone().or(serial).or_else(mac).unwrap_or_default()
    }
}

/// A path below the root, as `fleet.toml` writes it.
fn relative(path: &str) -> Result<FilePath, String> {
    if path.starts_with('/') || path.contains('%') || path.contains(char::is_whitespace) {
        return Err(format!("{path:?} is no path below the root: no slash before it, no % or space in it"));
    }
    FilePath::parse(&format!("/{path}")).map_err(|_| format!("{path:?} is no path below the root"))
}

/// `a/b.squashfs` with another ending.
fn beside(path: &str, ending: &str) -> String {
    Path::new(path).with_extension(ending).display().to_string()
}

/// A line of `authorized_keys` that fits between quotes on a kernel's command line.
fn key_line(key: &str) -> Result<(), String> {
    let line = format!("lifeboat.authorized_key=\"{key}\"");
    let problems = Plan::parse(&CommandLine::parse(&line)).problems;
    if key.contains('"') {
        return Err(format!("keys: {key:?}: options with quotes do not fit on a command line"));
    }
    problems.first().map_or(Ok(()), |problem| Err(format!("keys: {key:?}: {}", problem.reason)))
}

/// RFC 1123, one label.
fn is_host_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}
