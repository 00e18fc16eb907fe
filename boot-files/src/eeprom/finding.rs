//! What a check finds: how bad, where, and what it means.

use serde::Serialize;
use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth to know.
    Note,
    /// Works, and may not do what was meant, or takes a person to the machine one day.
    Warning,
    /// Does not work.
    Error,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The line of the settings, from 1, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What was found and what to do, for a person.
    pub message: String,
}

impl Finding {
    /// What does not work.
    pub fn error(line: impl Into<Option<usize>>, message: impl Into<String>) -> Self {
        Finding { severity: Severity::Error, line: line.into(), message: message.into() }
    }

    /// What may not do what was meant.
    pub fn warning(line: impl Into<Option<usize>>, message: impl Into<String>) -> Self {
        Finding { severity: Severity::Warning, line: line.into(), message: message.into() }
    }

    /// What is worth to know.
    pub fn note(line: impl Into<Option<usize>>, message: impl Into<String>) -> Self {
        Finding { severity: Severity::Note, line: line.into(), message: message.into() }
    }
}

/// How many are errors.
pub fn errors(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.severity == Severity::Error).count()
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        match self.line {
            Some(line) => write!(out, "{severity}: line {line}: {}", self.message),
            None => write!(out, "{severity}: {}", self.message),
        }
    }
}
