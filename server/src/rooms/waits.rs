//! Requests of which something is written at the homes of others, who are members from now on or invited: whoever has made one is told
//! when all of it is in a log or in the directory.

use crate::env::Env;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::rooms::visit::{Ack, Asker};
use crate::service::Reply;
use crate::stanza::PendingAck;
use crate::user::actors::{Actors, Effects};
use crate::user::commits::OnCommit;
use crate::user::joins::Joins;

/// What a request waits for.
pub(super) struct Waits {
    /// What the request goes on with; `None`: it is under a number already, or nobody waits for it.
    go_on: Option<OnCommit>,
    of: Option<PendingAck>,
    join: Option<u32>,
}

impl Waits {
    /// Of a request that is answered with an empty result, or by nothing but the word that it is durable.
    pub(super) fn of(asker: Asker) -> Waits {
        let of = asker.pending_ack;
        let go_on = move |actors: &mut Actors, env: &Env, fx: &mut Effects, is_durable: bool| {
            if is_durable {
                asker.reply(env, fx, Reply::Done);
                return asker.settle(actors, env, fx);
            }
            let text = "the server cannot keep what follows from it; try again later";
            asker.refuse(env, fx, StanzaError::from(StanzaCondition::InternalServerError).with_text(text));
            if let Some(pending_ack) = asker.pending_ack {
                actors.users.report(env, fx, pending_ack, false);
            }
        };
        Waits::new(of, Box::new(go_on))
    }

    /// Of one that goes on in another way. `of`: the stanza that has led to it.
    pub(super) fn new(of: Option<PendingAck>, go_on: OnCommit) -> Waits {
        Waits { go_on: Some(go_on), of, join: None }
    }

    /// One thing more, which is to be told once.
    pub(super) fn one(&mut self, joins: &mut Joins, env: &Env) -> Option<PendingAck> {
        if let Some(go_on) = self.go_on.take() {
            self.join = Some(joins.begin(env, go_on));
        }
        self.join.map(|join| joins.add(env, join, self.of))
    }

    /// There is nothing more. The request goes on, now or with the last of what it waits for, and sees itself to its sender.
    pub(super) fn end(self, actors: &mut Actors, env: &Env, fx: &mut Effects) -> Ack {
        if let Some(join) = self.join {
            actors.users.joins.end(join);
        } else if let Some(go_on) = self.go_on {
            go_on(actors, env, fx, true);
        }
        Ack::Later
    }
}

/// Whether another request may wait.
///
/// # Errors
/// As many wait as may.
pub(super) fn has_room(actors: &Actors, env: &Env) -> Result<(), StanzaError> {
    if actors.users.joins.has_room() {
        return Ok(());
    }
    env.metrics().refused_room_waiting.add(1);
    let text = "too many changes of rooms are under way; try again later";
    Err(StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text))
}
