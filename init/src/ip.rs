//! The parameters `ip=` and `nameserver=`, as the kernel (Documentation/admin-guide/nfs/nfsroot.rst) and dracut
//! (dracut.cmdline(7)) spell them.

use std::net::{IpAddr, Ipv4Addr};

use crate::cmdline::CommandLine;

/// How one interface, or every wired one, gets its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The interface's name; `None` means every wired one.
    pub device: Option<String>,
    /// Where its address comes from.
    pub method: Method,
    /// The host name to take.
    pub hostname: Option<String>,
}

/// Where an address comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// DHCPv4, asked for as long as it takes.
    Dhcp,
    /// A fixed address.
    Static {
        /// The address.
        address: Ipv4Addr,
        /// The length of its network's prefix, 0 to 32.
        prefix: u8,
        /// The default gateway.
        gateway: Option<Ipv4Addr>,
    },
    /// None: the link is up, for IPv6 alone.
    Off,
}

/// What the command line says about the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// One entry an `ip=`; none means DHCP on every wired interface.
    pub interfaces: Vec<Interface>,
    /// Name servers from `ip=` and `nameserver=`; they come before those of DHCP.
    pub nameservers: Vec<IpAddr>,
}

/// An `ip=` or `nameserver=` that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word}: {reason}")]
pub struct IpError {
    /// The word, as it stands on the command line.
    pub word: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Network {
    /// Reads every `ip=` and `nameserver=`; a bad one is left out and reported.
    pub fn parse(line: &CommandLine) -> (Self, Vec<IpError>) {
        let mut network = Network::default();
        let mut errors = Vec::new();
        for value in line.all("ip") {
            match parse_ip(value) {
                Ok((interface, servers)) => {
                    network.interfaces.push(interface);
                    network.nameservers.extend(servers);
                }
                Err(reason) => errors.push(IpError { word: format!("ip={value}"), reason }),
            }
        }
        for value in line.all("nameserver") {
            match value.trim_matches(['[', ']']).parse() {
                Ok(address) => network.nameservers.push(address),
                Err(_) => errors.push(IpError {
                    word: format!("nameserver={value}"),
                    reason: "not an IP address".into(),
                }),
            }
        }
        (network, errors)
    }

    /// How this interface is to be set up.
    pub fn method_for(&self, device: &str) -> Method {
        let named = self.interfaces.iter().find(|interface| interface.device.as_deref() == Some(device));
        let any = || self.interfaces.iter().find(|interface| interface.device.is_none());
        match named.or_else(any) {
            Some(interface) => interface.method.clone(),
            // Where only other interfaces are named, this one was left out on purpose.
            None if self.interfaces.is_empty() => Method::Dhcp,
            None => Method::Off,
        }
    }

    /// The host name that an `ip=` gives.
    pub fn hostname(&self) -> Option<&str> {
        self.interfaces.iter().find_map(|interface| interface.hostname.as_deref())
    }
}

fn parse_ip(value: &str) -> Result<(Interface, Vec<IpAddr>), String> {
    let fields: Vec<&str> = value.split(':').collect();
    let field = |n: usize| fields.get(n).copied().filter(|text| !text.is_empty());
    // ip=dhcp, ip=off
    if fields.len() == 1
        && let Some(method) = autoconf(value)
    {
        return Ok((Interface { device: None, method, hostname: None }, Vec::new()));
    }
    // ip=eth0:dhcp (dracut)
    if let [device, auto] | [device, auto, ""] = fields.as_slice()
        && let Some(method) = autoconf(auto)
    {
        return Ok((Interface { device: Some(device_name(device)?), method, hostname: None }, Vec::new()));
    }
    if fields.len() > 10 {
        return Err(
            "more than the ten fields client:server:gateway:netmask:hostname:device:autoconf:dns:dns:ntp"
                .into(),
        );
    }
    let device = field(5).map(device_name).transpose()?;
    let hostname = field(4).map(host_name).transpose()?;
    let mut servers = Vec::new();
    for text in [field(7), field(8)].into_iter().flatten() {
        servers.push(IpAddr::V4(address("DNS server", text)?));
    }
    let method = match field(6).map(|text| autoconf(text).ok_or(text)) {
        Some(Ok(Method::Off)) | None => static_method(field(0), field(2), field(3))?,
        Some(Ok(method)) => method,
        Some(Err(text)) => {
            return Err(format!("{text:?} is no way of autoconfiguration (dhcp, on, any, off, none)"));
        }
    };
    Ok((Interface { device, method, hostname }, servers))
}

fn static_method(client: Option<&str>, gateway: Option<&str>, mask: Option<&str>) -> Result<Method, String> {
    let Some(client) = client else { return Ok(Method::Off) };
    let (client, slash) = match client.split_once('/') {
        Some((client, bits)) => (client, Some(bits)),
        None => (client, None),
    };
    let address_ = address("client address", client)?;
    let prefix = match (slash, mask) {
        (Some(bits), _) => bits.parse().ok().filter(|bits| *bits <= 32).ok_or("the prefix is 0 to 32")?,
        (None, Some(mask)) => prefix_of(mask)?,
        (None, None) => return Err("a fixed address needs a netmask (its fourth field)".into()),
    };
    let gateway = gateway.map(|text| address("gateway", text)).transpose()?;
    Ok(Method::Static { address: address_, prefix, gateway })
}

fn autoconf(text: &str) -> Option<Method> {
    match text {
        "dhcp" | "on" | "any" | "both" => Some(Method::Dhcp),
        "off" | "none" => Some(Method::Off),
        _ => None,
    }
}

fn address(what: &str, text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("{what} {text:?} is not an IPv4 address"))
}

