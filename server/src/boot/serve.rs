//! Last phase: the workers get what they need and begin, with nobody or with the sessions of the program before; the server
//! is there when all of them serve.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::plan::Plan;
use super::spawn::{Beside, WorkerThreads};
use super::thread::{Begin, WorkerParts};
use crate::exchange::envelope::Batch;
use crate::running::error::BootError;
use crate::running::socket::Control;
use crate::runtime::mailbox::Post;
use crate::saved::Owner;
use crate::saved::counts::Counts;
use crate::saved::state::State;
use crate::takeover::guard::{self, Guard};
use crate::takeover::inherited::InheritedDescriptors;
use crate::takeover::kept::Kept;
use crate::takeover::mapped::Mapped;
use crate::takeover::{Takeover, TakeoverOutcome};
use crate::user::commits::Log;
use crate::worker::upgrade::{Restored, Restoring, Sessions};

/// How the workers begin.
enum Beginning<'a> {
    /// With nobody.
    Fresh { serves: SyncSender<()> },
    /// With what another program has left.
    Again {
        state: &'a Arc<State<Mapped>>,
        inherited: &'a Arc<InheritedDescriptors>,
        restored: SyncSender<Result<Restored, String>>,
        goes: Vec<SyncSender<()>>,
    },
}

impl Beginning<'_> {
    fn next(&mut self) -> Begin {
        match self {
            Beginning::Fresh { serves } => Begin::Fresh(serves.clone()),
            Beginning::Again { state, inherited, restored, goes } => {
                let (go, is_go) = sync_channel(1);
                goes.push(go);
                Begin::Again(Restoring {
                    state: Arc::clone(state),
                    inherited: Arc::clone(inherited),
                    reply: restored.clone(),
                    go: is_go,
                })
            }
        }
    }
}

/// What each worker gets for itself.
pub(super) type Own = (Vec<Log>, Vec<Post<Batch>>);

/// Begins with nobody, and waits until all workers serve.
pub(super) fn begin(threads: &mut WorkerThreads, beside: &Beside, own: Own) -> Result<(), BootError> {
    let (serves, is_serving) = sync_channel(threads.fit.len());
    fit(threads, beside, own, Beginning::Fresh { serves })?;
    let all = threads.workers.all_serve(&is_serving);
    if all.is_err() {
        threads.workers.call_off(&beside.commands);
    }
    all
}

/// Begins with what another program has left: waits until all workers have taken over their parts, checks that nothing is
/// missing, and lets them go. Also returns the client that asked for the upgrade.
pub(super) fn take_over(
    plan: &Plan,
    threads: &mut WorkerThreads,
    beside: &Beside,
    own: Own,
    takeover: &mut Takeover,
    guard: Option<Guard>,
) -> Result<(TakeoverOutcome, Option<UnixStream>), BootError> {
    let (restored, has_restored) = sync_channel(plan.workers);
    let (state, inherited) = (&takeover.state, &takeover.inherited);
    let goes = fit(threads, beside, own, Beginning::Again { state, inherited, restored, goes: Vec::new() })?;
    let carried = all_restored(&has_restored, goes.len()).and_then(|carried| {
        let (found, expected) = (carried.of(Sessions::KIND.name), takeover.state.records(&Sessions::KIND));
        match found == expected {
            true => Ok(carried),
            false => Err(format!("{found} of {expected} sessions could be restored")),
        }
    });
    let carried = carried.map_err(|text| {
        guard::fall_back_if_armed(&text);
        BootError::Takeover(text)
    })?;
    let client = takeover.one::<Control>().ok().and_then(|control| control.client);
    let client = client.and_then(|client| takeover.copy(client).ok()).map(UnixStream::from);
    if let Some(guard) = guard {
        guard.disarm();
    }
    for go in &goes {
        // A worker that has ended shows in `Server::join`.
        let _ = go.send(());
    }
    Ok((takeover.complete(carried, plan.begun, threads.driver, goes.len()), client))
}

/// Begins with the sessions that the server before has left when it was told to stop. None of them has a connection.
pub(super) fn begin_with(
    threads: &mut WorkerThreads,
    beside: &Beside,
    own: Own,
    kept: &Kept,
) -> Result<(), BootError> {
    let (restored, has_restored) = sync_channel(threads.fit.len());
    let (state, inherited) = (&kept.state, &kept.inherited);
    let goes = fit(threads, beside, own, Beginning::Again { state, inherited, restored, goes: Vec::new() })?;
    let carried = all_restored(&has_restored, goes.len()).map_err(BootError::Kept)?;
    for go in &goes {
        // A worker that has ended shows in `Server::join`.
        let _ = go.send(());
    }
    let sessions = carried.of(Sessions::KIND.name);
    // Their accounts are gone.
    let left_out = state.records(&Sessions::KIND).saturating_sub(sessions);
    tracing::info!(sessions, left_out, "sessions of before the stop wait to be resumed");
    Ok(())
}

/// Waits until all workers have taken over their parts. What they have taken.
fn all_restored(restored: &Receiver<Result<Restored, String>>, workers: usize) -> Result<Counts, String> {
    let mut carried = Counts::default();
    for _ in 0..workers {
        let one = restored.recv().map_err(|_| "a worker has ended")?;
        carried.add_all(&one?.carried);
    }
    Ok(carried)
}

/// Gives each worker what it needs. Returns what lets them go, where they take something over.
fn fit(
    threads: &mut WorkerThreads,
    beside: &Beside,
    (logs, posts): Own,
    mut beginning: Beginning<'_>,
) -> Result<Vec<SyncSender<()>>, BootError> {
    for (worker, ((parts, post), log)) in threads.fit.drain(..).zip(posts).zip(logs).enumerate() {
        let sent = parts.send(WorkerParts {
            begin: beginning.next(),
            post,
            log,
            wakers: threads.wakers.clone(),
            completions: beside.completions[worker].clone(),
            commands: beside.commands[worker].clone(),
            writer: beside.writer.clone(),
            crypto: beside.crypto.clone(),
            tallies: beside.tallies.clone(),
            readers: beside.archives.as_ref().map(|archives| archives.readers.clone()),
        });
        sent.map_err(|_| BootError::System {
            what: "a worker thread",
            source: std::io::Error::other("ended before it was fitted out"),
        })?;
    }
    Ok(match beginning {
        Beginning::Fresh { .. } => Vec::new(),
        Beginning::Again { goes, .. } => goes,
    })
}
