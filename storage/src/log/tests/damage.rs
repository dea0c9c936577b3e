//! Any damage to a segment: nothing panics, nothing is invented, order is kept, and `verify` foretells what opening finds.

use std::fs;

use proptest::prelude::*;

use crate::directory::UserId;
use crate::log::*;

const MESSAGES: u32 = 40;

fn payload(number: u32) -> Vec<u8> {
    format!("{number}").repeat(1 + number as usize * 7).into_bytes()
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
            let (user, payload) = (UserId::new(u64::from(number % 3)), payload(number));
            let origin = Origin { stream: 1, number };
            log.append(&Message { user, time_ms: 1, flags: Flags::NONE, origin, payload: &payload }).unwrap();
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
            prop_assert_eq!(opened.report.messages, u64::from(MESSAGES));
        }
        for user in opened.logs[0].users() {
            let mut last = None;
            for record in opened.logs[0].pending(user) {
                let record = record.unwrap();
                let number = record.origin.number;
                prop_assert_eq!(u64::from(number % 3), user.get());
                prop_assert_eq!(record.payload, payload(number));
                prop_assert!(last.replace(number) < Some(number));
            }
        }
    }
}
