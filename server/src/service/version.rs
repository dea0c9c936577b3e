//! Software version (XEP-0092). The operating system is not told: §5 leaves it out where it helps attackers.

use crate::env::Env;
use crate::proto::errors::StanzaCondition;
use crate::service::{Reply, Request, Scopes, Service};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::writes::Area;
use crate::xml::Element;

const NAMESPACE: &str = "jabber:iq:version";

/// The name under which the server presents itself, here and in disco.
pub const NAME: &str = "Whimbrel";

/// Tells name and version of the server.
pub const SERVICE: Service = Service {
    element: "query",
    namespace: NAMESPACE,
    scopes: Scopes::SERVER,
    feature: NAMESPACE,
    writes: Area::Alone,
    handle,
};

fn handle(_: &mut Actors, _: &Env, _: &mut Effects, request: &Request) -> Reply {
    if request.typ != Type::Get {
        return StanzaCondition::NotAllowed.into();
    }
    let version = Element::new("version", NAMESPACE).text(env!("CARGO_PKG_VERSION"));
    let name = Element::new("name", NAMESPACE).text(NAME);
    Reply::Result(Element::new("query", NAMESPACE).child(name).child(version))
}
