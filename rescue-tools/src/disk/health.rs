//! How a disk itself says it is: SMART of ATA and NVMe by smartctl(8), the life time of eMMC by the kernel.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::inventory::Device;
use crate::tool::Tool;

/// smartctl's exit code: these bits say that it could not ask (smartctl(8), "EXIT STATUS").
const COULD_NOT_ASK: i32 = 0b11;

/// What a disk says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Its own verdict.
    pub passed: Option<bool>,
    /// Degrees Celsius.
    pub temperature: Option<i64>,
    /// Hours that it was on.
    pub hours: Option<u64>,
    /// How much of its life is used, in percent; may be more than 100.
    pub worn: Option<u64>,
    /// Spare blocks that are left, in percent.
    pub spare: Option<u64>,
    /// Errors of the medium that it could not correct (NVMe).
    pub media_errors: Option<u64>,
    /// Sectors that it replaced (ATA).
    pub reallocated: Option<u64>,
    /// Sectors that it could not read and has not replaced (ATA).
    pub pending: Option<u64>,
    /// What is to worry about, in words.
    pub warnings: Vec<String>,
}

/// What smartctl prints, as far as it is of use. Everything may be missing.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Smart {
    smart_status: Option<Status>,
    temperature: Option<Temperature>,
    power_on_time: Option<PowerOnTime>,
    nvme_smart_health_information_log: Option<Nvme>,
    ata_smart_attributes: Option<Attributes>,
}

#[derive(Deserialize)]
struct Status {
    passed: bool,
}

#[derive(Deserialize)]
struct Temperature {
    current: i64,
}

