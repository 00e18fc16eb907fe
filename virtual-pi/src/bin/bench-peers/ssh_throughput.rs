//! Bytes over SSH: ours against OpenSSH's sshd, in one guest, with one client, in turns.

use std::fmt;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use virtual_pi::machine::Machine;

use crate::boot::{self, LIMIT};
use crate::case::Case;
use crate::site::Site;

/// Where OpenSSH's sshd listens in the guest.
pub(crate) const PEER_PORT: u16 = 2222;
/// What is sent each way, in bytes.
const BYTES: u64 = 48_000_000;
/// How often each way, in turns.
const TURNS: u32 = 2;
/// Starts OpenSSH's sshd beside ours: the same authorized_keys, a key of its own, nothing of PAM.
const START_PEER: &str = "echo 'sshd:x:100:65534::/run/sshd:/bin/false' >> /etc/passwd && mkdir -p /run/sshd && \
    cp /run/lifeboat/ssh_host_ed25519_key /run/peer_key && \
    /usr/sbin/sshd -f /dev/null -h /run/peer_key -p 2222 -o StrictModes=no -o UsePAM=no -o PidFile=none";

/// What came through, in MB (10^6 bytes) a second.
#[derive(Debug, Serialize)]
pub(crate) struct Throughput {
    #[serde(flatten)]
    case: Case,
    /// To our server.
    pub(crate) ours_up: f64,
    /// From our server.
    pub(crate) ours_down: f64,
    /// To OpenSSH's.
    pub(crate) peer_up: f64,
    /// From OpenSSH's.
    pub(crate) peer_down: f64,
}

/// Boots a rescue, starts the peer in it, and sends bytes to and from both.
pub(crate) fn run(site: &Site, case: Case) -> Result<Throughput> {
    let (machine, _recording) = boot::start(site, case)?;
    machine.ssh_banner(LIMIT)?;
    let ours = machine.ssh_port().context("QEMU forwards no port to the guest's SSH")?;
    let started = ssh(site, ours, START_PEER).stdin(Stdio::null()).status();
    ensure!(started.context(SSH)?.success(), "starting OpenSSH's sshd in the guest failed");
    let peer = peer_port(&machine)?;
    let (mut up, mut down) = ([0.0; 2], [0.0; 2]);
    for _ in 0..TURNS {
        for ((port, up), down) in [ours, peer].into_iter().zip(&mut up).zip(&mut down) {
            *up += send(site, port)?;
            *down += receive(site, port)?;
        }
    }
    let rate = |seconds: f64| BYTES as f64 / 1e6 * f64::from(TURNS) / seconds;
    let ([ours_up, peer_up], [ours_down, peer_down]) = (up.map(rate), down.map(rate));
    Ok(Throughput { case, ours_up, ours_down, peer_up, peer_down })
}

const SSH: &str = "running ssh (Debian package: openssh-client)";

fn peer_port(machine: &Machine) -> Result<u16> {
    machine.host_port(PEER_PORT).context("QEMU forwards no port to the guest's second sshd")
}

/// The same client and the same cipher for both: the one that all three prefer.
fn ssh(site: &Site, port: u16, line: &str) -> Command {
    let mut command = Command::new("ssh");
    command
        .args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=60", "-o", "LogLevel=ERROR"])
        .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
        .args(["-c", "chacha20-poly1305@openssh.com", "-p", &port.to_string(), "-i"])
        .arg(site.ours.join("ssh_key"))
        .args(["root@127.0.0.1", line]);
    command
}

/// Seconds from the login's answer until the guest has taken all.
fn send(site: &Site, port: u16) -> Result<f64> {
    let mut child = start(ssh(site, port, "echo; cat > /dev/null"))?;
    let (mut input, mut output) = (child.stdin.take().context(SSH)?, child.stdout.take().context(SSH)?);
    output.read_exact(&mut [0; 1]).context(SSH)?;
    let began = Instant::now();
    let block = vec![0; 1 << 16];
    let mut left = BYTES;
    while left > 0 {
        let piece = block.get(..usize::try_from(left)?.min(block.len())).unwrap_or_default();
        input.write_all(piece).context(SSH)?;
        left = left.saturating_sub(piece.len() as u64);
    }
    drop(input);
    finish(child)?;
    Ok(began.elapsed().as_secs_f64())
}

/// Seconds from the first byte to the last.
fn receive(site: &Site, port: u16) -> Result<f64> {
    let mut child = start(ssh(site, port, &format!("head -c {BYTES} /dev/zero")))?;
    let mut output = child.stdout.take().context(SSH)?;
    output.read_exact(&mut [0; 1]).context(SSH)?;
    let began = Instant::now();
    let rest = std::io::copy(&mut output, &mut std::io::sink()).context(SSH)?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(rest + 1 == BYTES, "{} of {BYTES} bytes came", rest + 1);
    finish(child)?;
    Ok(seconds)
}

fn start(mut command: Command) -> Result<Child> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context(SSH)
}

fn finish(mut child: Child) -> Result<()> {
    let status = child.wait().context(SSH)?;
    if !status.success() {
        bail!("ssh ended with {status}");
    }
    Ok(())
}

impl fmt::Display for Throughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "up {:.1} MB/s, sshd {:.1};", self.ours_up, self.peer_up)?;
        write!(f, " down {:.1} MB/s, sshd {:.1}", self.ours_down, self.peer_down)
    }
}
