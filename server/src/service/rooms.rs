//! Rooms (XEP-0045), as far as they are a matter of accounts. What rooms do is in `rooms`.

use whimbrel_storage::directory::Table;

use crate::env::Env;
use crate::service::Service;
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::actors::{Actors, Effects};
use crate::user::lifecycle::{AccountRemoved, Hooks};

/// Tells rooms of accounts that are gone.
pub static SERVICE: Service = Service {
    name: "rooms",
    enabled: |config| config.rooms.enabled,
    // Who may put an account into groups; written by the command (`service::commands`) and by operators.
    tables: &[Table::AccountSettings],
    lifecycle: Hooks { account_removed: Some(account_removed), ..Hooks::NONE },
    ..Service::NOTHING
};

/// The directory has taken an account out of its rooms, and may have given one another owner: those that are in memory look
/// again.
fn account_removed(_: &mut Actors, env: &Env, fx: &mut Effects, event: &AccountRemoved<'_>) {
    let from = env.bare_jid(event.account);
    for left in event.rooms {
        let look_again = Delivery {
            kind: Kind::Presence,
            typ: Type::Probe,
            traits: Traits::FROM_SERVER,
            from: &from,
            to_local: &left.name,
            to_resource: None,
            id: None,
            bytes: b"<presence type='probe'/>",
            pending_ack: None,
        };
        fx.route_to_room(env, &look_again);
    }
}
