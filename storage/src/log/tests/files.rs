//! The log over real files: threads, damage by hand, full disks, other numbers of logs.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::actor::ActorId;
use crate::file_error::FileError;
use crate::log::*;

pub(super) const SEGMENT: u64 = 64 << 10;

pub(super) fn options() -> Options {
    Options {
        segment_bytes: SEGMENT,
        payload_bytes_max: 8 << 10,
        log_bytes_max: 64 * SEGMENT,
        checkpoint_bytes: 0,
        resume_window_ms: 0,
        ..Options::default()
    }
}

pub(super) fn open_many(path: &Path, options: &Options, shards: usize) -> Opened {
    let home = |user: ActorId| (user.number() != 13).then_some(user.number() as usize);
    Log::open_all(path, options, shards, &home, &|_| {}).expect("the log opens")
}

pub(super) fn open(path: &Path) -> (Log, Report) {
    let mut opened = open_many(path, &options(), 1);
    (opened.logs.remove(0), opened.report)
}

pub(super) fn put(log: &mut Log, user: u64, payload: &str) -> Sequence {
    let message = Message {
        actor: ActorId::user(user),
        time_ms: 1_000,
        flags: Flags::NONE,
        origin: Origin::default(),
        peer: PeerHash::NONE,
        payload: payload.as_bytes(),
    };
    log.append(&message).expect("there is room").sequence
}

pub(super) fn texts(log: &Log, user: u64) -> Vec<String> {
    log.pending(ActorId::user(user))
        .map(|r| String::from_utf8(r.expect("a whole record").payload.to_vec()).unwrap())
        .collect()
}

/// Opens again a log that this process has just had open.
fn open_held(path: &Path) -> (Log, Report) {
    let lock = fs::File::open(path).unwrap();
    let mut opened =
        Log::open_all_locked(path, &options(), 1, &|_| Some(0), &|_| {}, Some(lock)).expect("the log opens");
    (opened.logs.remove(0), opened.report)
}

#[test]
fn a_log_that_this_process_had_open_is_what_it_was_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    let mut expected: Vec<String> = Vec::new();
    let mut sequences = Vec::new();
    for round in 0..6 {
        // Over the end of segments, with and without a spare one.
        for number in 0..40 {
            expected.push(long(100 * round + number));
            sequences.push(put(&mut log, 1, expected.last().unwrap()));
        }
        log.trim(ActorId::user(1), sequences.remove(0));
        expected.remove(0);
        log.maintain(1_000);
        if round % 2 == 0 {
            log.keep_files_now();
        }
        log.checkpoint().unwrap();
        let (end, next) = (log.appended(), log.waiting(ActorId::user(1)).collect::<Vec<_>>());
        drop(log);
        let (again, report) = open_held(folder.path());
        log = again;
        assert_eq!((log.appended(), log.committed()), (end, end), "nothing was written");
        assert_eq!(log.waiting(ActorId::user(1)).collect::<Vec<_>>(), next);
        assert_eq!(next, sequences);
        assert!(report.damage.is_empty(), "{:?}", report.damage);
        assert_eq!(texts(&log, 1), expected);
    }
    log.commit_now().unwrap();
    drop(log);
    let (log, report) = open(folder.path());
    assert_eq!(texts(&log, 1), expected);
    assert!(report.damage.is_empty(), "{:?}", report.damage);
}

#[test]
fn a_continued_log_with_more_than_its_checkpoint_says_is_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    put(&mut log, 1, "before");
    log.checkpoint().unwrap();
    put(&mut log, 1, "behind");
    log.commit_now().unwrap();
    drop(log);
    assert_eq!(texts(&open_held(folder.path()).0, 1), ["before", "behind"]);
}

/// A log with messages 0..count for user 1, of about 1,000 bytes each, closed.
fn filled(count: usize) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    for number in 0..count {
        put(&mut log, 1, &long(number));
    }
    log.commit_now().unwrap();
    log.maintain(0);
    drop(log);
    let first = segment(folder.path(), 0);
    (folder, first)
}

pub(super) fn long(number: usize) -> String {
    format!("{number:0>1000}")
}

pub(super) fn segment(folder: &Path, nth: u64) -> PathBuf {
    folder.join(format!("generation-1/0/{:016x}.seg", nth * SEGMENT))
}

