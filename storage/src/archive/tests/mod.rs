//! What the archive promises.

mod compaction;
mod continuations;
mod disk;
mod erasures;
mod follow;
mod gathering;
mod large;
mod pages;
mod records;
mod retractions;
mod tail;
mod threads;

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::query::{End, Order, Page, Query};
use super::readers::{Folders, PageReader};
use super::*;
use crate::directory::{self, Applied, Directory, Shares, run_inline};
use crate::journal::Reader;
use crate::log::{
    ActorCopy, Body, Flags, Log, LogsAt, Opened, Options, Origin, PeerHash, SEGMENT_BYTES_MIN, Sequence,
    journal_folders,
};

/// A directory and a log with archives, as a server has them, without its threads.
struct House {
    folder: TempDir,
    directory: Directory,
    tallies: Arc<Tallies>,
    logs: Vec<Log<Archive>>,
    settings: Settings,
    shares: Shares,
    options: Options,
    now_ms: u64,
}

const ANNA: ActorId = ActorId::user(1);
const BEN: ActorId = ActorId::user(2);
const CARL: ActorId = ActorId::user(3);

fn peer(actor: ActorId) -> PeerHash {
    PeerHash(actor.number() as u32 * 1000)
}

fn open_directory(path: &Path) -> Directory {
    let options = directory::Options {
        domain: "example.org".into(),
        durable: false,
        incarnation: Some(1),
        ..directory::Options::default()
    };
    Directory::open(path, &options).expect("it opens")
}

impl House {
    fn new() -> Self {
        Self::with(Settings::default(), 1)
    }

    fn with(settings: Settings, shards: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = open_directory(&folder.path().join("directory"));
        let options = Options {
            segment_bytes: SEGMENT_BYTES_MIN,
            payload_bytes_max: 8 << 10,
            log_bytes_max: 1 << 30,
            checkpoint_bytes: 0,
            resume_window_ms: 0,
            compaction_bytes_per_second: 64 << 20,
            ..Options::default()
        };
        let mut house = Self {
            folder,
            directory,
            tallies: Arc::default(),
            logs: Vec::new(),
            settings,
            shares: Shares::default(),
            options,
            now_ms: 1_700_000_000_000,
        };
        house.open(shards);
        house
    }

    /// Opens, as after a crash.
    fn open(&mut self, shards: usize) {
        self.logs.clear();
        self.tallies = Arc::new(Tallies::of(&self.directory).unwrap());
        let options = Options { now_ms: self.now_ms, ..self.options.clone() };
        let (settings, tallies) = (self.settings, self.tallies.clone());
        let home = move |actor: ActorId| Some(actor.number() as usize % shards);
        let at = LogsAt {
            path: &self.folder.path().join("log"),
            options: &options,
            shards,
            home: &home,
            progress: &|_| {},
        };
        let opened: Opened<Archive> =
            at.open(None, &|journal| Archive::new(journal, settings, tallies.clone())).expect("it opens");
        assert_eq!(opened.report.damage, []);
        self.logs = opened.logs;
    }

    fn reader(&self) -> PageReader {
        let folders = journal_folders(&self.folder.path().join("log")).unwrap();
        PageReader::new(self.directory.clone(), Arc::new(Folders::new(folders)))
    }

    fn shard(&self, actor: ActorId) -> usize {
        actor.number() as usize % self.logs.len()
    }

    /// One says something to another: one text for both archives where both have one home. Returns the recipient's id.
    fn say(&mut self, from: ActorId, to: ActorId, text: &str) -> Sequence {
        self.now_ms += 1_000;
        let body = Body { time_ms: self.now_ms, origin: Origin::default(), payload: text.as_bytes() };
        let own = Flags::ARCHIVED.and(Flags::NOT_QUEUED);
        let copies = [
            ActorCopy { actor: to, flags: Flags::ARCHIVED, peer: peer(from) },
            ActorCopy { actor: from, flags: own, peer: peer(to) },
        ];
        let mut results = Vec::new();
        let (there, here) = (self.shard(to), self.shard(from));
        if there == here {
            self.logs[there].append_for(&copies, &body, &mut results);
            return results.iter().map(|result| result.unwrap().sequence).next().unwrap();
        }
        self.logs[here].append_for(&copies[1..], &body, &mut results);
        self.logs[there].append_for(&copies[..1], &body, &mut results);
        results[0].unwrap().sequence
    }

    fn commit(&mut self) {
        for log in &mut self.logs {
            log.commit_now().unwrap();
            log.maintain(self.now_ms);
            log.commit_now().unwrap();
            log.keep_files_now();
        }
    }

    /// Everything goes on: commits, rows, files.
    fn upkeep(&mut self) {
        for _ in 0..3 {
            self.commit();
            self.write_rows();
            self.now_ms += 200;
        }
    }

    /// What archives have for the directory goes there.
    fn write_rows(&mut self) -> Applied {
        let mut all = Applied::default();
        for log in &mut self.logs {
            log.maintain(self.now_ms);
            while let Some(changes) = log.second_mut().take_changes(usize::MAX) {
                let (shares, given) = (self.shares, changes.clone());
                let applied =
                    run_inline(&self.directory, Box::new(move |t| t.apply_archive(&given, shares))).unwrap();
                self.tallies.apply(&applied.segments);
                log.second_mut().changes_done(&changes, true);
                all.messages += applied.messages;
                all.cut += applied.cut;
            }
        }
        all
    }

    /// All blocks go to the directory.
    fn flush(&mut self) {
        self.commit();
        self.logs.iter_mut().for_each(|log| log.second_mut().seal_all());
        self.write_rows();
        assert!(self.logs.iter().all(|log| log.second().load().messages == 0));
    }

    fn query(&self, actor: ActorId) -> Query {
        Query::all(actor, self.logs[self.shard(actor)].second().snapshot(actor))
    }

    /// The texts of all steps of a query.
    fn texts(&self, query: Query) -> Vec<String> {
        let mut texts = Vec::new();
        for page in self.pages(query) {
            let found =
                page.messages.iter().map(|found| String::from_utf8_lossy(page.text(found)).into_owned());
            texts.extend(found);
        }
        texts
    }

    fn pages(&self, mut query: Query) -> Vec<Page> {
        let mut reader = self.reader();
        let mut pages = Vec::new();
        loop {
            let page = reader.page(&query).expect("it can be read");
            let goes_on = page.goes_on();
            query = query.rest(&page);
            pages.push(page);
            if !goes_on {
                return pages;
            }
        }
    }

    fn page(&self, query: &Query) -> Page {
        self.reader().page(query).expect("it can be read")
    }
}

fn ids(page: &Page) -> Vec<Sequence> {
    page.messages.iter().map(|found| found.id).collect()
}
