//! LVM and RAID as their members tell it, with nothing activated or assembled.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::inventory::Inventory;
use crate::tool::Tool;

/// Reads the metadata and takes no lock (lvm(8), `--readonly`).
const REPORT: [&str; 6] = ["--readonly", "--reportformat", "json", "--units", "b", "--nosuffix"];

/// A volume group of LVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeGroup {
    /// Its name.
    pub name: String,
    /// The devices that it is on, as far as they are here.
    pub members: Vec<PathBuf>,
    /// How many of its devices are not here.
    pub missing: u64,
    /// Its logical volumes.
    pub volumes: Vec<LogicalVolume>,
}

/// A logical volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogicalVolume {
    /// Its name within the group.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Its path, when it is active.
    pub path: PathBuf,
    /// Whether it is active: its device is there.
    pub active: bool,
}

/// What a member of a RAID says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Raid {
    /// `raid1`.
    pub level: String,
    /// How many devices it has when it is whole.
    pub devices: u64,
    /// Its name: `host:0`.
    pub name: String,
    /// Its UUID, as mdadm writes it.
    pub uuid: String,
}

#[derive(Deserialize)]
struct Report {
    report: Vec<Part>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Part {
    pv: Vec<Pv>,
    lv: Vec<Lv>,
}

#[derive(Deserialize)]
struct Pv {
    pv_name: PathBuf,
    vg_name: String,
    vg_missing_pv_count: String,
}

#[derive(Deserialize)]
struct Lv {
    vg_name: String,
    lv_name: String,
    lv_size: String,
    lv_path: PathBuf,
    lv_dm_path: PathBuf,
}

/// The volume groups, when a device has a part of one.
pub fn groups(inventory: &Inventory) -> Result<Vec<VolumeGroup>> {
    if !inventory.all().iter().any(|device| device.content_kind() == Some("LVM2_member")) {
        return Ok(Vec::new());
    }
    let ask =
        |verb: &str, columns: &str| Tool::new("lvm")?.arg(verb).args(REPORT).args(["-o", columns]).stdout();
    let pvs = ask("pvs", "pv_name,vg_name,vg_missing_pv_count")?;
    let lvs = ask("lvs", "vg_name,lv_name,lv_size,lv_path,lv_dm_path")?;
    let paths: Vec<&Path> = inventory.all().iter().map(|device| device.path.as_path()).collect();
    parse(&pvs, &lvs, |path| paths.contains(&path))
}

fn parse(pvs: &[u8], lvs: &[u8], is_there: impl Fn(&Path) -> bool) -> Result<Vec<VolumeGroup>> {
    let parts = |json: &[u8], what: &str| -> Result<Vec<Part>> {
        let report: Report =
            serde_json::from_slice(json).with_context(|| format!("reading what {what} says"))?;
        Ok(report.report)
    };
    let mut groups: Vec<VolumeGroup> = Vec::new();
    for pv in parts(pvs, "lvm pvs")?.into_iter().flat_map(|part| part.pv).filter(|pv| !pv.vg_name.is_empty())
    {
        let missing = pv.vg_missing_pv_count.parse().unwrap_or_default();
        let group = match groups.iter().position(|group| group.name == pv.vg_name) {
            Some(at) => groups.get_mut(at),
            None => {
                let name = pv.vg_name;
                groups.push(VolumeGroup { name, members: Vec::new(), missing, volumes: Vec::new() });
                groups.last_mut()
            }
        };
        // One that is not here is "[unknown]".
        if let Some(group) = group.filter(|_| pv.pv_name.is_absolute()) {
            group.members.push(pv.pv_name);
        }
    }
    for lv in parts(lvs, "lvm lvs")?.into_iter().flat_map(|part| part.lv) {
        let Some(group) = groups.iter_mut().find(|group| group.name == lv.vg_name) else { continue };
        group.volumes.push(LogicalVolume {
            name: lv.lv_name,
            size: lv.lv_size.parse().unwrap_or_default(),
            active: is_there(&lv.lv_dm_path),
            path: lv.lv_path,
        });
    }
    Ok(groups)
}

/// What the member `device` says of its RAID.
pub fn raid(device: &Path) -> Result<Raid> {
    let output = Tool::new("mdadm")?.args(["--examine", "--export"]).arg(device).output()?;
    Ok(parse_raid(&String::from_utf8_lossy(&output.stdout)))
}

fn parse_raid(text: &str) -> Raid {
    let get = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default().replace(char::is_control, "?")
    };
    Raid {
        level: get("MD_LEVEL"),
        devices: get("MD_DEVICES").parse().unwrap_or_default(),
        name: get("MD_NAME"),
        uuid: get("MD_UUID"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PVS: &str = r#"{"report":[{"pv":[{"pv_name":"/dev/vdi","vg_name":"vg1","vg_missing_pv_count":"1"},
        {"pv_name":"[unknown]","vg_name":"vg1","vg_missing_pv_count":"1"},
        {"pv_name":"/dev/vdj","vg_name":"","vg_missing_pv_count":"0"}]}],"log":[]}"#;
    const LVS: &str = r#"{"report":[{"lv":[{"vg_name":"vg1","lv_name":"data","lv_size":"104857600",
        "lv_path":"/dev/vg1/data","lv_dm_path":"/dev/mapper/vg1-data"}]}],"log":[]}"#;

    #[test]
    fn a_group_with_a_missing_disk() {
        let groups =
            parse(PVS.as_bytes(), LVS.as_bytes(), |path| path == Path::new("/dev/mapper/vg1-data")).unwrap();
        assert_eq!(groups.len(), 1);
        assert_eq!((groups[0].name.as_str(), groups[0].missing), ("vg1", 1));
        assert_eq!(groups[0].members, [PathBuf::from("/dev/vdi")]);
        let volume = &groups[0].volumes[0];
        assert_eq!((volume.name.as_str(), volume.size, volume.active), ("data", 100 << 20, true));
    }

    #[test]
    fn a_member_of_a_raid() {
        let text =
            "MD_LEVEL=raid1\nMD_DEVICES=2\nMD_NAME=lifeboat:0\nMD_UUID=315785e1:aaae9392:f7632f98:9516d1e1\n";
        let raid = parse_raid(text);
        assert_eq!((raid.level.as_str(), raid.devices, raid.name.as_str()), ("raid1", 2, "lifeboat:0"));
        assert_eq!(parse_raid(""), Raid::default());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), at in 0..PVS.len(), text in "(?s).{0,60}") {
            let _ = parse(&bytes, &bytes, |_| false);
            let mut broken = PVS.as_bytes().to_vec();
            broken[at] = b'"';
            let _ = parse(&broken, LVS.as_bytes(), |_| false);
            parse_raid(&text);
        }
    }
}
