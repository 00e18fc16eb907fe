//! The parameter `ip=` in all its forms: the kernel's (Documentation/admin-guide/nfs/nfsroot.rst), and dracut's
//! (dracut.cmdline(7)), which adds IPv6 addresses in brackets, an MTU and a MAC address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::links;
use crate::mac::Mac;
use crate::network::{V4, V6};

/// What one `ip=` says of an interface, or of every wired one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// The interface's name; `None` means every wired one.
    pub device: Option<String>,
    /// Its IPv4 address, as far as this word says.
    pub v4: Option<V4>,
    /// Its IPv6 addresses, as far as this word says.
    pub v6: Option<V6>,
    /// The host name to take.
    pub hostname: Option<String>,
    /// The largest packet, in bytes.
    pub mtu: Option<u32>,
    /// Another MAC address than its own.
    pub mac: Option<Mac>,
}

/// How the families get their addresses; `None` where a word says nothing of one.
type Ways = (Option<V4>, Option<V6>);

/// Reads the value of an `ip=`; the name servers in it come beside.
pub(crate) fn parse(value: &str) -> Result<(Interface, Vec<IpAddr>), String> {
    let fields = fields(value)?;
    let field = |n: usize| fields.get(n).map(String::as_str).filter(|text| !text.is_empty());
    match fields.as_slice() {
        // ip=dhcp
        [only] => match autoconf(only)? {
            Some((v4, v6)) => Ok((Interface { v4, v6, ..Interface::default() }, Vec::new())),
            None => long(&field, &[]),
        },
        // ip=eth0:dhcp[:MTU[:MAC]]. No address and no server is called as a way of configuration is.
        [device, auto, rest @ ..] if !device.is_empty() && autoconf(auto)?.is_some() => {
            let (v4, v6) = autoconf(auto)?.unwrap_or_default();
            let device = Some(links::device_name(device)?);
            let (mtu, mac) = mtu_and_mac(rest)?;
            Ok((Interface { device, v4, v6, mtu, mac, hostname: None }, Vec::new()))
        }
        _ => long(&field, fields.get(7..).unwrap_or_default()),
    }
}

/// `CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF` and what comes behind it: name servers, or MTU and MAC address.
fn long<'a>(
    field: &impl Fn(usize) -> Option<&'a str>,
    rest: &[String],
) -> Result<(Interface, Vec<IpAddr>), String> {
    let mut interface = Interface {
        device: field(5).map(links::device_name).transpose()?,
        hostname: field(4).map(host_name).transpose()?,
        ..Interface::default()
    };
    // A server of the kernel's, a peer of dracut's: not used, but a typo is not passed over.
    if let Some(server) = field(1) {
        any_address("server", server.split_once('/').map_or(server, |(address, _)| address))?;
    }
    let auto = field(6).map(|text| autoconf(text)?.ok_or(no_way(text))).transpose()?;
    let fixed = field(0).map(|client| fixed(client, field(2), field(3)));
    (interface.v4, interface.v6) = match (auto, fixed) {
        // The kernel: an address is asked for, the other fields are what it begins with.
        (Some(ways), _) if ways.0 != Some(V4::Off) || ways.1.is_some() => ways,
        (_, Some(fixed)) => fixed?,
        (Some(off), None) => off,
        (None, None) if interface.device.is_none() && interface.hostname.is_none() => {
            return Err("neither an address nor a way to get one (dhcp, dhcp6, auto6, off …)".into());
        }
        // nfsroot.rst: without a word on autoconfiguration every way is tried.
        (None, None) => (Some(V4::Dhcp), None),
    };
    let servers = match rest {
        [first, ..] if !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit()) => {
            (interface.mtu, interface.mac) = mtu_and_mac(rest)?;
            Vec::new()
        }
        [first, second, ..] if first.is_empty() && rest.len() == 7 && !second.is_empty() => {
            (interface.mtu, interface.mac) = mtu_and_mac(rest)?;
            Vec::new()
        }
        // The third, of a time server, is read so that a typo is not passed over.
        [] | [_] | [_, _] | [_, _, _] => {
            let all = rest.iter().map(|text| Some(text).filter(|text| !text.is_empty()));
            let all: Vec<Option<IpAddr>> = all
                .map(|text| text.map(|text| any_address("server", text)).transpose())
                .collect::<Result<_, _>>()?;
            all.into_iter().take(2).flatten().collect()
        }
        _ => {
            return Err(
                "more than the ten fields client:server:gateway:netmask:hostname:device:autoconf:dns:dns:ntp"
                    .into(),
            );
        }
    };
    Ok((interface, servers))
}