pub(super) fn flip(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

fn without(count: usize, lost: &[usize]) -> Vec<String> {
    (0..count).filter(|number| !lost.contains(number)).map(long).collect()
}

#[test]
fn what_was_appended_is_read_in_order_and_again_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, report) = open(folder.path());
    assert_eq!((report.messages, report.damage.len()), (0, 0));
    let first = put(&mut log, 1, "a");
    put(&mut log, 2, "x");
    let last = put(&mut log, 1, "b");
    assert!(last > first);
    assert!(log.committed() < log.appended());
    log.commit_now().unwrap();
    assert_eq!(log.committed(), log.appended());
    assert_eq!(log.backlog(ActorId::user(1)).unwrap().messages, 2);
    assert_eq!(log.read(ActorId::user(1), first, 1).count(), 1);
    assert_eq!(log.trim(ActorId::user(1), first), Trimmed { messages: 1, is_recorded: true });
    assert_eq!(log.trim(ActorId::user(1), first).messages, 0);
    log.close().unwrap();
    let (log, report) = open(folder.path());
    assert_eq!((report.messages, report.users), (2, 2));
    assert_eq!((texts(&log, 1), texts(&log, 2)), (vec!["b".to_owned()], vec!["x".to_owned()]));
}

#[test]
fn a_log_of_another_format_is_refused_and_named() {
    let (folder, first) = filled(1);
    let layout = folder.path().join("layout");
    let text = fs::read_to_string(&layout).unwrap();
    for (format, whose) in [(2, "an earlier release"), (4, "a later release")] {
        fs::write(&layout, text.replace("whimbrel log 3", &format!("whimbrel log {format}"))).unwrap();
        let error = Log::open_all(folder.path(), &options(), 1, &|_| Some(0), &|_| {}).unwrap_err();
        assert!(matches!(error, LogError::UnknownFormat { known: 3, .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains(&format!("has format {format}")) && said.contains(whose), "{said}");
        assert!(said.contains("whimbrelctl log discard"), "{said}");
    }
    // So it is where a segment alone is another's.
    fs::write(&layout, text).unwrap();
    let mut header = fs::read(&first).unwrap();
    header[8] = 1;
    let checksum = crc32c::crc32c(&header[..124]).to_le_bytes();
    header[124..128].copy_from_slice(&checksum);
    fs::write(&first, header).unwrap();
    let error = Log::open_all(folder.path(), &options(), 1, &|_| Some(0), &|_| {}).unwrap_err();
    assert!(matches!(&error, LogError::UnknownFormat { found: 1, path, .. } if *path == first), "{error}");
}

#[test]
fn a_second_process_is_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let _log = open(folder.path());
    for name in ["lock", "layout"] {
        // Whatever is taken for a stale lock and removed.
        let _ = fs::remove_file(folder.path().join(name));
        let again = Log::open_all(folder.path(), &options(), 1, &|_| Some(0), &|_| {});
        assert!(matches!(again, Err(LogError::Locked { .. })));
    }
}

#[test]
fn the_syncer_commits_and_wakes_and_makes_segments() {
    for durability in [Durability::Disk, Durability::Process] {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { durability, ..options() };
        let mut logs = open_many(folder.path(), &options, 2).logs;
        let (sender, woken) = crossbeam::channel::unbounded();
        let mut syncer = Syncer::start(&logs, move |shard| sender.send(shard).unwrap_or_default()).unwrap();
        assert!(Syncer::start(&logs, |_| {}).is_err());
        for number in 0..500 {
            put(&mut logs[1], 1, &long(number));
            logs[1].request_commit();
            logs[1].maintain(number as u64);
        }
        let until = Instant::now() + Duration::from_secs(60);
        while logs[1].committed() < logs[1].appended() {
            assert!(Instant::now() < until, "it commits in the end");
            let _ = woken.recv_timeout(Duration::from_millis(10));
        }
        syncer.finish();
        assert!(woken.try_iter().all(|shard| shard == 1));
        assert!(logs[1].failed().is_none());
        drop(logs);
        assert_eq!(texts(&open_many(folder.path(), &options, 2).logs[1], 1), without(500, &[]));
    }
}

#[test]
fn a_checkpoint_changes_nothing_but_the_time_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    let mut sequences = Vec::new();
    for number in 0..300 {
        sequences.push(put(&mut log, 1 + number % 7, &long(number as usize)));
    }
    log.trim_up_to(ActorId::user(1), sequences[100]);
    log.close().unwrap();
    let checkpoint = folder.path().join("generation-1/0/checkpoint");
    let content = fs::read(&checkpoint).unwrap();
    let picture = |log: &Log| (1..8).map(|user| texts(log, user)).collect::<Vec<_>>();
    let with = picture(&open(folder.path()).0);
    let mut broken = content.clone();
    broken[40] ^= 1;
    for other in [Some(broken), Some(Vec::new()), None] {
        match other {
            Some(content) => fs::write(&checkpoint, content).unwrap(),
            None => fs::remove_file(&checkpoint).unwrap(),
        }
        let (log, report) = open(folder.path());
        assert_eq!((picture(&log), report.damage), (with.clone(), vec![]));
    }
}

