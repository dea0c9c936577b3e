//! The log with the archive as its second reader: each seed is a run of a few lives, as in `run`, with a directory beside it.
//!
//! Messages are archived by some, wait for some, or both; blocks are sealed and evicted at any moment; what the archive has
//! for the directory is applied, fails, or is applied and the process dies before it hears of it; actors have shares, are
//! cut, get too old; compaction moves what is left; the number of logs changes; sealed logs are retired. After each
//! restart, and in between, each archive has every committed message exactly once, in order and with its text, but for
//! those that retention took from its beginning; ids never repeat nor go back, also above those that a crash took away.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::disk::SimDisk;
use super::{Random, number};
use crate::actor::ActorId;
use crate::archive::gather::{self, GatherSettings, Gatherer, Space};
use crate::archive::page::answer;
use crate::archive::prepare::wanted;
use crate::archive::query::{End, Order, Query};
use crate::archive::segments::Source;
use crate::archive::{Archive, Settings, Tallies};
use crate::directory::{self, Directory, Shares, Sweep, run_inline};
use crate::journal::format::layout::{Layout, Lock};
use crate::journal::format::segment::{base_of, file_name};
use crate::journal::live::files::Files;
use crate::log::opening::{Place, open_with};
use crate::log::orphans::retire_sealed_in;
use crate::log::{
    ActorCopy, AppendError, Body, Durability, Flags, Log, LogError, Options, Origin, PeerHash, Position,
    Sequence,
};

const ROOT: &str = "/log";
const SEGMENT: u64 = 8 << 10;
const ACTORS: u64 = 6;
/// Whatever is due is gathered.
const GATHER: GatherSettings =
    GatherSettings { file_bytes_max: 16 << 10, file_bytes_min: 0, wait_ms: 0, is_on: true };

/// What an archive should have of a message.
#[derive(Clone, Debug)]
struct Expected {
    text: Vec<u8>,
    time_ms: u64,
    peer: PeerHash,
    /// The log whose end it had to reach, and where that is; `None`: it is there for good.
    end: Option<(usize, u64)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Happened {
    archived: u64,
    shared: u64,
    rows: u64,
    failed: u64,
    unheard: u64,
    kills: u64,
    power_cuts: u64,
    lost: u64,
    moved: u64,
    cut: u64,
    expired: u64,
    swept: u64,
    reshards: u64,
    retired: u64,
    closes: u64,
    clock_steps: u64,
    found: u64,
    gathered: u64,
    gathering_failed: u64,
}

impl Happened {
    fn all(&self) -> [u64; 19] {
        let Self { archived, shared, rows, failed, unheard, kills, power_cuts, lost, moved, cut, .. } = *self;
        let Self { expired, swept, reshards, retired, closes, clock_steps, found, .. } = *self;
        let Self { gathered, gathering_failed, .. } = *self;
        [
            archived,
            shared,
            rows,
            failed,
            unheard,
            kills,
            power_cuts,
            lost,
            moved,
            cut,
            expired,
            swept,
            reshards,
            retired,
            closes,
            clock_steps,
            found,
            gathered,
            gathering_failed,
        ]
    }
}

/// Reads from the simulated disk.
struct SimSource<'a> {
    disk: &'a SimDisk,
    folders: BTreeMap<u64, PathBuf>,
}

impl Source for SimSource<'_> {
    fn segment(&mut self, journal: u64, position: Position) -> Result<Option<Range<Position>>, LogError> {
        let Some(folder) = self.folders.get(&journal) else { return Ok(None) };
        let names = self.disk.list(folder).map_err(|error| LogError::io("read", folder, error))?;
        let bases = names.iter().filter_map(|name| base_of(name)).filter(|base| *base <= position.0);
        Ok(bases.max().map(|base| Position(base)..Position(position.0 + 1)))
    }

    fn read(
        &mut self,
        journal: u64,
        segment: Position,
        from: Position,
        to: &mut [u8],
    ) -> Result<bool, LogError> {
        let bytes = self.whole(journal, segment)?;
        let offset = (from.0 - segment.0) as usize;
        let found = bytes.get(offset..offset + to.len());
        if let Some(found) = found {
            to.copy_from_slice(found);
        }
        Ok(found.is_some())
    }

    fn look_again(&mut self) {}

    fn whole(&mut self, journal: u64, segment: Position) -> Result<Vec<u8>, LogError> {
        let path = self.folders.get(&journal).map(|folder| folder.join(file_name(segment.0)));
        Ok(path.and_then(|path| self.disk.peek(&path)).unwrap_or_default())
    }
}

