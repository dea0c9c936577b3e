//! A whole stream: any split is like the whole, and two independent parsers agree with what was accepted.
//!
//! The first byte chooses what comes before the rest (`h` the usual header, `p` one with prefixes of its own, anything
//! else nothing) and, by its upper case, tight limits. The splits follow from the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_xml::{
    Element, Frame, Framer, FramingError, Limits, Node, Phase, STREAMS, Stamp, Stanza, StreamHeader, XML, writer,
};

#[path = "../../xml/src/tests/oracle.rs"]
mod oracle;

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' to='example.org' version='1.0'>";
const HEADER_WITH_PREFIXES: &str = "<stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns:d='urn:d' xmlns:e='urn:&lt;e&gt;' xmlns:f='urn:d'>";

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let header = match choice.to_ascii_lowercase() {
        b'h' => HEADER,
        b'p' => HEADER_WITH_PREFIXES,
        _ => "",
    };
    let limits = if choice.is_ascii_uppercase() {
        Limits { stanza_bytes_max: 96, depth_max: 4, attributes_max: 6, ..Limits::default() }
    } else {
        Limits::default()
    };
    let stream = [header.as_bytes(), rest].concat();
    let whole = oracle::run(&stream, &limits, |left| left);
    // A simple generator of lengths, seeded by what is split.
    let mut state =
        rest.iter().fold(0x9E37_79B9_u32, |hash, &b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let split = oracle::run(&stream, &limits, |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as usize >> ((state >> 16) & 7)
    });
    assert_eq!(split, whole, "split otherwise than whole");
    assert!(whole.bytes.iter().all(|(stanza, _)| stanza.len() <= limits.stanza_bytes_max));
    oracle::check(&stream, &whole);
});