#[test]
fn a_flipped_byte_costs_one_message_and_is_reported_and_kept_aside() {
    let (folder, first) = filled(100);
    // 128 bytes of header, 32 of the mark; each record has 1,064 bytes. Message 5's payload.
    let offset = 128 + 32 + 5 * 1064;
    flip(&first, offset + 500);
    let found = verify(folder.path()).unwrap();
    assert_eq!(found.damage.len(), 1, "{:?}", found.damage);
    let damage = &found.damage[0];
    assert_eq!((&damage.path, damage.offset, damage.bytes), (&first, offset, 1064));
    assert_eq!(damage.what, "the checksum does not fit");
    let (log, report) = open(folder.path());
    assert_eq!(report.damage, found.damage);
    assert_eq!(texts(&log, 1), without(100, &[5]));
    let kept: Vec<_> =
        fs::read_dir(folder.path().join("damaged")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(fs::read(&kept[0]).unwrap().len(), 1064);
}

#[test]
fn a_flipped_length_or_header_costs_no_more() {
    let (folder, first) = filled(100);
    flip(&first, 128 + 32 + 7 * 1064 + 5);
    flip(&first, 20);
    let (log, report) = open(folder.path());
    assert_eq!(report.damage.len(), 2, "{:?}", report.damage);
    assert_eq!(report.damage[0].what, "the checksum of the segment's header does not fit");
    assert_eq!(texts(&log, 1), without(100, &[7]));
}

#[test]
fn a_truncated_segment_loses_its_end_alone() {
    let (folder, first) = filled(100);
    fs::OpenOptions::new().write(true).open(&first).unwrap().set_len(128 + 32 + 10 * 1064 + 100).unwrap();
    let found = verify(folder.path()).unwrap();
    assert_eq!(found.damage.len(), 1);
    assert_eq!(found.damage[0].offset, 128 + 32 + 10 * 1064);
    let (mut log, report) = open(folder.path());
    assert_eq!(report.damage, found.damage);
    let lost: Vec<usize> = (10..61).collect();
    let expected = without(100, &lost);
    assert_eq!(texts(&log, 1), expected);
    put(&mut log, 2, "it takes messages");
}

#[test]
fn swapped_segments_are_read_as_what_they_are() {
    let (folder, first) = filled(150);
    let (second, aside) = (segment(folder.path(), 1), folder.path().join("aside"));
    fs::rename(&first, &aside).unwrap();
    fs::rename(&second, &first).unwrap();
    fs::rename(&aside, &second).unwrap();
    let found = verify(folder.path()).unwrap();
    assert_eq!(found.damage.len(), 2);
    assert!(found.damage[0].what.contains("another segment than its name tells"));
    let (log, report) = open(folder.path());
    assert_eq!(report.damage.len(), 2);
    assert_eq!(texts(&log, 1), without(150, &[]));
}

#[test]
fn a_missing_segment_is_reported_and_one_of_another_log_is_set_aside() {
    let (folder, first) = filled(200);
    let (other, _) = filled(1);
    fs::copy(segment(other.path(), 0), segment(folder.path(), 1)).unwrap();
    let (log, report) = open(folder.path());
    let whats: Vec<_> = report.damage.iter().map(|damage| damage.what).collect();
    assert_eq!(whats, ["it is a segment of another log", "the segment before this one is missing"]);
    let numbers: Vec<usize> = texts(&log, 1).iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!((numbers[0], numbers.len() > 80, *numbers.last().unwrap()), (0, true, 199));
    assert!(first.exists() && !segment(folder.path(), 1).exists());
}

#[test]
fn a_missing_first_segment_is_reported_and_a_deleted_one_is_not() {
    for closes in [false, true] {
        let (folder, first) = filled(200);
        if closes {
            // With a checkpoint, which knows the messages in it.
            open(folder.path()).0.close().unwrap();
        }
        fs::remove_file(&first).unwrap();
        let found = verify(folder.path()).unwrap();
        let (log, report) = open(folder.path());
        let damage: Vec<_> = report.damage.iter().filter(|damage| damage.path != first).collect();
        assert_eq!((damage[0].path.clone(), damage[0].bytes), (segment(folder.path(), 1), SEGMENT));
        assert!(damage[0].what.contains("the segments before this one are missing"));
        assert_eq!(report.damage.len(), 1 + usize::from(closes), "{:?}", report.damage);
        assert_eq!(found.damage, report.damage[..1], "verify says it as well");
        let left = texts(&log, 1);
        assert_eq!((left.last().unwrap(), left.len()), (&long(199), 200 - 61));
        drop(log);
        assert!(open(folder.path()).1.damage.is_empty(), "it is said once");
    }
    // Deleted because nothing in it waited.
    let (folder, first) = filled(200);
    let (mut log, _) = open(folder.path());
    let waiting: Vec<_> = log.waiting(ActorId::user(1)).collect();
    log.trim_up_to(ActorId::user(1), waiting[150]);
    for now in 0..3 {
        log.maintain(now);
        log.commit_now().unwrap();
        log.keep_files_now();
    }
    assert!(!first.exists());
    drop(log);
    assert_eq!(verify(folder.path()).unwrap().damage, []);
    assert_eq!(open(folder.path()).1.damage, []);
}

#[test]
fn segments_missing_at_the_end_and_logs_without_any_are_reported() {
    let (folder, _) = filled(200);
    let (log, _) = open(folder.path());
    log.close().unwrap();
    let mut last = 0;
    while segment(folder.path(), last + 1).exists() {
        last += 1;
    }
    fs::remove_file(segment(folder.path(), last)).unwrap();
    assert!(verify(folder.path()).unwrap().damage[0].what.contains("at the end of the log are missing"));
    let (log, report) = open(folder.path());
    assert!(report.damage[0].what.contains("at the end of the log are missing"), "{:?}", report.damage);
    assert_eq!(texts(&log, 1)[0], long(0));
    drop(log);
    assert_eq!(open(folder.path()).1.damage, []);

    belong_to(folder.path(), Owner { data_set: 1, accounts_ever: 2 }).unwrap();
    fs::remove_dir_all(folder.path().join("generation-1/0")).unwrap();
    let (_, report) = open(folder.path());
    assert!(report.damage[0].what.contains("all segments of this log are missing"), "{:?}", report.damage);
}

#[test]
fn messages_of_nobody_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    for (user, text) in [(1, "a"), (2, "b"), (2, "c"), (3 << 28, "d")] {
        put(&mut log, user, text);
    }
    assert_eq!(log.drop_orphans(&|user| user.number() != 2), Orphans { actors: 1, messages: 2 });
    log.close().unwrap();
    let (log, report) = open(folder.path());
    assert_eq!((report.messages, report.users_count_max), (2, 3));
    assert_eq!((texts(&log, 1), texts(&log, 2).len()), (vec!["a".to_owned()], 0));
}