/// A fixed address, of either family.
fn fixed(client: &str, gateway: Option<&str>, mask: Option<&str>) -> Result<Ways, String> {
    let (client, slash) = match client.split_once('/') {
        Some((client, bits)) => (client, Some(bits)),
        None => (client, None),
    };
    match any_address("client address", client)? {
        IpAddr::V4(address) => {
            let prefix = match (slash, mask) {
                (Some(bits), _) => {
                    bits.parse().ok().filter(|bits| *bits <= 32).ok_or("the prefix is 0 to 32")?
                }
                (None, Some(mask)) => prefix_of(mask)?,
                (None, None) => return Err("a fixed address needs a netmask (its fourth field)".into()),
            };
            let gateway = gateway.map(|text| address_v4("gateway", text)).transpose()?;
            Ok((Some(V4::Static { address, prefix, gateway }), None))
        }
        IpAddr::V6(address) => {
            let bits = slash.or(mask).unwrap_or("64");
            let prefix = bits.parse().ok().filter(|bits| *bits <= 128).ok_or("an IPv6 prefix is 0 to 128")?;
            let gateway = gateway.map(|text| address_v6("gateway", text)).transpose()?;
            Ok((None, Some(V6::Static { address, prefix, gateway })))
        }
    }
}

/// One word for a way, or several with commas between, as dracut's scripts take them (`dhcp,dhcp6`). `None`: it is none. An
/// error: one that we do not go.
fn autoconf(text: &str) -> Result<Option<Ways>, String> {
    let mut both: Option<Ways> = None;
    for word in text.split(',') {
        let Some(ways) = way(word)? else { return Ok(None) };
        both = Some(match both {
            None => ways,
            // One that is for IPv6 says "off" of IPv4.
            Some((v4, v6)) => (v4.filter(|v4| *v4 != V4::Off).or(ways.0), v6.or(ways.1)),
        });
    }
    Ok(both)
}

fn way(text: &str) -> Result<Option<Ways>, String> {
    Ok(Some(match text {
        "dhcp" | "on" | "any" | "both" | "single-dhcp" => (Some(V4::Dhcp), None),
        "auto6" => (Some(V4::Off), Some(V6::Auto)),
        "link6" | "link-local" => (Some(V4::Off), Some(V6::LinkLocal)),
        "off" | "none" => (Some(V4::Off), None),
        "dhcp6" => (Some(V4::Off), Some(V6::Dhcp)),
        "either6" => (Some(V4::Off), Some(V6::Either)),
        "bootp" | "rarp" | "ibft" => return Err(format!("{text} is not supported; dhcp is")),
        _ => return Ok(None),
    }))
}

fn no_way(text: &str) -> String {
    format!(
        "{text:?} is no way of autoconfiguration (dhcp, on, any, dhcp6, auto6, either6, link6, off, none)"
    )
}

/// `[MTU[:MAC]]`, the address in its six parts.
fn mtu_and_mac(fields: &[String]) -> Result<(Option<u32>, Option<Mac>), String> {
    let Some((mtu, mac)) = fields.split_first() else { return Ok((None, None)) };
    let mtu = Some(mtu).filter(|mtu| !mtu.is_empty()).map(|mtu| links::mtu(mtu)).transpose()?;
    let mac = mac.join(":");
    let mac = Some(mac).filter(|mac| !mac.is_empty()).map(|mac| Mac::parse(&mac, ':')).transpose()?;
    Ok((mtu, mac))
}

/// What stands between the colons. Brackets protect those of an IPv6 address, and are taken away.
pub(crate) fn fields(value: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut inside = false;
    for c in value.chars() {
        match c {
            '[' if !inside => inside = true,
            ']' if inside => inside = false,
            '[' | ']' => return Err("a bracket has no partner".into()),
            ':' if !inside => fields.push(String::new()),
            c => fields.last_mut().map(|field| field.push(c)).unwrap_or_default(),
        }
    }
    if inside { Err("a bracket has no partner".into()) } else { Ok(fields) }
}

