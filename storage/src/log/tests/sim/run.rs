//! One seed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::Random;
use super::disk::SimDisk;
use super::mirror::{self, Mirror};
use super::model::{Kept, Model, What};
use crate::actor::ActorId;
use crate::journal::Journal;
use crate::journal::format::layout::Lock;
use crate::journal::format::record::Kind;
use crate::journal::open::scan::Walk;
use crate::log::opening::{Place, open_with};
use crate::log::{
    ActorCopy, AppendError, Appended, Body, Durability, Flags, Log, LogError, Message, Options, Origin,
    PeerHash, Sequence,
};

const ROOT: &str = "/log";
const SEGMENT: u64 = 8 << 10;
const USERS: u64 = 5;

macro_rules! tally {
    ($($name:ident),*) => {
        /// What happened.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub(super) struct Tally { $(pub(super) $name: u64),* }
        impl Tally {
            pub(super) fn add(&mut self, other: &Self) { $(self.$name += other.$name;)* }
            pub(super) fn assert_all_happened(&self) {
                $(assert!(self.$name > 0, concat!("nothing of this happened: ", stringify!($name)));)*
            }
        }
    };
}
tally!(
    appended,
    shared,
    trimmed,
    expired,
    refused_full,
    refused_quota,
    refused_failed,
    commits,
    commit_failures,
    kills,
    power_cuts,
    crashes_in_calls,
    crashes_in_opening,
    operations_lost,
    segments_deleted,
    bytes_compacted,
    checkpoints,
    closes,
    reshards,
    reopens,
    trimmed_again,
    torn_appends,
    untold_trims,
    clock_steps,
    second_held
);

struct Run {
    random: Random,
    disk: SimDisk,
    options: Options,
    shards: usize,
    /// One for each shard: a user lives on one.
    logs: Vec<Log<Mirror>>,
    models: Vec<Model>,
    now_ms: u64,
    /// The newest id that each user was ever given.
    given: BTreeMap<u64, u64>,
    tally: Tally,
    /// Large messages, long lives: segments come and go.
    is_busy: bool,
    talks: bool,
}

/// What the seed's run comes to. Panics when the log breaks a promise.
pub(super) fn run(seed: u64, talks: bool) -> Tally {
    let mut random = Random::new(seed);
    let options = Options {
        segment_bytes: SEGMENT,
        durability: if random.one_in(4) { Durability::Process } else { Durability::Disk },
        user_bytes_max: if random.one_in(4) { 6_000 } else { 1 << 30 },
        user_messages_max: 100_000,
        log_bytes_max: SEGMENT * (4 + random.below(12)),
        payload_bytes_max: 1500,
        compaction_bytes_per_second: SEGMENT * 20,
        checkpoint_bytes: if random.one_in(2) { 0 } else { 500 + random.below(20_000) },
        resume_window_ms: 0,
        now_ms: 0,
    };
    let is_busy = random.one_in(8);
    let disk = SimDisk::new(Random::new(random.next()));
    let shards = 1 + random.below(2) as usize;
    let mut run = Run {
        random,
        disk,
        options,
        shards,
        logs: Vec::new(),
        models: (0..shards).map(|_| Model::default()).collect(),
        now_ms: 100_000_000,
        given: BTreeMap::new(),
        tally: Tally::default(),
        is_busy,
        talks,
    };
    run.say(&format!("{:?}", run.options));
    run.open(false);
    for _ in 0..1 + run.random.below(3) {
        run.live();
        run.die();
    }
    run.tally
}

fn home(shards: usize) -> impl Fn(ActorId) -> Option<usize> + Sync {
    move |user| Some(user.number() as usize % shards)
}

impl Run {
    fn say(&self, what: &str) {
        if self.talks {
            println!("{what}");
        }
    }

