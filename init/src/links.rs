//! The parameters for interfaces that have to be made or named: `vlan=`, `bond=`, `bridge=`, `ifname=`, `BOOTIF=` (dracut.cmdline(7)).

use crate::mac::Mac;

/// A VLAN on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// Its own name.
    pub name: String,
    /// Its number, 1 to 4094 (IEEE 802.1Q, table 9-2: 0 is no VLAN, 4095 is reserved).
    pub id: u16,
    /// The interface that it is on.
    pub parent: String,
}

/// Several interfaces as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bond {
    /// Its name.
    pub name: String,
    /// The interfaces.
    pub members: Vec<String>,
    /// How it behaves.
    pub options: BondOptions,
    /// The largest packet, in bytes.
    pub mtu: Option<u32>,
}

/// Several interfaces as the ports of a switch in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// The interfaces.
    pub members: Vec<String>,
}

/// Options of a bond, as numbers of `include/uapi/linux/if_bonding.h` (Documentation/networking/bonding.rst).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BondOptions {
    /// `mode`: 0 to 6.
    pub mode: u8,
    /// `miimon`: milliseconds between looks at the links. The kernel's own 0 would let a dead one go unnoticed.
    pub miimon: u32,
    /// `updelay`, in milliseconds.
    pub updelay: Option<u32>,
    /// `downdelay`, in milliseconds.
    pub downdelay: Option<u32>,
    /// `primary`: the interface that is used whenever it has a link.
    pub primary: Option<String>,
    /// `lacp_rate`: 0 slow, 1 fast.
    pub lacp_rate: Option<u8>,
    /// `xmit_hash_policy`: 0 to 5.
    pub xmit_hash_policy: Option<u8>,
    /// `fail_over_mac`: 0 to 2.
    pub fail_over_mac: Option<u8>,
}

impl Default for BondOptions {
    fn default() -> Self {
        BondOptions {
            mode: 0,
            miimon: 100,
            updelay: None,
            downdelay: None,
            primary: None,
            lacp_rate: None,
            xmit_hash_policy: None,
            fail_over_mac: None,
        }
    }
}

const MODES: [&str; 7] =
    ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];
const HASHES: [&str; 6] = ["layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"];
const RATES: [&str; 2] = ["slow", "fast"];
const FAIL_OVER: [&str; 3] = ["none", "active", "follow"];

/// The kernel's rule for interface names (`dev_valid_name`): 1 to 15 bytes, no slash, colon or white space.
pub(crate) fn device_name(text: &str) -> Result<String, String> {
    let valid = (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if valid { Ok(text.into()) } else { Err(format!("{text:?} is no name of an interface")) }
}

/// The largest packet: RFC 791 asks for 68 bytes, and no field holds more than 65535.
pub(crate) fn mtu(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|mtu| (68..=65_535).contains(mtu))
        .ok_or(format!("the MTU {text:?} is not 68 to 65535"))
}

/// `NAME:PARENT`; the digits at the end of the name are the number: `vlan5`, `vlan0005`, `eth0.5`, `eth0.0005`.
pub(crate) fn vlan(value: &str) -> Result<Vlan, String> {
    let (name, parent) = value.split_once(':').ok_or("it is NAME:INTERFACE")?;
    let name = device_name(name)?;
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    let digits = digits.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    let id = digits.parse().ok().filter(|id| (1..=4094).contains(id));
    let id = id.ok_or(format!("the name {name:?} ends in no number of a VLAN (1 to 4094)"))?;
    Ok(Vlan { id, parent: device_name(parent)?, name })
}

