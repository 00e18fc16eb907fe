//! The error of a verb that would do harm: nothing was changed, and the exit code is 3.

/// Refused, with the reason and what to do about it. In an `anyhow` chain it decides the exit code
/// (`verbs::Exit::Refused`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Short for an error that is a [`Refused`].
pub fn refused(why: impl Into<String>) -> anyhow::Error {
    Refused(why.into()).into()
}
