//! The server's clock, which goes on: so every time and every timer stays what it was.

use std::time::{Duration, Instant};

use crate::runtime::platform;
use crate::saved::Owner;
use crate::saved::codec::{Decoder, Encoder};
use crate::saved::error::StateError;
use crate::saved::kind::Kind;

/// The reading of the server's clock.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ServerClock {
    /// Milliseconds since the server started.
    pub ms: u64,
    /// The monotonic clock at that moment, nanoseconds: the same in all programs of the machine.
    pub at_ns: u64,
}

impl ServerClock {
    /// Reads the clock of a server that started then.
    #[must_use]
    pub fn read(started: Instant) -> ServerClock {
        let at_ns = platform::monotonic_ns();
        ServerClock { ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX), at_ns }
    }

    /// When the server started, in terms of this program.
    #[must_use]
    pub fn start(self) -> Instant {
        let since = platform::monotonic_ns().saturating_sub(self.at_ns);
        let age = Duration::from_millis(self.ms) + Duration::from_nanos(since);
        Instant::now().checked_sub(age).unwrap_or_else(Instant::now)
    }
}

impl Owner for ServerClock {
    const KIND: Kind = Kind::required("clock");
    type Record<'a> = ServerClock;

    fn write(record: &ServerClock, to: &mut Encoder) {
        to.number(record.ms);
        to.number(record.at_ns);
    }

    fn read(from: &mut Decoder<'_>) -> Result<ServerClock, StateError> {
        Ok(ServerClock { ms: from.number()?, at_ns: from.number()? })
    }

    fn samples() -> Vec<ServerClock> {
        vec![ServerClock { ms: 86_400_000, at_ns: 1 << 50 }]
    }
}
