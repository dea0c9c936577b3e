//! Entity time (XEP-0202).
//!
//! The server lives in UTC: that is the truth it can tell without guessing at the host's time zone, and every
//! client converts it anyway.

use crate::clock::datetime;
use crate::env::Env;
use crate::proto::errors::StanzaCondition;
use crate::service::{Reply, Request, Scopes, Service};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::writes::Area;
use crate::xml::Element;

const NAMESPACE: &str = "urn:xmpp:time";

/// Tells the time.
pub const SERVICE: Service = Service {
    element: "time",
    namespace: NAMESPACE,
    scopes: Scopes::SERVER,
    feature: NAMESPACE,
    writes: Area::Alone,
    handle,
};

fn handle(_: &mut Actors, env: &Env, _: &mut Effects, request: &Request) -> Reply {
    if request.typ != Type::Get {
        return StanzaCondition::NotAllowed.into();
    }
    let utc = Element::new("utc", NAMESPACE).text(datetime(env.unix_seconds()));
    let offset = Element::new("tzo", NAMESPACE).text("+00:00");
    Reply::Result(Element::new("time", NAMESPACE).child(offset).child(utc))
}
