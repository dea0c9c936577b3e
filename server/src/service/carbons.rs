//! Switching message carbons on and off (XEP-0280 §4, §5). Anything that is copied is decided in [`crate::user::carbons`].

use crate::proto::errors::StanzaCondition;
use crate::service::{Reply, Request, Scopes, Service};
use crate::stanza::Type;
use crate::user::tables::Flags;
use crate::user::tables::Users;
use crate::user::writes::Area;

const NAMESPACE: &str = "urn:xmpp:carbons:2";

/// The requesting resource wants copies.
pub const ENABLE: Service = Service {
    element: "enable",
    namespace: NAMESPACE,
    scopes: Scopes::OWN,
    feature: NAMESPACE,
    writes: Area::Alone,
    handle: |actors, _, _, request| switch(&mut actors.users, request, true),
};

/// The requesting resource wants no more copies.
pub const DISABLE: Service = Service {
    element: "disable",
    namespace: NAMESPACE,
    scopes: Scopes::OWN,
    feature: NAMESPACE,
    writes: Area::Alone,
    handle: |actors, _, _, request| switch(&mut actors.users, request, false),
};

fn switch(users: &mut Users, request: &Request, on: bool) -> Reply {
    let (Type::Set, Some(key)) = (request.typ, request.sender) else {
        return StanzaCondition::BadRequest.into();
    };
    users.resource_mut(key).flags.put(Flags::CARBONS, on);
    Reply::Done
}
