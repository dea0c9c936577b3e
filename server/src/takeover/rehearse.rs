//! Reading a whole state without making anything of it.
//!
//! The new program does this as a child of the one that runs: first with a sample, then with the true state. Anything that it
//! would stumble over, it stumbles over there, where nobody is hurt.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use crate::saved::codec::Decoder;
use crate::saved::error::StateError;
use crate::saved::file;
use crate::saved::file::{BlockKind, StateFile};
use crate::saved::record::{SessionRecord, Standing};
use crate::saved::state::ServerState;
use crate::saved::tls::TlsRecord;

/// What is in a state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Sessions with a resource and a connection.
    pub bound: u64,
    /// Sessions that wait to be resumed.
    pub waiting: u64,
    /// Connections without a resource.
    pub negotiating: u64,
    /// Of all connections, those with TLS.
    pub tls: u64,
    /// Stanzas that clients have not acknowledged.
    pub unacked: u64,
}

impl Contents {
    /// Counts one session.
    pub fn count(&mut self, session: &SessionRecord<'_>) {
        match (&session.standing, &session.link) {
            (Standing::Bound(_), Some(_)) => self.bound += 1,
            (Standing::Bound(_), None) => self.waiting += 1,
            (Standing::Negotiating(_), _) => self.negotiating += 1,
        }
        let tls = session.link.as_ref().is_some_and(|link| !matches!(link.tls, TlsRecord::Plain));
        self.tls += u64::from(tls);
        if let Standing::Bound(resource) = &session.standing
            && let Some(sm) = &resource.sm
        {
            self.unacked += sm.unacked.len() as u64;
        }
    }

    /// Adds what another part of the state holds.
    pub fn add(&mut self, other: &Contents) {
        self.bound += other.bound;
        self.waiting += other.waiting;
        self.negotiating += other.negotiating;
        self.tls += other.tls;
        self.unacked += other.unacked;
    }

    /// All sessions.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.bound + self.waiting + self.negotiating
    }
}

/// The server's part of a state.
///
/// # Errors
/// It is damaged, or not there exactly once.
pub fn server_of(state: &StateFile<'_>) -> Result<ServerState, StateError> {
    let mut blocks = state.blocks.iter().filter(|block| block.kind == BlockKind::Server);
    let (Some(block), None) = (blocks.next(), blocks.next()) else {
        return Err(StateError::Damaged("it does not say once what the server is"));
    };
    let mut decoder = Decoder::new(block.content);
    let server = ServerState::read(&mut decoder)?;
    if !decoder.is_empty() {
        return Err(StateError::Damaged("a block is longer than its content"));
    }
    Ok(server)
}

/// Reads every session of a block.
///
/// # Errors
/// It is damaged, or `each` says so.
pub fn sessions_of<'a>(
    block: &file::Block<'a>,
    mut each: impl FnMut(SessionRecord<'a>) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let mut decoder = Decoder::new(block.content);
    for _ in 0..block.records {
        each(SessionRecord::read(&mut decoder)?)?;
    }
    if !decoder.is_empty() {
        return Err(StateError::Damaged("a block is longer than its content"));
    }
    Ok(())
}

/// Reads all of a state.
///
/// # Errors
/// It cannot be read.
pub fn read_all(bytes: &[u8]) -> Result<(ServerState, Contents), StateError> {
    let state = StateFile::read(bytes)?;
    let server = server_of(&state)?;
    let sessions: Vec<_> = state.blocks.iter().filter(|block| block.kind == BlockKind::Sessions).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(sessions.len().max(1));
    let share = sessions.len().div_ceil(threads).max(1);
    let read_some = |blocks: &[&file::Block<'_>]| {
        let mut contents = Contents::default();
        for block in blocks {
            sessions_of(block, |session| {
                contents.count(&session);
                Ok(())
            })?;
        }
        Ok(contents)
    };
    let mut contents = Contents::default();
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            sessions.chunks(share).map(|blocks| scope.spawn(move || read_some(blocks))).collect();
        for part in parts {
            let read = part.join().map_err(|_| StateError::Damaged("it could not be read to its end"))?;
            contents.add(&read?);
        }
        Ok::<_, StateError>(())
    })?;
    if contents.sessions() != state.sessions {
        return Err(StateError::Damaged("it does not hold as many sessions as it says"));
    }
    Ok((server, contents))
}

/// A state file, mapped into memory: read in place, so that nothing is held twice.
#[derive(Debug)]
pub struct Mapped(memmap2::Mmap);

impl Mapped {
    /// Maps a state file.
    ///
    /// # Errors
    /// The system's reason, or it is empty.
    pub fn new(file: &File) -> std::io::Result<Mapped> {
        let mut first = [0];
        file.read_exact_at(&mut first, 0)?;
        // SAFETY: the file has no name, and whoever holds it writes only its attempt and its note from here on, which
        // lie in a page that is read before and not again.
        #[expect(unsafe_code, reason = "a memory map")]
        Ok(Mapped(unsafe { memmap2::Mmap::map(file)? }))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
