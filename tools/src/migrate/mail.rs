//! Messages that wait, for the log of a server that has not been started yet.
//!
//! The log of a message is that of its recipient's home, which only the server knows. A log with one part is everybody's: the
//! server's first start divides it among its workers.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::data::{self, LOG};
use whimbrel_storage::directory::Directory;
use whimbrel_storage::log::{self, AppendError, Flags, Log, Message, Options, Origin, PeerHash};
use whimbrel_storage::message::StoredMessage;

use crate::problem::Problem;

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// When the other server received it, in milliseconds since 1970; `None`: it does not say.
    pub(super) time_ms: Option<u64>,
    /// The stanza as this server keeps it.
    pub(super) stanza: String,
}

/// The log that takes them.
pub(super) enum Mailbox {
    /// Nothing has been written yet.
    Closed,
    /// Ours.
    Open(Box<Log>, u64),
    /// A server has divided it among its workers.
    Divided,
}

impl Mailbox {
    /// Writes what waits for an account, which is there by now. Returns how many messages were written: none where a server has
    /// divided the log, and none that the log does not take.
    ///
    /// # Errors
    /// Directory or log cannot be read or written.
    pub(super) fn write(
        &mut self,
        data: &Path,
        directory: &Directory,
        local: &str,
        waiting: &[Waiting],
    ) -> Result<u64, Problem> {
        if matches!(self, Self::Closed) {
            *self = open(data, directory)?;
        }
        let Self::Open(log, now_ms) = self else { return Ok(0) };
        let actor = directory.account_id(local).map_err(|error| Problem::new(error.to_string()))?;
        let Some(actor) = actor else { return Ok(0) };
        let mut written = 0;
        for message in waiting {
            written += u64::from(append(log, actor, message, *now_ms)?);
        }
        Ok(written)
    }

    /// Has everything on the disk.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn commit(&mut self) -> Result<(), Problem> {
        if let Self::Open(log, now_ms) = self { commit(log, *now_ms) } else { Ok(()) }
    }

    /// Closes the log.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn close(self) -> Result<(), Problem> {
        if let Self::Open(log, _) = self { log.close().map_err(|error| failed(&error)) } else { Ok(()) }
    }
}

fn failed(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(error.to_string())
}

fn open(data: &Path, directory: &Directory) -> Result<Mailbox, Problem> {
    let folder = data.join(LOG);
    let parts = match log::owner(&folder).map_err(|error| failed(&error))? {
        None => 1,
        Some(_) => log::stats(&folder).map_err(|error| failed(&error))?.len(),
    };
    if parts > 1 {
        return Ok(Mailbox::Divided);
    }
    data::check_tie(data, directory).map_err(|error| failed(&error))?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let options = Options { now_ms, ..Options::default() };
    let opened = Log::open_all(&folder, &options, 1, &|_| Some(0), &|_| {});
    let mut opened = opened.map_err(|error| failed(&error))?;
    data::reconcile(data, directory, &mut opened, false).map_err(|error| failed(&error))?;
    let log = opened.logs.pop().ok_or_else(|| Problem::new("there is no log"))?;
    Ok(Mailbox::Open(Box::new(log), now_ms))
}

/// Whether the log has taken it.
fn append(log: &mut Log, actor: ActorId, message: &Waiting, now_ms: u64) -> Result<bool, Problem> {
    let mut payload = Vec::new();
    StoredMessage { resource: None, stanza: message.stanza.as_bytes() }.encode(&mut payload);
    let message = Message {
        actor,
        time_ms: message.time_ms.unwrap_or(now_ms),
        flags: Flags::NONE,
        origin: Origin::default(),
        peer: PeerHash::NONE,
        payload: &payload,
    };
    let mut appended = log.append(&message);
    if appended == Err(AppendError::Full) {
        // The next file is made by upkeep.
        commit(log, now_ms)?;
        appended = log.append(&message);
    }
    match appended {
        Ok(_) => Ok(true),
        Err(error @ AppendError::Failed) => Err(failed(&error)),
        Err(_) => Ok(false),
    }
}

fn commit(log: &mut Log, now_ms: u64) -> Result<(), Problem> {
    log.maintain(now_ms);
    log.keep_files_now();
    log.commit_now().map_err(|error| failed(&error))
}
