//! Behaviour of framing, forwarding and trees.
//!
//! | module | what is proved |
//! |---|---|
//! | `accepted` | everything that must be accepted is, and means what it should |
//! | `refused` | everything that must be refused is, with the right problem, however it is split |
//! | `header` | the prolog and the stream header |
//! | `lanes` | sixteen bytes at once are read like one by one |
//! | `limits` | each limit at the exact byte |
//! | `forwarding` | what another client receives |
//! | `element` | owned trees, and escaping |
//! | `arbitrary` | generated streams: any split is like the whole; two independent parsers agree |
//! | `generate` | the generators |
//! | `oracle` | the independent parsers |
//! | `prefixes` | what a prefix stands for, and what it costs to find that |

mod accepted;
mod arbitrary;
mod element;
mod forwarding;
mod generate;
mod header;
mod lanes;
mod limits;
mod oracle;
mod prefixes;
mod refused;

use super::*;
use oracle::{Outcome, run};

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' to='example.org' version='1.0'>";

/// A header with prefixes of its own, which hold in every stanza.
const HEADER_WITH_PREFIXES: &str = "<stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns:d='urn:d' xmlns:e='urn:&lt;e&gt;' xmlns:f='urn:d'>";

fn in_stream(bytes: &[u8]) -> Vec<u8> {
    [HEADER.as_bytes(), bytes].concat()
}

/// The outcome of a stream, which must be the same whole, byte by byte and in other pieces.
fn outcome(stream: &[u8]) -> Outcome {
    outcome_within(stream, &Limits::default())
}

fn outcome_within(stream: &[u8], limits: &Limits) -> Outcome {
    let whole = run(stream, limits, |left| left);
    for piece in [1, 2, 3, 7, 50] {
        let split = run(stream, limits, |_| piece);
        assert_eq!(split, whole, "in pieces of {piece}: {}", String::from_utf8_lossy(stream));
    }
    whole
}

/// The one element in a stream with the usual header.
fn element_of(bytes: impl AsRef<[u8]>) -> Element {
    let stream = in_stream(bytes.as_ref());
    let mut outcome = outcome(&stream);
    oracle::check(&stream, &outcome);
    let shown = String::from_utf8_lossy(bytes.as_ref());
    assert_eq!((outcome.error, outcome.stanzas.len()), (None, 1), "{shown}");
    assert_eq!(outcome.bytes[0].0, bytes.as_ref().trim_ascii());
    outcome.stanzas.remove(0)
}

/// The problem of a stream with the usual header and these bytes.
fn problem_of(bytes: impl AsRef<[u8]>) -> Option<Problem> {
    outcome(&in_stream(bytes.as_ref())).error.map(|error| error.problem)
}
