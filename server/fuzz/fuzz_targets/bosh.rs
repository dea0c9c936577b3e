//! Requests of BOSH, and what a session makes of them: any bytes are a request or refused, a payload is frames that a worker reads,
//! and each request is answered once at most, and at the end of the session in any case.
//!
//! The input is cut at zero bytes. The byte behind one says what happens: time passes, the worker takes what there is for it or
//! says something, or its connection ends; or the rest is a request.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use whimbrel_server::web::bosh::body::{Bounds, Request};
use whimbrel_server::web::bosh::link::{Reader, Said};
use whimbrel_server::web::bosh::session::{Reply, Session};
use whimbrel_server::web::bosh::terms::Rules;
use whimbrel_server::xml::Element;
use whimbrel_websocket::Decoder;

const RULES: Rules =
    Rules { wait_seconds_max: 60, inactivity_seconds: 60, pause_seconds_max: 120, polling_seconds: 2 };

fn read(text: &[u8]) -> Option<Request> {
    let request = Request::read(text, Bounds { depth_max: 16 }).ok()?;
    assert!(request.payload.len() <= 2 * text.len() + 64);
    let mut frames = request.payload.clone();
    let mut decoder = Decoder::default();
    decoder.decode(&mut frames, 1 << 20, &mut |_, _| panic!("nothing but text")).expect("frames of a client");
    assert!(decoder.is_idle());
    for text in frames.split(|byte| *byte == whimbrel_websocket::END).filter(|text| !text.is_empty()) {
        Element::parse_within(text, None).expect("an element that stands alone");
    }
    Some(request)
}

fn answers(session: &mut Session<u32>, open: &mut BTreeSet<u32>) {
    for (ticket, reply) in session.take_replies() {
        assert!(open.remove(&ticket), "answered twice");
        if let Reply::Body(body) = reply {
            Element::parse(&body).expect("an answer is XML");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut parts = data.split(|byte| *byte == 0);
    let Some(first) = parts.next().and_then(read) else { return };
    let (mut now_ms, mut ticket, mut open) = (1, 1, BTreeSet::from([0]));
    let mut session = Session::begin("sid", first, 0, &RULES, now_ms);
    let mut reader = Reader::default();
    for part in parts {
        let (kind, rest) = part.split_first().unwrap_or((&b'w', &[]));
        match kind {
            b't' => {
                now_ms += u64::try_from(rest.len()).unwrap() * 500;
                session.tick(now_ms);
            }
            b'w' => {
                session.to_worker().clear();
                session.advance(now_ms);
            }
            b'f' => reader.read(rest, |said: Said| {
                // A worker says nothing but XML.
                let is_xml = |element: &Vec<u8>| Element::parse(element).is_ok();
                if !matches!(&said, Said::Element(element) if !is_xml(element)) {
                    session.said(said, "", now_ms);
                }
            }),
            b'e' => session.said(Said::Element(b"<e xmlns='u'/>".to_vec()), "", now_ms),
            b'l' => session.lost(now_ms),
            b'u' => {
                session.send_back();
                session.release(now_ms);
            }
            _ => {
                let Some(request) = read(part) else { continue };
                open.insert(ticket);
                session.request(request, ticket, now_ms);
                ticket += 1;
            }
        }
        if *kind != b'f' {
            session.settle(now_ms);
        }
        answers(&mut session, &mut open);
        if session.is_gone() {
            break;
        }
    }
    // Nothing more happens.
    for _ in 0..64 {
        let Some(due_ms) = session.due_ms() else { break };
        now_ms = now_ms.max(due_ms);
        session.tick(now_ms);
        answers(&mut session, &mut open);
    }
    assert!(session.is_gone() && open.is_empty(), "{open:?} without an answer");
});
