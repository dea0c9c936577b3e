//! Another number of logs: the waiting messages of each actor move to its new home, with their ids.
//!
//! Messages that an archive keeps stay where they are: the log that has them is sealed, and read by the archive's threads.
//!
//! The new logs are made beside the old ones, as another generation. They count once the layout says so, in one step;
//! a crash before that leaves the old ones as they were, and what there is of the new ones is removed at the next
//! opening. So nothing is lost or twice there, however often it is begun.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::opening::{Home, Place, Report};
use super::{AppendError, Log, LogError, Message, Options, Record, Sequence};
use crate::actor::ActorId;
use crate::journal::format::layout::{Layout, SealedLog};
use crate::journal::format::record::{Head, Kind, REFERENCE_BYTES, message_bytes};
use crate::journal::live::shared::Shared;
use crate::journal::live::{Identity, Purpose};
use crate::journal::open::Opening;
use crate::journal::{Pair, Reader, ReaderSet};
use crate::queue::Queue;

/// What is needed for it.
pub(super) struct Resharding<'a, S> {
    pub(super) place: &'a Place<'a>,
    /// Of the old logs.
    pub(super) layout: &'a Layout,
    pub(super) options: &'a Options,
    /// Makes the second readers of the new logs.
    pub(super) second: &'a (dyn Fn(u64) -> S + Sync),
}

/// A log that is made.
struct Target<S> {
    log: Log<S>,
    /// Bodies that it has: the id, and from which of the old logs.
    bodies: HashMap<Sequence, usize>,
}

impl<S: Reader> Resharding<'_, S> {
    /// Moves what waits in `old` to so many new logs.
    pub(super) fn run(
        &self,
        old: Vec<Log<S>>,
        shards: usize,
        home: Home<'_>,
        report: &mut Report,
    ) -> Result<Vec<Log<S>>, LogError> {
        let Place { files, root, random_id, .. } = self.place;
        let log_ids = (0..shards).map(|_| random_id()).collect::<Result<_, _>>()?;
        let owner = self.layout.owner;
        let sealed = self.sealed(&old);
        let target = Layout { owner, generation: self.layout.generation + 1, log_ids, sealed };
        target.make_folders(&**files, root)?;
        // An actor's new home goes on above all ids that its old one may have given.
        let ids_below = old.iter().map(|log| log.journal.ids.next()).max().unwrap_or(1);
        let mut new = self.make(&target, ids_below)?;
        let mut homes: BTreeMap<ActorId, Vec<usize>> = BTreeMap::new();
        for (shard, log) in old.iter().enumerate() {
            for actor in log.actors() {
                homes.entry(actor).or_default().push(shard);
            }
        }
        for (actor, shards_of_actor) in homes {
            match home(actor) {
                Some(shard) => move_actor(&old, &shards_of_actor, actor, &mut new[shard % shards], report)?,
                None => drop_actor(&old, &shards_of_actor, actor, report),
            }
        }
        for Target { log, .. } in &mut new {
            log.journal.options.log_bytes_max = self.options.log_bytes_max;
            log.sync_all()?;
        }
        if !target.sealed.is_empty() {
            hand_on(&old, &mut new, home)?;
        }
        target.write(&**files, root)?;
        // The old maps must be gone before their files are.
        drop(old);
        target.remove_others(&**files, root)?;
        Ok(new.into_iter().map(|target| target.log).collect())
    }

    /// The old logs that stay where they are: those that were sealed before, and those that readers need.
    fn sealed(&self, old: &[Log<S>]) -> Vec<SealedLog> {
        let generation = self.layout.generation;
        let needed = old.iter().enumerate().filter(|(_, log)| log.readers.keeps_journal());
        let needed = needed.map(|(shard, log)| SealedLog { generation, shard, log_id: log.id() });
        self.layout.sealed.iter().copied().chain(needed).collect()
    }

    fn make(&self, target: &Layout, ids_below: u64) -> Result<Vec<Target<S>>, LogError> {
        let Place { files, root, lock, .. } = self.place;
        // What waits is kept whole, whatever the limits.
        let unlimited = Options { log_bytes_max: u64::MAX / 4, ..self.options.clone() };
        let shards = target.log_ids.len() as u32;
        let mut new = Vec::new();
        for (shard, log_id) in target.log_ids.iter().enumerate() {
            let shared = Arc::new(Shared::new(files.clone(), &target.folder(root, shard)));
            let identity = Identity { log_id: *log_id, shard: shard as u32, shards };
            let (lock, now_ms) = (lock.clone(), unlimited.now_ms);
            let opening = Opening { shared, identity, options: &unlimited, lock, now_ms, ids_below };
            let recovered = opening.run(Pair(Queue::default(), (self.second)(*log_id)), &|_, _, _| {})?;
            let log = Log { journal: recovered.journal, readers: recovered.readers };
            new.push(Target { log, bodies: HashMap::new() });
        }
        Ok(new)
    }
}