#[test]
fn a_message_cannot_pass_for_a_record() {
    let (folder, first) = filled(3);
    // A record as it lies elsewhere in the same log, sent as a message; then the message around it is damaged.
    let record = fs::read(&first).unwrap()[160..160 + 1064].to_vec();
    let (mut log, _) = open(folder.path());
    let message = Message {
        actor: ActorId::user(2),
        time_ms: 0,
        flags: Flags::NONE,
        origin: Origin::default(),
        peer: PeerHash::NONE,
        payload: &record,
    };
    let end = log.append(&message).unwrap().position.0;
    put(&mut log, 3, "after");
    log.commit_now().unwrap();
    put(&mut log, 3, "knows that it was committed");
    log.commit_now().unwrap();
    drop(log);
    flip(&first, end - 1064 - 64 + 16);
    let (log, report) = open(folder.path());
    assert_eq!(report.damage.len(), 1);
    assert_eq!(texts(&log, 1), without(3, &[]));
    assert_eq!(texts(&log, 3).len(), 2);
    assert_eq!(log.actors().len(), 2);
}

#[test]
fn messages_move_with_their_users_when_the_number_of_logs_changes() {
    let folder = tempfile::tempdir().unwrap();
    let mut logs = open_many(folder.path(), &options(), 2).logs;
    for number in 0..400_u64 {
        let user = number % 20;
        put(&mut logs[user as usize % 2], user, &long(number as usize));
    }
    drop(logs);
    for shards in [3, 1, 2] {
        let opened = open_many(folder.path(), &options(), shards);
        assert_eq!(opened.logs.len(), shards);
        assert_eq!(opened.report.orphans, if shards == 3 { 20 } else { 0 }, "user 13 is gone");
        for user in (0..20_u64).filter(|user| *user != 13) {
            let expected: Vec<_> = (0..400).filter(|n| *n as u64 % 20 == user).map(long).collect();
            assert_eq!(texts(&opened.logs[user as usize % shards], user), expected);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "layout, one generation");
    }
}

