//! Entity time (XEP-0202).
//!
//! The server lives in UTC: that is the truth it can tell without guessing at the host's time zone, and every
//! client converts it anyway.

use crate::clock::datetime;
use crate::env::Env;
use crate::proto::errors::StanzaCondition;
use crate::proto::ns;
use crate::service::{Answers, Reply, Request, Scopes, Service};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::writes::Area;
use crate::xml::Element;

/// Tells the time.
pub static SERVICE: Service = Service {
    name: "entity time",
    answers: &[Answers {
        element: "time",
        namespace: ns::TIME,
        scopes: Scopes::SERVER,
        writes: Area::Alone,
        handle,
    }],
    features: &[(ns::TIME, Scopes::SERVER)],
    ..Service::NOTHING
};

fn handle(_: &mut Actors, env: &Env, _: &mut Effects, request: &Request) -> Reply {
    if request.typ != Type::Get {
        return StanzaCondition::NotAllowed.into();
    }
    let utc = Element::new("utc", ns::TIME).text(datetime(env.unix_seconds()));
    let offset = Element::new("tzo", ns::TIME).text("+00:00");
    Reply::Result(Element::new("time", ns::TIME).child(offset).child(utc))
}
