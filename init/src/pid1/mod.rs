//! PID 1 and the children that do its work.
//!
//! PID 1 itself ([`supervisor`]) only reaps, restarts, feeds the watchdog and at the end hands over. Everything that
//! can fail runs in a child: the boot's steps ([`boot`]), the devices ([`devices`]), the network ([`network`]) and the
//! SSH server (`rescue sshd`). They find each other in `/run/lifeboat` and tell PID 1 what they need over [`control`].

pub mod announce;
pub mod boot;
pub mod cgroups;
pub mod control;
pub mod devices;
pub mod dhcp;
pub mod event_queue;
pub mod events;
pub mod file;
pub mod get;
pub mod handover;
pub mod http;
pub mod image;
pub mod kmsg;
pub mod last_crash;
pub mod loopdev;
pub mod machine;
pub mod modprobe;
pub mod mounts;
pub mod network;
pub mod pulse;
pub mod step;
pub mod steps;
pub mod supervisor;
pub mod sweep;
pub mod systemd;
pub mod usr;
pub mod watchdog;

/// PID 1 may not be killed for lack of memory; its children may, and come back: after what people have started. What is
/// started for a person takes less (`rescue-tools/src/sshd/oom.rs`).
pub fn become_service() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "-500");
}
