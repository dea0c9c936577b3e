//! Why a request has no answer, and whether the peer may have processed it.

use std::error::Error;
use std::fmt;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The peer has not looked at it: it may be sent again at once, on another connection (RFC 9113 §8.7).
    NotProcessed(String),
    /// The connection broke behind it; or there is none.
    Broken(String),
}

impl Failure {
    /// What hyper says of a request.
    pub(crate) fn of(error: &hyper::Error) -> Failure {
        let text = describe(error);
        let refused = source::<h2::Error>(error)
            .is_some_and(|error| error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM));
        match refused || is_farewell(error) || error.is_canceled() {
            true => Failure::NotProcessed(text),
            false => Failure::Broken(text),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::NotProcessed(text) | Failure::Broken(text)) = self;
        f.write_str(text)
    }
}

/// Whether the peer has said GOAWAY and has not processed the request: streams above the last one that the frame names
/// fail with the frame itself; those below go on.
pub(crate) fn is_farewell(error: &hyper::Error) -> bool {
    source::<h2::Error>(error).is_some_and(|error| error.is_go_away() && error.is_remote())
}

/// An error with its causes.
pub(crate) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    crate::verdict::quote(&text)
}

fn source<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