    fn live(&mut self) {
        // Some lives are full of one thing.
        let appends = if self.is_busy { 40 } else { 10 + self.random.below(60) };
        if self.random.one_in(3) {
            self.disk.0.lock().unwrap().calls_left = Some(self.random.below(30));
        }
        let steps = if self.is_busy { 300 } else { 60 };
        for _ in 0..10 + self.random.below(steps) {
            let shard = self.random.below(self.shards as u64) as usize;
            self.now_ms += self.random.below(2000);
            match self.random.below(100) {
                roll if roll < appends && self.random.one_in(5) => self.append_for(shard),
                roll if roll < appends => self.append(shard),
                roll if roll < 75 => self.trim(shard),
                75..81 => self.commit(shard),
                81..84 => self.logs[shard].keep_files_now(),
                84..95 => {
                    let done = self.logs[shard].maintain(self.now_ms);
                    self.tally.segments_deleted += done.segments_deleted;
                    self.tally.bytes_compacted += done.bytes_copied;
                    self.logs[shard].second_mut().retire();
                }
                95 if self.random.one_in(3) => self.expire(shard),
                96 if self.random.one_in(3) => self.disk.0.lock().unwrap().fails_next_sync = true,
                97 if !self.is_busy => {
                    let mut disk = self.disk.0.lock().unwrap();
                    disk.is_full = !disk.is_full;
                }
                98 => self.reopen(shard),
                99 if self.random.one_in(3) => self.step_back(),
                _ => self.compare(),
            }
            if self.disk.0.lock().unwrap().is_dead {
                self.say("the crash was in a call");
                self.tally.crashes_in_calls += 1;
                return;
            }
        }
        self.compare();
    }

    fn compare(&self) {
        for (shard, model) in self.models.iter().enumerate() {
            model.compare(&self.logs[shard..=shard]);
            let _ = Mirror::texts(&self.logs[shard]);
        }
    }

    /// The clock is set back, by an hour at most.
    fn step_back(&mut self) {
        self.now_ms -= self.random.below(3_600_000).min(self.now_ms);
        self.tally.clock_steps += 1;
    }

    fn user(&mut self, shard: usize) -> u64 {
        self.random.below(USERS) * self.shards as u64 + shard as u64
    }

    /// Notes the id that a user was given.
    fn give(&mut self, user: u64, sequence: Sequence) {
        let before = self.given.insert(user, sequence.0);
        assert!(before < Some(sequence.0), "user {user} was given {sequence:?} after {before:?}");
    }

    fn kept(&mut self) -> Kept {
        let length = if self.is_busy {
            1000 + self.random.below(500)
        } else if self.random.one_in(4) {
            self.random.below(1500)
        } else {
            self.random.below(150)
        };
        let mut payload = vec![0; length as usize];
        for byte in &mut payload {
            *byte = self.random.next() as u8;
        }
        Kept {
            time_ms: self.now_ms,
            flags: if self.random.one_in(5) { Flags::NO_EXPIRY.0 } else { 0 },
            number: self.random.next() as u32,
            payload,
        }
    }

    /// One text for several users of a shard.
    fn append_for(&mut self, shard: usize) {
        let first = self.random.below(USERS);
        let count = 2 + self.random.below(USERS - 2);
        let users: Vec<u64> =
            (first..first + count).map(|n| n % USERS * self.shards as u64 + shard as u64).collect();
        let kept = self.kept();
        let copy =
            |user: &u64| ActorCopy { flags: Flags(kept.flags), ..ActorCopy::queued(ActorId::user(*user)) };
        let actors: Vec<ActorCopy> = users.iter().map(copy).collect();
        let body = Body {
            time_ms: kept.time_ms,
            origin: Origin { stream: 7, number: kept.number },
            payload: &kept.payload,
        };
        let mut results = Vec::new();
        self.logs[shard].append_for(&actors, &body, &mut results);
        assert_eq!(results.len(), users.len());
        for (user, result) in users.into_iter().zip(results) {
            self.appended(shard, user, &kept, result);
            self.tally.shared += u64::from(result.is_ok());
        }
    }

    fn append(&mut self, shard: usize) {
        let mut user = self.user(shard);
        if user < self.shards as u64 && !self.random.one_in(4) {
            user += self.shards as u64;
        }
        let kept = self.kept();
        let message = Message {
            actor: ActorId::user(user),
            time_ms: kept.time_ms,
            flags: Flags(kept.flags),
            origin: Origin { stream: 7, number: kept.number },
            peer: PeerHash::NONE,
            payload: &kept.payload,
        };
        let result = self.logs[shard].append(&message);
        self.appended(shard, user, &kept, result);
    }

