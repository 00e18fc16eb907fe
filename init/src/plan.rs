//! What a boot is to become, read from the kernel command line: the checked type that the steps take.

use url::Url;

use crate::cmdline::CommandLine;
use crate::host_key;
use crate::identity::{self, Identity};
use crate::install::{self, Install};
use crate::ip;
use crate::kernel_log::{self, KernelLog};
use crate::layers::{self, Layer};
use crate::neighbours::{self, Neighbours};
use crate::network::Network;
use crate::root::{self, RootWords};
use crate::size::Size;
use crate::state::{self, StateWords};
use crate::transport::{self, Transport};
use crate::{steps, watchdog, zram};

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the boot goes.
    pub goal: Goal,
    /// Whether nothing was said about that: then the boot server may say it ([`crate::server_plan`]).
    pub is_open: bool,
    /// Addresses and name servers.
    pub network: Network,
    /// What neighbours are told.
    pub neighbours: Neighbours,
    /// Who this Pi is to DHCP servers, and what the OS finds of our network.
    pub identity: Identity,
    /// Who gets the kernel's log.
    pub kernel_log: KernelLog,
    /// The boot server for events; `None`: the image's own setting counts.
    pub server: Option<Url>,
    /// The host name from `systemd.hostname=` or `ip=`.
    pub hostname: Option<String>,
    /// Proxies, rate, pinned keys, time servers.
    pub transport: Transport,
    /// Seconds until a failed boot starts anew; `None`: the image's own setting counts.
    pub reboot_after: Option<u64>,
    /// What is kept across boots, and where.
    pub state: StateWords,
    /// How much swap there is in compressed RAM; `None`: none.
    pub zram: Option<Size>,
    /// What is done with the hardware watchdog.
    pub watchdog: watchdog::Policy,
    /// Who gets a shell on the console.
    pub console: Console,
    /// Lines for `authorized_keys`, besides those in the image.
    pub authorized_keys: Vec<String>,
    /// Steps that are made to fail, and how often: a test's tool (`lifeboat.fail=fetch:2`).
    pub fail: Vec<(String, u32)>,
    /// Words that could not be understood. A boot with one goes to the rescue: guessing is not for a machine out of
    /// reach.
    pub problems: Vec<Problem>,
}

/// Where a boot goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A rescue to log in to.
    Rescue,
    /// A full OS in RAM.
    RamBoot(Box<RamBoot>),
    /// The OS on a disk of this machine.
    DiskBoot(Box<DiskBoot>),
}

/// The OS on a disk of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskBoot {
    /// `root=`: a path below `/dev`, or `UUID=`, `LABEL=`, `PARTUUID=`, `PARTLABEL=` with a value. `None`: the only Linux
    /// that is found.
    pub root: Option<String>,
    /// The LUKS devices that somebody has to open first (`rd.luks.uuid=`): the beginnings of their UUIDs, in lower case
    /// and without dashes, as the kernel's device-mapper has them.
    pub luks: Vec<String>,
    /// What is written to a disk before the root is looked for (`lifeboat.install=`).
    pub install: Option<Install>,
    /// `rootflags=`: options of the mount, such as `subvol=@`.
    pub flags: Option<String>,
    /// Whether the disk's own kernel is started (`lifeboat.kexec`).
    pub kexec: bool,
    /// The program that becomes PID 1.
    pub init: String,
    /// Its arguments: what stands behind `--`.
    pub init_arguments: Vec<String>,
    /// Where the boot is held until `rescue continue` (`rd.break`).
    pub hold: Option<Hold>,
}

/// A full OS in RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RamBoot {
    /// The squashfs.
    pub url: Url,
    /// Where else it is: further `root=live:`.
    pub mirrors: Vec<Url>,
    /// How it is checked.
    pub trust: Trust,
    /// What is laid over it, the lowest first.
    pub layers: Vec<Layer>,
    /// The most that the writable layer may hold; `None`: all that the image and the floor leave.
    pub overlay: Option<Size>,
    /// The memory that the OS itself needs.
    pub floor: Size,
    /// The program that becomes PID 1.
    pub init: String,
    /// Its arguments: what stands behind `--`.
    pub init_arguments: Vec<String>,
    /// Where the boot is held until `rescue continue` (`rd.break`).
    pub hold: Option<Hold>,
}

