//! What a server that was told to stop has left for the next one: sessions that can be resumed, and who sits in rooms with them. A
//! file of the data directory in the format of the state of an upgrade. It is read once: whatever happens afterwards, no
//! later server takes it for true.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::inherited::InheritedDescriptors;
use super::mapped::Mapped;
use crate::saved::codec::{Decoder, Encoder};
use crate::saved::error::StateError;
use crate::saved::kind::Kind;
use crate::saved::state::State;
use crate::saved::{Owner, Row};

/// The file's name in the data directory.
const FILE: &str = "sessions.state";

/// Where the file lies.
#[must_use]
pub fn path(data: &Path) -> PathBuf {
    data.join(FILE)
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

/// What the server before has left.
#[derive(Debug)]
pub struct Kept {
    /// The state: sessions without connections.
    pub state: Arc<State<Mapped>>,
    /// No descriptor came along.
    pub inherited: Arc<InheritedDescriptors>,
}

impl Kept {
    /// Takes what lies in the data directory; `None`: nothing, or nothing that is of use. It is there no more afterwards.
    #[must_use]
    pub fn take(data: &Path, kinds: &[Row]) -> Option<Kept> {
        match take_file(&path(data), kinds) {
            Ok(state) => {
                let inherited = Arc::new(InheritedDescriptors::simulated([]));
                state.map(|state| Kept { state: Arc::new(state), inherited })
            }
            Err(error) => {
                tracing::warn!("sessions of before the stop cannot be resumed: {error}");
                None
            }
        }
    }
}

fn take_file(path: &Path, kinds: &[Row]) -> io::Result<Option<State<Mapped>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    std::fs::remove_file(path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
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
        assert!(Kept::take(data.path(), &[]).is_none());
        for content in [&b""[..], b"something else"] {
            std::fs::write(path(data.path()), content).unwrap();
            assert!(Kept::take(data.path(), &[]).is_none());
            assert!(!path(data.path()).exists());
        }
    }
}
