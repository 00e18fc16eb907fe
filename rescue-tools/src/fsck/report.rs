//! What came of a check, for scripts and for the exit code.

use std::path::PathBuf;

use serde::Serialize;

use crate::verbs::Exit;

/// The format of `rescue fsck --json`.
pub const FORMAT: u32 = 1;

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Reports {
    /// [`FORMAT`].
    pub format: u32,
    /// One for each device, in the order in which they were checked.
    pub devices: Vec<Report>,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The device.
    pub device: PathBuf,
    /// What is on it.
    pub file_system: Option<String>,
    /// How it is now.
    pub result: Outcome,
    /// What was wrong, in words.
    pub findings: Vec<String>,
    /// Why, or what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The file with all that the checkers said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
}

/// How a device is after a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing was wrong.
    Clean,
    /// Something was, and a second look found nothing.
    Repaired,
    /// Something is.
    Damaged,
    /// It was not touched: in use, not a file system, no yes.
    Refused,
    /// The same, of one that nobody named.
    Skipped,
    /// The checker failed.
    Failed,
}

/// The exit code of them all: what is most urgent to know.
pub fn exit(reports: &[Report]) -> Exit {
    let any = |outcome: Outcome| reports.iter().any(|report| report.result == outcome);
    if any(Outcome::Failed) {
        Exit::Failed
    } else if any(Outcome::Refused) {
        Exit::Refused
    } else if any(Outcome::Damaged) {
        Exit::Problems
    } else {
        Exit::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides() {
        let report = |result| Report {
            device: "/dev/sda1".into(),
            file_system: None,
            result,
            findings: Vec::new(),
            message: None,
            log: None,
        };
        let exit = |outcomes: &[Outcome]| exit(&outcomes.iter().copied().map(report).collect::<Vec<_>>());
        assert_eq!(exit(&[]), Exit::Done);
        assert_eq!(exit(&[Outcome::Clean, Outcome::Repaired, Outcome::Skipped]), Exit::Done);
        assert_eq!(exit(&[Outcome::Damaged, Outcome::Clean]), Exit::Problems);
        assert_eq!(exit(&[Outcome::Damaged, Outcome::Refused]), Exit::Refused);
        assert_eq!(exit(&[Outcome::Refused, Outcome::Failed]), Exit::Failed);
    }
}
