//! The publish-subscribe service at a domain of its own (XEP-0060): its nodes belong to no account.
//!
//! ```text
//! sender's home: iq ─┬─► looks, or names no node ─► answered here
//!                    └─► changes a node ─► node's home ─► directory's writer ─► commit ─► answer ─► subscribers' homes
//! ```
//! A node has nothing in memory. Its home is the one worker that changes it, so that what happens to it is told in the order in which
//! it happened; everybody else reads the directory where they are.

use whimbrel_storage::jid::JidRef;

use super::authorize;
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::StanzaCondition;
use crate::proto::pubsub::authorization::Decision;
use crate::proto::pubsub::request::node_of_set;
use crate::service::request::{self, only_child};
use crate::service::{self, Scope};
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::actors::{Actors, Effects};
use crate::user::blocking;
use crate::user::inbound::Inbound;

/// What a client of this worker sends the service.
pub fn take(actors: &mut Actors, env: &Env, fx: &mut Effects, inbound: &Inbound<'_>) {
    let (address, user) = (env.owner_jid(""), actors.users.resource(inbound.sender).user);
    if JidRef::parse(&address).is_ok_and(|address| blocking::user_blocks(&actors.users, user, &address)) {
        return inbound.refuse_politely(env, fx, blocking::own_block_error());
    }
    match (inbound.kind, inbound.typ) {
        (Kind::Iq, Type::Set) => {
            fx.work.add_tree(inbound.stanza.bytes().len());
            let query = only_child(inbound.stanza.to_element());
            // One that lives here is changed as the client's own are: what it sends next waits for that.
            let elsewhere = |node: &&str| env.home_of_node(node) != env.worker;
            match query.as_ref().and_then(node_of_set).filter(elsewhere) {
                Some(node) => send_on(actors, env, fx, inbound, node),
                None => service::dispatch(actors, env, fx, inbound, Scope::Nodes),
            }
        }
        (Kind::Iq, Type::Get) => service::dispatch(actors, env, fx, inbound, Scope::Nodes),
        (Kind::Message, typ) if typ != Type::Error => {
            fx.work.add_tree(inbound.stanza.bytes().len());
            match Decision::read(&inbound.stanza.to_element()) {
                Ok(Some(decision)) => send_on(actors, env, fx, inbound, &decision.node),
                Ok(None) => inbound.refuse(env, fx, StanzaCondition::ServiceUnavailable.into()),
                Err(error) => inbound.refuse(env, fx, error),
            }
        }
        // Answers and errors: nothing was asked. Presence: nobody is there, and it gets no error.
        _ => {}
    }
}

/// Routes a stanza to the home of a node. Its sender's stream acknowledges it when the node's home says so.
fn send_on(actors: &mut Actors, env: &Env, fx: &mut Effects, inbound: &Inbound<'_>, node: &str) {
    let mut bytes = fx.buffers.lend();
    inbound.write_stamped(&[], &mut bytes);
    if let Some(pending_ack) = inbound.pending_ack {
        actors.users.wait_for_copies(fx, pending_ack, 1);
    }
    let delivery = Delivery {
        kind: inbound.kind,
        typ: inbound.typ,
        traits: Traits::default(),
        from: inbound.from,
        to_local: node,
        to_resource: None,
        id: inbound.id,
        bytes: &bytes,
        pending_ack: inbound.pending_ack,
    };
    fx.route_to_node(env, &delivery);
    fx.buffers.give_back(bytes);
}

/// A stanza for a node whose home is this worker.
pub fn receive(actors: &mut Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>) {
    let begun = fx.work.spent();
    match d.kind {
        Kind::Message => authorize::decided(actors, env, fx, d),
        _ => service::dispatch_for_node(actors, env, fx, d),
    }
    // Where it lives here, it is the requester's turn.
    if env.home_of(address::local_of(d.from)) != env.worker {
        request::bill(env, fx, d.from, fx.work.spent() - begun);
    }
}
