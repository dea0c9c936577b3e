//! Sessions that another program goes on with: what their clients may ask for again, what waits, and the sockets to the workers.
//!
//! Times are those of the monotonic clock, which an exec does not change.

use std::net::IpAddr;

use axum::body::Bytes;

use super::body::Start;
use super::session::{Answered, Life, Session};
use super::terms::Terms;
use crate::saved::Owner;
use crate::saved::codec::{Decoder, Encoder, bits};
use crate::saved::error::StateError;
use crate::saved::kind::Kind;

/// The ways of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The one to its worker, while there is one.
    pub descriptor: Option<u32>,
    /// What has come from there of a frame that is not whole.
    pub unread: Vec<u8>,
    /// The one of its client is protected.
    pub secured: bool,
    /// Where it was begun.
    pub peer: IpAddr,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoshRecord {
    /// Its id.
    pub sid: String,
    /// Its ways.
    pub way: Way,
    start: Start,
    terms: Terms,
    received: u64,
    key_hash: Option<Box<str>>,
    answered: Vec<Answered>,
    pending: Vec<Vec<u8>>,
    error: Option<Vec<u8>>,
    to_worker: Vec<u8>,
    quiet_since_ms: u64,
    patience_ms: u64,
    over: Option<(Bytes, u64)>,
}

impl BoshRecord {
    /// Of a session that stands still. `None`: it is gone.
    pub fn of<T>(session: &Session<T>, way: Way) -> Option<BoshRecord> {
        let over = match &session.life {
            Life::Open => None,
            Life::Over { body, until_ms } => Some((body.clone(), *until_ms)),
            Life::Gone => return None,
        };
        Some(BoshRecord {
            sid: session.sid.to_string(),
            way,
            start: session.start.clone(),
            terms: session.terms.clone(),
            received: session.received,
            key_hash: session.key_hash.clone(),
            answered: session.answered.iter().cloned().collect(),
            pending: session.pending.iter().cloned().collect(),
            error: session.error.clone(),
            to_worker: session.to_worker.clone(),
            quiet_since_ms: session.quiet_since_ms,
            patience_ms: session.patience_ms,
            over,
        })
    }
}

/// The session of a record.
pub fn restore<T>(record: BoshRecord) -> Session<T> {
    let mut session = Session::restored(&record.sid, record.start, record.terms);
    session.received = record.received;
    session.key_hash = record.key_hash;
    session.answered = record.answered.into();
    session.pending = record.pending.into();
    session.error = record.error;
    session.to_worker = record.to_worker;
    session.quiet_since_ms = record.quiet_since_ms;
    session.patience_ms = record.patience_ms;
    if let Some((body, until_ms)) = record.over {
        session.life = Life::Over { body, until_ms };
    }
    session
}

/// Owns the sessions of BOSH. A program that does not know them cuts them; their streams can be resumed (XEP-0198).
pub struct BoshSessions;

mod marks {
    pub(super) const SECURED: u8 = 1;
    pub(super) const SECURE: u8 = 1 << 1;
    pub(super) const ACKS: u8 = 1 << 2;
}

impl Owner for BoshSessions {
    const KIND: Kind = Kind::droppable("bosh");
    type Record<'a> = BoshRecord;

    fn write(record: &BoshRecord, to: &mut Encoder) {
        let (start, terms, way) = (&record.start, &record.terms, &record.way);
        to.text(&record.sid);
        to.optional(way.descriptor, Encoder::number);
        to.address(way.peer);
        to.byte(bits([
            (way.secured, marks::SECURED),
            (start.secure, marks::SECURE),
            (start.acks, marks::ACKS),
        ]));
        for text in [&start.to, &start.from, &start.language, &start.version] {
            to.optional(text.as_deref(), |to, text| to.shared(text.as_bytes()));
        }
        for number in [terms.wait_ms, terms.hold.into(), terms.inactivity_ms, terms.pause_ms_max] {
            to.number(number);
        }
        to.optional(terms.polling_ms, Encoder::number);
        to.number(terms.ver.0);
        to.number(terms.ver.1);
        to.number(record.received);
        to.optional(record.key_hash.as_deref(), Encoder::text);
        to.count(record.answered.len());
        for answered in &record.answered {
            to.number(answered.rid);
            to.optional(answered.key.as_deref(), Encoder::text);
            to.bytes_of(&answered.body);
        }
        to.count(record.pending.len());
        record.pending.iter().for_each(|element| to.bytes_of(element));
        to.optional(record.error.as_deref(), Encoder::bytes_of);
        to.bytes_of(&record.to_worker);
        to.bytes_of(&way.unread);
        to.number(record.quiet_since_ms);
        to.number(record.patience_ms);
        to.optional(record.over.as_ref(), |to, (body, until_ms)| {
            to.bytes_of(body);
            to.number(*until_ms);
        });
    }

