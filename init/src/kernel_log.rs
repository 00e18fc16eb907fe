//! Where the kernel's log goes besides the console: `lifeboat.syslog=`, and `netconsole=` as the kernel has it
//! (Documentation/networking/netconsole.rst).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::mac::Mac;
use crate::plan::Parameter;

/// Our own parameters that this file reads: see [`crate::plan::parameters`].
pub(crate) const PARAMETERS: &[Parameter] =
    &[("lifeboat.syslog", "HOST[:PORT]", "send the kernel's log there by syslog (UDP, port 514)")];

/// RFC 5426 section 3.3.
const SYSLOG_PORT: u16 = 514;
/// What netconsole takes where none is named (`drivers/net/netconsole.c`).
const NETCONSOLE_DEVICE: &str = "eth0";

/// Who receives the kernel's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelLog {
    /// By syslog.
    pub syslog: Option<Receiver>,
    /// By netconsole: each target's interface, and whether it is an IPv6 one.
    pub netconsole: Vec<NetconsoleTarget>,
}

/// A receiver of syslog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What netconsole needs before it can begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetconsoleTarget {
    /// The interface.
    pub device: String,
    /// Who receives it.
    pub address: IpAddr,
}

impl KernelLog {
    /// Reads a word; `false`: it is none of these.
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "lifeboat.syslog" => self.syslog = Some(receiver(value)?),
            // As for the kernel, the last word counts.
            "netconsole" => {
                self.netconsole = value.split(';').map(netconsole_target).collect::<Result<_, _>>()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

fn receiver(text: &str) -> Result<Receiver, String> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("an IPv6 address stands in brackets: [{text}]"));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
            let address: Ipv6Addr = address.parse().map_err(|_| format!("{address:?} is no IPv6 address"))?;
            match rest.strip_prefix(':') {
                Some(port) => (address.to_string(), Some(port)),
                None if rest.is_empty() => (address.to_string(), None),
                None => return Err(format!("{rest:?} is no port")),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (text.to_owned(), None),
        },
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || host.len() > 253 || !host.chars().all(is_name) {
        return Err(format!("{host:?} is no name or address of a host"));
    }
    let port = port.map_or(Ok(SYSLOG_PORT), port_number)?;
    Ok(Receiver { host, port })
}

fn port_number(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("{text:?} is no port"))
}

/// `[+][r][SRC-PORT]@[SRC-IP]/[DEVICE],[PORT]@IP/[MAC]`, read as `netpoll_parse_options` reads it.
fn netconsole_target(text: &str) -> Result<NetconsoleTarget, String> {
    const FORM: &str = "it is [+][r][PORT]@[ADDRESS]/[DEVICE],[PORT]@ADDRESS/[MAC]";
    let text = text.strip_prefix('+').unwrap_or(text);
    let text = text.strip_prefix('r').unwrap_or(text);
    let (source_port, rest) = text.split_once('@').ok_or(FORM)?;
    let (source, rest) = rest.split_once('/').ok_or(FORM)?;
    let (device, rest) = rest.split_once(',').ok_or(FORM)?;
    let (port, rest) = rest.split_once('@').ok_or(FORM)?;
    let (address, mac) = rest.split_once('/').ok_or(FORM)?;
    for port in [source_port, port].into_iter().filter(|port| !port.is_empty()) {
        port_number(port)?;
    }
    let ip = |text: &str| text.parse::<IpAddr>().map_err(|_| format!("{text:?} is no address; {FORM}"));
    let address = ip(address)?;
    if !source.is_empty() && ip(source)?.is_ipv4() != address.is_ipv4() {
        return Err("both addresses are of one family".into());
    }
    // A group's address, such as all ones, is allowed here.
    if !mac.is_empty() && mac != "ff:ff:ff:ff:ff:ff" {
        Mac::parse(mac, ':')?;
    }
    let device = if device.is_empty() { NETCONSOLE_DEVICE } else { device };
    Ok(NetconsoleTarget { device: device.into(), address })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn receivers() {
        for (text, wanted) in [
            ("192.0.2.1", "192.0.2.1:514"),
            ("192.0.2.1:1514", "192.0.2.1:1514"),
            ("log.example", "log.example:514"),
            ("log.example:6514", "log.example:6514"),
            ("[2001:db8::1]", "[2001:db8::1]:514"),
            ("[2001:db8::1]:99", "[2001:db8::1]:99"),
        ] {
            assert_eq!(receiver(text).unwrap().to_string(), wanted);
        }
        for bad in [
            "",
            ":514",
            "2001:db8::1",
            "[2001:db8::1",
            "[2001:db8::1]x",
            "[::x]",
            "a:0",
            "a:70000",
            "a b",
            "a/b",
        ] {
            assert!(receiver(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_word_counts() {
        let mut log = KernelLog::default();
        for value in ["a", "b:1"] {
            assert_eq!(log.take("lifeboat.syslog", value), Ok(true));
        }
        assert_eq!(log.syslog.as_ref().map(Receiver::to_string).as_deref(), Some("b:1"));
        assert_eq!(log.take("syslog", "b"), Ok(false));
        assert!(log.take("lifeboat.syslog", "").is_err());
    }

    #[test]
    fn netconsole_as_the_kernel_reads_it() {
        // Those of netconsole.rst, and what may be left out.
        for (text, devices) in [
            ("4444@10.0.0.1/eth1,9353@10.0.0.2/12:34:56:78:9a:bc", &["eth1"][..]),
            ("@/,@10.0.0.2/", &["eth0"]),
            ("@/eth0,6666@fd00:1:2:3::1/", &["eth0"]),
            ("+4444@10.0.0.1/eth1,9353@10.0.0.2/12:34:56:78:9a:bc", &["eth1"]),
            ("+r@/,@10.0.0.2/ff:ff:ff:ff:ff:ff;@/eth1,@10.0.0.3/", &["eth0", "eth1"]),
        ] {
            let mut log = KernelLog::default();
            assert_eq!(log.take("netconsole", text), Ok(true), "{text}");
            let found: Vec<&str> = log.netconsole.iter().map(|target| target.device.as_str()).collect();
            assert_eq!(found, devices, "{text}");
        }
        for bad in [
            "",
            "10.0.0.2",
            "@/eth0,@10.0.0.2",
            "x@/eth0,@10.0.0.2/",
            "@/eth0,@log.example/",
            "@10.0.0.1/eth0,@fd00::1/",
            "@/eth0,@10.0.0.2/12:34",
            "@/eth0,@10.0.0.2/;",
        ] {
            assert!(KernelLog::default().take("netconsole", bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_value_panics(text in "[0-9a-f@/,:;.\\[\\]+r]{0,60}") {
            let _ = receiver(&text);
            let _ = KernelLog::default().take("netconsole", &text);
        }
    }
}