struct Run {
    random: Random,
    disk: SimDisk,
    options: Options,
    settings: Settings,
    shares: Shares,
    directory: Directory,
    _folder: tempfile::TempDir,
    tallies: Arc<Tallies>,
    logs: Vec<Log<Archive>>,
    now_ms: u64,
    expected: BTreeMap<(u64, Sequence), Expected>,
    given: BTreeMap<u64, Sequence>,
    /// Messages before this id may be gone.
    expired: Sequence,
    happened: Happened,
    /// Copies texts of an actor to where they lie together.
    gatherer: Option<Gatherer>,
    /// Much that is in no archive: segments are sparse, and what is in one has to be moved.
    is_busy: bool,
    talks: bool,
}

fn run(seed: u64, talks: bool) -> Happened {
    let mut random = Random::new(seed ^ 0xA5C1);
    let options = Options {
        segment_bytes: SEGMENT,
        durability: if random.one_in(4) { Durability::Process } else { Durability::Disk },
        log_bytes_max: SEGMENT * 200,
        payload_bytes_max: 1500,
        compaction_bytes_per_second: SEGMENT * 50,
        checkpoint_bytes: if random.one_in(3) { 0 } else { 500 + random.below(20_000) },
        resume_window_ms: 0,
        ..Options::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let how = directory::Options {
        domain: "example.org".into(),
        durable: false,
        incarnation: Some(1),
        map_bytes_max: 64 << 20,
    };
    let mut run = Run {
        settings: Settings { heads_bytes_max: if random.one_in(2) { 600 } else { 1 << 20 } },
        shares: Shares { actor_bytes_max: if random.one_in(2) { 10_000 } else { 0 } },
        disk: SimDisk::new(Random::new(random.next())),
        directory: Directory::open(folder.path(), &how).unwrap(),
        _folder: folder,
        options,
        tallies: Arc::default(),
        logs: Vec::new(),
        now_ms: 100_000_000,
        expected: BTreeMap::new(),
        given: BTreeMap::new(),
        expired: Sequence::ZERO,
        happened: Happened::default(),
        gatherer: None,
        is_busy: random.one_in(3),
        talks,
        random,
    };
    let shards = 1 + run.random.below(2) as usize;
    run.open(shards).expect("it opens");
    for _ in 0..1 + run.random.below(4) {
        run.live();
        run.die();
    }
    run.happened
}

impl Run {
    fn say(&self, what: impl FnOnce() -> String) {
        if self.talks {
            println!("{}", what());
        }
    }

    fn shard(&self, actor: u64) -> usize {
        actor as usize % self.logs.len()
    }

    fn open(&mut self, shards: usize) -> Result<(), LogError> {
        self.logs.clear();
        self.gatherer = None;
        let ids = std::cell::RefCell::new(Random::new(self.random.next()));
        let place = Place {
            files: Arc::new(self.disk.clone()),
            lock: Arc::new(Lock::none()),
            root: Path::new(ROOT),
            random_id: &|| Ok(ids.borrow_mut().next()),
        };
        let options = Options { now_ms: self.now_ms, ..self.options.clone() };
        self.tallies = Arc::new(Tallies::of(&self.directory).unwrap());
        let second = |journal| Archive::new(journal, self.settings, self.tallies.clone());
        let home = |actor: ActorId| Some(actor.number() as usize % shards);
        let opened = open_with(&place, &options, shards, &home, &|_| {}, &second)?;
        let damage: Vec<_> = opened.report.damage.iter().map(ToString::to_string).collect();
        assert_eq!(damage, Vec::<String>::new(), "a crash is no damage");
        self.logs = opened.logs;
        Ok(())
    }

    fn live(&mut self) {
        if self.random.one_in(3) {
            self.disk.0.lock().unwrap().calls_left = Some(self.random.below(40));
        }
        let appends = 20 + self.random.below(50);
        let steps = if self.is_busy { 800 } else { 200 };
        for _ in 0..20 + self.random.below(steps) {
            let shard = self.random.below(self.logs.len() as u64) as usize;
            self.now_ms += self.random.below(2000);
            let roll = self.random.below(100);
            if self.talks && roll >= appends {
                println!("{roll} on {shard}, which ends at {}", self.logs[shard].appended().0);
            }
            match roll {
                roll if roll < appends => self.append(shard),
                70..75 => _ = self.logs[shard].commit_now(),
                75..82 => {
                    self.logs[shard].maintain(self.now_ms);
                    self.logs[shard].keep_files_now();
                }
                82..88 => self.write_rows(shard),
                88 | 89 => self.trim(shard),
                _ if self.is_busy && self.random.one_in(3) => self.trim(shard),
                90 => self.logs[shard].second_mut().seal_all(),
                91 if self.random.one_in(4) => self.cut(),
                92 if self.random.one_in(4) => self.expire(),
                93 => self.sweep(),
                94 | 95 => self.compact(shard),
                96 if self.random.one_in(3) => {
                    self.now_ms -= self.random.below(3_600_000).min(self.now_ms);
                    self.happened.clock_steps += 1;
                }
                97 => self.retire(),
                99 => self.gather(),
                98 if self.random.one_in(3) => _ = self.logs[shard].checkpoint(),
                _ => {}
            }
            if self.disk.0.lock().unwrap().is_dead {
                return;
            }
        }
        self.compare(None);
    }

    fn append(&mut self, shard: usize) {
        let count = 1 + self.random.below(3);
        let mut copies: Vec<ActorCopy> = Vec::new();
        for _ in 0..count {
            let number = 1 + self.random.below(ACTORS);
            if self.shard(number) != shard || copies.iter().any(|copy| copy.actor.number() == number) {
                continue;
            }
            let flags =
                [Flags::ARCHIVED, Flags::ARCHIVED.and(Flags::NOT_QUEUED), Flags::NONE, Flags::NOT_QUEUED];
            let which = [0, 1, 1, 0, 0, 1, 2, 3][self.random.below(8) as usize];
            let flags = flags[if self.is_busy && !self.random.one_in(12) { 2 } else { which }];
            copies.push(ActorCopy {
                actor: ActorId::user(number),
                flags,
                peer: PeerHash(self.random.next() as u32 % 5),
            });
        }
        let longest = if self.is_busy || self.random.one_in(4) { 1400 } else { 200 };
        let mut text = vec![0; self.random.below(longest) as usize];
        text.iter_mut().for_each(|byte| *byte = self.random.next() as u8);
        let body = Body { time_ms: self.now_ms, origin: Origin::default(), payload: &text };
        let mut results = Vec::new();
        self.logs[shard].append_for(&copies, &body, &mut results);
        for (copy, result) in copies.iter().zip(results) {
            let appended = match result {
                Ok(appended) if copy.flags.is_kept() => appended,
                Ok(appended) => {
                    assert_eq!(appended.sequence, Sequence::ZERO);
                    continue;
                }
                Err(error) => {
                    assert_ne!(error, AppendError::TooLarge);
                    continue;
                }
            };
            let before = self.given.insert(copy.actor.number(), appended.sequence);
            assert!(
                before < Some(appended.sequence),
                "{} was given {:?} after {before:?}",
                copy.actor,
                appended.sequence
            );
            if copy.flags.has(Flags::ARCHIVED) {
                self.happened.archived += 1;
                self.happened.shared += u64::from(copies.len() > 1);
                let (time_ms, peer) = (self.now_ms, copy.peer);
                let end = Some((shard, appended.position.0));
                let expected = Expected { text: text.clone(), time_ms, peer, end };
                self.say(|| {
                    format!(
                        "{} {:?} of {count} ends at {}",
                        copy.actor, appended.sequence, appended.position.0
                    )
                });
                self.expected.insert((copy.actor.number(), appended.sequence), expected);
            }
        }
    }

    fn trim(&mut self, shard: usize) {
        let actors: Vec<ActorId> = self.logs[shard].actors().collect();
        let Some(actor) = actors.get(self.random.below(actors.len() as u64) as usize) else { return };
        let waiting: Vec<Sequence> = self.logs[shard].waiting(*actor).collect();
        let nth =
            if self.is_busy { waiting.len() - 1 } else { self.random.below(waiting.len() as u64) as usize };
        self.logs[shard].trim_up_to(*actor, waiting[nth]);
    }

    fn write_rows(&mut self, shard: usize) {
        let most = 1 + self.random.below(8) as usize;
        if self.random.one_in(2) {
            // In pieces: whatever happens, happens between them as well.
            self.logs[shard].second_mut().gather(most);
            return;
        }
        let Some(changes) = self.logs[shard].second_mut().take_changes(most) else { return };
        let fate = self.random.below(8);
        if fate == 0 {
            self.happened.failed += 1;
            return self.logs[shard].second_mut().changes_done(&changes, false);
        }
        self.say(|| format!("to the directory ({fate}): {changes:?}"));
        let (given, shares) = (changes.clone(), self.shares);
        let applied =
            run_inline(&self.directory, Box::new(move |t| t.apply_archive(&given, shares))).unwrap();
        self.happened.rows += changes.rows.len() as u64;
        self.happened.moved += changes.moves.len() as u64;
        self.happened.cut += applied.cut;
        self.tallies.apply(&applied.segments);
        if fate == 1 {
            // It never hears of it: the process dies before.
            self.happened.unheard += 1;
            return;
        }
        self.logs[shard].second_mut().changes_done(&changes, true);
    }

    fn cut(&mut self) {
        let number = 1 + self.random.below(ACTORS);
        let ids: Vec<Sequence> = self
            .expected
            .range((number, Sequence::ZERO)..=(number, Sequence::MAX))
            .map(|((_, id), _)| *id)
            .collect();
        if ids.is_empty() {
            return;
        }
        let before = ids[self.random.below(ids.len() as u64) as usize];
        run_inline(&self.directory, Box::new(move |t| t.cut_archive(ActorId::user(number), before))).unwrap();
        self.happened.cut += 1;
    }

    fn expire(&mut self) {
        let before = Sequence::at(self.now_ms.saturating_sub(self.random.below(100_000)));
        self.expired = self.expired.max(before);
        let expired = self.expired;
        self.logs.iter_mut().for_each(|log| log.second_mut().expire(expired));
        self.happened.expired += 1;
    }

    fn sweep(&mut self) {
        let after =
            if self.random.one_in(2) { ActorId::NOBODY } else { ActorId::user(self.random.below(ACTORS)) };
        let sweep = Sweep {
            after,
            not_before: self.expired,
            actors_max: 4,
            rows_max: 1 + self.random.below(6) as usize,
        };
        let swept = run_inline(&self.directory, Box::new(move |t| t.sweep_archive(&sweep))).unwrap();
        self.happened.swept += swept.rows;
        self.tallies.apply(&swept.segments);
    }

    fn source(&self) -> SimSource<'_> {
        let layout = Layout::read(&self.disk, Path::new(ROOT)).unwrap().unwrap();
        SimSource { disk: &self.disk, folders: layout.journals(Path::new(ROOT)).into_iter().collect() }
    }

    fn compact(&mut self, shard: usize) {
        let Some(segment) = self.logs[shard].second().to_prepare() else { return };
        let journal = self.logs[shard].id();
        if self.disk.0.lock().unwrap().calls_left.is_some() {
            return;
        }
        let found = wanted(&self.directory, &mut self.source(), journal, segment).unwrap();
        self.logs[shard].second_mut().prepared(segment, found);
    }

    /// Some steps. Whatever happens, happens between them as well.
    fn gather(&mut self) {
        let Ok(Some(layout)) = Layout::read(&self.disk, Path::new(ROOT)) else { return };
        if self.gatherer.is_none() {
            let place = gather::Place {
                directory: self.directory.clone(),
                tallies: self.tallies.clone(),
                folders: Arc::default(),
                files: Arc::new(self.disk.clone()),
                root: Path::new(ROOT).to_owned(),
            };
            let id = self.random.next();
            self.gatherer = Gatherer::with(place, GATHER, &|| Ok(id)).ok();
        }
        let Some(gatherer) = &mut self.gatherer else { return };
        let folders = layout.journals(Path::new(ROOT)).into_iter().collect();
        let mut source = SimSource { disk: &self.disk, folders };
        if self.random.one_in(2) {
            gatherer.list_again(1 + self.random.below(8) as usize);
        }
        for _ in 0..1 + self.random.below(8) {
            if gatherer.step_from(&mut source, self.now_ms, Space::ENDLESS).is_err() {
                self.happened.gathering_failed += 1;
            }
        }
        if self.talks {
            println!("gathered: {:?}", gatherer.metrics());
        }
        self.happened.gathered += gatherer.metrics().messages.swap(0, Ordering::Relaxed);
    }

    fn retire(&mut self) {
        let tallies = self.tallies.clone();
        let needs = |journal, segment| tallies.needs(journal, segment);
        if let Ok(gone) = retire_sealed_in(&self.disk, Path::new(ROOT), &needs) {
            self.happened.retired += gone.len() as u64;
        }
    }

    /// Every archive has what it should. `ends`: where the logs end now, after a crash: what is behind is gone.
    fn compare(&mut self, ends: Option<&[(u64, bool)]>) {
        self.disk.0.lock().unwrap().calls_left = None;
        if self.disk.0.lock().unwrap().is_dead {
            return;
        }
        for number in 1..=ACTORS {
            let actor = ActorId::user(number);
            let snapshot = self.logs[self.shard(number)].second().snapshot(actor);
            let query = Query { bytes_max: usize::MAX, ..Query::all(actor, snapshot) };
            let backwards = Query { order: Order::Backwards, ..query.clone() };
            let state = self.directory.archive_state(actor).unwrap();
            let page = answer(&self.directory, &mut self.source(), &query).unwrap();
            let back = answer(&self.directory, &mut self.source(), &backwards).unwrap();
            assert!(
                back.messages.iter().rev().map(|m| m.id).eq(page.messages.iter().map(|m| m.id)),
                "{actor}"
            );
            assert_eq!((page.end, page.cost.damaged), (End::Complete, 0), "{actor}");
            assert!(page.messages.is_sorted_by(|a, b| a.id < b.id), "{actor}: in order, none twice");
            for found in &page.messages {
                let expected = self.expected.get(&(number, found.id));
                if expected.is_none() && found.id < self.expired {
                    // Too old, and gone with its file, until a copy was found that compaction had made of it.
                    continue;
                }
                let expected = expected
                    .unwrap_or_else(|| panic!("{actor} has {:?}, which was never put there", found.id));
                assert_eq!(page.text(found), expected.text, "{actor} {:?}", found.id);
                assert_eq!((found.time_ms, found.peer), (expected.time_ms, expected.peer));
            }
            self.say(|| format!("{actor}: {:?}, {state:?}", page.cost));
            let found: Vec<Sequence> = page.messages.iter().map(|found| found.id).collect();
            self.happened.found += found.len() as u64;
            let kept = state.first_kept.max(self.expired);
            let mut gone = Vec::new();
            for ((_, id), expected) in self.expected.range((number, Sequence::ZERO)..=(number, Sequence::MAX))
            {
                if found.binary_search(id).is_ok() {
                    assert!(*id >= state.first_kept, "{actor} {id:?} was cut");
                    continue;
                }
                let may_be_lost = expected.end.zip(ends).is_some_and(|((shard, end), ends)| {
                    let (committed, is_torn) = ends[shard];
                    end > committed || is_torn
                });
                assert!(
                    *id < kept || may_be_lost,
                    "{actor} lacks {id:?}, which ended at {:?}; kept from {kept:?}",
                    expected.end
                );
                self.happened.lost += u64::from(may_be_lost);
                if self.talks {
                    println!("{actor} lacks {id:?}, kept from {kept:?}");
                }
                gone.push((number, *id));
            }
            gone.iter().for_each(|key| _ = self.expected.remove(key));
        }
    }

    fn die(&mut self) {
        let is_dead = self.disk.0.lock().unwrap().is_dead;
        let shards = self.logs.len();
        self.gatherer = None;
        if !is_dead && self.random.one_in(4) {
            self.happened.closes += 1;
            self.say(|| "close".to_owned());
            self.disk.0.lock().unwrap().calls_left = None;
            self.logs.drain(..).for_each(|log| log.close().expect("the disk works"));
            self.disk.restart(false);
            self.open(shards).expect("it opens");
            let nothing = vec![(u64::MAX, false); shards];
            self.compare(Some(&nothing));
        } else {
            let is_power_cut = self.options.durability == Durability::Disk && self.random.one_in(2);
            self.say(|| format!("dies, power cut: {is_power_cut}"));
            let end = |log: &Log<Archive>| if is_power_cut { log.committed().0 } else { log.appended().0 };
            let ends: Vec<(u64, bool)> = self.logs.iter().map(|log| (end(log), false)).collect();
            self.logs.clear();
            self.disk.restart(is_power_cut);
            self.happened.power_cuts += u64::from(is_power_cut);
            self.happened.kills += u64::from(!is_power_cut);
            if self.random.one_in(4) {
                // Opening is cut short, too.
                self.disk.0.lock().unwrap().calls_left = Some(self.random.below(25));
                let _ = self.open(shards);
                self.logs.clear();
                self.disk.restart(is_power_cut);
            }
            self.open(shards).expect("it opens");
            self.compare(Some(&ends));
        }
        for expected in self.expected.values_mut() {
            expected.end = None;
        }
        if self.random.one_in(3) {
            self.reshard();
        }
    }

    fn reshard(&mut self) {
        let shards = 1 + self.random.below(3) as usize;
        self.say(|| format!("{} logs become {shards}", self.logs.len()));
        self.gatherer = None;
        if self.random.one_in(2) {
            self.disk.0.lock().unwrap().calls_left = Some(self.random.below(60));
            let _ = self.open(shards);
            self.logs.clear();
            self.disk.restart(self.options.durability == Durability::Disk && self.random.one_in(2));
        }
        self.open(shards).expect("it opens");
        self.happened.reshards += 1;
        self.compare(None);
    }
}

