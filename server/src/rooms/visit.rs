//! Who has sent a stanza to a room, and how it is answered.

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::directory::rooms::Affiliate;

use crate::effects::answer::{self, Made, Refused};
use crate::effects::work;
use crate::env::Env;
use crate::occupancy::occupants::OccupantKey;
use crate::occupancy::room::Room;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::muc::rules::Standing;
use crate::proto::muc::{Affiliation, Role};
use crate::proto::{ns, reply};
use crate::service::Reply;
use crate::service::reply::ReplyTo;
use crate::stanza::{Delivery, Kind, PendingAck, Traits, Type};
use crate::user::actors::{Actors, Effects};
use crate::xml::Element;

/// When the sender of a stanza may be told that it is durable.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    /// Now: nothing of it has to be kept, or it was refused.
    Now,
    /// When a commit has passed; whoever handles the stanza sees to it.
    Later,
}

/// A stanza for a room.
#[derive(Copy, Clone)]
pub(super) struct Visit<'a> {
    /// The stanza.
    pub(super) d: &'a Delivery<'a>,
    /// The room's name.
    pub(super) name: &'a str,
    /// Localpart of the sender.
    pub(super) local: &'a str,
    /// The sender's resource.
    pub(super) resource: &'a str,
}

impl<'a> Visit<'a> {
    /// `None` for what comes from no client.
    pub(super) fn of(d: &'a Delivery<'a>) -> Option<Visit<'a>> {
        let (local, resource) = address::local_and_resource(d.from)?;
        Some(Visit { d, name: d.to_local, local, resource })
    }

    /// The sender's bare JID.
    pub(super) fn bare(&self) -> &'a str {
        address::bare_of(self.d.from)
    }

    /// The seat that the sender has in the room.
    pub(super) fn seat(&self, room: &Room) -> Option<OccupantKey> {
        room.occupants.by_seat(self.local, self.resource)
    }

    /// The stanza as a tree.
    pub(super) fn element(&self, fx: &Effects) -> Option<Element> {
        fx.work.add_tree(self.d.bytes.len());
        Element::parse(self.d.bytes).ok()
    }

    /// What the sender is to the room and in it, whether it is there or not.
    ///
    /// # Errors
    /// The directory cannot be read; the sender has been told.
    pub(super) fn standing(&self, env: &Env, fx: &mut Effects, room: &Room) -> Result<Standing, Ack> {
        if let Some(key) = self.seat(room) {
            return Ok(room.occupants.get(key).standing());
        }
        let affiliation = self.affiliation(env, fx, room)?;
        // One who is there with another client has a role all the same.
        let role =
            room.occupants.of_account(self.local).iter().map(|key| room.occupants.get(*key).role()).max();
        Ok(Standing { affiliation, role: role.unwrap_or(Role::None) })
    }

    /// What the sender is to the room, by the directory.
    ///
    /// # Errors
    /// As [`Visit::standing`].
    pub(super) fn affiliation(&self, env: &Env, fx: &mut Effects, room: &Room) -> Result<Affiliation, Ack> {
        let found = self.affiliate(env, fx, room)?;
        Ok(found.map_or(Affiliation::None, |found| found.affiliation))
    }

    /// All that the directory has of the sender in the room; `None`: it is nothing to it.
    ///
    /// # Errors
    /// As [`Visit::standing`].
    pub(super) fn affiliate(
        &self,
        env: &Env,
        fx: &mut Effects,
        room: &Room,
    ) -> Result<Option<Affiliate>, Ack> {
        fx.work.add(work::LOOK);
        let actor = room.record.actor;
        let found = env.shared.directory.rooms(|rooms| rooms.affiliate(actor, self.bare(), Some(self.local)));
        found.map_err(|error| self.unreadable(env, fx, &error))
    }

    /// The number of the sender's account.
    ///
    /// # Errors
    /// As [`Visit::standing`].
    pub(super) fn account(&self, env: &Env, fx: &mut Effects) -> Result<ActorId, Ack> {
        fx.work.add(work::LOOK);
        match env.shared.directory.account_id(self.local) {
            Ok(account) => Ok(account.unwrap_or(ActorId::NOBODY)),
            Err(error) => Err(self.unreadable(env, fx, &error)),
        }
    }

    /// The directory cannot be read.
    pub(super) fn unreadable(&self, env: &Env, fx: &mut Effects, error: &DirectoryError) -> Ack {
        tracing::error!(room = self.name, %error, "cannot read the directory");
        self.refuse(env, fx, StanzaCondition::InternalServerError)
    }

    /// Answers with an error, if it is a stanza that may be answered.
    pub(super) fn refuse(&self, env: &Env, fx: &mut Effects, error: impl Into<StanzaError>) -> Ack {
        Asker::of(self).refuse(env, fx, error.into());
        Ack::Now
    }

    /// Answers an iq.
    pub(super) fn reply(&self, env: &Env, fx: &mut Effects, reply: impl Into<Reply>) -> Ack {
        Asker::of(self).reply(env, fx, reply.into());
        Ack::Now
    }
}

