//! What a look at a file system found.

use crate::tool::Output;

/// How a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing is wrong with it.
    Clean,
    /// Something is, and the repair is the checker's usual one.
    Damaged,
    /// Something is that is repaired only by what may cost data: by an option of its own.
    NeedsDecision,
}

/// A look.
#[derive(Clone, Debug)]
pub struct Look {
    /// How it is.
    pub health: Health,
    /// In words, one sentence each.
    pub findings: Vec<String>,
    /// What the repair would do, as an end to "The repair …"; or what to decide.
    pub repair: String,
    /// Everything that the checkers said.
    pub said: String,
}

/// What may be done beyond the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Throw XFS's log away where it cannot be played back.
    pub zero_log: bool,
    /// Let `btrfs check --repair` work.
    pub btrfs_repair: bool,
}

impl Look {
    /// Nothing is wrong.
    pub fn clean(said: String) -> Self {
        Look { health: Health::Clean, findings: Vec::new(), repair: String::new(), said }
    }
}

/// How a checker was called, and everything that it said; then how it ended.
pub fn transcript(command: &str, output: &Output) -> String {
    format!("$ {command}\n{}({})\n", output.text(), output.status)
}
