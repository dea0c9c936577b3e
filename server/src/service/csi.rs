//! Client state (XEP-0352) of clients that are not there. What a client says of its state it says on its stream, in
//! elements that are no stanzas: `worker/input.rs` takes them, and [`crate::user::inactive`] holds back.

use crate::env::Env;
use crate::service::Service;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::lifecycle::{Detached, Hooks};
use crate::user::tables::Flags;

/// Acts at the moments of a user's life only.
pub static SERVICE: Service = Service {
    name: "client state",
    lifecycle: Hooks { detached: Some(detached), ..Hooks::NONE },
    ..Service::NOTHING
};

/// What an absent client gets may be thinned out as for an inactive one.
fn detached(actors: &mut Actors, _: &Env, _: &mut Effects, event: &Detached) {
    actors.users.resource_mut(event.key).flags.put(Flags::INACTIVE, true);
}
