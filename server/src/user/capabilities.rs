//! What clients announce of themselves (XEP-0115): noted from their presence, asked for where nobody knows it yet.

use crate::env::Env;
use crate::proto::caps::{Announced, Described};
use crate::proto::ns;
use crate::proto::reply;
use crate::stanza::Type;
use crate::user::actors::{Actors, Effects};
use crate::user::flow::Outgoing;
use crate::user::interests::Noted;
use crate::user::presence;
use crate::user::tables::ResourceKey;
use crate::user::{delivery, events};
use crate::xml::{CLIENT, Element};

/// The id of the server's questions. A client has one of them at a time.
pub const ID: &str = "caps";

/// Bytes of the name of a node of interest, on average: those of one hash have at most `limits.caps_nodes` times as many
/// together. They are copied to the homes of all contacts when a client comes online.
const NODE_BYTES_MEAN: usize = 64;

/// A resource has sent available presence. What it wants to hear of from now on, and has not before, it gets the last items
/// of.
pub fn available(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, initial: bool) {
    let announced = announced_by(fx, &actors.users.resource(key).presence);
    let before = match initial {
        true => Vec::new(),
        false => actors.interests.nodes_of(key).to_vec(),
    };
    let hashes_max = env.config.limits.caps_hashes as usize;
    let account = actors.users.local_of(key);
    let noted = actors.interests.note((key, account), announced.as_ref(), hashes_max, env.now.0);
    fx.work.add(actors.interests.take_work());
    env.metrics().refused_caps.add(actors.interests.take_lost());
    match noted {
        Noted::Ask => ask(actors, env, fx, key),
        Noted::Full => env.metrics().refused_caps.add(1),
        Noted::Changed => {}
        Noted::Same if initial => {}
        Noted::Same | Noted::Wait => return ask_others(actors, env, fx),
    }
    ask_others(actors, env, fx);
    let mut wanted = actors.interests.nodes_of(key).to_vec();
    wanted.retain(|node| before.binary_search(node).is_err());
    events::ask_for_last(actors, env, fx, key, &wanted);
}

/// A resource is gone.
pub fn gone(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    actors.interests.forget(key);
    ask_others(actors, env, fx);
}

/// The sessions of another program are all here: what their hashes stand for is asked for where nobody knew it.
pub fn taken_over(actors: &mut Actors, env: &Env, fx: &mut Effects) {
    actors.interests.ask_anew();
    ask_others(actors, env, fx);
}

fn ask_others(actors: &mut Actors, env: &Env, fx: &mut Effects) {
    for key in actors.interests.take_due() {
        ask(actors, env, fx, key);
    }
    env.metrics().caps_hashes.set(actors.interests.len() as u64);
}

/// What the presence of a resource announces. `tail` is what is kept of it.
fn announced_by(fx: &Effects, tail: &[u8]) -> Option<Announced> {
    memchr::memmem::find(tail, ns::CAPS.as_bytes())?;
    fx.work.add_tree(tail.len());
    Announced::read(&Element::parse(&[presence::NAME, tail].concat()).ok()?)
}

/// Asks a client what its hash stands for (XEP-0115 §6.2).
fn ask(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    let Some(announced) = announced_by(fx, &actors.users.resource(key).presence) else { return };
    env.metrics().caps_queries.add(1);
    let to = actors.users.full_jid(env, key);
    let query = Element::new("query", ns::DISCO_INFO).attr("node", announced.node);
    let mut bytes = Vec::with_capacity(256);
    reply::iq(Type::Get, Some(&env.shared.domain), &to, Some(ID), &mut bytes, |out| query.write(CLIENT, out));
    delivery::push_as(actors, env, fx, key, &Outgoing::own(&bytes));
}

/// A client has answered; `info` is what it says, `None` an error.
pub fn answered(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, info: Option<&Element>) {
    // An answer that nobody has asked for, or to an earlier question, says nothing of the hash that is asked for now.
    let Some(hash) = actors.interests.asked_of(key) else { return };
    let described = info.and_then(Described::read).filter(|described| described.hash() == hash);
    let Some(described) = described else {
        env.metrics().caps_refused_answers.add(1);
        actors.interests.forget(key);
        return ask_others(actors, env, fx);
    };
    let nodes = described.interests();
    let nodes_max = env.config.limits.caps_nodes as usize;
    let bytes: usize = nodes.iter().map(|node| node.len()).sum();
    let is_too_much = nodes.len() > nodes_max || bytes > nodes_max.saturating_mul(NODE_BYTES_MEAN);
    let nodes: Vec<Box<str>> =
        if is_too_much { Vec::new() } else { nodes.into_iter().map(Into::into).collect() };
    if is_too_much {
        env.metrics().refused_caps.add(1);
    }
    for waiting in actors.interests.learn(key, nodes.clone()) {
        events::ask_for_last(actors, env, fx, waiting, &nodes);
    }
}