    fn appended(&mut self, shard: usize, user: u64, kept: &Kept, result: Result<Appended, AppendError>) {
        match result {
            Ok(appended) => {
                self.tally.appended += 1;
                self.give(user, appended.sequence);
                let what = What::Append(appended.sequence.0, kept.clone());
                self.models[shard].done(appended.position.0, user, what);
            }
            Err(AppendError::Full) => self.tally.refused_full += 1,
            Err(AppendError::LogQuota | AppendError::UserQuota) => self.tally.refused_quota += 1,
            Err(AppendError::Failed) => self.tally.refused_failed += 1,
            Err(AppendError::TooLarge) => panic!("not too large"),
        }
    }

    fn trim(&mut self, shard: usize) {
        let user = self.user(shard);
        if user < self.shards as u64 && !self.random.one_in(20) {
            // The user is away for long: what waits has to be compacted.
            return;
        }
        let sequences: Vec<u64> =
            self.models[shard].state().get(&user).into_iter().flat_map(|of| of.keys().copied()).collect();
        let nth = if self.random.one_in(2) { 0 } else { self.random.below(sequences.len() as u64) as usize };
        let sequence = sequences.get(nth).copied().unwrap_or(self.random.below(1 << 40));
        let log = &mut self.logs[shard];
        let (trimmed, what) = match self.random.below(20) {
            0 => (log.purge(ActorId::user(user)), What::TrimUpTo(u64::MAX)),
            1..8 => (log.trim_up_to(ActorId::user(user), Sequence(sequence)), What::TrimUpTo(sequence)),
            _ => (log.trim(ActorId::user(user), Sequence(sequence)), What::Trim(sequence)),
        };
        let end = log.appended().0;
        self.tally.trimmed += trimmed.messages;
        if trimmed.messages == 0 {
            // Nothing was written, either.
        } else if trimmed.is_recorded {
            self.models[shard].done(end, user, what);
        } else {
            self.tally.untold_trims += 1;
            self.models[shard].done_without_record(user, &what);
        }
    }

    fn expire(&mut self, shard: usize) {
        let before = self.now_ms.saturating_sub(self.random.below(60_000));
        let most = 1 + self.random.below(50) as usize;
        let mut gone = Vec::new();
        // Each is trimmed with a record of its own, and it is not told where that ends: whether it survives is left open.
        let count = self.logs[shard].expire(before, most, &mut |record| {
            assert!(record.time_ms < before && !record.flags.has(Flags::NO_EXPIRY));
            gone.push((record.actor.number(), record.sequence.0));
        });
        assert_eq!(count, gone.len() as u64);
        self.tally.expired += count;
        for (user, sequence) in gone {
            let what = What::Trim(sequence);
            self.models[shard].done_without_record(user, &what);
        }
    }

    fn commit(&mut self, shard: usize) {
        match self.logs[shard].commit_now() {
            Ok(()) => self.tally.commits += 1,
            Err(error) => {
                self.say(&error.to_string());
                self.tally.commit_failures += 1;
            }
        }
    }

    /// After a failure, and now and then without one.
    fn reopen(&mut self, shard: usize) {
        let committed = self.logs[shard].committed().0;
        let held = Held::of(&self.logs[shard]);
        self.say("reopen");
        // The two halves of `Log::reopen`.
        let Ok((_, before)) = self.logs[shard].open_again() else { return };
        self.tally.reopens += 1;
        self.say("reopened");
        self.check(shard, committed, Loss::Uncommitted, &held);
        let again = self.logs[shard].trim_again(&before);
        self.tally.trimmed_again += again.len() as u64;
        for (user, sequence) in again {
            self.models[shard].done_without_record(user.number(), &What::Trim(sequence.0));
        }
        for (user, waiting) in self.models[shard].state() {
            let knew = |sequence: &u64| before.queue().has(ActorId::user(*user), Sequence(*sequence));
            assert!(waiting.keys().all(knew), "what was trimmed waits again for user {user}");
        }
        self.models[shard].compare(&self.logs[shard..=shard]);
    }