/// Where a boot is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Before anything is fetched: `rd.break=pre-mount` and dracut's earlier places.
    BeforeRoot,
    /// Before the hand-over, with the root mounted: `rd.break` and dracut's later places.
    BeforeHandOver,
}

impl Hold {
    /// Reads the value of `rd.break`: dracut's places (dracut.cmdline(7)).
    pub(crate) fn parse(place: &str) -> Result<Self, String> {
        match place {
            "cmdline" | "pre-udev" | "pre-trigger" | "initqueue" | "pre-mount" => Ok(Hold::BeforeRoot),
            "" | "mount" | "pre-pivot" | "cleanup" => Ok(Hold::BeforeHandOver),
            _ => Err("dracut's places are known: pre-mount, pre-pivot and the like".into()),
        }
    }
}

/// Who gets a shell on the console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Console {
    /// Who holds a key that may log in by SSH. A passphrase that is typed by SSH must not be in reach of whoever has a
    /// serial cable.
    #[default]
    Key,
    /// Whoever asks.
    Open,
    /// Nobody.
    Off,
}

/// How an image is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// By its signed manifest.
    Signed,
    /// By a SHA-256 on the command line, which whoever serves the command line vouches for.
    Sha256([u8; 32]),
}

impl Trust {
    /// In words, for `--explain` and the console.
    pub fn describe(&self) -> &'static str {
        match self {
            Trust::Signed => "by its signed manifest",
            Trust::Sha256(_) => "by the SHA-256 on the command line",
        }
    }
}

/// A word that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The word, as it stands on the command line.
    pub word: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.word, self.reason)
    }
}