/// What readers of the old logs know and have in memory alone goes to those of the new ones, and into their
/// checkpoints: the records of the new logs do not tell it.
fn hand_on<S: Reader>(old: &[Log<S>], new: &mut [Target<S>], home: Home<'_>) -> Result<(), LogError> {
    let shards = new.len();
    for (shard, Target { log, .. }) in new.iter_mut().enumerate() {
        let is_here = |actor: ActorId| home(actor).is_some_and(|home| home % shards == shard);
        for before in old {
            log.readers.adopt(&before.readers, &is_here);
        }
        log.checkpoint()?;
    }
    Ok(())
}

/// Counts what is dropped with an actor that is gone.
fn drop_actor<S: Reader>(old: &[Log<S>], shards: &[usize], actor: ActorId, report: &mut Report) {
    report.users -= shards.len() as u64;
    for shard in shards {
        let dropped = old[*shard].backlog(actor).map_or(0, |backlog| backlog.messages);
        report.orphans += dropped;
        report.messages -= dropped;
    }
}

/// Copies an actor's messages in the order of their ids. It has them in several logs only if its home was not always the
/// same.
fn move_actor<S: Reader>(
    old: &[Log<S>],
    shards: &[usize],
    actor: ActorId,
    to: &mut Target<S>,
    report: &mut Report,
) -> Result<(), LogError> {
    let mut sources: Vec<_> =
        shards.iter().map(|shard| (*shard, old[*shard].pending(actor).peekable())).collect();
    loop {
        for (_, source) in &mut sources {
            while let Some(Err(damage)) = source.next_if(Result::is_err) {
                report.messages -= 1;
                report.damage.push(damage);
            }
        }
        let ids = sources.iter_mut().map(|(_, source)| Some(source.peek()?.as_ref().ok()?.sequence));
        let oldest = ids.enumerate().filter_map(|(at, id)| Some((id?, at))).min();
        let Some((_, at)) = oldest else { return Ok(()) };
        let (shard, source) = &mut sources[at];
        if let Some(Ok(record)) = source.next() {
            let is_shared = old[*shard].queue().is_shared(actor, record.sequence);
            to.copy(&record, is_shared.then_some(*shard))?;
        }
    }
}

impl<S: Reader> Target<S> {
    /// Writes a message, with the id that it has. `shared`: its text is a body of this one of the old logs.
    fn copy(&mut self, record: &Record<'_>, shared: Option<usize>) -> Result<(), LogError> {
        let Record { actor, time_ms, flags, origin, peer, payload, .. } = *record;
        let message = Message { actor, time_ms, flags, origin, peer, payload };
        let mut sequence = record.sequence.0;
        if self.log.queue().has(actor, record.sequence) {
            // Two logs have given the actor the same id, which takes a home that was not always the same.
            sequence = self.log.journal.ids.give(0, || 0).unwrap_or(sequence);
        } else if let Some(shard) = shared
            && *self.bodies.entry(record.sequence).or_insert(shard) == shard
        {
            return self.copy_shared(&message, record.sequence);
        }
        self.make_room(message_bytes(payload.len()))?;
        let head = copied(Kind::Message, &message, sequence);
        let previous = self.log.queue().load(actor).2;
        let entry = self.log.journal.write_text(head, &message, previous);
        self.log.readers.record(&entry);
        Ok(())
    }

    /// Writes a reference, and before the first one its body. (Bodies of two old logs may have the same id; then those of
    /// the second are written out for each actor.)
    fn copy_shared(&mut self, message: &Message<'_>, sequence: Sequence) -> Result<(), LogError> {
        if !self.log.queue().has_body(sequence) {
            self.make_room(message_bytes(message.payload.len()))?;
            let head = copied(Kind::Body, message, sequence.0);
            let entry = self.log.journal.write_text(head, message, 0);
            self.log.readers.record(&entry);
        }
        self.make_room(REFERENCE_BYTES as u64)?;
        let head = copied(Kind::Reference, message, sequence.0);
        let entry = self.log.journal.write_reference(head, message.time_ms, message.peer);
        self.log.readers.record(&entry);
        Ok(())
    }

    fn make_room(&mut self, bytes: u64) -> Result<(), LogError> {
        let made = self.log.journal.make_room(bytes, Purpose::Upkeep);
        made.map_err(|error| no_room(&self.log, error))
    }
}

/// The copy is the queue's: an archive has the message where it was.
fn copied(kind: Kind, message: &Message<'_>, sequence: u64) -> Head {
    let moved_for = ReaderSet::QUEUE;
    Head { flags: message.flags, moved_for, ..Head::note(kind, message.actor, sequence) }
}

fn no_room<S: Reader>(log: &Log<S>, error: AppendError) -> LogError {
    log.no_room().unwrap_or_else(|| LogError::Damaged {
        path: log.journal.shared.folder().to_owned(),
        what: format!("what waits cannot be moved to another number of logs: {error}"),
    })
}

impl<S: Reader> Log<S> {
    /// Has all of it on the disk, and counts it as committed.
    fn sync_all(&self) -> Result<(), LogError> {
        for segment in &self.journal.segments {
            let synced = segment.map.flusher().sync(0..segment.map.len());
            synced.map_err(|error| LogError::io("sync", &segment.path, error))?;
        }
        self.commit_now()
    }
}
