//! What stops a command: one line for people, a kind for programs.

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Problem {
    /// The kind that the server gave (docs/control.md), or `failed`.
    pub(crate) kind: String,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

impl Problem {
    /// A failure that has no kind of its own.
    pub(crate) fn new(message: impl Into<String>) -> Problem {
        Problem { kind: "failed".into(), message: message.into() }
    }

    /// A failure of a kind.
    pub(crate) fn of_kind(kind: &str, message: impl Into<String>) -> Problem {
        Problem { kind: kind.into(), message: message.into() }
    }
}
