//! One element alone: what is parsed can be written and read again, and others read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
// The oracle is shared with the framer and names what only that needs.
#[allow(unused_imports)]
use whimbrel_xml::{
    Element, Frame, Framer, FramingError, Limits, Node, Phase, STREAMS, Stamp, Stanza, StreamHeader, XML, writer,
};

#[allow(dead_code)]
#[path = "../../xml/src/tests/oracle.rs"]
mod oracle;

fuzz_target!(|data: &[u8]| {
    if let Ok(element) = Element::parse(data) {
        oracle::round_trip(&element);
    }
    // Any text can be written.
    if let Ok(text) = std::str::from_utf8(data) {
        let element = Element::new("a", "jabber:client").attr("b", text).text(text);
        let read = Element::parse(&element.to_bytes()).expect("what is written is well-formed");
        oracle::round_trip(&read);
    }
});