/// `[NAME[:MEMBERS[:OPTIONS[:MTU]]]]`.
pub(crate) fn bond(value: &str) -> Result<Bond, String> {
    let mut fields = value.split(':');
    let mut field =
        |otherwise: &'static str| fields.next().filter(|text| !text.is_empty()).unwrap_or(otherwise);
    let name = device_name(field("bond0"))?;
    let members = members(&name, field("eth0,eth1"))?;
    let options = field("");
    let mtu = Some(field("")).filter(|text| !text.is_empty()).map(mtu).transpose()?;
    if fields.next().is_some() {
        return Err("it is NAME:INTERFACE,INTERFACE:OPTION=VALUE,…:MTU".into());
    }
    let options = bond_options(options)?;
    if let Some(primary) = options.primary.as_ref().filter(|primary| !members.contains(primary)) {
        return Err(format!("primary={primary} is none of its interfaces"));
    }
    Ok(Bond { name, members, options, mtu })
}

/// `[NAME[:MEMBERS]]`.
pub(crate) fn bridge(value: &str) -> Result<Bridge, String> {
    let mut fields = value.split(':');
    let mut field =
        |otherwise: &'static str| fields.next().filter(|text| !text.is_empty()).unwrap_or(otherwise);
    let name = device_name(field("br0"))?;
    let members = members(&name, field("eth0"))?;
    if fields.next().is_some() {
        return Err("it is NAME:INTERFACE,INTERFACE".into());
    }
    Ok(Bridge { name, members })
}

/// Interfaces with commas between, each once, and none of them the one that is made of them.
fn members(name: &str, text: &str) -> Result<Vec<String>, String> {
    let members = text.split(',').map(device_name).collect::<Result<Vec<_>, _>>()?;
    let mut all: Vec<&str> = members.iter().map(String::as_str).chain([name]).collect();
    all.sort_unstable();
    if all.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
        return Err("an interface stands there twice".into());
    }
    Ok(members)
}

fn bond_options(text: &str) -> Result<BondOptions, String> {
    let mut options = BondOptions::default();
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let number =
            || value.parse::<u32>().map_err(|_| format!("{word:?}: a number of milliseconds is needed"));
        let one_of = |names: &[&str]| {
            let by_name = names.iter().position(|name| *name == value);
            let by_number = || value.parse::<usize>().ok().filter(|number| *number < names.len());
            let found = by_name.or_else(by_number).and_then(|number| u8::try_from(number).ok());
            found.ok_or_else(|| format!("{word:?}: there are {}", names.join(", ")))
        };
        match name {
            "mode" => options.mode = one_of(&MODES)?,
            "miimon" => options.miimon = number()?,
            "updelay" => options.updelay = Some(number()?),
            "downdelay" => options.downdelay = Some(number()?),
            "primary" => options.primary = Some(device_name(value)?),
            "lacp_rate" => options.lacp_rate = Some(one_of(&RATES)?),
            "xmit_hash_policy" => options.xmit_hash_policy = Some(one_of(&HASHES)?),
            "fail_over_mac" => options.fail_over_mac = Some(one_of(&FAIL_OVER)?),
            _ => {
                return Err(format!(
                    "{name:?} is no option that is known: there are mode, miimon, updelay, downdelay, primary, lacp_rate, \
                     xmit_hash_policy, fail_over_mac"
                ));
            }
        }
    }
    Ok(options)
}

/// The name of a bond's mode.
pub fn mode_name(mode: u8) -> &'static str {
    MODES.get(usize::from(mode)).copied().unwrap_or("?")
}

/// `NAME:MAC`.
pub(crate) fn ifname(value: &str) -> Result<(String, Mac), String> {
    let (name, mac) = value.split_once(':').ok_or("it is NAME:MAC")?;
    Ok((device_name(name)?, Mac::parse(mac, ':')?))
}

