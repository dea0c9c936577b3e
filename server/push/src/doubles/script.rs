//! What a double is to answer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a double does with a request that follows the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As the provider does when all is well.
    Take,
    /// An answer.
    Status {
        /// The status.
        status: u16,
        /// Headers: name in lower case, value.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// None, ever; the connection stays.
    Stall,
    /// None: the connection is closed after the request was read.
    Drop,
    /// GOAWAY, whose last stream is the one before this; streams before it are still answered (RFC 9113 §6.8).
    GoAway,
    /// The stream is reset with REFUSED_STREAM (RFC 9113 §8.7).
    Refuse,
    /// Another answer, when the test calls [`super::Journal::release`].
    Hold(Box<Answer>),
}

impl Answer {
    /// A status and a body.
    pub fn status(status: u16, body: &str) -> Answer {
        Answer::Status { status, headers: Vec::new(), body: body.to_owned() }
    }

    /// The same answer with a header more.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Answer {
        if let Answer::Status { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }
}

/// The answers to come.
#[derive(Debug)]
pub struct Script(Mutex<(VecDeque<Answer>, Answer)>);

impl Default for Script {
    fn default() -> Script {
        Script(Mutex::new((VecDeque::new(), Answer::Take)))
    }
}

impl Script {
    /// Adds the answer to one request.
    pub fn next(&self, answer: Answer) -> &Script {
        self.lock().0.push_back(answer);
        self
    }

    /// The answer to all requests for which there is none of their own.
    pub fn always(&self, answer: Answer) {
        self.lock().1 = answer;
    }

    pub(super) fn take(&self) -> Answer {
        let mut script = self.lock();
        let next = script.0.pop_front();
        next.unwrap_or_else(|| script.1.clone())
    }

    fn lock(&self) -> MutexGuard<'_, (VecDeque<Answer>, Answer)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
