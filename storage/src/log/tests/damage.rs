//! Any damage to a segment: nothing panics, nothing is invented, order is kept, and `verify` foretells what opening finds.

use std::fs;

use proptest::prelude::*;

use crate::actor::ActorId;
use crate::log::*;

const MESSAGES: u32 = 40;

fn payload(number: u32) -> Vec<u8> {
    format!("{number}").repeat(1 + number as usize * 7).into_bytes()
}

/// A small log, closed as a server closes it or left as a crash leaves it: five messages, each committed alone.
fn small(closes: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open_small(folder.path()).logs.remove(0);
    for number in 0..5 {
        let (user, origin) = (ActorId::user(1), Origin { stream: 1, number });
        // Without padding, which nothing covers and nothing reads.
        let payload = [number as u8; 24];
        log.append(&Message {
            actor: user,
            time_ms: 1,
            flags: Flags::NONE,
            origin,
            peer: PeerHash::NONE,
            payload: &payload,
        })
        .unwrap();
        log.commit_now().unwrap();
    }
    if closes {
        log.close().unwrap();
    }
    folder
}

fn open_small(folder: &std::path::Path) -> Opened {
    let options = Options { segment_bytes: 8 << 10, payload_bytes_max: 1024, ..Options::default() };
    Log::open_all(folder, &options, 1, &|_| Some(0), &|_| {}).unwrap()
}

#[test]
fn a_flipped_byte_is_damage_or_named_as_what_cannot_be_told_from_an_unfinished_end() {
    for closes in [true, false] {
        let folder = small(closes);
        let path = folder.path().join("generation-1/0/0000000000000000.seg");
        let whole = fs::read(&path).unwrap();
        let end = whole.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        let stats = stats(folder.path()).unwrap();
        assert_eq!((stats[0].messages, stats[0].end.0 as usize), (5, end.next_multiple_of(8)));
        let last_commit = if closes { end.next_multiple_of(8) } else { end.next_multiple_of(8) - 88 };
        for at in 0..end.next_multiple_of(8) + 16 {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            let verified = verify(folder.path()).unwrap();
            let of_damage = |damage: &Damage| {
                damage.path == path && (damage.offset..damage.offset + damage.bytes).contains(&(at as u64))
            };
            let of_tail = |tail: &Tail| tail.path == path && tail.offset <= at as u64 && tail.bytes > 0;
            if at < last_commit {
                assert!(verified.damage.iter().any(of_damage), "byte {at} of {last_commit}: {verified:?}");
            } else {
                assert!(verified.tails.iter().any(of_tail), "byte {at} of {end}: {verified:?}");
            }
            assert!(verified.logs[0].messages >= 4, "it costs one message at most");
            // Without the checkpoint opening sees what `verify` does, but for the end.
            if at % 5 == 0 && !closes {
                let opened = open_small(folder.path());
                assert_eq!(opened.report.damage, verified.damage);
                assert_eq!(opened.report.messages, verified.logs[0].messages);
                let tails: u64 = verified.tails.iter().map(|tail| tail.bytes).sum();
                assert_eq!(opened.report.tail_bytes_cut, tails);
                drop(opened);
                for name in ["damaged", "generation-1/0/0000000000002000.seg"] {
                    let _ = fs::remove_dir_all(folder.path().join(name));
                    let _ = fs::remove_file(folder.path().join(name));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn whatever_is_done_to_a_segment_what_is_read_was_appended(
        flips in prop::collection::vec((0..12_000_usize, 1..=255_u8), 0..40),
        cut in prop::option::weighted(0.2, 0..12_000_usize),
        zeros in prop::option::weighted(0.3, (0..12_000_usize, 0..6_000_usize)),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 64 << 10, payload_bytes_max: 4096, ..Options::default() };
        let open = || Log::open_all(folder.path(), &options, 1, &|_| Some(0), &|_| {}).unwrap();
        let mut log = open().logs.remove(0);
        for number in 0..MESSAGES {
            let payload = payload(number);
            let body = Body { time_ms: 1, origin: Origin { stream: 1, number }, payload: &payload };
            // Every fifth text is shared by two.
            let users = [number % 3, 3 + number % 3].map(|user| ActorId::user(u64::from(user)));
            let copies = users.map(ActorCopy::queued);
            let copies = &copies[..1 + usize::from(number.is_multiple_of(5))];
            let mut results = Vec::new();
            log.append_for(copies, &body, &mut results);
            prop_assert!(results.iter().all(Result::is_ok));
            log.commit_now().unwrap();
        }
        drop(log);
        let path = folder.path().join("generation-1/0/0000000000000000.seg");
        let mut bytes = fs::read(&path).unwrap();
        for (at, with) in &flips {
            bytes[*at] ^= with;
        }
        if let Some((at, length)) = zeros {
            bytes[at..at + length].fill(0);
        }
        bytes.truncate(cut.unwrap_or(bytes.len()));
        fs::write(&path, &bytes).unwrap();
        let verified = verify(folder.path()).unwrap();
        let opened = open();
        prop_assert_eq!(verified.logs[0].messages, opened.report.messages);
        if flips.is_empty() && cut.is_none() && zeros.is_none() {
            prop_assert_eq!(opened.report.messages, u64::from(MESSAGES + MESSAGES / 5));
        }
        for user in opened.logs[0].actors() {
            let mut last = None;
            for record in opened.logs[0].pending(user) {
                let record = record.unwrap();
                let number = record.origin.number;
                prop_assert_eq!(u64::from(number % 3), user.number() % 3);
                prop_assert!(user.number() < 3 || number.is_multiple_of(5));
                prop_assert_eq!(record.payload, payload(number));
                prop_assert!(last.replace(number) < Some(number));
            }
        }
    }
}
