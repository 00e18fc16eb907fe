//! `lifeboat.state=` and what depends on it: the little that is kept from one boot to the next, in a file on a partition
//! of the Pi's own. `rescue state` reads and writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::disk_file::DiskFile;
use crate::manifest::valid_name;
use crate::plan::Parameter;

/// The version of the file's format.
pub const STATE_FORMAT: u32 = 1;
/// No state is longer than this many bytes.
pub const STATE_LIMIT: usize = 64 << 10;
/// No state knows more images.
pub const NAMES_LIMIT: usize = 256;
/// So often a boot that comes to nothing is started anew, where nothing else is said.
const DEFAULT_REBOOTS: u32 = 3;

/// Our own parameters that this file reads: see [`crate::plan::parameters`].
pub(crate) const PARAMETERS: &[Parameter] = &[
    (
        "lifeboat.state",
        "DEVICE:/PATH",
        "keep in this file on a disk which images were booted and how many boots came to nothing",
    ),
    (
        "lifeboat.reboots",
        "N",
        "start anew at most so often in a row, where lifeboat.state= counts (default 3)",
    ),
];

/// What the command line says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateWords {
    /// Where the state is kept; `None`: nowhere.
    pub file: Option<DiskFile>,
    /// How many boots in a row may come to nothing until the Pi does not start anew any more, at least 1.
    pub reboots: u32,
}

impl Default for StateWords {
    fn default() -> Self {
        StateWords { file: None, reboots: DEFAULT_REBOOTS }
    }
}

impl StateWords {
    /// Reads a word; `false`: it is none of these.
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "lifeboat.state" => self.file = Some(DiskFile::parse(value)?),
            "lifeboat.reboots" => {
                self.reboots = match value.parse() {
                    Ok(reboots @ 1..=1000) => reboots,
                    _ => {
                        return Err(
                            "a number from 1 to 1000 is needed; lifeboat.reboot_after=0 is for none".into()
                        );
                    }
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The version of the format: [`STATE_FORMAT`].
    pub format: u32,
    /// The newest serial number of each image's name that was booted.
    #[serde(default)]
    pub serials: BTreeMap<String, u64>,
    /// How many boots in a row have begun and not come to their goal.
    #[serde(default)]
    pub unfinished: u32,
}

impl Default for State {
    fn default() -> Self {
        State { format: STATE_FORMAT, serials: BTreeMap::new(), unfinished: 0 }
    }
}

impl State {
    /// Reads a state.
    ///
    /// # Errors
    /// What is wrong, for a human.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        if json.len() > STATE_LIMIT {
            return Err(format!("it has more than {STATE_LIMIT} bytes"));
        }
        let state: State =
            serde_json::from_slice(json).map_err(|error| format!("it is no state: {error}"))?;
        if state.format != STATE_FORMAT {
            return Err(format!("its format is {}, this image knows {STATE_FORMAT}", state.format));
        }
        if state.serials.len() > NAMES_LIMIT {
            return Err(format!("it knows more than {NAMES_LIMIT} images"));
        }
        match state.serials.keys().find(|name| !valid_name(name)) {
            Some(name) => Err(format!("{name:?} is no image's name")),
            None => Ok(state),
        }
    }

    /// What is left of this when `newer` is written over it: a serial number never falls, whatever the writer knew.
    #[must_use]
    pub fn updated(mut self, newer: &State) -> Self {
        for (name, serial) in &newer.serials {
            let known = self.serials.entry(name.clone()).or_insert(*serial);
            *known = (*known).max(*serial);
        }
        State { unfinished: newer.unfinished, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_understood_or_named() {
        let mut words = StateWords::default();
        assert_eq!(words.take("lifeboat.state", "LABEL=bootfs:/lifeboat.json"), Ok(true));
        assert_eq!(words.take("lifeboat.reboots", "7"), Ok(true));
        assert_eq!(words.take("lifeboat.reboots", "1"), Ok(true));
        assert_eq!((words.file.clone().unwrap().path.as_str(), words.reboots), ("lifeboat.json", 1));
        for (name, bad) in [
            ("lifeboat.state", ""),
            ("lifeboat.state", "/lifeboat.json"),
            ("lifeboat.state", "LABEL=x:/../k"),
            ("lifeboat.reboots", ""),
            ("lifeboat.reboots", "0"),
            ("lifeboat.reboots", "-1"),
            ("lifeboat.reboots", "1001"),
        ] {
            assert!(words.take(name, bad).is_err(), "{name}={bad}");
        }
        assert_eq!(words.take("lifeboat.reboot_after", "7"), Ok(false));
    }

    #[test]
    fn only_a_whole_state_is_one() {
        let state = State { serials: [("debian".into(), 7)].into(), unfinished: 2, ..State::default() };
        assert_eq!(State::parse(&serde_json::to_vec(&state).unwrap()), Ok(state));
        assert_eq!(State::parse(br#"{"format":1}"#), Ok(State::default()));
        for bad in [
            &b""[..],
            b"{}",
            b"[]",
            br#"{"format":2}"#,
            br#"{"format":1,"serials":{"../x":1}}"#,
            br#"{"format":1,"serials":{"x":-1}}"#,
            br#"{"format":1,"unfinished":4294967296}"#,
            br#"{"format":1,"more":1}"#,
            br#"{"format":1,"serials":{"x":1}"#,
        ] {
            assert!(State::parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let many = (0..=NAMES_LIMIT).map(|n| (n.to_string(), 1)).collect();
        let many = State { serials: many, ..State::default() };
        assert!(State::parse(&serde_json::to_vec(&many).unwrap()).unwrap_err().contains("256"));
        assert!(State::parse(&vec![b' '; STATE_LIMIT + 1]).unwrap_err().contains("bytes"));
    }

    #[test]
    fn a_serial_never_falls() {
        let serials = |list: &[(&str, u64)]| list.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let old = State { serials: serials(&[("a", 5), ("b", 5)]), unfinished: 3, ..State::default() };
        let new = State { serials: serials(&[("a", 4), ("b", 6), ("c", 1)]), ..State::default() };
        let both = old.updated(&new);
        assert_eq!((both.serials, both.unfinished), (serials(&[("a", 5), ("b", 6), ("c", 1)]), 0));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = State::parse(&bytes);
        }

        #[test]
        fn what_is_written_reads_back(serials in proptest::collection::btree_map("[a-z0-9]{1,8}", any::<u64>(), 0..8), unfinished: u32) {
            let state = State { serials, unfinished, ..State::default() };
            prop_assert_eq!(State::parse(&serde_json::to_vec(&state).unwrap()), Ok(state));
        }
    }
}
