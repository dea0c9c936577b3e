//! A small state with one session of each kind: what a new program must read before anything is stopped for it, and
//! what every later version must read for ever.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::net::IpAddr;

use crate::saved::codec::Encoder;
use crate::saved::file::{BlockKind, StateWriter};
use crate::saved::record::{
    LinkRecord, NegotiationRecord, Place, ResourceRecord, SessionRecord, SmRecord, Standing, UnackedRecord,
    marks,
};
use crate::saved::state::{ListenerState, ServerState, Serves, Tally};
use crate::saved::tls::TlsRecord;
use crate::stanza::Kind;
use crate::takeover::rehearse::Contents;
use crate::tls::suite::{Suite, Version};
use crate::tls::{SavedDirection, SavedRecords, SavedSecret};

const SECRET: [u8; 48] = [7; 48];

/// The server of the sample.
#[must_use]
pub fn server() -> ServerState {
    ServerState {
        version: "0.1.0".into(),
        program: "/usr/bin/whimbreld".into(),
        successor: "/usr/bin/whimbreld".into(),
        domain: "example.org".into(),
        data: "/var/lib/whimbrel".into(),
        config: "domain = 'example.org'\n".into(),
        clock_ms: 86_400_000,
        clock_at_ns: 1 << 50,
        stopped_at_ns: (1 << 50) - 5_000_000,
        program_descriptor: 3,
        control_descriptor: 4,
        client_descriptor: Some(0),
        directory_lock: 6,
        log_lock: 7,
        listeners: vec![
            ListenerState { configured: ([0, 0, 0, 0], 5222).into(), serves: Serves::Streams, descriptor: 8 },
            ListenerState {
                configured: ([0, 0, 0, 0, 0, 0, 0, 0], 5223).into(),
                serves: Serves::StreamsOverTls,
                descriptor: 9,
            },
            ListenerState {
                configured: ([127, 0, 0, 1], 8443).into(),
                serves: Serves::Registration,
                descriptor: 10,
            },
        ],
        logs: vec![0x0123_4567_89ab_cdef, 1],
        patience_seconds: 30,
        phases: vec![("settle".into(), 1234)],
        closed: vec![("in a TLS handshake".into(), 2)],
        streams: vec![(0xfeed, 17)],
        tally: Tally { done: 3, fallen_back: 1 },
        guesses: vec![1, 2, 3],
    }
}

fn link<'a>(descriptor: u32, peer: IpAddr, tls: TlsRecord<'a>) -> LinkRecord<'a> {
    LinkRecord {
        descriptor: Some(descriptor),
        connected: 3600,
        heard: 86_000,
        peer,
        marks: marks::ESTABLISHED,
        tls,
        partial: b"",
        input: b"",
        unread: b"",
        unsent: Cow::Borrowed(b""),
        namespaces: Vec::new(),
        language: None,
    }
}

fn tls(version: Version, suite: Suite) -> TlsRecord<'static> {
    let secret = match version {
        Version::Tls13 => SavedSecret::Traffic(&SECRET[..suite.secret_bytes()]),
        Version::Tls12 => SavedSecret::Key(&SECRET[..suite.key_bytes()], &SECRET[..12]),
    };
    let key = |sequence| SavedDirection { sequence, secret: secret.clone() };
    TlsRecord::Established(Box::new(SavedRecords {
        version,
        suite,
        read: key(99),
        write: key(1 << 40),
        partial: b"",
        owes_key_update: false,
        peer_closed: false,
        quiet: 0,
        message: b"",
    }))
}

fn resource(local: &'static str, name: &'static str) -> ResourceRecord<'static> {
    ResourceRecord {
        account: 42,
        local,
        name,
        flags: 1,
        presence: b"<show>away</show>",
        ..ResourceRecord::default()
    }
}

