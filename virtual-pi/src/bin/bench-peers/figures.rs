//! Runs made into figures.

use virtual_pi::figures::Figure;

use crate::Measured;
use crate::boot::Run;
use crate::case::{Goal, System};
use crate::site::Site;
use crate::ssh_throughput::Throughput;

/// What a run tells, and under which name.
type Reading = (&'static str, &'static str, fn(&Run) -> Option<f64>);

const READINGS: [Reading; 7] = [
    ("kernel start to exec of systemd", "s", |run| run.exec),
    ("kernel start to multi-user", "s", |run| run.multi_user),
    ("QEMU's CPU time to exec of systemd", "s", |run| run.exec_cpu_seconds),
    ("QEMU's CPU time to multi-user", "s", |run| run.cpu_seconds),
    ("peak of QEMU's RSS to exec of systemd", "MiB", |run| run.exec_peak_rss),
    ("peak of QEMU's RSS to multi-user", "MiB", |run| Some(run.peak_rss)),
    ("memory in use at multi-user", "MiB", |run| {
        Some(run.memory.get("MemTotal")? - run.memory.get("MemAvailable")?)
    }),
];

/// The peers that boot into RAM, and what we want of the first reading.
const PEERS: [(System, &str, &str); 2] =
    [(System::LiveBoot, "live-boot", "at most 0.4"), (System::Dracut, "dracut", "at most 0.2")];

/// All figures for which there were runs.
pub(crate) fn of(measured: &Measured, site: &Site) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (goal, image) in [(Goal::Small, "small image"), (Goal::Large, "large image")] {
        for (peer, peer_name, exec_aim) in PEERS {
            for (number, (reading, unit, read)) in READINGS.into_iter().enumerate() {
                let aim = if number == 0 { exec_aim } else { "" };
                let name = format!("{reading}, {image}, {peer_name}");
                let ours = values(measured, System::Ours, goal, read);
                figures.push(Figure::new(name, unit, aim, ours, values(measured, peer, goal, read)));
            }
        }
    }
    figures.extend(ssh(measured));
    figures.extend(fetch(measured, site));
    figures.extend(ssh_throughput(measured));
    figures.retain(|figure| figure.ours.is_some() || figure.peer.is_some());
    figures
}

fn values(measured: &Measured, system: System, goal: Goal, read: fn(&Run) -> Option<f64>) -> Vec<f64> {
    let runs = measured.runs.iter().filter(|run| (run.case.system, run.case.goal) == (system, goal));
    runs.filter_map(read).collect()
}

fn ssh(measured: &Measured) -> [Figure; 2] {
    let banner = |run: &Run| run.init_to_banner;
    let row = |name: &str, goal| {
        let ours = values(measured, System::Ours, goal, banner);
        let peer = values(measured, System::Dropbear, Goal::Ssh, banner);
        let name = format!("/init to SSH greeting, {name}, dropbear");
        Figure::new(name, "s", "3 s, at most 0.4", ours, peer)
    };
    [row("rescue", Goal::Ssh), row("RAM boot", Goal::Small)]
}

fn fetch(measured: &Measured, site: &Site) -> Vec<Figure> {
    let ours = measured.fetched.iter().map(|fetched| fetched.ours).collect();
    let curl = measured.fetched.iter().map(|fetched| fetched.curl).collect();
    let mut figures =
        vec![Figure::new("fetch into RAM, verified, curl".into(), "MB/s", "at least 1", ours, curl)];
    // Cached counts tmpfs, ramfs and the page cache: wherever a system keeps the image, it is in here.
    if let Ok(size) = site.image_size(Goal::Large) {
        let held = values(measured, System::Ours, Goal::Large, |run| run.memory.get("Cached").copied());
        let peer = if held.is_empty() { Vec::new() } else { vec![size as f64 / f64::from(1 << 20)] };
        let name = "files in RAM at multi-user (Cached), large image, its size";
        figures.push(Figure::new(name.into(), "MiB", "once: near 1", held, peer));
    }
    figures
}

fn ssh_throughput(measured: &Measured) -> [Figure; 2] {
    let row = |name: &str, ours: fn(&Throughput) -> f64, peer: fn(&Throughput) -> f64| {
        let values = |read: fn(&Throughput) -> f64| measured.throughput.iter().map(read).collect();
        Figure::new(
            format!("{name} over SSH, OpenSSH's sshd"),
            "MB/s",
            "at least 1",
            values(ours),
            values(peer),
        )
    };
    [
        row("upload", |run| run.ours_up, |run| run.peer_up),
        row("download", |run| run.ours_down, |run| run.peer_down),
    ]
}