    fn read(from: &mut Decoder<'_>) -> Result<BoshRecord, StateError> {
        fn text(from: &mut Decoder<'_>) -> Result<Option<Box<str>>, StateError> {
            from.optional(|from| from.shared_text().map(Box::from))
        }
        let (sid, descriptor) = (from.text()?.to_owned(), from.optional(Decoder::number)?);
        let peer = from.address()?;
        let found = from.byte()?;
        let has = |mark: u8| found & mark != 0;
        let (to, client, language, version) = (text(from)?, text(from)?, text(from)?, text(from)?);
        let (wait_ms, hold) = (from.number()?, from.number()?);
        let (inactivity_ms, pause_ms_max) = (from.number()?, from.number()?);
        let polling_ms = from.optional(Decoder::number)?;
        let ver = (from.number()?, from.number()?);
        let terms = Terms { wait_ms, hold, inactivity_ms, pause_ms_max, polling_ms, ver };
        let start = Start {
            to,
            from: client,
            language,
            version,
            secure: has(marks::SECURE),
            acks: has(marks::ACKS),
            ..Start::default()
        };
        let received = from.number()?;
        let key_hash = from.optional(|from| from.text().map(Box::from))?;
        let answered = list(from, |from| {
            let (rid, key) = (from.number()?, from.optional(|from| from.text().map(Box::from))?);
            Ok(Answered { rid, key, body: Bytes::copy_from_slice(from.bytes()?) })
        })?;
        let pending = list(from, |from| from.bytes().map(<[u8]>::to_vec))?;
        let error = from.optional(|from| from.bytes().map(<[u8]>::to_vec))?;
        let (to_worker, unread) = (from.bytes()?.to_vec(), from.bytes()?.to_vec());
        Ok(BoshRecord {
            sid,
            way: Way { descriptor, unread, secured: has(marks::SECURED), peer },
            start,
            terms,
            received,
            key_hash,
            answered,
            pending,
            error,
            to_worker,
            quiet_since_ms: from.number()?,
            patience_ms: from.number()?,
            over: from.optional(|from| Ok((Bytes::copy_from_slice(from.bytes()?), from.number()?)))?,
        })
    }

    fn samples() -> Vec<BoshRecord> {
        let terms = Terms {
            wait_ms: 60_000,
            hold: 1,
            inactivity_ms: 60_000,
            pause_ms_max: 120_000,
            polling_ms: None,
            ver: (1, 6),
        };
        let plain = BoshRecord {
            sid: "oPkzFs0y4h8GmVh1rXvXgWwQx2r0pZ6t".into(),
            way: Way {
                descriptor: Some(12),
                unread: Vec::new(),
                secured: false,
                peer: [192, 0, 2, 7].into(),
            },
            start: Start { to: Some("example.org".into()), ..Start::default() },
            terms: terms.clone(),
            received: 1_573_741_820,
            key_hash: None,
            answered: Vec::new(),
            pending: Vec::new(),
            error: None,
            to_worker: Vec::new(),
            quiet_since_ms: 1_000,
            patience_ms: 60_000,
            over: None,
        };
        let start = Start {
            to: Some("example.org".into()),
            from: Some("juliet@example.org".into()),
            language: Some("it".into()),
            version: Some("1.0".into()),
            secure: true,
            acks: true,
            ..Start::default()
        };
        let key: Box<str> = "a9993e364706816aba3e25717850c26c9cd0d89d".into();
        let body = Bytes::from_static(b"<body/>");
        let way = Way {
            descriptor: Some(13),
            unread: vec![0x81, 0x0A, b'<'],
            secured: true,
            peer: [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
        };
        let full = BoshRecord {
            way,
            start,
            terms: Terms { polling_ms: Some(2_000), hold: 0, ..terms },
            key_hash: Some(key.clone()),
            answered: vec![Answered { rid: 1_573_741_820, key: Some(key), body: body.clone() }],
            pending: vec![b"<message/>".to_vec(), b"<presence/>".to_vec()],
            to_worker: vec![0x81],
            patience_ms: 120_000,
            ..plain.clone()
        };
        let over = BoshRecord {
            way: Way { descriptor: None, ..plain.way.clone() },
            error: Some(b"<error/>".to_vec()),
            over: Some((body, 61_000)),
            ..plain.clone()
        };
        vec![plain, full, over]
    }

    fn descriptors(record: &BoshRecord, keep: &mut Vec<u32>) {
        keep.extend(record.way.descriptor);
    }
}

fn list<'a, R>(
    from: &mut Decoder<'a>,
    mut read: impl FnMut(&mut Decoder<'a>) -> Result<R, StateError>,
) -> Result<Vec<R>, StateError> {
    let count = from.count()?;
    (0..count).map(|_| read(from)).collect()
}
