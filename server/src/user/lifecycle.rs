//! The moments of a user's life at which services act.
//!
//! The code of the actors calls each moment in one place. It does not know who acts then: each service of the table
//! (`service/mod.rs`) fills in its [`Hooks`], and the worker makes a [`Lifecycle`] of those that its configuration switches on.

use std::cell::RefCell;

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::Item;
use whimbrel_storage::directory::rooms::LeftRoom;

use crate::env::Env;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::tables::ResourceKey;
use crate::user::writes::Write;

/// A resource has sent available presence, and who sees it has been told (RFC 6121 §4.2, §4.4).
#[derive(Copy, Clone, Debug)]
pub struct Available<'a> {
    /// The resource.
    pub key: ResourceKey,
    /// Its full JID.
    pub full: &'a str,
    /// It was not available before.
    pub initial: bool,
    /// It was not available before, or has another priority now: messages may reach it that did not.
    pub reachable_anew: bool,
}

/// A resource is no longer available, and who saw it has been told (RFC 6121 §4.5). Also when the session of a resource ends
/// that has never been: it may have shown itself to some.
#[derive(Copy, Clone, Debug)]
pub struct Unavailable<'a> {
    /// The resource. It is still in the tables.
    pub key: ResourceKey,
    /// Its full JID.
    pub full: &'a str,
    /// Its last presence, from behind the addresses on.
    pub tail: &'a [u8],
    /// The presence as its client sent it; `None`: its session is over.
    pub said: Option<Write>,
    /// It was available before.
    pub was_available: bool,
    /// It was the last available resource of its user.
    pub was_last: bool,
}

/// A resource of a contact that is subscribed to a user has become available, and asks what there is to see of the user (RFC
/// 6121 §4.3). Called at the user's home.
#[derive(Copy, Clone, Debug)]
pub struct ContactAvailable<'a> {
    /// The user's localpart.
    pub account: &'a str,
    /// The one resource of the user that is asked for, if it is only one.
    pub resource: Option<&'a str>,
    /// The full JID of the contact, who may be another resource of the user.
    pub contact: &'a str,
}

/// A resource is about to show itself as available: what it is seen with may be changed.
#[derive(Copy, Clone, Debug)]
pub struct Showing<'a> {
    /// Its user's localpart.
    pub account: &'a str,
    /// Its presence, from behind the addresses on.
    pub tail: &'a RefCell<Vec<u8>>,
}

/// A resource of somebody wants to hear of some nodes of a user (XEP-0163 §4.3), and asks for their last items. Called at the
/// user's home; whether there is anything to see is for the service to say.
#[derive(Copy, Clone, Debug)]
pub struct Interested<'a> {
    /// The user's localpart.
    pub account: &'a str,
    /// The full JID of the resource, which may be another one of the user.
    pub contact: &'a str,
    /// The nodes.
    pub nodes: &'a [&'a str],
}

/// A resource has lost its connection and waits to be resumed (XEP-0198 §5).
#[derive(Copy, Clone, Debug)]
pub struct Detached {
    /// The resource.
    pub key: ResourceKey,
}

/// A session has been without a connection for so long that its contacts have been told that it is gone. It can still be resumed,
/// because its device is told by push; then it shows itself again.
#[derive(Copy, Clone, Debug)]
pub struct Asleep {
    /// The resource.
    pub key: ResourceKey,
    /// It was the last available resource of its user.
    pub was_last: bool,
}

/// An account is gone from the directory. Its sessions end when all services have heard of it.
#[derive(Copy, Clone, Debug)]
pub struct AccountRemoved<'a> {
    /// Its localpart.
    pub account: &'a str,
    /// Its number.
    pub id: ActorId,
    /// Its roster as it was.
    pub items: &'a [Item],
    /// The rooms that have lost it.
    pub rooms: &'a [LeftRoom],
}

/// Declares the moments: what a service fills in, what a worker calls, and the calls.
macro_rules! moments {
    ($($(#[$doc:meta])* $name:ident($event:ty),)*) => {
        /// What a service does at the moments of a user's life; `None`: nothing.
        #[derive(Copy, Clone)]
        pub struct Hooks {
            $($(#[$doc])* pub $name: Option<fn(&mut Actors, &Env, &mut Effects, &$event)>,)*
        }

        impl Hooks {
            /// Nothing.
            pub const NONE: Hooks = Hooks { $($name: None,)* };
        }

        /// What all services do, in their order.
        #[derive(Default)]
        pub struct Lifecycle {
            $($(#[$doc])* pub $name: Vec<fn(&mut Actors, &Env, &mut Effects, &$event)>,)*
        }

        impl Lifecycle {
            /// The moments of these services.
            pub fn of<'a>(services: impl Iterator<Item = &'a Hooks>) -> Lifecycle {
                let mut all = Lifecycle::default();
                for hooks in services {
                    $(all.$name.extend(hooks.$name);)*
                }
                all
            }
        }

        $($(#[$doc])*
        pub fn $name(actors: &mut Actors, env: &Env, fx: &mut Effects, event: &$event) {
            let mut at = 0;
            while let Some(act) = actors.lifecycle.$name.get(at).copied() {
                act(actors, env, fx, event);
                at += 1;
            }
        })*
    };
}

moments! {
    /// See [`Showing`].
    showing(Showing<'_>),
    /// See [`Available`].
    available(Available<'_>),
    /// See [`Unavailable`].
    unavailable(Unavailable<'_>),
    /// See [`ContactAvailable`].
    contact_available(ContactAvailable<'_>),
    /// See [`Interested`].
    interested(Interested<'_>),
    /// See [`Detached`].
    detached(Detached),
    /// See [`Asleep`].
    asleep(Asleep),
    /// See [`AccountRemoved`].
    account_removed(AccountRemoved<'_>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifecycle_has_the_hooks_of_all_services_in_their_order() {
        fn first(_: &mut Actors, _: &Env, _: &mut Effects, _: &Detached) {}
        fn second(_: &mut Actors, _: &Env, _: &mut Effects, _: &Detached) {}
        let (a, b) =
            (Hooks { detached: Some(first), ..Hooks::NONE }, Hooks { detached: Some(second), ..Hooks::NONE });
        let all = Lifecycle::of([&a, &Hooks::NONE, &b].into_iter());
        let expected: [fn(&mut Actors, &Env, &mut Effects, &Detached); 2] = [first, second];
        assert_eq!(all.detached.len(), expected.len());
        assert!(all.available.is_empty() && all.account_removed.is_empty());
    }
}
