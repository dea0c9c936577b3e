//! Switching message carbons on and off (XEP-0280 §4, §5). Anything that is copied is decided in [`crate::user::carbons`].

use crate::proto::errors::StanzaCondition;
use crate::proto::ns;
use crate::service::{Answers, Reply, Request, Scopes, Service};
use crate::stanza::Type;
use crate::user::tables::Flags;
use crate::user::tables::Users;
use crate::user::writes::Area;

/// Resources say whether they want copies.
pub static SERVICE: Service = Service {
    name: "carbons",
    answers: &[
        Answers {
            element: "enable",
            namespace: ns::CARBONS,
            scopes: Scopes::OWN,
            writes: Area::Alone,
            handle: |actors, _, _, request| switch(&mut actors.users, request, true),
        },
        Answers {
            element: "disable",
            namespace: ns::CARBONS,
            scopes: Scopes::OWN,
            writes: Area::Alone,
            handle: |actors, _, _, request| switch(&mut actors.users, request, false),
        },
    ],
    features: &[
        (ns::CARBONS, Scopes::SERVER_AND_OWN),
        // The rules of version 1.0 by which messages are copied.
        (ns::CARBONS_RULES, Scopes::SERVER),
    ],
    ..Service::NOTHING
};

fn switch(users: &mut Users, request: &Request, on: bool) -> Reply {
    let (Type::Set, Some(key)) = (request.typ, request.sender) else {
        return StanzaCondition::BadRequest.into();
    };
    users.resource_mut(key).flags.put(Flags::CARBONS, on);
    Reply::Done
}
