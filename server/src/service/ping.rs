//! XMPP ping (XEP-0199): the answer to a client's ping, and the ping with which the server finds dead ones.

use crate::service::{Reply, Request, Scopes, Service};
use crate::stanza::{Kind, Type};
use crate::stream::errors::StanzaCondition;
use crate::user::home::Home;
use crate::user::inactive::Urgency;
use crate::user::routing;
use crate::user::tables::ResourceKey;
use crate::user::writes::Area;
use crate::xml::writer;

const NAMESPACE: &str = "urn:xmpp:ping";

/// Answers pings to the domain and to the own account.
pub const SERVICE: Service = Service {
    element: "ping",
    namespace: NAMESPACE,
    scopes: Scopes::SERVER_AND_OWN,
    feature: NAMESPACE,
    writes: Area::Alone,
    handle,
};

fn handle(_: &mut Home, request: &Request) -> Reply {
    match request.typ {
        Type::Get => Reply::Done,
        _ => StanzaCondition::BadRequest.into(),
    }
}

/// Pings a client that has been silent for `limits.idle_seconds`. Any byte from it counts as the answer.
pub fn send(home: &mut Home, key: ResourceKey) {
    let to = home.full_jid(key);
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(b"<iq type='get' id='ping' from='");
    writer::escape_attribute(&home.shared.domain, &mut out);
    out.extend_from_slice(b"' to='");
    writer::escape_attribute(&to, &mut out);
    out.extend_from_slice(b"'><ping xmlns='urn:xmpp:ping'/></iq>");
    routing::hand_over_bytes(home, key, Kind::Iq, "", Urgency::Now, &out);
}
