//! Presence (RFC 6121 §4) between users who see each other: what a resource that comes gets to see, what it shows, and who hears
//! that it has gone. The presence itself is sent by [`crate::user::presence`].

use crate::env::Env;
use crate::exchange::fanout::Broadcast;
use crate::service::Service;
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::lifecycle::{Available, Hooks, Unavailable};
use crate::user::presence::{self, directed, probe};

/// Acts at the moments of a user's life only.
pub static SERVICE: Service = Service {
    name: "presence",
    lifecycle: Hooks {
        available: Some(come),
        unavailable: Some(gone),
        contact_available: Some(probe::show),
        ..Hooks::NONE
    },
    ..Service::NOTHING
};

fn come(actors: &mut Actors, env: &Env, fx: &mut Effects, event: &Available<'_>) {
    if event.initial {
        presence::ask_for_all(actors, env, fx, event.key, event.full);
    }
}

/// Those who had directed presence of the resource hear of its end (§4.6.3).
fn gone(actors: &mut Actors, env: &Env, fx: &mut Effects, event: &Unavailable<'_>) {
    let shown = Broadcast::new(Type::Unavailable, event.full, event.tail);
    directed::end(actors, env, fx, event.key, &shown, event.was_available);
}
