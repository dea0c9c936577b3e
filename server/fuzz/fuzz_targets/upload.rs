//! What HTTP upload reads of requests: paths, queries, ranges, conditions, names and types. Input: lines, in this order.

#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_storage::directory::UploadId;
use whimbrel_upload::condition::{Conditions, Validators};
use whimbrel_upload::media;
use whimbrel_upload::range::{self, Wanted};
use whimbrel_upload::url::{self, SlotKey};

/// Bytes of the file that ranges are of.
const BYTES: u64 = 1000;

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let mut next = || lines.next();
    let (path, query, range, tag, date) = (next(), next(), next(), next(), next());
    let key = SlotKey::new(&[7; 32]);
    if let Some(target) = path.and_then(url::read) {
        assert!(url::is_name(&target.name) && !target.name.contains('/') && target.name != "..");
        let again = url::file_url("", &target.id, &target.name);
        assert_eq!(url::read(&again).as_ref(), Some(&target), "it is written as it is read");
        let made = url::slot_url("", &key, &target.id, &target.name, 10);
        let (_, made) = made.split_once('?').expect("a slot has a query");
        assert_eq!(url::admit(&key, &target.id, Some(made), 9), Ok(()));
        if query != Some(made) {
            assert!(url::admit(&key, &target.id, query, 9).is_err(), "nobody guesses a signature");
        }
        let field = media::disposition(tag.unwrap_or_default(), &target.name);
        assert!(field.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{field}");
    }
    match range::read(range, BYTES) {
        Wanted::Part(part) => assert!(part.start < part.end && part.end <= BYTES),
        Wanted::Whole | Wanted::Nothing => {}
    }
    let file = Validators::new(&UploadId::new(1, [0; 16]), 0, 784_111_777_000);
    let conditions = Conditions { if_none_match: tag, if_modified_since: date, if_range: range };
    let _ = (file.is_known(&conditions), file.is_same(&conditions));
    if path.is_some_and(media::is_type) {
        assert!(path.is_some_and(|media| media.is_ascii() && !media.contains(['\r', '\n'])));
    }
});