#[test]
fn a_backup_of_a_live_log_opens_with_what_there_was() {
    let (folder, _) = filled(150);
    let (mut log, _) = open(folder.path());
    log.trim(ActorId::user(1), log.backlog(ActorId::user(1)).unwrap().first);
    put(&mut log, 2, "new");
    let to = folder.path().join("copy");
    let done = backup(folder.path(), &to).unwrap();
    assert_eq!(done.ends, [log.appended()]);
    put(&mut log, 2, "too late");
    assert!(backup(folder.path(), &to).is_err(), "it is not empty");
    let (copy, report) = open(&to);
    assert_eq!(report.damage, []);
    assert_eq!((texts(&copy, 1), texts(&copy, 2)), (without(150, &[0]), vec!["new".to_owned()]));
    let stats = &stats(folder.path()).unwrap()[0];
    assert_eq!((stats.messages, stats.users, stats.oldest_ms), (151, 2, Some(1000)));
    let (mut waiting, mut trims) = (0, 0);
    dump(folder.path(), &mut |dumped| {
        waiting += u64::from(dumped.waits);
        trims += u64::from(dumped.kind == "trim");
        true
    })
    .unwrap();
    assert_eq!((waiting, trims), (151, 1));
}

#[test]
fn quotas_have_their_own_answers() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Options { user_messages_max: 3, log_bytes_max: 4 * SEGMENT, ..options() };
    let mut log = open_many(folder.path(), &limits, 1).logs.remove(0);
    let payload = long(1);
    let message = |user| Message {
        actor: ActorId::user(user),
        time_ms: 0,
        flags: Flags::NONE,
        origin: Origin::default(),
        peer: PeerHash::NONE,
        payload: payload.as_bytes(),
    };
    let refused =
        |log: &mut Log, first: u64| (first..first + 1000).find_map(|user| log.append(&message(user)).err());
    for _ in 0..3 {
        log.append(&message(9_999)).unwrap();
    }
    assert_eq!(log.append(&message(9_999)), Err(AppendError::UserQuota));
    assert_eq!(log.append(&Message { payload: &[0; 9000], ..message(1) }), Err(AppendError::TooLarge));
    assert_eq!(refused(&mut log, 10), Some(AppendError::LogQuota));
    // What is trimmed makes room, even from the middle, and what waits is kept.
    let users: Vec<_> = log.actors().filter(|user| user.number() % 10 != 0).collect();
    for user in users {
        assert!(log.purge(user).is_recorded);
    }
    for now in 0..200 {
        log.maintain(now * 100);
        log.commit_now().unwrap();
        log.keep_files_now();
    }
    log.append(&message(5)).expect("there is room again");
    assert!(log.actors().filter(|user| user.number() % 10 == 0).count() > 10);
}