/// Who has sent a stanza, after the stanza is gone.
#[derive(Clone)]
pub(super) struct Asker {
    kind: Kind,
    is_answered: bool,
    /// The sender's full JID.
    pub(super) from: String,
    /// The room's name.
    pub(super) name: String,
    nick: Option<String>,
    id: Option<String>,
    /// Who waits to hear that it is durable.
    pub(super) pending_ack: Option<PendingAck>,
}

impl Asker {
    /// Of a visit.
    pub(super) fn of(visit: &Visit<'_>) -> Asker {
        let d = visit.d;
        Asker {
            kind: d.kind,
            is_answered: answer::may_be_answered(d.kind, d.typ),
            from: d.from.to_owned(),
            name: visit.name.to_owned(),
            nick: d.to_resource.map(str::to_owned),
            id: d.id.map(str::to_owned),
            pending_ack: d.pending_ack,
        }
    }

    /// Nobody: the room does it by itself.
    pub(super) fn nobody(name: &str) -> Asker {
        Asker {
            kind: Kind::Presence,
            is_answered: false,
            from: String::new(),
            name: name.to_owned(),
            nick: None,
            id: None,
            pending_ack: None,
        }
    }

    /// The address that was written to.
    fn to(&self, env: &Env) -> String {
        let room = env.room_jid(&self.name);
        self.nick.as_ref().map_or(room.clone(), |nick| format!("{room}/{nick}"))
    }

    /// Answers with an error, if it is a stanza that may be answered.
    pub(super) fn refuse(&self, env: &Env, fx: &mut Effects, error: StanzaError) {
        if self.is_answered && self.kind == Kind::Presence {
            return self.refuse_presence(env, fx, &error);
        }
        if self.is_answered {
            let to = self.to(env);
            let refused =
                Refused { kind: self.kind, sender: &self.from, to: Some(&to), id: self.id.as_deref() };
            answer::refuse(env, fx, &refused, &error);
        }
    }

    /// XEP-0045 §7.2.6 to §7.2.10: an error about entering has `<x/>` beside it, by which clients know it from an error of a user.
    fn refuse_presence(&self, env: &Env, fx: &mut Effects, error: &StanzaError) {
        env.metrics().errors_out.add(1);
        let (to, id) = (self.to(env), self.id.as_deref());
        let (kind, typ) = (Kind::Presence, Type::Error);
        let mut bytes = Vec::with_capacity(256);
        reply::open(kind, typ, Some(&to), &self.from, id, &mut bytes);
        for part in ["><x xmlns='", ns::MUC, "'/>"] {
            bytes.extend_from_slice(part.as_bytes());
        }
        error.write(&mut bytes);
        bytes.extend_from_slice(b"</presence>");
        let traits = Traits::FROM_SERVER;
        answer::send(env, fx, &Made { kind, typ, traits, from: Some(&to), id, bytes: &bytes }, &self.from);
    }

    /// Answers an iq.
    pub(super) fn reply(&self, env: &Env, fx: &mut Effects, reply: Reply) {
        match reply {
            Reply::Error(error) => self.refuse(env, fx, error),
            reply if self.kind == Kind::Iq => {
                let to = self.to(env);
                ReplyTo::new(&self.from, Some(&to), self.id.as_deref().unwrap_or_default())
                    .send(env, fx, reply);
            }
            _ => {}
        }
    }

    /// Nothing waits for the stanza any more.
    pub(super) fn settle(&self, actors: &mut Actors, env: &Env, fx: &mut Effects) {
        if let Some(pending_ack) = self.pending_ack {
            actors.users.notify_durable(env, fx, pending_ack);
        }
    }
}
