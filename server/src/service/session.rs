//! The session request of RFC 3921 §3: binding a resource has established the session already, so old clients
//! that still ask are told that all is well.

use crate::env::Env;
use crate::proto::errors::StanzaCondition;
use crate::service::{Reply, Request, Scopes, Service};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::writes::Area;

/// Namespace of the request.
pub const NAMESPACE: &str = "urn:ietf:params:xml:ns:xmpp-session";

/// Answers the request.
pub const SERVICE: Service = Service {
    element: "session",
    namespace: NAMESPACE,
    scopes: Scopes::SERVER_AND_OWN,
    feature: "",
    writes: Area::Alone,
    handle,
};

fn handle(_: &mut Actors, _: &Env, _: &mut Effects, request: &Request) -> Reply {
    match request.typ {
        Type::Set => Reply::Done,
        _ => StanzaCondition::BadRequest.into(),
    }
}