/// An address of either family, with or without brackets.
pub(crate) fn any_address(what: &str, text: &str) -> Result<IpAddr, String> {
    let plain = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    plain.parse().map_err(|_| format!("{what} {text:?} is not an IP address"))
}

fn address_v4(what: &str, text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("{what} {text:?} is not an IPv4 address"))
}

fn address_v6(what: &str, text: &str) -> Result<Ipv6Addr, String> {
    text.parse().map_err(|_| format!("{what} {text:?} is not an IPv6 address"))
}

fn prefix_of(mask: &str) -> Result<u8, String> {
    if let Ok(bits) = mask.parse::<u8>() {
        return if bits <= 32 { Ok(bits) } else { Err(format!("netmask {mask:?}: a prefix is 0 to 32")) };
    }
    let bits = u32::from(address_v4("netmask", mask)?);
    if bits.leading_ones() + bits.trailing_zeros() == 32 {
        Ok(bits.leading_ones() as u8)
    } else {
        Err(format!("netmask {mask:?} has a hole in it"))
    }
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

    fn v4(address: [u8; 4], prefix: u8, gateway: Option<[u8; 4]>) -> Option<V4> {
        Some(V4::Static { address: address.into(), prefix, gateway: gateway.map(Into::into) })
    }

    fn v6(address: &str, prefix: u8, gateway: Option<&str>) -> Option<V6> {
        let gateway = gateway.map(|text| text.parse().unwrap());
        Some(V6::Static { address: address.parse().unwrap(), prefix, gateway })
    }

    /// A value, and what it says: device, both families, MTU.
    type Row<'a> = (&'a str, Option<&'a str>, Option<V4>, Option<V6>, Option<u32>);

    fn is_understood(table: Vec<Row>) {
        for (text, device, v4, v6, mtu) in table {
            let (interface, _) = parse(text).unwrap_or_else(|reason| panic!("{text}: {reason}"));
            assert_eq!(
                (interface.device.as_deref(), &interface.v4, &interface.v6),
                (device, &v4, &v6),
                "{text}"
            );
            assert_eq!(interface.mtu, mtu, "{text}");
            assert_eq!(interface.mac.is_some(), text.ends_with("02:00:00:00:00:01"), "{text}");
        }
    }

    /// Of the manuals' forms, those that name a way to get an address.
    #[test]
    fn every_way_to_an_address() {
        let (dhcp, off) = (Some(V4::Dhcp), Some(V4::Off));
        is_understood(vec![
            ("dhcp", None, dhcp.clone(), None, None),
            ("on", None, dhcp.clone(), None, None),
            ("any", None, dhcp.clone(), None, None),
            ("both", None, dhcp.clone(), None, None),
            ("single-dhcp", None, dhcp.clone(), None, None),
            ("off", None, off.clone(), None, None),
            ("none", None, off.clone(), None, None),
            ("auto6", None, off.clone(), Some(V6::Auto), None),
            ("dhcp6", None, off.clone(), Some(V6::Dhcp), None),
            ("either6", None, off.clone(), Some(V6::Either), None),
            ("dhcp,dhcp6", None, dhcp.clone(), Some(V6::Dhcp), None),
            ("dhcp6,dhcp", None, dhcp.clone(), Some(V6::Dhcp), None),
            ("eth1:dhcp6", Some("eth1"), off.clone(), Some(V6::Dhcp), None),
            ("eth1:auto6,dhcp:1400", Some("eth1"), dhcp.clone(), Some(V6::Auto), Some(1400)),
            (":::::eth1:either6", Some("eth1"), off.clone(), Some(V6::Either), None),
            ("link6", None, off.clone(), Some(V6::LinkLocal), None),
            ("link-local", None, off.clone(), Some(V6::LinkLocal), None),
            ("eth1:dhcp", Some("eth1"), dhcp.clone(), None, None),
            ("eth1:auto6:1400", Some("eth1"), off.clone(), Some(V6::Auto), Some(1400)),
            ("eth1:dhcp:", Some("eth1"), dhcp.clone(), None, None),
            ("eth1:dhcp:9000:02:00:00:00:00:01", Some("eth1"), dhcp.clone(), None, Some(9000)),
            ("eth1:dhcp::02:00:00:00:00:01", Some("eth1"), dhcp.clone(), None, None),
            (":::::eth1:dhcp", Some("eth1"), dhcp.clone(), None, None),
            (":::::eth1:", Some("eth1"), dhcp.clone(), None, None),
            ("::::cm4:eth1:dhcp", Some("eth1"), dhcp.clone(), None, None),
        ]);
    }

    /// And those that have one.
    #[test]
    fn every_form_with_an_address() {
        let fixed = || v4([192, 0, 2, 7], 24, Some([192, 0, 2, 1]));
        is_understood(vec![
            ("192.0.2.7:192.0.2.5/24:192.0.2.1:24:cm4:eth0:none", Some("eth0"), fixed(), None, None),
            ("192.0.2.7::192.0.2.1:255.255.255.0:cm4:eth0:off", Some("eth0"), fixed(), None, None),
            ("192.0.2.7:192.0.2.5:192.0.2.1:24:cm4:eth0:none", Some("eth0"), fixed(), None, None),
            ("192.0.2.7/24::192.0.2.1:::eth0", Some("eth0"), fixed(), None, None),
            ("192.0.2.7::192.0.2.1:24", None, fixed(), None, None),
            ("192.0.2.7::192.0.2.1:24::eth0:none:1400", Some("eth0"), fixed(), None, Some(1400)),
            (
                "192.0.2.7::192.0.2.1:24::eth0:none:1400:02:00:00:00:00:01",
                Some("eth0"),
                fixed(),
                None,
                Some(1400),
            ),
            ("192.0.2.7::192.0.2.1:24::eth0:none::02:00:00:00:00:01", Some("eth0"), fixed(), None, None),
            (
                "192.0.2.7::192.0.2.1:24::eth0:none:192.0.2.53:[2001:db8::53]:192.0.2.2",
                Some("eth0"),
                fixed(),
                None,
                None,
            ),
            ("192.0.2.7::192.0.2.1:24::eth0:dhcp", Some("eth0"), Some(V4::Dhcp), None, None),
            (
                "[2001:db8::7]::[2001:db8::1]:64:cm4:eth0:none",
                Some("eth0"),
                None,
                v6("2001:db8::7", 64, Some("2001:db8::1")),
                None,
            ),
            (
                "[2001:db8::7/48]::[fe80::1]:::eth0:off",
                Some("eth0"),
                None,
                v6("2001:db8::7", 48, Some("fe80::1")),
                None,
            ),
            ("[2001:db8::7]:::::eth0", Some("eth0"), None, v6("2001:db8::7", 64, None), None),
        ]);
        assert_eq!(parse("192.0.2.7:::24::eth0:none:192.0.2.53:[2001:db8::53]").unwrap().1.len(), 2);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in [
            "",
            "192.0.2.7",
            "192.0.2.7:::255.0.255.0::eth0:off",
            "192.0.2.7:::33::eth0:off",
            "192.0.2.7/33",
            "300.0.0.1:::24",
            "192.0.2.7::[2001:db8::1]:24::eth0:off",
            "[2001:db8::7]::192.0.2.1:64::eth0:off",
            "[2001:db8::7]:::129::eth0:off",
            "[2001:db8::7:::64::eth0:off",
            "2001:db8::7",
            "eth0:wifi",
            "eth0:dhcp7",
            "dhcp,",
            "dhcp,bootp",
            "192.0.2.7:server:192.0.2.1:24::eth0:off",
            "eth0:dhcp:12",
            "eth0:dhcp:1500:02:00",
            "eth0:dhcp:1500:ff:ff:ff:ff:ff:ff",
            "bootp",
            "ibft",
            ":::::averyveryverylongname:dhcp",
            "a:b:c:d:e:f:g:h:i:j:k",
            "192.0.2.7:::24:-bad:eth0:off",
            "192.0.2.7:::24::eth0:off:dns.example",
            "192.0.2.7:::24::eth0:off:1:2:3:4",
        ] {
            assert!(parse(bad).is_err(), "{bad}: {:?}", parse(bad));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9a-z\\[\\].:/%-]{0,60}") {
            let _ = parse(&text);
        }
    }
}