    /// What waits after opening is what the operations up to the end come to.
    fn check(&mut self, shard: usize, committed: u64, loss: Loss, held: &Held) {
        let end = end_of_operations(&self.logs[shard]);
        let last = self.models[shard].last_end();
        let first_lost = self.models[shard].first_end_after(end);
        let lost = self.models[shard].cut(end);
        self.say(&format!("shard {shard}: ends at {end}, {lost} operations lost from {first_lost:?}, {committed} was committed, now at {}", self.logs[shard].appended().0));
        match loss {
            Loss::Uncommitted => {
                assert!(first_lost.is_none_or(|end| end > committed), "only what was not committed is lost");
            }
            Loss::Torn => assert!(lost <= 1, "only what was being written is lost"),
            Loss::Nothing => assert!(lost == 0, "nothing is lost: {last}"),
        }
        self.tally.operations_lost += lost as u64;
        let log = &self.logs[shard..=shard];
        self.models[shard].settle_unsure(log);
        self.models[shard].compare(log);
        self.tally.second_held += held.check(&self.logs[shard], end);
    }

    /// The end of this life, and the beginning of the next.
    fn die(&mut self) {
        let is_dead = self.disk.0.lock().unwrap().is_dead;
        if !is_dead && self.random.one_in(5) && self.logs.iter().all(|log| log.failed().is_none()) {
            return self.close();
        }
        let is_power_cut = self.options.durability == Durability::Disk && self.random.one_in(2);
        let held: Vec<Held> = self.logs.iter().map(Held::of).collect();
        let mut torn = Vec::new();
        for (log, model) in self.logs.iter_mut().zip(&self.models) {
            let is_whole = model.last_end() != log.appended().0 || log.committed() >= log.appended();
            if is_power_cut || is_whole || !model.last_is_append() || !self.random.one_in(2) {
                torn.push(false);
                continue;
            }
            // Killed while it copied: the end of the last record is not there.
            let bytes = 1 + self.random.below(60.min(last_record_bytes(log) - 1));
            let log = &mut log.journal;
            let offset = log.offset - bytes;
            log.segments.back_mut().unwrap().map.write(offset as usize, &vec![0; bytes as usize]);
            torn.push(true);
            self.tally.torn_appends += 1;
        }
        self.say(if is_power_cut { "power cut" } else { "kill" });
        let committed: Vec<u64> = self.logs.iter().map(|log| log.committed().0).collect();
        self.logs.clear();
        if self.random.one_in(4) {
            self.step_back();
        }
        self.disk.restart(is_power_cut);
        if is_power_cut {
            self.tally.power_cuts += 1;
        } else {
            self.tally.kills += 1;
        }
        if self.random.one_in(4) {
            // Opening is cut short, too.
            self.disk.0.lock().unwrap().calls_left = Some(self.random.below(25));
            if let Err(error) = self.try_open(self.shards) {
                self.say(&format!("opening: {error}"));
                self.tally.crashes_in_opening += 1;
            }
            self.logs.clear();
            self.disk.restart(is_power_cut);
        }
        self.open(true);
        for shard in 0..self.shards {
            let loss = match (is_power_cut, torn[shard]) {
                (true, _) => Loss::Uncommitted,
                (false, true) => Loss::Torn,
                (false, false) => Loss::Nothing,
            };
            self.check(shard, committed[shard], loss, &held[shard]);
        }
        if self.random.one_in(6) {
            self.reshard();
        }
    }

    fn close(&mut self) {
        self.say("close");
        self.tally.closes += 1;
        self.disk.0.lock().unwrap().is_full = false;
        let committed: Vec<u64> = self.logs.iter().map(|log| log.appended().0).collect();
        let held: Vec<Held> = self.logs.iter().map(Held::of).collect();
        for log in self.logs.drain(..) {
            let _ = log.close();
        }
        if self.disk.0.lock().unwrap().is_dead {
            self.tally.crashes_in_calls += 1;
        }
        self.disk.restart(false);
        self.open(true);
        for (shard, committed) in committed.into_iter().enumerate() {
            self.check(shard, committed, Loss::Nothing, &held[shard]);
        }
    }

