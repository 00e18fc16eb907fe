//! Who has the server's ports: what `/proc/net` lists, and whose file descriptors those sockets are.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::{Level, Line};

const CHECK: &str = "ports";
/// What our own program is called, as the kernel cuts it (15 characters).
const OURS: &str = "http-boot";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Udp,
    Tcp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Udp { "UDP" } else { "TCP" })
    }
}

/// A port that the server wants.
struct Wanted {
    protocol: Protocol,
    port: u16,
    what: &'static str,
    /// Whether another program there is in the way for sure.
    is_exclusive: bool,
    advice: &'static str,
}

const DHCP: Wanted = Wanted {
    protocol: Protocol::Udp,
    port: 67,
    what: "DHCP",
    // It may be bound to another interface, which /proc does not say.
    is_exclusive: false,
    advice: "if it serves the Pis' network, let it say where the boot files are (dnsmasq: pxe-service), or stop it and use \
             --dhcp full, or put this server on another machine",
};
const PROXY: Wanted = Wanted {
    port: 4011,
    what: "proxyDHCP",
    advice: "if it serves the Pis' network, stop it, or switch its PXE service off",
    ..DHCP
};
const TFTP: Wanted = Wanted {
    protocol: Protocol::Udp,
    port: 69,
    what: "TFTP",
    is_exclusive: true,
    advice: "stop it (often dnsmasq's enable-tftp, or tftpd-hpa), or choose another address with --tftp ADDR",
};

/// A socket that waits for others.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    address: SocketAddr,
    user: u32,
    inode: u64,
}

pub(super) fn check(listen: &[SocketAddr]) -> Vec<Line> {
    let http = |port| Wanted {
        protocol: Protocol::Tcp,
        port,
        what: "HTTP",
        is_exclusive: true,
        advice: "stop it, or choose another port with --listen, which is then HTTP_PORT in the EEPROMs",
    };
    let mut ports: Vec<u16> = listen.iter().map(SocketAddr::port).collect();
    if ports.is_empty() {
        ports.push(80);
    }
    let owners = owners(Path::new("/proc"));
    let wanted = [DHCP, PROXY, TFTP].into_iter().chain(ports.into_iter().map(http));
    wanted.flat_map(|wanted| one(&wanted, &owners)).collect()
}

fn one(wanted: &Wanted, owners: &HashMap<u64, (u32, String)>) -> Vec<Line> {
    let files: [&str; 2] = match wanted.protocol {
        Protocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        Protocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
    };
    let read = files.map(std::fs::read_to_string);
    if read.iter().all(Result::is_err) {
        let found = format!("{} cannot be read", files[0]);
        return vec![Line::new(CHECK, Level::Unknown, found, "is /proc mounted?")];
    }
    let texts = read.into_iter().flatten();
    let sockets: Vec<_> = texts.flat_map(|text| sockets(&text, wanted.protocol)).collect();
    judge(wanted, &sockets, owners)
}