/// A parameter of ours: name, form, meaning.
pub type Parameter = (&'static str, &'static str, &'static str);

/// Our own parameters, of every file that reads some. `docs/kernel-parameters.md` lists the same (a test compares them).
pub fn parameters() -> impl Iterator<Item = Parameter> {
    let lists = [
        PARAMETERS,
        root::PARAMETERS,
        layers::PARAMETERS,
        install::PARAMETERS,
        state::PARAMETERS,
        zram::PARAMETERS,
        host_key::PARAMETERS,
        neighbours::PARAMETERS,
        kernel_log::PARAMETERS,
        identity::PARAMETERS,
        transport::PARAMETERS,
    ];
    lists.into_iter().flatten().copied()
}

/// Those that this file reads.
const PARAMETERS: &[Parameter] = &[
    ("lifeboat.server", "URL", "the boot server that events are sent to"),
    (
        "lifeboat.authorized_key",
        "\"KEY\"",
        "a line of authorized_keys more, in quotes; may be given several times",
    ),
    (
        "lifeboat.reboot_after",
        "SECONDS",
        "start anew after so long with neither progress nor a login; 0: never",
    ),
    (
        "lifeboat.watchdog",
        "on|off|keep",
        "feed the hardware watchdog (default on); keep: and leave it to the OS",
    ),
    (
        "lifeboat.console",
        "key|open|off",
        "who gets a shell on the console: holders of an SSH key (default), whoever asks, or nobody",
    ),
    ("lifeboat.fail", "STEP[:TIMES]", "make a step fail, once or TIMES times: a test's tool"),
];

impl Plan {
    /// Reads a command line. Nothing fails: what cannot be understood is in [`Plan::problems`].
    pub fn parse(line: &CommandLine) -> Self {
        let (network, ip_errors) = Network::parse(line);
        let problems = ip_errors.into_iter().map(|e| Problem { word: e.word, reason: e.reason }).collect();
        let mut plan = Plan {
            goal: Goal::Rescue,
            is_open: false,
            hostname: network.hostname().map(str::to_owned),
            network,
            neighbours: Neighbours::default(),
            identity: Identity::default(),
            kernel_log: KernelLog::default(),
            server: None,
            transport: Transport::default(),
            reboot_after: None,
            state: StateWords::default(),
            zram: None,
            watchdog: watchdog::Policy::default(),
            console: Console::default(),
            authorized_keys: Vec::new(),
            fail: Vec::new(),
            problems,
        };
        let mut root = RootWords::default();
        for word in &line.words {
            let value = word.value.as_deref().unwrap_or("");
            let taken = plan.take_word(&mut root, &word.name, value);
            if let Err(reason) = taken {
                plan.problems.push(Problem { word: word.to_string(), reason });
            }
        }
        let is_rescue = root.rescue;
        plan.goal = root.goal(line, &mut plan.problems);
        plan.is_open = plan.goal == Goal::Rescue && !is_rescue && plan.problems.is_empty();
        if !plan.problems.is_empty() {
            plan.goal = Goal::Rescue;
        }
        plan
    }

    /// Each reader takes what is its own; what is nobody's belongs to the kernel or to the OS.
    fn take_word(&mut self, root: &mut RootWords, name: &str, value: &str) -> Result<(), String> {
        let taken = root.take(name, value)?
            || self.neighbours.take(name, value)?
            || self.identity.take(name, value)?
            || self.kernel_log.take(name, value)?
            || self.transport.take(name, value)?
            || self.state.take(name, value)?
            || host_key::take(name, value)?;
        if taken { Ok(()) } else { self.take(name, value) }
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        if let Some(size) = zram::take(name, value)? {
            self.zram = Some(size);
            return Ok(());
        }
        match name {
            "systemd.hostname" => self.hostname = Some(ip::host_name(value)?),
            "lifeboat.server" => self.server = Some(http_url(value)?),
            "lifeboat.reboot_after" => {
                self.reboot_after = Some(value.parse().map_err(|_| "a whole number of seconds is needed")?);
            }
            "lifeboat.watchdog" => self.watchdog = watchdog::Policy::parse(value)?,
            "lifeboat.console" => {
                self.console = match value {
                    "key" => Console::Key,
                    "open" => Console::Open,
                    "off" => Console::Off,
                    _ => return Err("it is key, open or off".into()),
                }
            }
            "lifeboat.authorized_key" => self.authorized_keys.push(key_line(value)?),
            "lifeboat.fail" => self.fail.push(fail(value)?),
            name if name.starts_with("lifeboat.") => {
                return Err(format!("no such parameter; there are {}", parameter_names()));
            }
            _ => {}
        }
        Ok(())
    }
}

fn parameter_names() -> String {
    parameters().map(|(name, ..)| name).collect::<Vec<_>>().join(", ")
}

pub(crate) fn http_url(text: &str) -> Result<Url, String> {
    // RFC 3986, section 2. And idna asserts what some host names in other scripts do not hold.
    if !text.is_ascii() {
        return Err("a URL is ASCII: write a host name as xn--…, and a path with %…".into());
    }
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        "http" | "https" => Err("the URL names no host".into()),
        scheme => Err(format!("{scheme}: is not supported, http: and https: are")),
    }
}

/// A line of authorized_keys: what it says is for the SSH server to understand, which refuses what it does not.
fn key_line(text: &str) -> Result<String, String> {
    let has_key = text.split(' ').any(|word| word.starts_with("AAAA") && word.len() > 40);
    if has_key && text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        Ok(text.into())
    } else {
        Err("a line of authorized_keys is needed, in quotes: \"ssh-ed25519 AAAA… name\"".into())
    }
}

fn fail(text: &str) -> Result<(String, u32), String> {
    let (step, times) = match text.split_once(':') {
        Some((step, times)) => (step, times.parse().map_err(|_| format!("{times:?} is no number of times"))?),
        None => (text, 1),
    };
    if steps::is_step(step) { Ok((step.into(), times)) } else { Err(format!("there is no step {step:?}")) }
}

#[cfg(test)]
mod tests;