    fn reshard(&mut self) {
        let shards = 1 + self.random.below(3) as usize;
        self.say(&format!("{} logs become {shards}", self.shards));
        // A user's home is the number modulo the shards: the models move with the users.
        self.logs.clear();
        if self.random.one_in(2) {
            self.disk.0.lock().unwrap().calls_left = Some(self.random.below(60));
            if self.try_open(shards).is_err() {
                self.tally.crashes_in_opening += 1;
            }
            self.logs.clear();
            self.disk.restart(self.options.durability == Durability::Disk && self.random.one_in(2));
        }
        self.try_open(shards).expect("it opens");
        let mut merged = Model::default();
        for model in &self.models {
            for (user, of) in model.state() {
                for (sequence, kept) in of {
                    merged.done(0, *user, What::Append(*sequence, kept.clone()));
                }
            }
        }
        self.shards = shards;
        self.models.clear();
        for shard in 0..shards {
            let mut model = Model::default();
            for (user, of) in merged.state().iter().filter(|(user, _)| **user as usize % shards == shard) {
                for (sequence, kept) in of {
                    model.done(0, *user, What::Append(*sequence, kept.clone()));
                }
            }
            model.start_over(&self.logs[shard..=shard]);
            model.compare(&self.logs[shard..=shard]);
            self.models.push(model);
        }
        self.tally.reshards += 1;
    }

    fn open(&mut self, counts: bool) {
        self.disk.0.lock().unwrap().is_full = false;
        self.try_open(self.shards).expect("it opens");
        if counts {
            let checkpoints = self.logs.iter().map(|log| {
                let shared = &log.journal.shared;
                shared.files().read(&shared.folder().join("checkpoint"))
            });
            self.tally.checkpoints +=
                checkpoints.filter(|found| found.as_ref().unwrap().is_some()).count() as u64;
        }
    }

    fn try_open(&mut self, shards: usize) -> Result<(), LogError> {
        let ids = std::cell::RefCell::new(Random::new(self.random.next()));
        let place = Place {
            files: Arc::new(self.disk.clone()),
            lock: Arc::new(Lock::none()),
            root: Path::new(ROOT),
            random_id: &|| Ok(ids.borrow_mut().next()),
        };
        let options = Options { now_ms: self.now_ms, ..self.options.clone() };
        let opened = open_with(&place, &options, shards, &home(shards), &|_| {}, &|_| Mirror::default())?;
        let damage: Vec<_> = opened.report.damage.iter().map(ToString::to_string).collect();
        assert_eq!(damage, Vec::<String>::new(), "a crash is no damage");
        self.logs = opened.logs;
        Ok(())
    }
}

/// End of the last record that is about a message. After it are the marks of new runs, also of such as did not get far.
fn end_of_operations(log: &Log<Mirror>) -> u64 {
    let Journal { segments, seed, .. } = log.journal();
    // What lay before the oldest segment was committed before it was deleted.
    let mut end = segments[0].base;
    for segment in segments {
        for raw in Walk::new(segment.map.bytes(), *seed, segment.base, 0) {
            if !matches!(raw.kind, Kind::Mark | Kind::Seal | Kind::Body) {
                end = raw.position + raw.stored_bytes();
            }
        }
    }
    end
}

/// Bytes of the record that was written last.
fn last_record_bytes(log: &Log<Mirror>) -> u64 {
    let Journal { segments, seed, .. } = log.journal();
    let head = segments.back().expect("there is always one");
    Walk::new(head.map.bytes(), *seed, head.base, 0).last().map_or(0, |raw| raw.stored_bytes())
}

/// What the second reader held before a crash.
struct Held {
    kept: BTreeMap<(ActorId, Sequence), (u64, Vec<u8>)>,
}

impl Held {
    fn of(log: &Log<Mirror>) -> Self {
        let kept = &log.second().kept;
        let texts = Mirror::texts(log).into_iter();
        Self { kept: texts.map(|(key, text)| (key, (kept[&key].first_end, text))).collect() }
    }

    /// Panics unless it holds the same now, but for what the crash took away behind `end`; returns how much that is. What
    /// it let go of in the meantime for being old was not the newest.
    fn check(&self, log: &Log<Mirror>, end: u64) -> u64 {
        let now = Mirror::texts(log);
        let oldest = now.keys().map(|(_, sequence)| *sequence).min();
        let may_be_gone = |sequence: Sequence| now.len() >= mirror::KEPT_MAX && Some(sequence) <= oldest;
        for (key, (first_end, text)) in self.kept.iter().filter(|(_, (first_end, _))| *first_end <= end) {
            match now.get(key) {
                Some(found) => assert_eq!(found, text, "{key:?} that ended at {first_end}"),
                None => assert!(may_be_gone(key.1), "{key:?} that ended at {first_end} is lost"),
            }
        }
        now.len() as u64
    }
}

/// What a restart may lose.
enum Loss {
    Nothing,
    /// The operation that was under way.
    Torn,
    Uncommitted,
}
