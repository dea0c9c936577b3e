//! A worker's sessions into the state file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

use whimbrel_storage::log::Sequence;

use super::{Loose, Parked, Waiting, reason};
use crate::runtime::driver::Detached;
use crate::saved::codec::Encoder;
use crate::saved::file::{BLOCK_BYTES, BlockKind, StateWriter};
use crate::saved::record::{
    LinkRecord, NegotiationRecord, Place, ResourceRecord, SessionRecord, Standing, marks,
};
use crate::saved::tls::TlsRecord;
use crate::session::{Holds, Session, SessionPhase};
use crate::takeover::rehearse::Contents;
use crate::user::tables::{Resource, User};
use crate::worker::core::Core;

/// Writes records into blocks.
struct Blocks<'a> {
    state: &'a StateWriter,
    worker: usize,
    encoder: Encoder,
    records: u32,
    contents: Contents,
}

impl Blocks<'_> {
    fn put(&mut self, record: &SessionRecord<'_>) -> Result<(), String> {
        self.contents.count(record);
        record.write(&mut self.encoder);
        self.records += 1;
        if self.encoder.bytes().len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), String> {
        if self.records > 0 {
            let written =
                self.state.block(BlockKind::Sessions, self.worker, self.records, self.encoder.bytes());
            written.map_err(|error| format!("cannot write its state: {error}"))?;
        }
        self.encoder.clear();
        self.records = 0;
        Ok(())
    }
}

impl Core {
    /// Writes all sessions, and closes the log so that opening it again is quick.
    pub(super) fn save(
        &self,
        loose: &Loose,
        state: &StateWriter,
        mut closed: BTreeMap<&'static str, u64>,
    ) -> Result<Parked, String> {
        let worker = self.env.worker;
        let encoder = Encoder::default();
        let mut blocks = Blocks { state, worker, encoder, records: 0, contents: Contents::default() };
        // A user's resources follow each other, oldest first: which is older decides conflicts and copies.
        for user in self.actors.users.all() {
            let waiting = self.waiting_of(user);
            for &key in &user.resources {
                let resource = self.actors.users.resource(key);
                let link = match self.sessions.get(resource.conn) {
                    Some(session) => {
                        let link = link(session, loose.get(session.conn))?;
                        // Without its socket nobody is there for what it had sent; nothing of it counts as handled.
                        let input = link.descriptor.map_or(&[][..], |_| self.turns.input_of(session.conn));
                        Some(LinkRecord { input, ..link })
                    }
                    None => None,
                };
                let resource = self.resource(user, resource, &waiting)?;
                let standing = Standing::Bound(Box::new(resource));
                blocks.put(&SessionRecord { link, standing })?;
            }
        }
        for session in self.sessions.iter() {
            let SessionPhase::Negotiating(negotiation) = &session.phase else { continue };
            let Some(socket) = loose.get(session.conn) else {
                *closed.entry(reason::BROKEN).or_default() += 1;
                continue;
            };
            let record = negotiation.save().unwrap_or_else(|| NegotiationRecord {
                // Cannot be: those were closed before.
                ..NegotiationRecord::default()
            });
            let link = Some(link(session, Some(socket))?);
            blocks.put(&SessionRecord { link, standing: Standing::Negotiating(record) })?;
        }
        blocks.flush()?;
        let log = self.actors.commits.log();
        log.checkpoint().map_err(|error| format!("its log cannot be written out: {error}"))?;
        Ok(Parked {
            worker,
            traffic: self.fx.links.traffic(),
            contents: blocks.contents,
            closed,
            log: log.id(),
            log_lock: log.lock_descriptor().map(|lock| lock.as_raw_fd()),
        })
    }

