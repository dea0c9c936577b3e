//! Opening all logs of a server.

use std::cell::Cell;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ring::rand::{SecureRandom, SystemRandom};

use super::gathered::remove_unfinished;
use super::reshard::Resharding;
use super::{Damage, Log, LogError, Options, Sequence};
use crate::actor::{ActorId, ActorKind};
use crate::journal::format::layout::{Layout, Lock, SHARDS_MAX};
use crate::journal::format::segment::base_of;
use crate::journal::live::Identity;
use crate::journal::live::files::{Files, System};
use crate::journal::live::shared::Shared;
use crate::journal::open::replay::{Streams, note_stream};
use crate::journal::open::{Opening, Recovered};
use crate::journal::{Pair, Reader};
use crate::queue::Queue;

/// How far opening has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Bytes looked at, of all logs.
    pub bytes_done: u64,
    /// Bytes to look at, of the logs that have begun.
    pub bytes_total: u64,
    /// Messages found waiting so far.
    pub messages: u64,
}

/// What the log knows of a sender's stream that can be resumed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamSeen {
    /// [`super::Origin::stream`].
    pub stream: u64,
    /// The newest [`super::Origin::number`] among its messages.
    pub number: u32,
}

/// What opening found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What cannot be read; it has been copied to the folder `damaged` and is skipped.
    pub damage: Vec<Damage>,
    /// Bytes of uncommitted records that were cut off the ends of the logs.
    pub tail_bytes_cut: u64,
    /// Messages that wait.
    pub messages: u64,
    /// Actors with something waiting, added up over the logs.
    pub users: u64,
    /// Senders' streams younger than [`Options::resume_window_ms`], in order of their numbers.
    pub streams: Vec<StreamSeen>,
    /// Messages of actors that are gone (`home` gave `None`), dropped when the number of logs changed.
    pub orphans: u64,
    /// The highest [`ActorId::count`] of all users for whom something waits, those that were dropped included; 0 for none.
    pub users_count_max: u64,
}

/// Opened logs, one for each shard in order.
#[derive(Debug)]
pub struct Opened<S = ()> {
    /// The logs.
    pub logs: Vec<Log<S>>,
    /// What was found.
    pub report: Report,
}

/// Adds up the progress of all logs.
struct Counting<'a> {
    done: AtomicU64,
    total: AtomicU64,
    messages: AtomicU64,
    progress: &'a (dyn Fn(Progress) + Sync),
}

impl Counting<'_> {
    /// `messages_before` is what the same log told last.
    fn add(&self, done: u64, total: u64, messages: u64, messages_before: &mut u64) {
        let bytes_done = self.done.fetch_add(done, Ordering::Relaxed) + done;
        let bytes_total = self.total.fetch_add(total, Ordering::Relaxed) + total;
        let change = messages.wrapping_sub(*messages_before);
        let messages_all = self.messages.fetch_add(change, Ordering::Relaxed).wrapping_add(change);
        *messages_before = messages;
        (self.progress)(Progress { bytes_done, bytes_total, messages: messages_all });
    }
}

pub(crate) fn random_id() -> Result<u64, LogError> {
    let mut bytes = [0; 8];
    let drawn = SystemRandom::new().fill(&mut bytes);
    drawn.map_err(|_| LogError::Options {
        what: "no random numbers: the system has none to give".to_owned(),
    })?;
    Ok(u64::from_le_bytes(bytes))
}

/// Which shard is an actor's home; `None` for one that is gone.
pub type Home<'a> = &'a (dyn Fn(ActorId) -> Option<usize> + Sync);

impl Log {
    /// Opens the logs in a folder, which is made when it is not there (mode 0700): `shards` of them (1 to 1,024). When
    /// they were as many before, each is taken as it is; otherwise the waiting messages of each actor move to the
    /// shard that `home` tells for it (taken modulo `shards`), and those of actors for whom it tells `None` are
    /// dropped. The home of an actor must be the same in every run with as many shards.
    ///
    /// `progress` is called from several threads, a few times a second.
    ///
    /// # Errors
    /// Another process has them open; options are out of range; the folder cannot be read and written. Damaged
    /// records are no error: see [`Report::damage`].
    pub fn open_all(
        path: &Path,
        options: &Options,
        shards: usize,
        home: Home<'_>,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Opened, LogError> {
        Log::open_all_locked(path, options, shards, home, progress, None)
    }

