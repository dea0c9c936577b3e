//! Opening all logs of a server.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};

use crate::directory::UserId;

use super::error::{Damage, LogError};
use super::files::{Files, System};
use super::layout::{Layout, Lock, SHARDS_MAX};
use super::message::Sequence;
use super::options::Options;
use super::recovery::{self, Recovered};
use super::replay::Streams;
use super::reshard::reshard;
use super::segment::base_of;
use super::shard::{Identity, Log};
use super::shared::Shared;

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
    /// Users with something waiting, added up over the logs.
    pub users: u64,
    /// Senders' streams younger than [`Options::resume_window_ms`], in order of their numbers.
    pub streams: Vec<StreamSeen>,
    /// Messages of users who are gone (`home` gave `None`), dropped when the number of logs changed.
    pub orphans: u64,
    /// The highest [`UserId::count`] of all users for whom something waits, those that were dropped included; 0 for none.
    pub users_count_max: u64,
}

/// Opened logs, one for each shard in order.
#[derive(Debug)]
pub struct Opened {
    /// The logs.
    pub logs: Vec<Log>,
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

pub(super) fn random_id() -> Result<u64, LogError> {
    let mut bytes = [0; 8];
    let drawn = SystemRandom::new().fill(&mut bytes);
    drawn.map_err(|_| LogError::Options {
        what: "no random numbers: the system has none to give".to_owned(),
    })?;
    Ok(u64::from_le_bytes(bytes))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Log {
    /// Opens the logs in a folder, which is made when it is not there (mode 0700): `shards` of them (1 to 1,024). When
    /// they were as many before, each is taken as it is; otherwise the waiting messages of each user move to the
    /// shard that `home` tells for him (taken modulo `shards`), and those of users for whom it tells `None` are
    /// dropped. The home of a user must be the same in every run with as many shards.
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
        home: &(dyn Fn(UserId) -> Option<usize> + Sync),
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
        home: &(dyn Fn(UserId) -> Option<usize> + Sync),
        progress: &(dyn Fn(Progress) + Sync),
        lock: Option<File>,
    ) -> Result<Opened, LogError> {
        let files: Arc<dyn Files> = Arc::new(System);
        files.make_folder(path).map_err(|error| LogError::io("make", path, error))?;
        let lock = Arc::new(lock.map_or_else(|| Lock::take(path), |file| Ok(Lock::held(file)))?);
        open_with(files, lock, path, options, shards, home, progress, now_ms(), &random_id)
    }

    /// Opens a failed log anew, in place, when the disk works again. Blocks for as long as opening takes. What was
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
        let (identity, options, lock) = (self.identity, self.options.clone(), self.lock.clone());
        self.shared.stop();
        let recovered =
            recovery::open(self.shared.clone(), identity, &options, lock, now_ms(), &|_, _, _| {});
        let recovered = match recovered {
            Ok(recovered) => recovered,
            Err(error) => {
                self.shared.fail(error.clone());
                return Err(error);
            }
        };
        let mut report = Report::default();
        let mut streams = Streams::default();
        let before = std::mem::replace(self, report.take(recovered, &mut streams));
        self.messages_appended = before.messages_appended;
        report.set_streams(streams);
        Ok((report, before))
    }

    /// What was trimmed while that could not be written down waits again: trims it again. Returns what that was.
    pub(super) fn trim_again(&mut self, before: &Self) -> Vec<(UserId, Sequence)> {
        let mut again = Vec::new();
        for user in self.index.users() {
            let slots =
                self.index.slots_from(user, 0).take_while(|slot| slot.sequence < before.next_sequence);
            let gone = slots.filter(|slot| before.index.get(user, slot.sequence).is_none());
            again.extend(gone.map(|slot| (user, Sequence(slot.sequence))));
        }
        for (user, sequence) in &again {
            self.trim(*user, *sequence);
        }
        again
    }
}

impl Report {
    fn take(&mut self, recovered: Recovered, streams: &mut Streams) -> Log {
        let Recovered { log, damage, tail_bytes_cut, streams: own } = recovered;
        self.damage.extend(damage);
        self.tail_bytes_cut += tail_bytes_cut;
        self.messages += log.index.messages();
        self.users += log.index.users().len() as u64;
        let counts = log.index.users().map(UserId::count);
        self.users_count_max = self.users_count_max.max(counts.max().unwrap_or(0));
        for (stream, number) in own {
            let newest = streams.entry(stream).or_insert(number);
            if (number.wrapping_sub(*newest) as i32) > 0 {
                *newest = number;
            }
        }
        log
    }

    fn set_streams(&mut self, streams: Streams) {
        self.streams = streams.into_iter().map(|(stream, number)| StreamSeen { stream, number }).collect();
        self.streams.sort_unstable_by_key(|seen| seen.stream);
    }
}

/// [`Log::open_all`] with everything that comes from the system given.
#[allow(clippy::too_many_arguments)]
pub(super) fn open_with(
    files: Arc<dyn Files>,
    lock: Arc<Lock>,
    root: &Path,
    options: &Options,
    shards: usize,
    home: &(dyn Fn(UserId) -> Option<usize> + Sync),
    progress: &(dyn Fn(Progress) + Sync),
    now_ms: u64,
    random_id: &dyn Fn() -> Result<u64, LogError>,
) -> Result<Opened, LogError> {
    options.check()?;
    if !(1..=SHARDS_MAX).contains(&shards) {
        return Err(LogError::Options { what: format!("{shards} logs; allowed are 1 to {SHARDS_MAX}") });
    }
    let layout = match Layout::read(&*files, root)? {
        Some(layout) => layout,
        None => {
            let log_ids = (0..shards).map(|_| random_id()).collect::<Result<_, _>>()?;
            let layout = Layout { owner: None, generation: 1, log_ids };
            // The layout first: folders without one are taken for logs that have lost theirs.
            layout.write(&*files, root)?;
            layout
        }
    };
    layout.make_folders(&*files, root)?;
    layout.remove_others(&*files, root)?;
    let counting =
        Counting { done: AtomicU64::new(0), total: AtomicU64::new(0), messages: AtomicU64::new(0), progress };
    let open_one = |shard: usize| {
        let shared = Arc::new(Shared::new(files.clone(), &layout.folder(root, shard)));
        if lock.is_old() {
            shared.hand_over();
        }
        let count = layout.log_ids.len() as u32;
        let identity = Identity { log_id: layout.log_ids[shard], shard: shard as u32, shards: count };
        let is_empty = layout.owner.is_some() && !has_segments(&*files, &layout.folder(root, shard))?;
        let before = std::cell::Cell::new(0);
        let mut recovered =
            recovery::open(shared, identity, options, lock.clone(), now_ms, &|done, total, messages| {
                let mut last = before.get();
                counting.add(done, total, messages, &mut last);
                before.set(last);
            })?;
        if is_empty {
            let (path, what) = (layout.folder(root, shard), "all segments of this log are missing");
            recovered.damage.push(Damage { path, offset: 0, bytes: 0, what });
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
        logs = reshard(logs, &layout, root, options, shards, home, random_id, &mut report)?;
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
