//! What is booted, in which order, with which words: the whole of the comparison's fairness.

use std::fmt;

use serde::Serialize;

use crate::site::Site;

/// Who boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum System {
    /// Pi Lifeboat.
    Ours,
    /// Debian's live-boot, on initramfs-tools.
    LiveBoot,
    /// dracut's livenet and dmsquash-live.
    Dracut,
    /// dropbear-initramfs.
    Dropbear,
}

/// Up to what it boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Goal {
    /// The small OS in RAM, up to multi-user.
    Small,
    /// The large OS in RAM, up to multi-user.
    Large,
    /// An SSH server in the initramfs.
    Ssh,
    /// The large (in a quick bench: the small) image in RAM, and once more by curl.
    Fetch,
    /// A rescue with OpenSSH's sshd beside its own server, and bytes to and from both.
    SshThroughput,
}

/// One run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Case {
    pub(crate) system: System,
    pub(crate) goal: Goal,
    /// Which of its kind, from 1.
    pub(crate) round: u32,
}

/// The runs of a whole bench. Rounds are interleaved, so that whatever else this machine does meets all of them.
pub(crate) fn order(rounds: u32, large_rounds: u32) -> Vec<Case> {
    use Goal::{Fetch, Large, Small, Ssh, SshThroughput};
    use System::{Dracut, Dropbear, LiveBoot, Ours};
    let mut cases = Vec::new();
    for round in 1..=rounds {
        let mut add = |system, goal| cases.push(Case { system, goal, round });
        add(Ours, Small);
        add(LiveBoot, Small);
        add(Dracut, Small);
        add(Ours, Ssh);
        add(Dropbear, Ssh);
        add(Ours, Fetch);
        add(Ours, SshThroughput);
        if round <= large_rounds {
            add(Ours, Large);
            add(LiveBoot, Large);
            add(Dracut, Large);
        }
    }
    cases
}

impl Case {
    /// The guest's memory in MiB.
    pub(crate) fn memory(self) -> u32 {
        match self.goal {
            Goal::Small | Goal::Ssh | Goal::SshThroughput => 2048,
            Goal::Large | Goal::Fetch => 4096,
        }
    }

    /// The initramfs.
    pub(crate) fn initramfs(self, site: &Site) -> std::path::PathBuf {
        match (self.system, self.goal) {
            (System::Ours, Goal::Fetch | Goal::SshThroughput) => site.ours.join("initramfs-peers"),
            (System::Ours, _) => site.ours.join("initramfs"),
            (System::LiveBoot, _) => site.peers.join("live-boot-lean.img"),
            (System::Dracut, _) => site.peers.join("dracut-lean.img"),
            (System::Dropbear, _) => site.peers.join("crypt-most.img"),
        }
    }

    /// The kernel's command line.
    pub(crate) fn command_line(self, site: &Site) -> String {
        let url = site.url(self.goal);
        let goal = match (self.system, self.goal) {
            (System::Ours, Goal::Ssh | Goal::SshThroughput) => String::new(),
            (System::Ours, Goal::Fetch) => format!("root=live:{url} rd.break"),
            (System::Ours, _) => format!("root=live:{url}"),
            (System::LiveBoot, _) => format!("boot=live fetch={url} ip=dhcp nocomponents"),
            (System::Dracut, _) => format!(
                "root=live:{url} rd.live.image rd.live.overlay.overlayfs=1 ip=dhcp rd.neednet=1 rd.live.ram=1"
            ),
            (System::Dropbear, _) => "root=/dev/mapper/cryptroot ip=dhcp".into(),
        };
        format!("console=ttyAMA0 earlycon=pl011,0x9000000 panic=5 {goal}").trim_end().into()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let system = match self.system {
            System::Ours => "ours",
            System::LiveBoot => "live-boot",
            System::Dracut => "dracut",
            System::Dropbear => "dropbear",
        };
        let goal = match self.goal {
            Goal::Small => "small",
            Goal::Large => "large",
            Goal::Ssh => "ssh",
            Goal::Fetch => "fetch",
            Goal::SshThroughput => "ssh-throughput",
        };
        write!(f, "{system}-{goal}-{}", self.round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_interleaved() {
        let names: Vec<_> = order(2, 1).iter().map(Case::to_string).collect();
        assert_eq!(names.len(), 17);
        assert_eq!(names[..3], ["ours-small-1", "live-boot-small-1", "dracut-small-1"]);
        assert_eq!(names[9..11], ["dracut-large-1", "ours-small-2"]);
        assert_eq!(order(1, 0).iter().filter(|case| case.goal == Goal::Large).count(), 0);
    }
}