fn judge(wanted: &Wanted, sockets: &[Socket], owners: &HashMap<u64, (u32, String)>) -> Vec<Line> {
    let Wanted { protocol, port, what, .. } = wanted;
    let in_use = sockets
        .iter()
        .filter(|socket| socket.address.port() == *port && !socket.address.ip().to_canonical().is_loopback());
    let mut lines: Vec<Line> = Vec::new();
    for socket in in_use {
        let owner = owners.get(&socket.inode);
        let line = match owner {
            Some((process, name)) if name == OURS => {
                Line::ok(CHECK, format!("{protocol} {port} ({what}): http-boot has it (process {process})"))
            }
            _ => {
                let who = owner.map_or_else(
                    || format!("a program of user {}", socket.user),
                    |(process, name)| format!("{name} (process {process})"),
                );
                // Whose it is, root alone can tell: it may be our own.
                let level = match (owner, wanted.is_exclusive) {
                    (None, _) => Level::Unknown,
                    (Some(_), true) => Level::Problem,
                    (Some(_), false) => Level::Warning,
                };
                let found = format!("{protocol} {port} ({what}): {who} has it, at {}", socket.address);
                Line::new(CHECK, level, found, wanted.advice)
            }
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.is_empty() {
        lines.push(Line::ok(CHECK, format!("{protocol} {port} ({what}): free")));
    }
    lines
}

/// Whether our own server has this port of UDP, or somebody of whom nobody can tell who it is.
pub(super) fn is_ours_on(port: u16) -> bool {
    let owners = owners(Path::new("/proc"));
    let text = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let on_port = sockets(&text, Protocol::Udp).into_iter().filter(|socket| socket.address.port() == port);
    on_port.map(|socket| owners.get(&socket.inode)).any(|owner| owner.is_none_or(|(_, name)| name == OURS))
}

/// The sockets of `/proc/net/udp` and its like that wait for others (proc_net_udp(5)): TCP's listen, UDP's all.
fn sockets(text: &str, protocol: Protocol) -> Vec<Socket> {
    let read = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (local, state) = (words.nth(1)?, words.nth(1)?);
        let (user, inode) = (words.nth(3)?, words.nth(1)?);
        let waits = protocol == Protocol::Udp || state == "0A";
        let address = address(local).filter(|_| waits)?;
        Some(Socket { address, user: user.parse().ok()?, inode: inode.parse().ok()? })
    };
    text.lines().skip(1).filter_map(read).collect()
}

/// `0100007F:0050`: words of 32 bits, each in the machine's byte order.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':').filter(|(_, port)| port.len() == 4)?;
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(8 * at..8 * at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Which process has which socket, as far as we may see that.
fn owners(proc: &Path) -> HashMap<u64, (u32, String)> {
    let mut owners = HashMap::new();
    let Ok(processes) = std::fs::read_dir(proc) else { return owners };
    for process in processes.flatten() {
        let Some(number) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        for file in files.flatten() {
            let Ok(target) = std::fs::read_link(file.path()) else { continue };
            let inode =
                target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode {
                owners.insert(inode, (number, name.trim_end().to_owned()));
            }
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
        128: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4242 2 0 0\n\
        129: 0100007F:0045 00000000:0000 07 00000000:00000000 00:00000000 00000000   107        0 4243 2 0 0\n\
        130: 010200C0:0045 00000000:0000 07 00000000:00000000 00:00000000 00000000   107        0 4244 2 0 0\n";

    #[test]
    fn who_has_a_port() {
        // As a machine with little-endian words writes them.
        if cfg!(target_endian = "big") {
            return;
        }
        let sockets = sockets(UDP, Protocol::Udp);
        assert_eq!(sockets.len(), 3);
        assert_eq!(sockets[2].address, "192.0.2.1:69".parse().unwrap());
        let mut owners = HashMap::from([(4242, (77, "dnsmasq".to_owned()))]);
        let dhcp = judge(&DHCP, &sockets, &owners);
        assert_eq!(dhcp.len(), 1);
        assert_eq!(dhcp[0].level, Level::Warning);
        assert_eq!(dhcp[0].found, "UDP 67 (DHCP): dnsmasq (process 77) has it, at 0.0.0.0:67");
        let tftp = judge(&TFTP, &sockets, &owners);
        assert_eq!(tftp.len(), 1, "what is for this machine alone does not count: {tftp:?}");
        assert_eq!((tftp[0].level, tftp[0].found.contains("a program of user 107")), (Level::Unknown, true));
        owners.insert(4244, (78, "in.tftpd".into()));
        assert_eq!(judge(&TFTP, &sockets, &owners)[0].level, Level::Problem);
        owners.insert(4244, (78, "http-boot".into()));
        assert_eq!(judge(&TFTP, &sockets, &owners)[0].level, Level::Ok);
        assert_eq!(judge(&PROXY, &sockets, &owners)[0].found, "UDP 4011 (proxyDHCP): free");
    }

    #[test]
    fn addresses_and_states() {
        if cfg!(target_endian = "little") {
            let v6 = "B80D0120000000000000000001000000:1F90";
            assert_eq!(address(v6), Some("[2001:db8::1]:8080".parse().unwrap()));
        }
        for bad in ["", "0100007F", "0100007F:", "01:0050", "0100007G:0050", "0100007F:00500"] {
            assert_eq!(address(bad), None, "{bad}");
        }
        let tcp = UDP.replace(" 07 ", " 01 ");
        assert_eq!(sockets(&tcp, Protocol::Tcp), [], "connections are no servers");
        assert_eq!(sockets(&UDP.replace(" 07 ", " 0A "), Protocol::Tcp).len(), 3);
    }
}
