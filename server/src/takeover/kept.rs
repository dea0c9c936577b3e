//! What a server that was told to stop has left for the next one: sessions that can be resumed, and who sits in rooms with them. A
//! file of the data directory in the format of the state of an upgrade. It is read once: whatever happens afterwards, no
//! later server takes it for true. Nor does one before which another has run that knows nothing of the file: it says where the logs
//! end, and every run makes them longer.
//!
//! ```text
//! sessions.new    what the workers have written, while they end
//! sessions.state  with the ends of the logs behind it, when all have ended
//! ```

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use whimbrel_storage::{data, log};

use super::clock::ServerClock;
use super::inherited::InheritedDescriptors;
use super::mapped::Mapped;
use crate::clock;
use crate::saved::codec::{Decoder, Encoder};
use crate::saved::counts::Counts;
use crate::saved::error::StateError;
use crate::saved::frame::StateWriter;
use crate::saved::kind::Kind;
use crate::saved::state::State;
use crate::saved::{Owner, Row};

/// The file's name in the data directory.
const FILE: &str = "sessions.state";

/// The extension of its name until it is whole.
const UNFINISHED: &str = "new";

/// Where the file lies.
#[must_use]
pub fn path(data: &Path) -> PathBuf {
    data.join(FILE)
}

/// Where it lies until it is whole.
#[must_use]
pub fn unfinished_path(data: &Path) -> PathBuf {
    path(data).with_extension(UNFINISHED)
}

/// When the server that has left it ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct EndedAt {
    /// Milliseconds of its clock, which began when it started.
    pub clock_ms: u64,
    /// The same moment, in milliseconds since 1970.
    pub unix_ms: u64,
}

impl EndedAt {
    /// A time of that server's clock in terms of one that shows `now_ms`, at `unix_ms`. What is over by then is due now.
    #[must_use]
    pub fn moved(&self, ms: u64, now_ms: u64, unix_ms: u64) -> u64 {
        let (left, away) = (ms.saturating_sub(self.clock_ms), unix_ms.saturating_sub(self.unix_ms));
        now_ms.saturating_add(left.saturating_sub(away))
    }
}

/// Owns the end of a server that has left its sessions.
pub struct Ended;

impl Owner for Ended {
    const KIND: Kind = Kind::required("ended");
    type Record<'a> = EndedAt;

    fn write(record: &EndedAt, to: &mut Encoder) {
        to.number(record.clock_ms);
        to.number(record.unix_ms);
    }

    fn read(from: &mut Decoder<'_>) -> Result<EndedAt, StateError> {
        Ok(EndedAt { clock_ms: from.number()?, unix_ms: from.number()? })
    }

    fn samples() -> Vec<EndedAt> {
        vec![EndedAt { clock_ms: 86_400_000, unix_ms: 1_900_000_000_000 }]
    }
}

/// Where a log ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// Its identity.
    pub id: u64,
    /// The position behind its last record.
    pub end: u64,
}

/// Owns the ends of the logs, by which a server knows that none has run since the one that left its sessions.
pub struct LogEnds;

impl Owner for LogEnds {
    const KIND: Kind = Kind::required("log-end");
    type Record<'a> = LogEnd;

    fn write(record: &LogEnd, to: &mut Encoder) {
        to.raw(&record.id.to_le_bytes());
        to.number(record.end);
    }

    fn read(from: &mut Decoder<'_>) -> Result<LogEnd, StateError> {
        Ok(LogEnd { id: u64::from_le_bytes(*from.array()?), end: from.number()? })
    }

    fn samples() -> Vec<LogEnd> {
        vec![LogEnd { id: 0x0123_4567_89ab_cdef, end: 1 << 40 }]
    }
}

/// Where the logs of a data directory end.
fn ends_of(data: &Path) -> io::Result<Vec<LogEnd>> {
    let ends = log::ends(&data.join(data::LOG)).map_err(io::Error::other)?;
    Ok(ends.into_iter().map(|(id, end)| LogEnd { id, end }).collect())
}

/// What the workers of a server that ends have written, before it is known where the logs end.
pub struct Unfinished {
    state: Arc<StateWriter>,
    data: PathBuf,
}

