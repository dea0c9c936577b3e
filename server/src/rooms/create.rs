//! A room is made (XEP-0045 §10.1): by whoever enters one that is not there. It is in the directory before its owner hears of it;
//! until the owner has said how it is to be configured it is locked, which only memory knows.

use whimbrel_storage::directory::WriteTransaction;
use whimbrel_storage::directory::rooms::{AffiliationChange, NewRoom, RoomConfig};

use crate::config::RoomMakers;
use crate::env::Env;
use crate::occupancy::room::Room;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::muc::status::Status;
use crate::proto::muc::{Affiliation, error};
use crate::rooms::commit::{self, After, Outcome};
use crate::rooms::enter::{self, Newcomer};
use crate::rooms::visit::{Ack, Asker, Visit};
use crate::service::Reply;
use crate::user::actors::{Actors, Effects};

/// Makes the room, and lets its owner in.
pub(super) fn create(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    newcomer: Newcomer,
) -> Ack {
    let config = &env.config.rooms;
    if config.create != RoomMakers::Everyone {
        return visit.refuse(env, fx, error::may_not_create());
    }
    if !env.shared.rooms_made.take(visit.local, config.created_per_hour, env.now.0) {
        return too_many(
            env,
            fx,
            visit,
            "you have made as many rooms in this hour as you may; try again later",
        );
    }
    let (name, bare, local) = (visit.name.to_owned(), visit.bare().to_owned(), visit.local.to_owned());
    let (secret, now_ms, most) = (env.shared.chance.bytes(), env.unix_ms(), u64::from(config.per_account));
    commit::commit(
        actors,
        env,
        fx,
        Asker::of(visit),
        move |transaction: &mut WriteTransaction<'_>| -> Outcome {
            let account = transaction.rooms().number_of(&local)?;
            if transaction.rooms().made_by(account)? >= most {
                return Ok(Ok(Box::new(move |_, env, _| {
                    env.metrics().refused_rooms.add(1);
                    Reply::Error(own_too_many())
                })));
            }
            let new = NewRoom { name: &name, config: RoomConfig::default(), secret, now_ms };
            let Some(mut record) = transaction.create_room(new)? else {
                return Ok(Err(StanzaCondition::Conflict.into()));
            };
            let owner = AffiliationChange {
                jid: &bare,
                localpart: Some(&local),
                affiliation: Affiliation::Owner,
                reason: "",
                now_ms,
            };
            transaction.affiliate(&mut record, &owner)?;
            let after: After = Box::new(move |actors, env, fx| {
                env.metrics().rooms_made.add(1);
                let mut room = Room::new(record);
                room.is_locked = true;
                actors.rooms.put(room);
                let newcomer = Newcomer { affiliation: Affiliation::Owner, account, ..newcomer };
                enter::sit_down(actors, env, fx, &name, &newcomer, &[Status::Created]);
                Reply::Later
            });
            Ok(Ok(after))
        },
    )
}

fn too_many(env: &Env, fx: &mut Effects, visit: &Visit<'_>, text: &'static str) -> Ack {
    env.metrics().refused_rooms.add(1);
    visit.refuse(env, fx, StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text))
}

fn own_too_many() -> StanzaError {
    let text = "you have made and own as many rooms as you may";
    StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text)
}
