//! What a boot is to become, read from the kernel command line: the checked type that the steps take.

use url::Url;

use crate::cmdline::CommandLine;
use crate::host_key;
use crate::identity::{self, Identity};
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

fn fail(text: &str) -> Result<(String, u32), String> {
    let (step, times) = match text.split_once(':') {
        Some((step, times)) => (step, times.parse().map_err(|_| format!("{times:?} is no number of times"))?),
        None => (text, 1),
    };
    if steps::is_step(step) { Ok((step.into(), times)) } else { Err(format!("there is no step {step:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(text: &str) -> Plan {
        Plan::parse(&CommandLine::parse(text))
    }

    #[test]
    fn nothing_said_is_the_rescue() {
        let plan = plan("console=ttyAMA0 quiet");
        assert_eq!(plan.goal, Goal::Rescue);
        assert_eq!(plan.problems, []);
        assert_eq!(plan.watchdog, watchdog::Policy::On);
        assert!(plan.is_open);
        for (text, is_open) in [
            ("lifeboat.rescue", false),
            ("root=live:http://a/b.squashfs", false),
            ("lifeboat.typo", false),
            ("ip=off", true),
        ] {
            assert_eq!(self::plan(text).is_open, is_open, "{text}");
        }
    }

    #[test]
    fn a_live_root_is_a_ram_boot() {
        let plan = plan(
            "root=live:http://192.0.2.1/debian.squashfs lifeboat.overlay=50% rd.break init=/bin/sh -- -x",
        );
        assert_eq!(plan.problems, []);
        let Goal::RamBoot(ram_boot) = plan.goal else { panic!("{:?}", plan.goal) };
        assert_eq!(ram_boot.trust, Trust::Signed);
        assert_eq!(ram_boot.overlay, Some(Size::Percent(50)));
        assert_eq!((ram_boot.init.as_str(), ram_boot.hold), ("/bin/sh", Some(Hold::BeforeHandOver)));
        assert_eq!(ram_boot.init_arguments, ["-x"]);
    }

    #[test]
    fn the_last_source_counts_and_those_of_the_same_name_are_mirrors() {
        for (text, url, mirrors) in [
            ("root=live:http://a/x.squashfs root=live:https://b/x.squashfs", "https://b/x.squashfs", 1),
            ("root=live:http://a/x.squashfs root=live:http://a/x.squashfs", "http://a/x.squashfs", 0),
            ("root=live:http://a/old.squashfs root=live:http://a/new.squashfs", "http://a/new.squashfs", 0),
            ("root=PARTUUID=1-02 root=live:http://a/x.squashfs", "http://a/x.squashfs", 0),
        ] {
            let Goal::RamBoot(boot) = plan(text).goal else { panic!("{text}") };
            assert_eq!((boot.url.as_str(), boot.mirrors.len()), (url, mirrors), "{text}");
        }
        assert!(matches!(plan("root=live:http://a/x.squashfs root=LABEL=x").goal, Goal::DiskBoot(_)));
        let bad = plan("root=live:ftp://a/x.squashfs root=live:http://a/x.squashfs");
        assert_eq!(bad.problems[0].word, "root=live:ftp://a/x.squashfs");
    }

    #[test]
    fn layers_lie_over_an_image_in_ram_and_over_nothing_else() {
        let hash = "ab".repeat(32);
        let words =
            format!("root=live:http://a/os lifeboat.sha256={hash} lifeboat.layer=http://a/site.squashfs");
        let Goal::RamBoot(boot) = plan(&words).goal else { panic!("{words}") };
        // The hash vouches for the image of root=live: alone.
        assert_eq!((boot.layers.len(), boot.layers[0].url.as_str()), (1, "http://a/site.squashfs"));
        let disk = plan("root=UUID=1 lifeboat.layer=http://a/site.squashfs");
        assert_eq!(disk.goal, Goal::Rescue);
        assert_eq!(disk.problems[0].word, "lifeboat.layer=http://a/site.squashfs");
        assert_eq!(
            plan("lifeboat.rescue root=live:http://a/x.squashfs lifeboat.layer=http://a/s.squashfs").problems,
            []
        );
    }

    #[test]
    fn a_boot_is_held_where_dracut_would() {
        for (words, hold) in [
            ("quiet", None),
            ("lifeboat.hold", Some(Hold::BeforeHandOver)),
            ("rd.break=pre-pivot", Some(Hold::BeforeHandOver)),
            ("rd.break=pre-mount", Some(Hold::BeforeRoot)),
        ] {
            let plan = plan(&format!("root=live:http://a/b.squashfs {words}"));
            assert!(matches!(&plan.goal, Goal::RamBoot(boot) if boot.hold == hold), "{words}: {plan:?}");
        }
    }

    #[test]
    fn a_disk_is_named_as_the_kernel_and_dracut_name_it() {
        for root in
            ["UUID=ab-12", "LABEL=x y", "PARTUUID=1-2", "PARTLABEL=root", "/dev/mapper/a", "/dev/vg0/root"]
        {
            let plan = plan(&format!("root=\"{root}\" rootflags=subvol=@ rd.luks.uuid=luks-AB12-cd ro"));
            assert_eq!(plan.problems, [], "{root}");
            let Goal::DiskBoot(disk) = plan.goal else { panic!("{root}: {:?}", plan.goal) };
            assert_eq!((disk.root.as_deref(), disk.flags.as_deref()), (Some(root), Some("subvol=@")));
            assert_eq!(
                (disk.luks.as_slice(), disk.init.as_str()),
                (["ab12cd".to_owned()].as_slice(), "/sbin/init")
            );
        }
        let found = plan("rd.luks.uuid=1 rd.luks.uuid=2");
        assert!(matches!(found.goal, Goal::DiskBoot(disk) if disk.root.is_none() && disk.luks == ["1", "2"]));
    }

    #[test]
    fn the_kernel_of_a_disk_is_started_where_there_is_a_disk() {
        let disk = plan("root=UUID=1 lifeboat.kexec");
        assert!(matches!(disk.goal, Goal::DiskBoot(disk) if disk.kexec));
        let ram = plan("root=live:http://a/b.squashfs lifeboat.kexec");
        assert_eq!((ram.goal, ram.problems[0].word.as_str()), (Goal::Rescue, "lifeboat.kexec"));
    }

    #[test]
    fn a_hash_stands_in_for_the_manifest() {
        let hash = "ab".repeat(32);
        let plan = plan(&format!("root=live:https://a.example/image lifeboat.sha256={hash}"));
        assert!(
            matches!(&plan.goal, Goal::RamBoot(boot) if matches!(boot.trust, Trust::Sha256(_))),
            "{plan:?}"
        );
    }

    #[test]
    fn what_is_not_understood_is_named_and_ends_in_the_rescue() {
        let live = "root=live:http://a/b.squashfs";
        for bad in [
            "lifeboat.ovrelay=1G",
            "lifeboat.overlay=lots",
            "lifeboat.sha256=12",
            "lifeboat.server=ftp://a",
            "lifeboat.reboot_after=soon",
            "lifeboat.watchdog=maybe",
            "rd.break=lunch",
            "lifeboat.console=root",
            "lifeboat.hostkey=disk",
            "lifeboat.state=disk",
            "lifeboat.reboots=0",
            "lifeboat.zram=lots",
            "lifeboat.fail=lunch",
            "lifeboat.fail=fetch:x",
            "systemd.hostname=a_b",
            "lifeboat.layer=http://a/site.img",
            "root=live:nfs://a/b.squashfs",
            "root=live:http://AΣ/b.squashfs",
            "root=live:http://a/b.img",
            "root=LABEL=",
            "root=sda1",
            "root=nfs:a",
            "rd.luks.uuid=x-y",
            "netroot=iscsi:@x",
            "lifeboat.mdns=maybe",
            "lifeboat.syslog=2001:db8::1",
            "netconsole=10.0.0.2",
            "init=sh",
            "ip=1.2.3.4",
        ] {
            let plan = plan(&format!("{live} {bad}"));
            assert_eq!(plan.goal, Goal::Rescue, "{bad}");
            assert_eq!(plan.problems.len(), 1, "{bad}: {:?}", plan.problems);
            assert_eq!(plan.problems[0].word, bad);
        }
    }

    #[test]
    fn every_parameter_is_known() {
        for (name, ..) in parameters() {
            let plan = plan(&format!("{name}=?"));
            assert!(
                !plan.problems.iter().any(|problem| problem.reason.contains("no such parameter")),
                "{name}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_command_line_panics(text in ".{0,200}") {
            plan(&text);
        }

        #[test]
        fn no_value_panics(name in proptest::sample::select(parameters().map(|p| p.0).collect::<Vec<_>>()), value in "\\PC{0,40}") {
            plan(&format!("root=live:http://a/b.squashfs {name}={value}"));
        }
    }
}
