//! The session request of RFC 3921 §3: binding a resource has established the session already, so old clients
//! that still ask are told that all is well.

use crate::env::Env;
use crate::proto::errors::StanzaCondition;
use crate::proto::ns;
use crate::service::{Answers, Reply, Request, Scopes, Service};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::writes::Area;

/// Answers the request.
pub static SERVICE: Service = Service {
    name: "session",
    answers: &[Answers {
        element: "session",
        namespace: ns::SESSION,
        scopes: Scopes::SERVER_AND_OWN,
        writes: Area::Alone,
        handle,
    }],
    ..Service::NOTHING
};

fn handle(_: &mut Actors, _: &Env, _: &mut Effects, request: &Request) -> Reply {
    match request.typ {
        Type::Set => Reply::Done,
        _ => StanzaCondition::BadRequest.into(),
    }
}
