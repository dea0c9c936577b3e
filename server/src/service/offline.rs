//! Messages that wait for their recipient (XEP-0160): who gets them when. How they are kept and handed out is decided in
//! [`crate::user::offline`].

use crate::env::Env;
use crate::proto::ns;
use crate::service::{Scopes, Service};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::lifecycle::{AccountRemoved, Available, Hooks, Unavailable};
use crate::user::offline;

/// Announced, and acts at the moments of a user's life.
pub static SERVICE: Service = Service {
    name: "offline messages",
    features: &[(ns::OFFLINE_MESSAGES, Scopes::SERVER)],
    lifecycle: Hooks {
        available: Some(come),
        unavailable: Some(gone),
        account_removed: Some(account_removed),
        ..Hooks::NONE
    },
    ..Service::NOTHING
};

fn come(actors: &mut Actors, _: &Env, fx: &mut Effects, event: &Available<'_>) {
    if event.reachable_anew {
        offline::offer(actors, fx, actors.users.resource(event.key).user);
        offline::offer_to(actors, fx, event.key);
    }
}

/// The resource stays, and others may get what it would have had. If its session ends, that is seen to there.
fn gone(actors: &mut Actors, _: &Env, fx: &mut Effects, event: &Unavailable<'_>) {
    if event.was_available && event.said.is_some() {
        offline::offer(actors, fx, actors.users.resource(event.key).user);
    }
}

fn account_removed(actors: &mut Actors, env: &Env, _: &mut Effects, event: &AccountRemoved<'_>) {
    actors.commits.purge(env, event.id);
}
