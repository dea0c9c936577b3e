//! Switching message carbons on and off (XEP-0280 §4, §5). What is copied is decided in [`crate::user::carbons`].

use crate::service::{Reply, Request, Scopes, Service};
use crate::stanza::Type;
use crate::stream::errors::StanzaCondition;
use crate::user::home::Home;
use crate::user::tables::Flags;
use crate::user::writes::Area;

const NAMESPACE: &str = "urn:xmpp:carbons:2";

/// The requesting resource wants copies.
pub const ENABLE: Service = Service {
    element: "enable",
    namespace: NAMESPACE,
    scopes: Scopes::OWN,
    feature: NAMESPACE,
    writes: Area::Alone,
    handle: |home, request| switch(home, request, true),
};

/// The requesting resource wants no more copies.
pub const DISABLE: Service = Service {
    element: "disable",
    namespace: NAMESPACE,
    scopes: Scopes::OWN,
    feature: NAMESPACE,
    writes: Area::Alone,
    handle: |home, request| switch(home, request, false),
};

fn switch(home: &mut Home, request: &Request, on: bool) -> Reply {
    let (Type::Set, Some(key)) = (request.typ, request.sender) else {
        return StanzaCondition::BadRequest.into();
    };
    home.users.resource_mut(key).flags.put(Flags::CARBONS, on);
    Reply::Done
}