    /// As [`Log::open_all`], in a process that may hold the folder's lock already: from before it became this program.
    ///
    /// # Errors
    /// As [`Log::open_all`].
    pub fn open_all_locked(
        path: &Path,
        options: &Options,
        shards: usize,
        home: Home<'_>,
        progress: &(dyn Fn(Progress) + Sync),
        lock: Option<File>,
    ) -> Result<Opened, LogError> {
        LogsAt { path, options, shards, home, progress }.open(lock, &|_| ())
    }
}

/// The logs of a folder, to be opened with a second reader for each: see [`Log::open_all`].
#[derive(Clone, Copy)]
pub struct LogsAt<'a> {
    /// The folder.
    pub path: &'a Path,
    /// Settings of each log.
    pub options: &'a Options,
    /// How many there are to be, 1 to 1,024.
    pub shards: usize,
    /// Which of them is an actor's.
    pub home: Home<'a>,
    /// Called from several threads, a few times a second.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

impl LogsAt<'_> {
    /// As [`Log::open_all_locked`]. `second` makes the reader of the journal with this id.
    ///
    /// # Errors
    /// As [`Log::open_all`].
    pub fn open<S: Reader + Send>(
        &self,
        lock: Option<File>,
        second: &(dyn Fn(u64) -> S + Sync),
    ) -> Result<Opened<S>, LogError> {
        let Self { path, options, shards, home, progress } = *self;
        let files: Arc<dyn Files> = Arc::new(System);
        files.make_folder(path).map_err(|error| LogError::io("make", path, error))?;
        let lock = Arc::new(lock.map_or_else(|| Lock::take(path), |file| Ok(Lock::held(file)))?);
        let place = Place { files, lock, root: path, random_id: &random_id };
        open_with(&place, options, shards, home, progress, second)
    }
}

impl<S: Reader> Log<S> {
    /// Opens a failed log anew, in place, when the disk works again. Blocks for as long as opening takes. Anything that was
    /// appended and not committed may or may not be there afterwards; what was trimmed meanwhile stays trimmed.
    ///
    /// # Errors
    /// It still does not work; the log stays failed, and may be read.
    pub fn reopen(&mut self) -> Result<Report, LogError> {
        let (mut report, before) = self.open_again()?;
        report.messages -= self.trim_again(&before).len() as u64;
        Ok(report)
    }

    /// Opens it anew, as after a crash. Returns the log as it was, too.
    pub(super) fn open_again(&mut self) -> Result<(Report, Self), LogError> {
        let journal = &self.journal;
        let opening = Opening {
            shared: journal.shared.clone(),
            identity: journal.identity,
            options: &journal.options,
            lock: journal.lock.clone(),
            now_ms: journal.ids.now_ms(),
            // What it has given without a commit is not to be given again.
            ids_below: journal.ids.next(),
        };
        journal.shared.stop();
        let recovered = match opening.run(self.readers.fresh(), &|_, _, _| {}) {
            Ok(recovered) => recovered,
            Err(error) => {
                self.journal.shared.fail(error.clone());
                return Err(error);
            }
        };
        let mut report = Report::default();
        let mut streams = Streams::default();
        let before = std::mem::replace(self, report.take(recovered, &mut streams));
        self.journal.messages_appended = before.journal.messages_appended;
        report.set_streams(streams);
        Ok((report, before))
    }

    /// What was trimmed while that could not be written down waits again: trims it again. Returns what that was.
    pub(super) fn trim_again(&mut self, before: &Self) -> Vec<(ActorId, Sequence)> {
        let mut again = Vec::new();
        let known = before.journal.ids.next();
        for actor in self.actors() {
            let waiting = self.waiting(actor).take_while(|sequence| sequence.0 < known);
            let gone = waiting.filter(|sequence| !before.readers.0.has(actor, *sequence));
            again.extend(gone.map(|sequence| (actor, sequence)));
        }
        for (actor, sequence) in &again {
            self.trim(*actor, *sequence);
        }
        again
    }
}

impl Report {
    fn take<S>(&mut self, recovered: Recovered<Pair<Queue, S>>, streams: &mut Streams) -> Log<S> {
        let Recovered { journal, readers, damage, tail_bytes_cut, streams: own } = recovered;
        self.damage.extend(damage);
        self.tail_bytes_cut += tail_bytes_cut;
        self.messages += readers.0.messages();
        self.users += readers.0.actors().len() as u64;
        let accounts = readers.0.actors().filter(|actor| actor.kind() == Some(ActorKind::User));
        let counts = accounts.map(ActorId::count);
        self.users_count_max = self.users_count_max.max(counts.max().unwrap_or(0));
        for (stream, number) in own {
            note_stream(streams, stream, number);
        }
        Log { journal, readers }
    }

