//! Why something was not done.

use std::error::Error;

use object_store::Error as StoreError;
use object_store::client::HttpErrorKind;

/// The kind of a failure, by which callers decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no such object, or bucket.
    Absent,
    /// The credentials are wrong, or may not do it.
    Denied,
    /// The store has no room.
    Full,
    /// It cannot be reached, has given no answer in time, or says that it is too busy. Later it may work.
    Away,
    /// All memory for parts is taken ([`crate::Settings::memory_bytes`]).
    NoMemory,
    /// The object is not what it was to be, or the answer cannot be understood.
    Wrong,
}

/// Something was not done. The text is for the log: it may name the store, and has no secret in it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What kind it is of.
    pub reason: Reason,
    /// What has happened.
    pub text: String,
}

impl Failure {
    pub(crate) fn new(reason: Reason, text: impl Into<String>) -> Failure {
        Failure { reason, text: text.into() }
    }

    pub(crate) fn late() -> Failure {
        Failure::new(Reason::Away, "the object store has given no answer in time")
    }

    /// The store's thread has ended.
    pub(crate) fn ended() -> Failure {
        Failure::new(Reason::Away, "the server ends")
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let reason = match &error {
            StoreError::NotFound { .. } => Reason::Absent,
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => Reason::Denied,
            error => reason_of(error),
        };
        Failure::new(reason, shorten(&describe(&error)))
    }
}

/// A status that says neither yes nor what the library has an error for.
#[derive(Debug, thiserror::Error)]
#[error("the object store has answered {status}: {body}")]
pub(crate) struct Refused {
    pub(crate) status: u16,
    /// The beginning of it.
    pub(crate) body: String,
}

impl Refused {
    /// How the library is to treat it: whether it asks again.
    pub(crate) fn kind(&self) -> HttpErrorKind {
        match self.reason() {
            Reason::Away => HttpErrorKind::Request,
            _ => HttpErrorKind::Unknown,
        }
    }

    fn reason(&self) -> Reason {
        match self.status {
            507 => Reason::Full,
            408 | 429 | 500.. => Reason::Away,
            _ => Reason::Wrong,
        }
    }
}

fn reason_of(error: &StoreError) -> Reason {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return refused.reason();
        }
        source = error.source();
    }
    // No answer, or one that came to an end too soon.
    Reason::Away
}

/// An error with what is behind it, each once.
pub(crate) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// Bytes of a store's answer that are logged.
const TEXT_BYTES_MAX: usize = 600;

fn shorten(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().find(|(at, _)| *at >= TEXT_BYTES_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use object_store::client::HttpError;

    use super::*;

    #[test]
    fn what_a_store_answers_has_a_reason() {
        let reason = |status| {
            let refused = Refused { status, body: "<Code>Why</Code>".to_owned() };
            let http = HttpError::new(refused.kind(), refused);
            let failure = Failure::from(StoreError::Generic { store: "S3", source: Box::new(http) });
            assert!(failure.text.contains("<Code>Why"), "{failure}");
            failure.reason
        };
        for (status, expected) in [
            (400, Reason::Wrong),
            (429, Reason::Away),
            (500, Reason::Away),
            (503, Reason::Away),
            (507, Reason::Full),
        ] {
            assert_eq!(reason(status), expected, "{status}");
        }
        let denied = StoreError::PermissionDenied { path: "a".into(), source: "no".into() };
        assert_eq!(Failure::from(denied).reason, Reason::Denied);
        assert!(shorten(&"ä".repeat(1000)).len() < 700);
    }
}