impl Unfinished {
    /// What was written into the file at [`unfinished_path`].
    #[must_use]
    pub fn new(state: Arc<StateWriter>, data: PathBuf) -> Unfinished {
        Unfinished { state, data }
    }

    /// All workers have ended, and nobody writes to the logs any more: the next server may take it. `started` is when the server's
    /// clock began. When it cannot be written its sessions are over, and the log says why.
    pub fn finish(self, started: Instant) {
        match self.try_finish(started) {
            Ok((counts, bytes)) => {
                let sessions = counts.of("sessions");
                tracing::info!(sessions, bytes, "sessions wait to be resumed after the next start");
            }
            Err(error) => {
                tracing::warn!(
                    "no session can be resumed after the next start: {}: {error}",
                    path(&self.data).display()
                );
                // The next server does so otherwise.
                let _ = std::fs::remove_file(unfinished_path(&self.data));
            }
        }
    }

    fn try_finish(&self, started: Instant) -> io::Result<(Counts, u64)> {
        let state = &self.state;
        state.put_all::<LogEnds>(&ends_of(&self.data)?).map_err(io::Error::other)?;
        let ended = EndedAt { clock_ms: ServerClock::read(started).ms, unix_ms: clock::unix_milliseconds() };
        state.put::<Ended>(&ended).map_err(io::Error::other)?;
        let bytes = state.finish().map_err(io::Error::other)?;
        state.file().sync_all()?;
        std::fs::rename(unfinished_path(&self.data), path(&self.data))?;
        File::open(&self.data)?.sync_all()?;
        Ok((state.counts(), bytes))
    }
}

/// What the server before has left.
#[derive(Debug)]
pub struct Kept {
    /// The state: sessions without connections.
    pub state: Arc<State<Mapped>>,
    /// No descriptor came along.
    pub inherited: Arc<InheritedDescriptors>,
}

impl Kept {
    /// Takes what lies in the data directory; `None`: nothing. It is there no more afterwards.
    ///
    /// # Errors
    /// Why it is of no use: it is damaged, another server has run since, the system's reason.
    pub fn take(data: &Path, kinds: &[Row]) -> io::Result<Option<Kept>> {
        let Some(state) = take_file(data, kinds)? else { return Ok(None) };
        state.one::<Ended>().map_err(io::Error::other)?;
        let mut ends = Vec::new();
        let read = state.each::<LogEnds>(|_, end| {
            ends.push(end);
            Ok(())
        });
        read.map_err(io::Error::other)?;
        if ends.is_empty() || ends != ends_of(data)? {
            return Err(io::Error::other(
                "another server has run since they were left, or the logs are others",
            ));
        }
        let inherited = Arc::new(InheritedDescriptors::simulated([]));
        Ok(Some(Kept { state: Arc::new(state), inherited }))
    }
}

fn take_file(data: &Path, kinds: &[Row]) -> io::Result<Option<State<Mapped>>> {
    let path = path(data);
    // Of a server that did not come to its end.
    let _ = std::fs::remove_file(unfinished_path(data));
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    std::fs::remove_file(&path)?;
    File::open(data)?.sync_all()?;
    State::read(Mapped::new(&file)?, kinds).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_before_is_as_far_ahead_as_it_was_but_for_what_has_passed() {
        let ended = EndedAt { clock_ms: 1_000_000, unix_ms: 5_000_000 };
        for (ms, unix_ms, expected) in [
            (1_600_000, 5_000_000, 600_007),
            (1_600_000, 5_100_000, 500_007),
            (1_600_000, 9_000_000, 7),
            (5, 1, 7),
        ] {
            assert_eq!(ended.moved(ms, 7, unix_ms), expected, "{ms} at {unix_ms}");
        }
    }

    #[test]
    fn what_lies_there_is_read_once_and_damage_is_no_obstacle() {
        let data = tempfile::tempdir().unwrap();
        assert!(Kept::take(data.path(), &[]).unwrap().is_none());
        for content in [&b""[..], b"something else"] {
            for path in [path, unfinished_path] {
                std::fs::write(path(data.path()), content).unwrap();
            }
            assert!(Kept::take(data.path(), &[]).is_err());
            assert!(!path(data.path()).exists() && !unfinished_path(data.path()).exists());
        }
    }
}
