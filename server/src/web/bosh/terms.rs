//! What a client and the server agree on for a session (XEP-0124 §7).

use super::body::Start;

/// The version that is spoken here.
pub const VERSION: (u32, u32) = (1, 11);

/// Requests that are held at most, whatever a client wants.
const HOLD_MAX: u32 = 2;

/// Requests at a time, at the least (§7.2).
const REQUESTS_MIN: u64 = 2;

/// What a session may ask for, as the configuration says.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Seconds that a request may be held, at most.
    pub wait_seconds_max: u32,
    /// Seconds that a client may be away.
    pub inactivity_seconds: u32,
    /// Seconds that it may be away when it says so before, at most.
    pub pause_seconds_max: u32,
    /// Seconds between two empty requests of a client that polls, at least.
    pub polling_seconds: u32,
}

/// What is agreed on with a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub(super) wait_ms: u64,
    pub(super) hold: u32,
    pub(super) inactivity_ms: u64,
    pub(super) pause_ms_max: u64,
    /// Only of a client that polls.
    pub(super) polling_ms: Option<u64>,
    pub(super) ver: (u32, u32),
}

impl Terms {
    pub(super) fn agree(start: &Start, rules: &Rules) -> Terms {
        let wait = start.wait.unwrap_or(rules.wait_seconds_max).min(rules.wait_seconds_max);
        let hold = start.hold.unwrap_or(1).min(HOLD_MAX);
        let polls = wait == 0 || hold == 0;
        let ms = |seconds: u32| u64::from(seconds) * 1000;
        Terms {
            wait_ms: ms(wait),
            hold,
            inactivity_ms: ms(rules.inactivity_seconds),
            pause_ms_max: ms(rules.pause_seconds_max),
            polling_ms: polls.then(|| ms(rules.polling_seconds)),
            ver: start.ver.unwrap_or(VERSION).min(VERSION),
        }
    }

    /// Requests at a time.
    pub(super) fn requests(&self) -> u64 {
        (u64::from(self.hold) + 1).max(REQUESTS_MIN)
    }
}
