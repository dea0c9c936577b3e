//! The state of an upgrade: any bytes are read or refused, and what was read is written and read again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_server::upgrade::KINDS;
use whimbrel_server::upgrade::rehearse::read_all;

fuzz_target!(|data: &[u8]| {
    // The frame, with its checksums.
    let _ = read_all(data, KINDS);
    // What is behind the checksums: the first byte chooses the owner.
    if let [choice, bytes @ ..] = data {
        let _ = KINDS[usize::from(*choice) % KINDS.len()].round_trip(bytes);
    }
});