/// The sessions of the sample, one for each thing that can be different.
#[must_use]
pub fn sessions() -> Vec<SessionRecord<'static>> {
    let v4: IpAddr = [192, 0, 2, 7].into();
    let v6: IpAddr = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into();
    let bound = |link, resource| SessionRecord { link, standing: Standing::Bound(Box::new(resource)) };
    let negotiating =
        |link, negotiation| SessionRecord { link: Some(link), standing: Standing::Negotiating(negotiation) };
    let unacked = vec![
        UnackedRecord::Stanza(Kind::Presence, 0xfeed, b"<presence/>"),
        UnackedRecord::Forgotten(12),
        UnackedRecord::Answer(None, "roster"),
        UnackedRecord::Answer(Some("localhost"), "items"),
        UnackedRecord::Logged(Place { sequence: 1_000_000, rank: 3 }, 120),
        UnackedRecord::Stanza(Kind::Iq, 0, b"<iq type='get' id='1'/>"),
    ];
    let sm = SmRecord {
        id: 0xdead_beef_0000_0001,
        resume_seconds: 600,
        answer_up_to: Some(11),
        asked: true,
        received: u32::MAX,
        told: u32::MAX - 1,
        acked: 5,
        weight: 8,
        unacked,
    };
    let mut sessions = vec![
        bound(Some(link(20, v4, TlsRecord::Plain)), resource("juliet", "balcony")),
        bound(Some(link(21, v6, tls(Version::Tls13, Suite::Aes256Gcm))), resource("juliet", "phone")),
        bound(Some(link(22, v4, tls(Version::Tls13, Suite::Aes128Gcm))), resource("romeo", "phone")),
        bound(Some(link(23, v4, tls(Version::Tls13, Suite::ChaCha20Poly1305))), resource("nurse", "phone")),
        bound(Some(link(24, v4, tls(Version::Tls12, Suite::Aes256Gcm))), resource("tybalt", "phone")),
        bound(
            Some(LinkRecord {
                partial: b"<message to='romeo@example.org'><bo",
                input: b"dy>Art thou not Romeo?</body></message><message",
                unread: b"\x17\x03\x03",
                unsent: Cow::Borrowed(b"<message/>"),
                namespaces: vec![("x", "urn:example:x")],
                language: Some("it"),
                marks: marks::ESTABLISHED | marks::PINGED | marks::PAUSED | marks::DIRECT_TLS | marks::ENDED,
                ..link(25, v6, TlsRecord::Plain)
            }),
            ResourceRecord {
                blocks: true,
                priority: -5,
                flags: 0b0001_1111,
                directed: vec!["paris@example.org", "room@example.org/x"],
                held: vec![
                    (Kind::Presence, Some("romeo@example.org/1"), b"<presence/>"),
                    (Kind::Message, None, b"<message/>"),
                ],
                unsent: vec![Place { sequence: 7, rank: 0 }],
                after: Some(Place { sequence: 9, rank: 2 }),
                ..resource("mercutio", "phone")
            },
        ),
        bound(
            Some(link(26, v4, TlsRecord::Plain)),
            ResourceRecord { sm: Some(sm.clone()), ..resource("benvolio", "phone") },
        ),
        bound(
            None,
            ResourceRecord {
                sm: Some(SmRecord { answer_up_to: None, asked: false, ..sm }),
                expiry_ms: Some(86_500_000),
                ..resource("benvolio", "laptop")
            },
        ),
        bound(
            Some(LinkRecord { descriptor: None, ..link(0, v4, TlsRecord::Plain) }),
            resource("paris", "phone"),
        ),
        negotiating(LinkRecord { marks: 0, ..link(27, v4, TlsRecord::Plain) }, NegotiationRecord::default()),
        negotiating(
            LinkRecord { marks: marks::DIRECT_TLS, ..link(28, v4, TlsRecord::Fresh) },
            NegotiationRecord::default(),
        ),
        negotiating(
            LinkRecord { marks: 0, ..link(29, v6, tls(Version::Tls13, Suite::Aes256Gcm)) },
            NegotiationRecord {
                header_seen: true,
                header_sent: true,
                bytes_in: 700,
                user: Some("rosaline"),
                stamp: Some(0x0011_2233_4455_6677),
                exporter: Some([9; 32]),
                end_point: Some(b"certificate hash"),
                failures: 2,
            },
        ),
    ];
    if let Some(link) = &mut sessions[2].link {
        link.input = b"<message to='juliet@example.org'/>";
        if let TlsRecord::Established(tls) = &mut link.tls {
            tls.peer_closed = true;
        }
    }
    if let Some(TlsRecord::Established(tls)) = sessions[1].link.as_mut().map(|link| &mut link.tls) {
        tls.partial = b"\x17\x03\x03\x00\x40half";
        tls.owes_key_update = true;
        tls.quiet = 3;
        tls.message = &[24, 0];
    }
    sessions
}

/// Writes the sample into an empty file.
///
/// # Errors
/// The system's reason.
pub fn write(file: File, version: u32) -> io::Result<Contents> {
    let writer = StateWriter::new(file);
    let mut contents = Contents::default();
    let sessions = sessions();
    let (first, second) = sessions.split_at(sessions.len() / 2);
    for (worker, part) in [first, second].into_iter().enumerate() {
        let mut encoder = Encoder::default();
        for session in part {
            contents.count(session);
            session.write(&mut encoder);
        }
        let records = u32::try_from(part.len()).expect("a dozen");
        writer.block(BlockKind::Sessions, worker, records, encoder.bytes())?;
    }
    let mut encoder = Encoder::default();
    server().write(&mut encoder);
    writer.block(BlockKind::Server, 0, 1, encoder.bytes())?;
    writer.finish(version)?;
    Ok(contents)
}
