//! Software version (XEP-0092). The operating system is not told: §5 leaves it out where it helps attackers.

use crate::env::Env;
use crate::proto::errors::StanzaCondition;
use crate::proto::ns;
use crate::service::{Answers, Reply, Request, Scopes, Service};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::writes::Area;
use crate::xml::Element;

/// The name under which the server presents itself, here and in disco.
pub const NAME: &str = "Whimbrel";

/// Tells name and version of the server.
pub static SERVICE: Service = Service {
    name: "software version",
    answers: &[Answers {
        element: "query",
        namespace: ns::VERSION,
        scopes: Scopes::SERVER,
        writes: Area::Alone,
        handle,
    }],
    features: &[(ns::VERSION, Scopes::SERVER)],
    ..Service::NOTHING
};

fn handle(_: &mut Actors, _: &Env, _: &mut Effects, request: &Request) -> Reply {
    if request.typ != Type::Get {
        return StanzaCondition::NotAllowed.into();
    }
    let version = Element::new("version", ns::VERSION).text(env!("CARGO_PKG_VERSION"));
    let name = Element::new("name", ns::VERSION).text(NAME);
    Reply::Result(Element::new("query", ns::VERSION).child(name).child(version))
}
