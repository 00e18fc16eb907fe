//! What a LUKS header says of its key slots: how much memory a passphrase takes to be tried (LUKS2 On-Disk Format
//! Specification, section 3.2: keyslots, kdf).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use init::size::human;
use serde::Deserialize;

use crate::refusal::refused;
use crate::tool::Tool;

/// What cryptsetup itself takes, in bytes.
const OVERHEAD: u64 = 24 << 20;

/// A LUKS header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The key slots in use: number and the bytes of memory that a try takes. Empty for LUKS1, whose PBKDF2 takes none.
    pub slots: Vec<(u32, u64)>,
}

#[derive(Deserialize)]
struct Metadata {
    keyslots: BTreeMap<String, Slot>,
}

#[derive(Deserialize)]
struct Slot {
    kdf: Option<Kdf>,
}

#[derive(Deserialize)]
struct Kdf {
    /// KiB, of argon2i and argon2id.
    #[serde(default)]
    memory: u64,
}

impl Header {
    /// Reads it, from `detached` where the header is not on the device.
    ///
    /// # Errors
    /// When there is no LUKS header.
    pub fn read(device: &Path, detached: Option<&Path>) -> Result<Self> {
        let place = detached.unwrap_or(device);
        let version = |version: &str| {
            let tool = Tool::new("cryptsetup")?.args(["isLuks", "--type", version]).arg(place);
            anyhow::Ok(tool.output()?.status.success())
        };
        if version("luks2")? {
            let tool = Tool::new("cryptsetup")?.args(["luksDump", "--dump-json-metadata"]).arg(place);
            let json =
                tool.stdout().with_context(|| format!("reading the LUKS header of {}", place.display()))?;
            return parse(&json).with_context(|| format!("reading the LUKS header of {}", place.display()));
        }
        if version("luks1")? {
            return Ok(Header::default());
        }
        Err(refused(format!("{} has no LUKS header (--header names a detached one)", place.display())))
    }

    /// The slots that can be tried with so many bytes of free memory; `None`: all of them.
    ///
    /// # Errors
    /// When no slot can, with the figures.
    pub fn fitting(&self, device: &Path, available: u64) -> Result<Option<Vec<u32>>> {
        let fits = |memory: u64| memory.saturating_add(OVERHEAD) <= available;
        let fitting: Vec<u32> =
            self.slots.iter().filter(|(_, memory)| fits(*memory)).map(|(number, _)| *number).collect();
        if fitting.len() == self.slots.len() {
            return Ok(None);
        }
        if fitting.is_empty() {
            let least = self.slots.iter().map(|(_, memory)| *memory).min().unwrap_or_default();
            return Err(refused(format!(
                "{}: trying a passphrase takes {} of memory (argon2), and {} are free: end what takes memory \
                 (`rescue watch`), or use a machine with more",
                device.display(),
                human(least),
                human(available)
            )));
        }
        Ok(Some(fitting))
    }
}

/// Reads what `luksDump --dump-json-metadata` prints.
///
/// # Errors
/// When it is not that JSON.
pub fn parse(json: &[u8]) -> Result<Header> {
    let metadata: Metadata = serde_json::from_slice(json).context("reading cryptsetup's JSON")?;
    let mut slots: Vec<(u32, u64)> = metadata
        .keyslots
        .into_iter()
        .filter_map(|(number, slot)| {
            let memory = slot.kdf.map_or(0, |kdf| kdf.memory);
            Some((number.parse().ok()?, memory.saturating_mul(1024)))
        })
        .collect();
    slots.sort_unstable();
    Ok(Header { slots })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JSON: &str = r#"{"keyslots":{"0":{"type":"luks2","kdf":{"type":"argon2id","time":4,"memory":1048576,"cpus":4}},
        "10":{"type":"luks2","kdf":{"type":"pbkdf2","hash":"sha256","iterations":1000}},
        "2":{"type":"luks2","kdf":{"type":"argon2i","memory":65536}}},"tokens":{},"config":{}}"#;

    #[test]
    fn slots_cost_what_their_kdf_says() {
        let header = parse(JSON.as_bytes()).unwrap();
        assert_eq!(header.slots, [(0, 1 << 30), (2, 64 << 20), (10, 0)]);
        let device = Path::new("/dev/sda2");
        assert_eq!(header.fitting(device, 2 << 30).unwrap(), None);
        assert_eq!(header.fitting(device, 1 << 30).unwrap(), Some(vec![2, 10]));
        assert_eq!(header.fitting(device, 32 << 20).unwrap(), Some(vec![10]));
        let big = Header { slots: vec![(0, 1 << 30)] };
        let error = big.fitting(device, 700 << 20).unwrap_err().to_string();
        assert!(
            error.contains("/dev/sda2") && error.contains("1.0 GiB") && error.contains("700.0 MiB"),
            "{error}"
        );
        assert_eq!(Header::default().fitting(device, 0).unwrap(), None, "LUKS1");
    }

    proptest! {
        #[test]
        fn no_metadata_panics(json in "\\PC{0,200}", memory in any::<u64>()) {
            let _ = parse(json.as_bytes());
            let json = format!(r#"{{"keyslots":{{"0":{{"kdf":{{"memory":{memory}}}}}}}}}"#);
            let _ = parse(json.as_bytes()).unwrap().fitting(Path::new("x"), 1 << 30);
        }
    }
}