fn prefix_of(mask: &str) -> Result<u8, String> {
    if let Ok(bits) = mask.parse::<u8>() {
        return if bits <= 32 { Ok(bits) } else { Err(format!("netmask {mask:?}: a prefix is 0 to 32")) };
    }
    let bits = u32::from(address("netmask", mask)?);
    if bits.leading_ones() + bits.trailing_zeros() == 32 {
        Ok(bits.leading_ones() as u8)
    } else {
        Err(format!("netmask {mask:?} has a hole in it"))
    }
}

/// The kernel's rule for interface names (`dev_valid_name`): 1 to 15 bytes, no slash, colon or white space.
fn device_name(text: &str) -> Result<String, String> {
    let valid = (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if valid { Ok(text.into()) } else { Err(format!("{text:?} is no name of an interface")) }
}

/// RFC 1123 section 2.1, at most the kernel's 64 bytes.
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if text.len() <= 64 && text.split('.').all(label) {
        Ok(text.into())
    } else {
        Err(format!("{text:?} is no host name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> (Network, Vec<IpError>) {
        Network::parse(&CommandLine::parse(text))
    }

    #[test]
    fn nothing_said_means_dhcp_everywhere() {
        let (network, errors) = parse("quiet");
        assert!(errors.is_empty());
        assert_eq!(network.method_for("eth0"), Method::Dhcp);
    }

    #[test]
    fn the_kernels_long_form() {
        let (network, errors) =
            parse("ip=192.0.2.7::192.0.2.1:255.255.255.0:cm4:eth0:off:192.0.2.53 nameserver=2001:db8::1");
        assert_eq!(errors, []);
        let fixed = Method::Static {
            address: Ipv4Addr::new(192, 0, 2, 7),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(192, 0, 2, 1)),
        };
        assert_eq!(network.method_for("eth0"), fixed);
        assert_eq!(network.method_for("eth1"), Method::Off);
        assert_eq!(network.hostname(), Some("cm4"));
        assert_eq!(network.nameservers.len(), 2);
    }

    #[test]
    fn short_forms() {
        assert_eq!(parse("ip=dhcp").0.method_for("x"), Method::Dhcp);
        assert_eq!(parse("ip=off").0.method_for("x"), Method::Off);
        assert_eq!(parse("ip=eth1:dhcp").0.method_for("eth1"), Method::Dhcp);
        assert_eq!(parse("ip=:::::eth1:dhcp").0.method_for("eth1"), Method::Dhcp);
        assert_eq!(parse("ip=:::::eth1:dhcp").0.method_for("eth0"), Method::Off);
    }

    #[test]
    fn bad_words_are_named() {
        for bad in [
            "ip=192.0.2.7",
            "ip=192.0.2.7:::255.0.255.0::eth0:off",
            "ip=300.0.0.1:::24",
            "ip=eth0:wifi",
            "ip=:::::averyveryverylongname:dhcp",
            "ip=a:b:c:d:e:f:g:h:i:j:k",
            "ip=192.0.2.7:::24:-bad:eth0:off",
            "nameserver=dns.example",
        ] {
            let (_, errors) = parse(bad);
            assert_eq!(errors.len(), 1, "{bad}");
            assert_eq!(errors[0].word, bad);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9a-z.:/%-]{0,60}") {
            parse(&format!("ip={text} nameserver={text}"));
        }
    }
}
