//! The state of an upgrade: any bytes are read or refused, and what was read is written and read again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_server::saved::codec::{Decoder, Encoder};
use whimbrel_server::saved::record::SessionRecord;
use whimbrel_server::saved::state::ServerState;
use whimbrel_server::takeover::rehearse::read_all;

fuzz_target!(|data: &[u8]| {
    // The frame, with its checksums.
    let _ = read_all(data);
    // What is behind the checksums.
    let mut decoder = Decoder::new(data);
    let mut sessions = Vec::new();
    while !decoder.is_empty() {
        let Ok(session) = SessionRecord::read(&mut decoder) else { break };
        sessions.push(session);
    }
    let mut encoder = Encoder::default();
    for session in &sessions {
        session.write(&mut encoder);
    }
    let mut decoder = Decoder::new(encoder.bytes());
    for session in &sessions {
        let again = SessionRecord::read(&mut decoder).expect("what was written is read");
        assert_eq!(&again, session);
    }
    assert!(decoder.is_empty());
    if let Ok(server) = ServerState::read(&mut Decoder::new(data)) {
        let mut encoder = Encoder::default();
        server.write(&mut encoder);
        let again = ServerState::read(&mut Decoder::new(encoder.bytes())).expect("what was written is read");
        assert_eq!(again, server);
    }
});
