//! Boots into RAM while everything around them, and in them, is broken at random: children killed, the link cut, frames lost, the
//! server stopped, connections cut. Each run has a seed, from which all of it follows but the moments. It has to end in the OS, or
//! in a machine that answers SSH; never in a panic.
//!
//! `make chaos RUNS=50` runs many; the vm tier a few (LIFEBOAT_CHAOS_RUNS, LIFEBOAT_CHAOS_SEED for the first one's).

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::site::proxy::Proxy;
use crate::site::{HOST, Images, LIMIT, Server, ssh_options};
use libtest_mimic::Trial;
use virtual_pi::machine::Machine;

use crate::{tables, trial};

/// A rate at which the fetch lasts as long as the trouble.
const RATE: u64 = 2 << 20;
/// Troubles in a run.
const TROUBLES: u64 = 12;
const CHILDREN: [&str; 5] = ["init boot", "init network", "init devices", "rescue sshd", "rescue console"];

/// As many as asked for.
pub fn trials() -> impl Iterator<Item = Trial> {
    let number = |name: &str, default: u64| -> u64 {
        let Ok(text) = std::env::var(name) else { return default };
        text.parse().unwrap_or_else(|_| panic!("{name}={text}: a whole number is needed"))
    };
    let first = number("LIFEBOAT_CHAOS_SEED", 1);
    let seeds = first..first + number("LIFEBOAT_CHAOS_RUNS", 3);
    seeds.map(|seed| trial(format!("chaos::seed_{seed}"), move || run(seed)))
}

fn run(seed: u64) {
    let mut server = Server::start();
    server.put_os(&Images::get().tiny);
    let proxy = Proxy::start(server.port, RATE);
    let append = format!("root=live:http://{HOST}:{}/tiny.squashfs", proxy.port);
    let machine = server.power_on(&append);
    let began = Instant::now();
    let mut dice = Dice(seed);
    let mut told = String::new();
    // From the first sign of life on: before it there is nothing to break.
    machine.wait_for_console("lifeboat: ", LIMIT).unwrap();
    for _ in 0..TROUBLES {
        std::thread::sleep(dice.time(1500));
        if over(&machine) {
            break;
        }
        let name = trouble(&mut dice, &machine, &mut server, &proxy);
        let _ = write!(told, " {name}");
    }
    let end = end_of(&machine);
    let console = machine.console();
    assert!(!console.contains("Kernel panic"), "seed {seed},{told}:\n{console}");
    let Some(end) = end else { panic!("seed {seed},{told}: neither the OS nor SSH\n{console}") };
    let size = Images::get().tiny.metadata().unwrap().len();
    let received = proxy.passed() as f64 / size as f64;
    let seconds = began.elapsed().as_secs_f64();
    let head = format!("{:>5} {:>7} {:>9}  end and troubles", "seed", "time", "received");
    tables::add(&head, format!("{seed:>5} {seconds:>5.0} s {received:>7.2} x  {end}:{told}"));
}

fn over(machine: &Machine) -> bool {
    machine.console().contains("TEST-OS end") || machine.end().is_some()
}

/// One thing goes wrong, and is right again when this comes back.
fn trouble(dice: &mut Dice, machine: &Machine, server: &mut Server, proxy: &Proxy) -> String {
    match dice.below(6) {
        0 => {
            machine.set_link(false).unwrap();
            std::thread::sleep(dice.time(4000));
            machine.set_link(true).unwrap();
            "cable".into()
        }
        1 => {
            machine.set_frames_dropped(true).unwrap();
            std::thread::sleep(dice.time(4000));
            machine.set_frames_dropped(false).unwrap();
            "frames".into()
        }
        2 => {
            server.kill();
            proxy.cut(true);
            std::thread::sleep(dice.time(4000));
            server.run();
            proxy.pass();
            "server".into()
        }
        3 => {
            proxy.cut(false);
            "connections".into()
        }
        _ => {
            let child = CHILDREN[usize::try_from(dice.below(5)).unwrap()];
            let killed = kill(machine, child);
            format!("{}{}", child.replace(' ', "-"), if killed { "" } else { "(missed)" })
        }
    }
}

/// By SSH, if it is there at this moment.
fn kill(machine: &Machine, child: &str) -> bool {
    let command = format!("kill -KILL $(ps | awk '/{child}$/ {{ print $1 }}')");
    let ssh = Command::new("timeout")
        .args(["20", "ssh", "-o", "ConnectTimeout=5"])
        .args(ssh_options(machine))
        .args(["root@127.0.0.1", &command])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // Who kills the SSH server loses the answer.
    ssh.status.success() || child == "rescue sshd"
}

/// The OS, or a rescue that can be logged in to.
fn end_of(machine: &Machine) -> Option<&'static str> {
    if machine.wait_for_console("TEST-OS end", LIMIT).is_ok() {
        return Some("the OS");
    }
    let ssh = crate::site::ssh(machine, "rescue status");
    ssh.status.success().then_some("SSH")
}

/// splitmix64
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn time(&mut self, milliseconds: u64) -> Duration {
        Duration::from_millis(self.below(milliseconds))
    }
}