    /// What waits in the log for a user, if any of the user's resources has to do with it.
    fn waiting_of(&self, user: &User) -> Waiting {
        let flows = user.resources.iter().filter_map(|key| self.actors.users.resource(*key).flow.as_ref());
        let concerned = flows.into_iter().any(|flow| {
            flow.after.is_some()
                || flow.unsent.is_some()
                || flow.sm.as_ref().is_some_and(|sm| sm.records().next().is_some())
        });
        match concerned {
            true => Waiting(self.actors.commits.log().waiting(user.id).collect()),
            false => Waiting(Vec::new()),
        }
    }

    fn resource<'a>(
        &'a self,
        user: &'a User,
        resource: &'a Resource,
        waiting: &Waiting,
    ) -> Result<ResourceRecord<'a>, String> {
        let mut record = ResourceRecord {
            account: user.id.raw(),
            local: &user.local,
            blocks: user.blocked.is_some(),
            name: &resource.name,
            priority: resource.priority,
            flags: resource.flags.bits(),
            presence: &resource.presence,
            directed: resource.directed.iter().flat_map(|list| list.iter().map(|name| &**name)).collect(),
            held: resource.held.iter().flat_map(|held| held.save()).collect(),
            ..ResourceRecord::default()
        };
        if let Some(flow) = &resource.flow {
            let place = |sequence: Sequence| -> Place { waiting.place_of(sequence) };
            record.unsent = flow.unsent.iter().flat_map(|unsent| unsent.iter().copied()).map(place).collect();
            record.after = flow.after.map(|after| waiting.place_after(after));
            record.expiry_ms = flow.expiry.and_then(|timer| self.timers.deadline(timer)).map(|at| at.0);
            if let Some(sm) = &flow.sm {
                let sm = sm.save(place).ok_or("a stream is not settled after all")?;
                record.sm = Some(sm);
            }
        }
        Ok(record)
    }
}

/// A connection; without its socket it broke while the driver let go of it.
fn link<'a>(session: &'a Session, socket: Option<&'a Detached>) -> Result<LinkRecord<'a>, String> {
    let tls = match &session.tls {
        None => TlsRecord::Plain,
        // Cannot fail where there is a resource; the others were closed before. A connection that has ended by itself
        // is as good as broken.
        Some(tls) => match tls.save() {
            Some(saved) => saved.into(),
            None => return Ok(broken(session)),
        },
    };
    let Some(socket) = socket else { return Ok(broken(session)) };
    let descriptor = socket.descriptor().ok_or("a simulated connection cannot be carried")?;
    let context = session.context.as_deref();
    let namespaces = context.and_then(|context| context.namespaces.as_deref());
    let [front, back] = socket.unsent();
    Ok(LinkRecord {
        descriptor: Some(u32::try_from(descriptor).map_err(|_| "a socket without a descriptor")?),
        connected: session.connected,
        heard: session.heard,
        peer: session.peer,
        marks: marks_of(session) | if socket.has_ended() { marks::ENDED } else { 0 },
        tls,
        partial: session.partial.as_ref().map_or(&[], |partial| partial.bytes()),
        input: &[],
        unread: socket.unread(),
        unsent: if back.is_empty() { Cow::Borrowed(front) } else { Cow::Owned([front, back].concat()) },
        namespaces: namespaces.map(|declared| declared.iter().collect()).unwrap_or_default(),
        language: context.and_then(|context| context.language.as_deref()),
    })
}

fn broken(session: &Session) -> LinkRecord<'_> {
    LinkRecord {
        descriptor: None,
        connected: session.connected,
        heard: session.heard,
        peer: session.peer,
        marks: marks_of(session),
        tls: TlsRecord::Plain,
        partial: &[],
        input: &[],
        unread: &[],
        unsent: Cow::Borrowed(&[]),
        namespaces: Vec::new(),
        language: None,
    }
}

fn marks_of(session: &Session) -> u8 {
    let bit = |set: bool, bit: u8| u8::from(set) * bit;
    bit(session.marks.pinged, marks::PINGED)
        | bit(session.marks.holds.has(Holds::OUTPUT), marks::PAUSED)
        | bit(session.marks.established, marks::ESTABLISHED)
        | bit(session.marks.direct_tls, marks::DIRECT_TLS)
}
