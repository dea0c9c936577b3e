//! What a worker has, into the state.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::sessions::{SessionRecord, Sessions, Standing};
use super::{Loose, Parked, reason};
use crate::occupancy::saved::{Occupancy, OccupantRecord};
use crate::runtime::driver::Detached;
use crate::saved::frame::{BlockWriter, StateWriter};
use crate::session::saved::ConnectionRecord;
use crate::session::{Session, SessionPhase};
use crate::user::commits::{LogRecord, Logs};
use crate::user::interests::saved::{Capabilities, KnownHash};
use crate::user::push::saved::ToldDevices;
use crate::user::saved::{ResourceRecord, Waiting};
use crate::user::tables::{Resource, User};
use crate::worker::core::Core;

impl Core {
    /// Writes a block for each owner that has something on a worker. `closed` are the connections that were not carried.
    pub(super) fn save(
        &self,
        loose: &Loose,
        state: &StateWriter,
        mut closed: BTreeMap<&'static str, u64>,
    ) -> Result<Parked, String> {
        let worker = self.env.worker;
        let mut sessions = state.blocks::<Sessions>(worker);
        self.save_resources(loose, &mut sessions)?;
        let broken = self.save_negotiations(loose, &mut sessions)?;
        if broken > 0 {
            *closed.entry(reason::BROKEN).or_default() += broken;
        }
        sessions.finish().map_err(|error| error.to_string())?;
        self.save_beside(state, true)?;
        self.save_pushes(state)?;
        Ok(Parked { worker, traffic: self.fx.links.traffic(), closed })
    }

    /// What is of use beside the sessions. `continues`: the log stays open, and its lock goes along.
    fn save_beside(&self, state: &StateWriter, continues: bool) -> Result<(), String> {
        let worker = self.env.worker;
        let mut logs = state.blocks::<Logs>(worker);
        let log = self.actors.commits.save()?;
        let log = if continues { log } else { LogRecord { lock: None, ..log } };
        logs.put(&log).map_err(|error| error.to_string())?;
        logs.finish().map_err(|error| error.to_string())?;
        let mut hashes = state.blocks::<Capabilities>(worker);
        for (hash, nodes) in self.actors.interests.known() {
            let record = KnownHash { hash, nodes: nodes.iter().map(|node| &**node).collect() };
            hashes.put(&record).map_err(|error| error.to_string())?;
        }
        hashes.finish().map_err(|error| error.to_string())?;
        let mut occupants = state.blocks::<Occupancy>(worker);
        for room in self.actors.rooms.iter() {
            for (_, occupant) in room.occupants.iter() {
                occupants.put(&OccupantRecord::of(room, occupant)).map_err(|error| error.to_string())?;
            }
        }
        occupants.finish().map_err(|error| error.to_string())
    }

    /// Writes, for the server that follows this one after its end, the sessions, all of which can be resumed, and their seats in
    /// rooms. None has a connection any more.
    pub(super) fn save_resumable(&self, state: &StateWriter) -> Result<(), String> {
        let worker = self.env.worker;
        let mut sessions = state.blocks::<Sessions>(worker);
        for user in self.actors.users.all() {
            let waiting = self.waiting_of(user);
            for &key in &user.resources {
                let resource = self.actors.users.resource(key);
                let mut record = self.resource_record(user, resource, &waiting)?;
                record.caps = self.actors.interests.hash_of(key).map_or(&[], |hash| hash);
                // It is asked for anew.
                record.held = Vec::new();
                let standing = Standing::Bound(Box::new(record));
                let session = SessionRecord { connection: None, standing };
                sessions.put(&session).map_err(|error| error.to_string())?;
            }
        }
        sessions.finish().map_err(|error| error.to_string())?;
        self.save_beside(state, false)?;
        self.save_pushes(state)
    }

    /// What devices were told. What the providers have not sent counts as not told.
    fn save_pushes(&self, state: &StateWriter) -> Result<(), String> {
        let unsent = self.env.shared.push.get().map(|outlet| outlet.unsent()).unwrap_or_default();
        let unsent = unsent.iter().map(|ticket| (&*ticket.local, &*ticket.node)).collect();
        let mut pushes = state.blocks::<ToldDevices>(self.env.worker);
        for record in self.actors.pushes.save(&unsent) {
            pushes.put(&record).map_err(|error| error.to_string())?;
        }
        pushes.finish().map_err(|error| error.to_string())
    }

    /// A user's resources follow each other, oldest first: which is older decides conflicts and copies.
    fn save_resources(&self, loose: &Loose, blocks: &mut BlockWriter<'_, Sessions>) -> Result<(), String> {
        for user in self.actors.users.all() {
            let waiting = self.waiting_of(user);
            for &key in &user.resources {
                let resource = self.actors.users.resource(key);
                let connection = match self.sessions.get(resource.conn) {
                    Some(session) => {
                        let connection = self.connection_record(session, loose.get(session.conn))?;
                        // Without its socket nobody is there for what it had sent; nothing of it counts as handled.
                        let input =
                            connection.descriptor.map_or(&[][..], |_| self.turns.input_of(session.conn));
                        Some(ConnectionRecord { input, ..connection })
                    }
                    None => None,
                };
                let mut record = self.resource_record(user, resource, &waiting)?;
                record.caps = self.actors.interests.hash_of(key).map_or(&[], |hash| hash);
                let standing = Standing::Bound(Box::new(record));
                blocks.put(&SessionRecord { connection, standing }).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn connection_record<'a>(
        &self,
        session: &'a Session,
        socket: Option<&'a Detached>,
    ) -> Result<ConnectionRecord<'a>, &'static str> {
        let frames = self.frames.get(&session.conn).map(|decoder| decoder.save()).unwrap_or_default();
        Ok(ConnectionRecord { frames: Cow::Owned(frames), ..ConnectionRecord::of(session, socket)? })
    }

    /// Returns how many connections broke meanwhile.
    fn save_negotiations(
        &self,
        loose: &Loose,
        blocks: &mut BlockWriter<'_, Sessions>,
    ) -> Result<u64, String> {
        let mut broken = 0;
        for session in self.sessions.iter() {
            let SessionPhase::Negotiating(negotiation) = &session.phase else { continue };
            let Some(socket) = loose.get(session.conn) else {
                broken += 1;
                continue;
            };
            // Those that cannot be carried were closed before.
            let record = negotiation.save().unwrap_or_default();
            let connection = Some(self.connection_record(session, Some(socket))?);
            blocks
                .put(&SessionRecord { connection, standing: Standing::Negotiating(record) })
                .map_err(|error| error.to_string())?;
        }
        Ok(broken)
    }

    fn resource_record<'a>(
        &self,
        user: &'a User,
        resource: &'a Resource,
        waiting: &Waiting,
    ) -> Result<ResourceRecord<'a>, String> {
        let record = ResourceRecord::of(user, resource, waiting, self.env.services().rooms);
        let mut record = record.ok_or("a stream is not at rest after all")?;
        let expiry = resource.flow.as_ref().and_then(|flow| flow.expiry);
        record.expiry_ms = expiry.and_then(|timer| self.timers.deadline(timer)).map(|at| at.0);
        Ok(record)
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
            true => Waiting::Ranked(self.actors.commits.log().waiting(user.id).collect()),
            false => Waiting::Ranked(Vec::new()),
        }
    }
}