#[test]
fn whatever_happens_archives_have_what_was_committed_once_and_in_order() {
    if let Some(seed) = number("WHIMBREL_SEED") {
        run(seed, true);
        return;
    }
    let seeds = number("WHIMBREL_SEEDS").unwrap_or(10_000) / 10;
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let mut total = [0; 19];
    std::thread::scope(|scope| {
        let part = |first: u64| {
            move || {
                let mut total = [0; 19];
                for seed in (first..seeds).step_by(threads as usize) {
                    let happened = std::panic::catch_unwind(|| run(seed, false));
                    let Ok(happened) = happened else {
                        panic!("seed {seed} fails; WHIMBREL_SEED={seed} replays it")
                    };
                    total.iter_mut().zip(happened.all()).for_each(|(total, more)| *total += more);
                }
                total
            }
        };
        let parts: Vec<_> = (0..threads).map(|first| scope.spawn(part(first))).collect();
        for part in parts {
            let part = part.join().expect("the failing seed is told above");
            total.iter_mut().zip(part).for_each(|(total, more)| *total += more);
        }
    });
    println!("{seeds} seeds: {total:?}, in the order of Happened");
    if seeds >= 300 {
        assert!(total.iter().all(|count| *count > 0), "something never happened: {total:?}");
    }
}

#[test]
fn a_seed_of_archives_replays_exactly() {
    for seed in 0..20 {
        assert_eq!(run(seed, false), run(seed, false));
    }
}
