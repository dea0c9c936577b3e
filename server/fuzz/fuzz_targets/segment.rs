//! A segment with anything in it: nothing panics, nothing is invented, order is kept, and what `verify` counts is what
//! opening finds.
//!
//! The first byte chooses: an even one changes a sound segment by the rest, in pieces of three bytes (where, where, with
//! what); an odd one puts the rest into it as it is, at the offset that the next two bytes tell. Then, a multiple of
//! four also cuts the file off at the offset that the last two bytes tell.
#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::log::{ActorCopy, Body, Log, Options, Origin, verify};

const MESSAGES: u64 = 40;

fn options() -> Options {
    let segment_bytes = whimbrel_storage::log::SEGMENT_BYTES_MIN;
    Options { segment_bytes, payload_bytes_max: 4096, log_bytes_max: 1 << 20, ..Options::default() }
}

fn payload(number: u64) -> Vec<u8> {
    format!("{number}").repeat(1 + number as usize * 7).into_bytes()
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    // In memory where that is usual: a disk would be most of the work.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a temporary folder");
    let open = || Log::open_all(folder.path(), &options(), 1, &|_| Some(0), &|_| {}).expect("it opens");
    let mut log = open().logs.remove(0);
    for number in 0..MESSAGES {
        let origin = Origin { stream: 1, number: number as u32 };
        // Every fourth text is shared by two.
        let users = [number % 3, 3 + number % 3].map(ActorId::user);
        let copies = users.map(ActorCopy::queued);
        let copies = &copies[..1 + usize::from(number.is_multiple_of(4))];
        let payload = payload(number);
        let body = Body { time_ms: number, origin, payload: &payload };
        let mut results = Vec::new();
        log.append_for(copies, &body, &mut results);
        let appended = results[0].expect("there is room");
        if number % 5 == 0 {
            log.trim(users[0], appended.sequence);
        }
        log.commit_now().expect("the disk works");
    }
    drop(log);

    let path = folder.path().join("generation-1/0/0000000000000000.seg");
    let mut bytes = fs::read(&path).expect("the segment is there");
    let place = |high: u8, low: u8| usize::from(u16::from_be_bytes([high, low]));
    if choice % 2 == 0 {
        for patch in rest.chunks_exact(3) {
            bytes[place(patch[0], patch[1])] ^= patch[2];
        }
    } else if let [high, low, content @ ..] = rest {
        let at = place(*high, *low);
        let length = content.len().min(bytes.len() - at);
        bytes[at..at + length].copy_from_slice(&content[..length]);
    }
    if let (0, [.., high, low]) = (choice % 4, rest) {
        bytes.truncate(place(*high, *low));
    }
    fs::write(&path, &bytes).expect("the segment can be written");

    let Ok(verified) = verify(folder.path()) else { return };
    let opened = open();
    assert_eq!(verified.logs[0].messages, opened.report.messages);
    let log = &opened.logs[0];
    for user in log.actors() {
        let mut last = None;
        for record in log.pending(user) {
            let record = record.expect("what waits after opening can be read");
            let number = u64::from(record.origin.number);
            assert!(number % 3 == user.number() % 3 && record.time_ms == number, "an invented message");
            assert_eq!(record.payload, payload(number), "an invented message");
            assert!(last.replace(number) < Some(number), "out of order");
        }
    }
});