/// As PXELINUX writes it, with the hardware type (1: Ethernet) before the address, or the address alone.
pub(crate) fn bootif(value: &str) -> Result<Mac, String> {
    let separator = if value.contains('-') { '-' } else { ':' };
    let address = match value.split(separator).count() {
        7 => value.strip_prefix("01").and_then(|rest| rest.strip_prefix(separator)).unwrap_or("not Ethernet"),
        _ => value,
    };
    Ok(Mac::parse(address, separator)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_are_named_as_dracut_names_them() {
        for (word, name, id, parent) in [
            ("vlan0005:eth0", "vlan0005", 5, "eth0"),
            ("vlan5:eth0", "vlan5", 5, "eth0"),
            ("eth0.0005:eth0", "eth0.0005", 5, "eth0"),
            ("eth0.5:eth0", "eth0.5", 5, "eth0"),
            ("bond0.4094:bond0", "bond0.4094", 4094, "bond0"),
        ] {
            assert_eq!(vlan(word), Ok(Vlan { name: name.into(), id, parent: parent.into() }));
        }
        for bad in [
            "vlan0:eth0",
            "vlan4095:eth0",
            "vlan4096:eth0",
            "vlan:eth0",
            "eth0.x:eth0",
            "vlan5",
            "vlan5:",
            ":eth0",
            "a/5:eth0",
        ] {
            assert!(vlan(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bonds_have_dracuts_defaults() {
        let plain = bond("").unwrap();
        assert_eq!((plain.name.as_str(), plain.members.join(",")), ("bond0", "eth0,eth1".into()));
        assert_eq!((plain.options.mode, plain.options.miimon), (0, 100));
        let full =
            bond("b:eth1,eth2:mode=active-backup,primary=eth2,miimon=50,xmit_hash_policy=layer3+4:9000")
                .unwrap();
        assert_eq!((full.options.mode, full.options.miimon, full.mtu), (1, 50, Some(9000)));
        assert_eq!((full.options.primary.as_deref(), full.options.xmit_hash_policy), (Some("eth2"), Some(1)));
        assert_eq!(bond("b:eth0:mode=4,lacp_rate=fast").unwrap().options.lacp_rate, Some(1));
        for bad in [
            "b:eth0:mode=7",
            "b:eth0:mode=best",
            "b:eth0:colour=red",
            "b:eth0:miimon=often",
            "b:eth0:primary=eth9",
            "b:eth0,eth0",
            "b:b",
            "b:eth0::12",
            "b:eth0::1500:more",
            "b:,",
            "a/b:eth0",
        ] {
            assert!(bond(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bridges_have_dracuts_defaults() {
        for (word, name, members) in [
            ("", "br0", "eth0"),
            ("br0", "br0", "eth0"),
            ("lan:eth1", "lan", "eth1"),
            ("br0:eth0,eth1,bond0", "br0", "eth0,eth1,bond0"),
        ] {
            let bridge = bridge(word).unwrap();
            assert_eq!((bridge.name.as_str(), bridge.members.join(",").as_str()), (name, members), "{word}");
        }
        for bad in
            ["br0:eth0,eth0", "br0:br0", "br0:,", "br0:eth0:1500", "a/b:eth0", "br0:averyveryverylongname"]
        {
            assert!(bridge(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mac_addresses() {
        let mac = Mac([0xdc, 0xa6, 0x32, 1, 2, 3]);
        assert_eq!(bootif("01-dc-a6-32-01-02-03"), Ok(mac));
        assert_eq!(bootif("DC:A6:32:01:02:03"), Ok(mac));
        assert_eq!(ifname("lan:dc:a6:32:1:2:3"), Ok(("lan".into(), mac)));
        assert_eq!(mac.to_string(), "dc:a6:32:01:02:03");
        for bad in [
            "",
            "eth0",
            "20-dc-a6-32-01-02-03",
            "01-dc-a6-32-01-02",
            "ff:ff:ff:ff:ff:ff",
            "0:0:0:0:0:0",
            "+1:2:3:4:5:6",
        ] {
            assert!(bootif(bad).is_err(), "{bad}");
        }
        assert!(ifname("lan").is_err() && ifname(":dc:a6:32:1:2:3").is_err());
    }
}