#[derive(Deserialize)]
struct PowerOnTime {
    hours: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Nvme {
    critical_warning: u64,
    available_spare: Option<u64>,
    percentage_used: Option<u64>,
    media_errors: Option<u64>,
}

#[derive(Deserialize)]
struct Attributes {
    table: Vec<Attribute>,
}

#[derive(Deserialize)]
struct Attribute {
    id: u32,
    raw: Raw,
}

#[derive(Deserialize)]
struct Raw {
    value: u64,
}

/// Asks `disk` by smartctl. A disk that sleeps is woken; one that knows no SMART is an error that says so.
pub fn ask(disk: &Device) -> Result<Health> {
    let tool = Tool::new("smartctl")?.args(["--json", "--info", "--health", "--attributes"]).arg(&disk.path);
    let output = tool.output()?;
    if output.status.code().is_none_or(|code| code & COULD_NOT_ASK != 0) {
        anyhow::bail!("{}", message(&output.stdout).unwrap_or_else(|| output.last_line()));
    }
    parse(&output.stdout)
}

/// What `smartctl --json` says.
pub fn parse(json: &[u8]) -> Result<Health> {
    let smart: Smart = serde_json::from_slice(json).context("reading what smartctl says")?;
    let nvme = smart.nvme_smart_health_information_log;
    let attribute = |id: u32| {
        let table = &smart.ata_smart_attributes.as_ref()?.table;
        Some(table.iter().find(|attribute| attribute.id == id)?.raw.value)
    };
    let mut health = Health {
        passed: smart.smart_status.map(|status| status.passed),
        temperature: smart.temperature.map(|temperature| temperature.current),
        hours: smart.power_on_time.map(|time| time.hours),
        worn: nvme.as_ref().and_then(|nvme| nvme.percentage_used),
        spare: nvme.as_ref().and_then(|nvme| nvme.available_spare),
        media_errors: nvme.as_ref().and_then(|nvme| nvme.media_errors),
        // The same numbers for all makers.
        reallocated: attribute(5),
        pending: attribute(197),
        warnings: Vec::new(),
    };
    health.warnings = warnings(&health);
    if nvme.is_some_and(|nvme| nvme.critical_warning != 0) {
        health.warnings.push("it warns of something critical: smartctl -a says of what".into());
    }
    Ok(health)
}

fn warnings(health: &Health) -> Vec<String> {
    let mut warnings = Vec::new();
    if health.passed == Some(false) {
        warnings.push("IT SAYS THAT IT IS FAILING: save what is on it".into());
    }
    for (count, what) in [
        (health.pending, "sectors cannot be read"),
        (health.reallocated, "sectors were replaced"),
        (health.media_errors, "errors of the medium"),
    ] {
        if let Some(count) = count.filter(|count| *count > 0) {
            warnings.push(format!("{count} {what}"));
        }
    }
    if let Some(worn) = health.worn.filter(|worn| *worn >= 90) {
        warnings.push(format!("{worn}% of its life is used"));
    }
    if let Some(spare) = health.spare.filter(|spare| *spare <= 10) {
        warnings.push(format!("only {spare}% of its spare blocks are left"));
    }
    warnings
}

/// Why smartctl could not ask.
fn message(json: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(json).ok()?;
    let text = value.pointer("/smartctl/messages/0/string")?.as_str()?;
    Some(text.lines().next()?.replace(char::is_control, "?"))
}

/// What an eMMC says, by `sys` (`/sys`): JEDEC's DEVICE_LIFE_TIME_EST and PRE_EOL_INFO.
pub fn emmc(sys: &Path, name: &str) -> Option<Health> {
    let folder = sys.join("block").join(name).join("device");
    let life = std::fs::read_to_string(folder.join("life_time")).ok()?;
    let end = std::fs::read_to_string(folder.join("pre_eol_info")).unwrap_or_default();
    parse_emmc(&life, &end)
}

fn parse_emmc(life: &str, end: &str) -> Option<Health> {
    let number = |word: &str| u64::from_str_radix(word.trim().trim_start_matches("0x"), 16).ok();
    // Steps of 10 %, for both kinds of its memory; 0: it does not say.
    let worst =
        life.split_ascii_whitespace().filter_map(number).max().filter(|step| (1..=11).contains(step))?;
    let mut health = Health { worn: Some(worst * 10), ..Health::default() };
    health.warnings = warnings(&health);
    match number(end) {
        Some(2) => health.warnings.push("80% of its spare blocks are used".into()),
        Some(3) => health.warnings.push("ITS SPARE BLOCKS ARE USED UP: save what is on it".into()),
        _ => {}
    }
    Some(health)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ATA: &str = r#"{"json_format_version":[1,0],"smartctl":{"exit_status":0},"model_name":"Samsung SSD",
        "smart_status":{"passed":false},"temperature":{"current":41},"power_on_time":{"hours":12345},
        "ata_smart_attributes":{"revision":16,"table":[
        {"id":5,"name":"Reallocated_Sector_Ct","value":99,"raw":{"value":8,"string":"8"}},
        {"id":197,"name":"Current_Pending_Sector","value":100,"raw":{"value":2,"string":"2"}}]}}"#;
    const NVME: &str = r#"{"smart_status":{"passed":true,"nvme":{"value":0}},"nvme_smart_health_information_log":
        {"critical_warning":4,"temperature":38,"available_spare":9,"percentage_used":93,"media_errors":0},
        "temperature":{"current":38},"power_on_time":{"hours":7}}"#;

    #[test]
    fn an_ata_disk_that_fails() {
        let health = parse(ATA.as_bytes()).unwrap();
        assert_eq!((health.passed, health.temperature, health.hours), (Some(false), Some(41), Some(12345)));
        assert_eq!(health.warnings.len(), 3, "{:?}", health.warnings);
        assert!(health.warnings[0].contains("FAILING") && health.warnings[1] == "2 sectors cannot be read");
    }

    #[test]
    fn an_nvme_at_the_end_of_its_life() {
        let health = parse(NVME.as_bytes()).unwrap();
        assert_eq!((health.passed, health.worn, health.spare), (Some(true), Some(93), Some(9)));
        assert_eq!(health.warnings.len(), 3, "{:?}", health.warnings);
    }

    #[test]
    fn an_emmc_says_it_in_steps() {
        let health = parse_emmc("0x01 0x02\n", "0x01\n").unwrap();
        assert_eq!((health.worn, health.warnings.len()), (Some(20), 0));
        let old = parse_emmc("0x0b 0x0b", "0x03").unwrap();
        assert_eq!((old.worn, old.warnings.len()), (Some(110), 2));
        assert_eq!(parse_emmc("0x00 0x00", "0x00"), None);
        assert_eq!(parse_emmc("what", ""), None);
    }

    #[test]
    fn why_it_could_not_be_asked() {
        let json = br#"{"smartctl":{"messages":[{"string":"/dev/vda: Unable to detect device type","severity":"error"}]}}"#;
        assert_eq!(message(json).unwrap(), "/dev/vda: Unable to detect device type");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in ".{0,20}", at in 0..ATA.len()) {
            let _ = parse(&bytes);
            let _ = message(&bytes);
            parse_emmc(&text, &text);
            let mut broken = ATA.as_bytes().to_vec();
            broken[at] = b'9';
            let _ = parse(&broken);
        }
    }
}
