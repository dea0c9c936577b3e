//! The archives of messages (XEP-0313): what they hold, copies for their owners, erasure, and a new index.
//!
//! Reading works beside a running server: the rows of the directory through LMDB, and what no row has yet from the log's
//! files. What changes an archive needs the data directory alone.

mod erase;
mod export;
mod rebuild;
mod stats;
mod time;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::{Slot, Snapshot, tail};
use whimbrel_storage::data;
use whimbrel_storage::directory::Directory;
use whimbrel_storage::log::Sequence;

use crate::accounts::{directory_of, open_directory, open_to_read, refuse_other_owner, unknown};
use crate::cli::ArchiveCommand;
use crate::control::Client;
use crate::problem::Problem;
use crate::report::Report;
use crate::user::bare;

pub(crate) use time::parse_time;

/// Does one of the commands.
pub(crate) fn run(data: &Path, command: &ArchiveCommand, report: &Report) -> Result<ExitCode, Problem> {
    match command {
        ArchiveCommand::Stats { jid: None } => stats::of_all(&Archives::beside(data)?, report)?,
        ArchiveCommand::Stats { jid: Some(jid) } => stats::of_one(&Archives::beside(data)?, jid, report)?,
        ArchiveCommand::Export(args) => return export::run(&Archives::beside(data)?, args, report),
        ArchiveCommand::Erase { jid, before, yes } => {
            erase::run(&Archives::alone(data)?, jid, *before, *yes, report)?;
        }
        ArchiveCommand::Rebuild => rebuild::run(&Archives::alone(data)?, report)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The archives of a data directory.
struct Archives {
    directory: Directory,
    domain: String,
    log: PathBuf,
}

/// An account or a room of them.
struct Owner {
    actor: ActorId,
    local: String,
    jid: String,
}

fn failed(error: impl Display) -> Problem {
    Problem::new(error.to_string())
}

impl Archives {
    /// For reading, whether a server runs or not.
    fn beside(data: &Path) -> Result<Archives, Problem> {
        let (directory, domain) = open_to_read(data)?;
        Ok(Archives { directory, domain, log: data.join(data::LOG) })
    }

    /// For changes: no server may run.
    fn alone(data: &Path) -> Result<Archives, Problem> {
        if Client::connect(data)?.is_some() {
            return Err(Problem::new(format!("a server runs in {}; stop it first", data.display())));
        }
        let path = directory_of(data)?;
        refuse_other_owner(data)?;
        let (directory, domain) = open_directory(&path, "")?;
        Ok(Archives { directory, domain, log: data.join(data::LOG) })
    }

    /// The account of an address; of an address of another domain, the room.
    fn owner(&self, jid: &str) -> Result<Owner, Problem> {
        let (local, domain) = bare(jid)?;
        if domain != self.domain {
            // Which domain rooms have is a matter of the server's configuration; the directory has their names alone.
            if let Some(room) = self.directory.room(&local).map_err(failed)? {
                return Ok(Owner { actor: room.actor, jid: format!("{local}@{domain}"), local });
            }
            let text = format!(
                "the accounts here are of {}, not of {domain}, and there is no room {local}",
                self.domain
            );
            return Err(Problem::of_kind("foreign-domain", text));
        }
        let actor = self.directory.account_id(&local).map_err(failed)?;
        let actor = actor.ok_or_else(|| unknown(&local, &domain))?;
        Ok(Owner { actor, jid: format!("{local}@{domain}"), local })
    }

    /// What no row has yet, of all or of one.
    fn tail(&self, of: Option<ActorId>) -> Result<BTreeMap<ActorId, Snapshot>, Problem> {
        // A directory that was never served has no log.
        if !self.directory.has_log().map_err(failed)? {
            return Ok(BTreeMap::new());
        }
        tail::read(&self.directory, &self.log, of).map_err(failed)
    }

    /// Tells each message that an account's archive has, in order, and returns how many rows it has.
    fn each_message(&self, actor: ActorId, tell: &mut dyn FnMut(&Slot)) -> Result<u64, Problem> {
        let tail = self.tail(Some(actor))?;
        let mut rows = 0;
        let mut last = Sequence::ZERO;
        let read = self.directory.read_archive(|view| {
            let state = view.state(actor)?;
            last = state.last;
            for row in view.rows_from(actor, Sequence::ZERO)? {
                rows += 1;
                let slots = row?.slots()?;
                slots.iter().filter(|slot| slot.id >= state.first_kept).for_each(&mut *tell);
            }
            Ok(())
        });
        read.map_err(failed)?;
        // Rows may have come to have some of them meanwhile.
        tail.values().flat_map(Snapshot::slots).filter(|slot| slot.id > last).for_each(tell);
        Ok(rows)
    }
}
