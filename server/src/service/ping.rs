//! XMPP ping (XEP-0199): the answer to a client's ping, and the ping with which the server finds dead ones.

use crate::service::{Reply, Request, Scopes, Service};
use crate::stanza::Type;
use crate::stream::errors::StanzaCondition;
use crate::user::home::Home;
use crate::user::tables::ResourceKey;
use crate::xml::writer;

const NAMESPACE: &str = "urn:xmpp:ping";

/// Answers pings to the domain and to the own account.
pub const SERVICE: Service = Service {
    element: "ping",
    namespace: NAMESPACE,
    scopes: Scopes::SERVER_AND_OWN,
    feature: NAMESPACE,
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
    let conn = home.users.resource(key).conn;
    let domain = home.shared.domain.clone();
    home.metrics().iqs_out.add(1);
    let out = home.out.plain(conn);
    out.extend_from_slice(b"<iq type='get' id='ping' from='");
    writer::escape_attribute(&domain, out);
    out.extend_from_slice(b"' to='");
    writer::escape_attribute(&to, out);
    out.extend_from_slice(b"'><ping xmlns='urn:xmpp:ping'/></iq>");
}