#[test]
fn what_is_old_expires_once_and_the_rest_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    for number in 0..200 {
        let flags = if number == 3 { Flags::NO_EXPIRY } else { Flags::NONE };
        let (user, payload) = (ActorId::user(number % 3), long(number as usize));
        let message = Message {
            actor: user,
            time_ms: number,
            flags,
            origin: Origin::default(),
            peer: PeerHash::NONE,
            payload: payload.as_bytes(),
        };
        log.append(&message).unwrap();
    }
    let mut seen = Vec::new();
    while log.expire(150, 7, &mut |record| seen.push(record.time_ms)) > 0 {}
    assert_eq!(seen, (0..150).filter(|time| *time != 3).collect::<Vec<_>>());
    assert_eq!(log.expire(150, 1000, &mut |_| ()), 0);
    assert_eq!(log.queue().messages(), 51);
}

#[test]
fn a_restart_knows_how_far_each_stream_had_come() {
    let folder = tempfile::tempdir().unwrap();
    let now = 1_700_000_000_000;
    let window = Options { resume_window_ms: 600_000, now_ms: now, ..options() };
    for closes in [false, true] {
        let mut log = open_many(folder.path(), &window, 1).logs.remove(0);
        for (stream, number, time_ms) in
            [(7, u32::MAX, now), (7, 2, now), (8, 5, now), (9, 4, now - 700_000), (0, 1, now)]
        {
            let origin = Origin { stream, number };
            let message = Message {
                actor: ActorId::user(1),
                time_ms,
                flags: Flags::NONE,
                origin,
                peer: PeerHash::NONE,
                payload: b"m",
            };
            let sequence = log.append(&message).unwrap().sequence;
            log.trim(ActorId::user(1), sequence);
        }
        log.commit_now().unwrap();
        if closes {
            log.close().unwrap();
        } else {
            drop(log);
        }
        let streams = open_many(folder.path(), &window, 1).report.streams;
        assert_eq!(streams, [StreamSeen { stream: 7, number: 2 }, StreamSeen { stream: 8, number: 5 }]);
    }
}

/// A small disk, if this process may mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mut mount = std::process::Command::new("mount");
        let done = mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        done.is_ok_and(|output| output.status.success()).then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// A message to the first user.
fn plain(payload: &str) -> Message<'_> {
    Message {
        actor: ActorId::user(1),
        time_ms: 0,
        flags: Flags::NONE,
        origin: Origin::default(),
        peer: PeerHash::NONE,
        payload: payload.as_bytes(),
    }
}

fn append_until_full(log: &mut Log, message: &Message<'_>) {
    let refused = (0..100_000).find_map(|_| log.append(message).err());
    assert_eq!(refused, Some(AppendError::Full));
}

#[test]
fn on_a_full_disk_it_refuses_and_goes_on_once_there_is_room() {
    let Some(disk) = SmallDisk::mount(8 * SEGMENT) else {
        println!("skipped: this process may not mount a tmpfs");
        return;
    };
    let folder = disk.0.path().join("log");
    let (mut log, _) = open(&folder);
    let payload = long(0);
    let message = plain(&payload);
    append_until_full(&mut log, &message);
    assert!(matches!(log.no_room(), Some(LogError::File(FileError::DiskFull { .. }))));
    assert!(log.size().is_disk_full());
    log.commit_now().expect("what was taken can be committed");
    let backlog = log.backlog(ActorId::user(1)).unwrap();
    assert_eq!(log.pending(ActorId::user(1)).filter(Result::is_ok).count() as u64, backlog.messages);
    assert!(log.trim_up_to(ActorId::user(1), backlog.last).is_recorded, "trims have room of their own");
    log.commit_now().unwrap();
    log.maintain(0);
    // The log says first what is deleted.
    log.commit_now().unwrap();
    log.keep_files_now();
    log.keep_files_now();
    log.append(&message).expect("there is room again");
}

#[test]
fn what_keeps_a_log_from_its_next_file_is_not_always_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    // No file can be made where there is a folder.
    let path = |base: u64| folder.path().join(format!("generation-1/0/{base:016x}.seg.partial"));
    (1..64).for_each(|number| std::fs::create_dir(path(number * SEGMENT)).unwrap());
    let payload = long(0);
    append_until_full(&mut log, &plain(&payload));
    assert!(log.no_room().is_some_and(|error| !error.is_full()));
    assert!(!log.size().is_disk_full(), "nothing is to be removed for it");
}