    fn set_streams(&mut self, streams: Streams) {
        self.streams = streams.into_iter().map(|(stream, number)| StreamSeen { stream, number }).collect();
        self.streams.sort_unstable_by_key(|seen| seen.stream);
    }
}

/// Where the logs lie, and everything that comes from the system.
pub(super) struct Place<'a> {
    pub(super) files: Arc<dyn Files>,
    pub(super) lock: Arc<Lock>,
    /// The folder of all of them.
    pub(super) root: &'a Path,
    pub(super) random_id: &'a dyn Fn() -> Result<u64, LogError>,
}

impl Place<'_> {
    fn layout(&self, shards: usize) -> Result<Layout, LogError> {
        let layout = match Layout::read(&*self.files, self.root)? {
            Some(layout) => layout,
            None => {
                let log_ids = (0..shards).map(|_| (self.random_id)()).collect::<Result<_, _>>()?;
                let layout = Layout { owner: None, generation: 1, log_ids, sealed: Vec::new() };
                // The layout first: folders without one are taken for logs that have lost theirs.
                layout.write(&*self.files, self.root)?;
                layout
            }
        };
        layout.make_folders(&*self.files, self.root)?;
        layout.remove_others(&*self.files, self.root)?;
        remove_unfinished(&*self.files, self.root, &layout)?;
        Ok(layout)
    }
}

/// [`Log::open_all`] with everything that comes from the system given, and a second reader made for each log.
pub(super) fn open_with<S: Reader + Send>(
    place: &Place<'_>,
    options: &Options,
    shards: usize,
    home: Home<'_>,
    progress: &(dyn Fn(Progress) + Sync),
    second: &(dyn Fn(u64) -> S + Sync),
) -> Result<Opened<S>, LogError> {
    options.check()?;
    if !(1..=SHARDS_MAX).contains(&shards) {
        return Err(LogError::Options { what: format!("{shards} logs; allowed are 1 to {SHARDS_MAX}") });
    }
    let layout = place.layout(shards)?;
    let (done, total) = (AtomicU64::new(0), AtomicU64::new(0));
    let counting = Counting { done, total, messages: AtomicU64::new(0), progress };
    let (files, lock, root) = (place.files.clone(), place.lock.clone(), place.root);
    let open_one = |shard: usize| {
        let folder = layout.folder(root, shard);
        let is_empty = layout.owner.is_some() && !has_segments(&*files, &folder)?;
        let readers = Pair(Queue::default(), second(layout.log_ids[shard]));
        let shared = Arc::new(Shared::new(files.clone(), &folder));
        if lock.is_old() {
            shared.set_continued();
        }
        let shards = layout.log_ids.len() as u32;
        let identity = Identity { log_id: layout.log_ids[shard], shard: shard as u32, shards };
        let opening =
            Opening { shared, identity, options, lock: lock.clone(), now_ms: options.now_ms, ids_below: 0 };
        let before = Cell::new(0);
        let mut recovered = opening.run(readers, &|done, total, readers: &Pair<Queue, S>| {
            let mut last = before.get();
            counting.add(done, total, readers.0.messages(), &mut last);
            before.set(last);
        })?;
        if is_empty {
            let what = "all segments of this log are missing";
            recovered.damage.push(Damage { path: folder, offset: 0, bytes: 0, what });
        }
        Ok(recovered)
    };
    let mut report = Report::default();
    let mut streams = Streams::default();
    let mut logs = Vec::new();
    for recovered in in_parallel(files.readers(), layout.log_ids.len(), &open_one) {
        logs.push(report.take(recovered?, &mut streams));
    }
    report.set_streams(streams);
    if logs.len() != shards {
        logs = Resharding { place, layout: &layout, options, second }.run(logs, shards, home, &mut report)?;
    }
    Ok(Opened { logs, report })
}

/// Whether a log has files. A log that was ever opened has one.
fn has_segments(files: &dyn Files, folder: &Path) -> Result<bool, LogError> {
    let names = files.list(folder).map_err(|error| LogError::io("read", folder, error))?;
    Ok(names.iter().any(|name| base_of(name).is_some()))
}

/// Runs a job for each number below `count`, on so many threads at most. Results in order.
fn in_parallel<T: Send>(
    readers: usize,
    count: usize,
    job: &(dyn Fn(usize) -> Result<T, LogError> + Sync),
) -> Vec<Result<T, LogError>> {
    let threads = readers.min(count);
    if threads <= 1 {
        return (0..count).map(job).collect();
    }
    let next = AtomicU64::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed) as usize;
                    if number >= count {
                        return;
                    }
                    let result = job(number);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}
