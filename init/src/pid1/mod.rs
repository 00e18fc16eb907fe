//! PID 1 and the children that do its work.
//!
//! PID 1 itself ([`supervisor`]) only reaps, restarts, feeds the watchdog and at the end hands over. Everything that
//! can fail runs in a child: the boot's steps ([`boot`]), the devices ([`devices`]), the network ([`network`]) and the
//! SSH server (`rescue sshd`). They find each other in `/run/lifeboat` and tell PID 1 what they need over [`control`].

pub mod announce;
pub mod ask;
mod authorized_keys;
pub mod boot;
pub mod cgroups;
pub mod clock;
pub mod control;
pub mod devices;
pub mod dhcp;
pub mod dhcp6;
pub mod dns;
pub mod event_queue;
pub mod events;
mod fetcher;
pub mod file;
pub mod flush;
pub mod get;
pub mod handover;
pub mod http;
pub mod image;
pub mod kept;
pub mod kernel_log;
pub mod kmsg;
pub mod last_crash;
pub mod loopdev;
pub mod machine;
pub mod machine_id;
pub mod mdns;
pub mod modprobe;
pub mod mounts;
pub mod network;
pub mod pace;
pub mod pulse;
pub mod rollback;
pub mod sntp;
pub mod stack;
pub mod step;
pub mod steps;
pub mod supervisor;
pub mod sweep;
pub mod switch;
pub mod systemd;
pub mod tls;
pub mod usr;
pub mod watchdog;
pub mod zram;

/// PID 1 may not be killed for lack of memory; its children may, and come back: after what people have started. What is
/// started for a person takes less (`rescue-tools/src/sshd/oom.rs`).
pub fn become_service() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "-500");
}
