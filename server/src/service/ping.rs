//! XMPP ping (XEP-0199): the answer to a client's ping, and the ping with which the server finds dead ones.

use crate::env::Env;
use crate::proto::errors::StanzaCondition;
use crate::proto::ns;
use crate::proto::reply;
use crate::service::{Answer, Answers, Asks, Reply, Request, Scopes, Service};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::delivery;
use crate::user::flow::Outgoing;
use crate::user::tables::{Flags, ResourceKey};
use crate::user::writes::Area;
use crate::xml::{CLIENT, Element};

/// The id of the server's pings. A client has one of them at a time.
const ID: &str = "ping";

/// Answers pings to the domain and to the own account.
pub static SERVICE: Service = Service {
    name: "ping",
    answers: &[Answers {
        element: "ping",
        namespace: ns::PING,
        scopes: Scopes::SERVER_AND_OWN.and_nodes(),
        writes: Area::Alone,
        handle,
    }],
    asks: Some(Asks { id: ID, answered }),
    features: &[(ns::PING, Scopes::SERVER_AND_OWN.and_nodes())],
    ..Service::NOTHING
};

fn handle(_: &mut Actors, _: &Env, _: &mut Effects, request: &Request) -> Reply {
    match request.typ {
        Type::Get => Reply::Done,
        _ => StanzaCondition::BadRequest.into(),
    }
}

/// Pings a client that has been silent for `limits.idle_seconds`. Any byte from it shows that it is alive.
pub fn send(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    env.metrics().pings_sent.add(1);
    actors.users.resource_mut(key).flags.put(Flags::PINGED, true);
    let to = actors.users.full_jid(env, key);
    let mut bytes = Vec::with_capacity(128);
    let ping = Element::new("ping", ns::PING);
    reply::iq(Type::Get, Some(&env.shared.domain), &to, Some(ID), &mut bytes, |out| {
        ping.write(CLIENT, out);
    });
    delivery::push_as(actors, env, fx, key, &Outgoing::own(&bytes));
}

/// An error is as good an answer as a result (§4.1).
fn answered(actors: &mut Actors, env: &Env, _: &mut Effects, answer: &Answer<'_>) {
    let flags = &mut actors.users.resource_mut(answer.sender).flags;
    if flags.has(Flags::PINGED) {
        flags.put(Flags::PINGED, false);
        env.metrics().pings_answered.add(1);
    }
}
