//! Subscriptions (RFC 6121 §3): who may see whose presence, and how that changes.
//!
//! ```text
//! user's client ─► from_client ─► user's item moves ─► stanza ─► receive ─► contact's item moves ─► contact's clients
//!                  (sender's home) (directory writer)             (contact's home)  (directory writer)
//! ```
//! Each half happens on the home worker of the user whose item moves: a job in a transaction of the directory
//! moves the item by the [`table`], and what follows from it happens on the worker after the commit. Anything that is sent in
//! the meantime stays behind it: [`under_way`]. The sender's next stanza waits for the first half; the pending ack travels on
//! and is settled when the second half is written, or there is none.

pub mod change;
pub mod table;
pub mod under_way;

use whimbrel_storage::directory::{Item, Job, Subscription};
use whimbrel_storage::jid::JidRef;

use crate::effects::answer::{self, Refused};
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::stanza::{Delivery, Kind, PendingAck, Traits};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::delivery;
use crate::user::inbound::Inbound;
use crate::user::jobs::Then;
use crate::user::subscription::change::{Change, ChangeOutcome, Room};
use crate::user::subscription::table::{Consequences, Direction, Verb};
use crate::user::subscription::under_way::About;
use crate::user::tables::Users;
use crate::user::tables::{Flags, ResourceKey};
use crate::user::writes::{Area, Write};
use crate::user::{blocking, events, presence, roster};
use crate::xml::Stamp;

/// Whom to tell that a stanza was not accepted.
#[derive(Clone)]
struct SubscriptionRefusal {
    from: String,
    to: Option<String>,
    id: Option<String>,
}

impl SubscriptionRefusal {
    fn send(&self, env: &Env, fx: &mut Effects, error: StanzaError) {
        let (to, id) = (self.to.as_deref(), self.id.as_deref());
        answer::refuse(env, fx, &Refused { kind: Kind::Presence, sender: &self.from, to, id }, &error);
    }
}

/// A bound resource sends a subscription stanza to `local`, a user of this server.
pub fn from_client(actors: &mut Actors, env: &Env, fx: &mut Effects, inbound: &Inbound<'_>, local: &str) {
    let Some(verb) = Verb::of(inbound.typ) else { return };
    let own = actors.users.local_of(inbound.sender).to_owned();
    if own == local {
        // All users see their own presence (§4.2.2); there is nothing to ask for and nothing to cancel.
        return;
    }
    let (to, id) = (inbound.to_text.map(str::to_owned), inbound.id.map(str::to_owned));
    let refusal = SubscriptionRefusal { from: inbound.from.to_owned(), to, id };
    let contact = env.bare_jid(local);
    if JidRef::parse(&contact).is_ok_and(|contact| blocking::blocks(&actors.users, env, fx, &own, &contact)) {
        return refusal.send(env, fx, blocking::own_block_error());
    }
    // §3.1.2 and so on: stamped with bare JIDs.
    let from = env.bare_jid(&own);
    let stamp = Stamp { from: &from, to: Some(&contact), language: inbound.language, ..Stamp::default() };
    let mut bytes = Vec::new();
    inbound.stanza.write_stamped(&stamp, &mut bytes);
    let limit = env.config.limits.roster_request_bytes as usize;
    if verb == Verb::Subscribe && bytes.len() > limit {
        env.metrics().refused_roster.add(1);
        let text = format!("a subscription request may have at most {limit} bytes");
        return refusal.send(env, fx, StanzaError::from(StanzaCondition::PolicyViolation).with_text(text));
    }
    let room = Room::of(&env.config.limits);
    let to_local = local.to_owned();
    let (when_full, when_failed) = (refusal.clone(), refusal.clone());
    let write = Write::of(&actors.users, inbound.sender, inbound.pending_ack);
    let about = About { local: own.clone(), contact: contact.clone(), direction: Direction::Outbound };
    let submitted = under_way::write(
        actors,
        env,
        fx,
        about,
        move |transaction| {
            let moved = (Direction::Outbound, verb);
            let outcome = change::make(transaction, &own, &contact, moved, &[], room)?;
            Ok(Box::new(move |actors: &mut Actors, env: &Env, fx: &mut Effects| match outcome {
                ChangeOutcome::Moved(change) => {
                    let (id, pending_ack) = (when_full.id.as_deref(), write.pending_ack);
                    let stanza =
                        Stanza { verb, from: &from, to_local: &to_local, id, bytes: &bytes, pending_ack };
                    sent(actors, env, fx, &own, &stanza, change);
                    actors.took_effect(fx, write);
                }
                ChangeOutcome::Full => {
                    env.metrics().refused_roster.add(1);
                    when_full.send(env, fx, roster::full());
                    actors.end_write(env, fx, write);
                }
                // It was deleted, and this session is about to end.
                ChangeOutcome::NoAccount => actors.end_write(env, fx, write),
            }))
        },
        move |actors, env, fx, error| {
            when_failed.send(env, fx, error);
            actors.end_write(env, fx, write);
        },
    );
    match submitted {
        Ok(()) => actors.begin_write(fx, write, Area::Roster),
        Err(error) => refusal.send(env, fx, error),
    }
}

/// A subscription stanza, stamped with bare JIDs.
struct Stanza<'a> {
    verb: Verb,
    from: &'a str,
    to_local: &'a str,
    id: Option<&'a str>,
    bytes: &'a [u8],
    pending_ack: Option<PendingAck>,
}

impl Stanza<'_> {
    fn delivery(&self) -> Delivery<'_> {
        Delivery {
            kind: Kind::Presence,
            typ: self.verb.typ(),
            traits: Traits::default(),
            from: self.from,
            to_local: self.to_local,
            to_resource: None,
            id: self.id,
            bytes: self.bytes,
            pending_ack: self.pending_ack,
        }
    }

    fn route(&self, env: &Env, fx: &mut Effects) {
        fx.route(env, &self.delivery());
    }
}

/// The outbound half is written: what follows from it.
fn sent(actors: &mut Actors, env: &Env, fx: &mut Effects, own: &str, stanza: &Stanza<'_>, change: Change) {
    let consequences = change.consequences;
    let contact = env.bare_jid(stanza.to_local);
    // §3.2.2: the contact hears of the end while it may still see the presence.
    if consequences.has(Consequences::UNAVAILABLE) {
        presence::send_unavailable(&mut actors.users, env, fx, own, &contact);
    }
    if consequences.has(Consequences::ROUTE) {
        stanza.route(env, fx);
    } else {
        notify_durable(&mut actors.users, env, fx, stanza.pending_ack);
    }
    if let Some(item) = change.push {
        roster::push(actors, env, fx, own, &item);
    }
}

/// A user of this worker receives a subscription stanza. It is known already that the user does not block the sender.
pub fn receive(actors: &mut Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>) {
    let own = address::contact_here(d.from, &env.shared.domain);
    if Verb::of(d.typ).is_some() && own != Some(d.to_local) {
        under_way::receive(actors, env, fx, d, inbound);
    } else {
        notify_durable(&mut actors.users, env, fx, d.pending_ack);
    }
}

/// Everything that a stanza causes is written.
fn notify_durable(users: &mut Users, env: &Env, fx: &mut Effects, pending_ack: Option<PendingAck>) {
    if let Some(pending_ack) = pending_ack {
        users.notify_durable(env, fx, pending_ack);
    }
}

/// Goes on with subscription stanzas for whose writes there was no room (`limits.directory_queue`).
pub fn retry(actors: &mut Actors, env: &Env, fx: &mut Effects) {
    under_way::retry(actors, env, fx, inbound);
}

/// The write of an inbound subscription stanza.
fn inbound(env: &Env, d: &Delivery<'_>) -> under_way::Inbound {
    let contact = address::bare_of(d.from).to_owned();
    let room = Room::of(&env.config.limits);
    let (local, bytes, pending_ack) = (d.to_local.to_owned(), d.bytes.to_vec(), d.pending_ack);
    let verb = Verb::of(d.typ).expect("only subscription stanzas come here");
    let about = About { local: local.clone(), contact: contact.clone(), direction: Direction::Inbound };
    let job: Job<Then> = Box::new(move |transaction| {
        let moved = (Direction::Inbound, verb);
        let outcome = change::make(transaction, &local, &contact, moved, &bytes, room)?;
        Ok(Box::new(move |actors: &mut Actors, env: &Env, fx: &mut Effects| {
            match outcome {
                ChangeOutcome::Moved(change) => {
                    let (from, to_local) = (contact.as_str(), local.as_str());
                    let stanza = Stanza { verb, from, to_local, id: None, bytes: &bytes, pending_ack: None };
                    received(actors, env, fx, &stanza, change);
                }
                // §8.5.1: dropped. The sender of a request waits as for an account that has not answered yet; an answer
                // would tell which accounts exist.
                ChangeOutcome::NoAccount => {}
                ChangeOutcome::Full => {
                    env.metrics().refused_roster.add(1);
                    tracing::info!(
                        user = local,
                        contact,
                        "a subscription request was dropped: too many wait"
                    );
                }
            }
            notify_durable(&mut actors.users, env, fx, pending_ack);
        }))
    });
    // The log has the reason. The sender's half stands; a managed stream ends without an acknowledgement, and its client
    // sends the stanza again.
    let failed = move |actors: &mut Actors, env: &Env, fx: &mut Effects, _| {
        if let Some(pending_ack) = pending_ack {
            actors.users.report(env, fx, pending_ack, false);
        }
    };
    (about, job, Box::new(failed))
}

/// The inbound half is written: what follows from it.
fn received(actors: &mut Actors, env: &Env, fx: &mut Effects, stanza: &Stanza<'_>, change: Change) {
    let &Stanza { verb, from: contact, to_local: local, .. } = stanza;
    let consequences = change.consequences;
    if consequences.has(Consequences::DELIVER) {
        // A request goes to available resources (§3.1.3), what changes the roster to interested ones (§3.1.6 …).
        let flag = if verb == Verb::Subscribe { Flags::AVAILABLE } else { Flags::INTERESTED };
        for key in actors.users.resources_of(local) {
            if actors.users.resource(key).flags.has(flag) {
                delivery::push(actors, env, fx, key, &stanza.delivery());
            }
        }
    }
    if consequences.has(Consequences::REPLY) {
        send(&mut actors.users, env, fx, (local, contact), Verb::Subscribed, None);
    }
    if let Some(item) = change.push {
        roster::push(actors, env, fx, local, &item);
    }
    if consequences.has(Consequences::UNAVAILABLE) {
        presence::send_unavailable(&mut actors.users, env, fx, local, contact);
    }
    if consequences.has(Consequences::PROBE) {
        presence::probe_from_each(&mut actors.users, env, fx, local, contact);
        events::ask_contact(actors, env, fx, local, contact);
    }
}

/// Bytes of requests that a resource gets as they are when it becomes available.
const PENDING_BYTES_MAX: usize = 128 * 1024;

/// A resource has become available: it gets the requests that still wait for an answer (§3.1.3).
pub fn deliver_pending(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    let local = actors.users.local_of(key).to_owned();
    let mut waiting = Vec::new();
    let directory = env.shared.directory.clone();
    let read = directory.roster(&local, |item| {
        if item.pending_in {
            waiting.push(item.contact.to_owned());
        }
    });
    if let Err(error) = read {
        tracing::error!(user = local, %error, "cannot read a roster");
    }
    let mut left = PENDING_BYTES_MAX;
    for contact in waiting {
        if JidRef::parse(&contact)
            .is_ok_and(|contact| blocking::blocks(&actors.users, env, fx, &local, &contact))
        {
            continue;
        }
        if let Ok(Some(Item { pending_in: Some(bytes), .. })) = directory.roster_item(&local, &contact) {
            // Strangers can send many of them: the first come as they are, the rest without what they say.
            let bytes = match left.checked_sub(bytes.len()) {
                Some(rest) => {
                    left = rest;
                    bytes
                }
                None => bare_request(&contact, &env.bare_jid(&local)),
            };
            let (verb, from, to_local) = (Verb::Subscribe, contact.as_str(), local.as_str());
            let stanza = Stanza { verb, from, to_local, id: None, bytes: &bytes, pending_ack: None };
            delivery::push(actors, env, fx, key, &stanza.delivery());
        }
    }
}

/// A request without what it says.
fn bare_request(from: &str, to: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    presence::write(from, to, b" type='subscribe'/>", &mut bytes);
    bytes
}

/// The user has removed a contact from the roster: ends what was between them (§2.5.2). `item` is the item as it was.
/// The last stanza that goes to the contact takes the pending ack of the removal with it; returns the pending ack if none does.
pub fn removed(
    users: &mut Users,
    env: &Env,
    fx: &mut Effects,
    local: &str,
    item: &Item,
    pending_ack: Option<PendingAck>,
) -> Option<PendingAck> {
    if !on_this_server(env, &item.contact) {
        return pending_ack;
    }
    let seen = matches!(item.subscription, Subscription::From | Subscription::Both);
    let sees = matches!(item.subscription, Subscription::To | Subscription::Both);
    let (ends_own, ends_other) = (sees || item.ask, seen || item.pending_in.is_some());
    if ends_own {
        // The contact's home writes both in their order.
        send(users, env, fx, (local, &item.contact), Verb::Unsubscribe, pending_ack.filter(|_| !ends_other));
    }
    if seen {
        presence::send_unavailable(users, env, fx, local, &item.contact);
    }
    if ends_other {
        send(users, env, fx, (local, &item.contact), Verb::Unsubscribed, pending_ack);
    }
    pending_ack.filter(|_| !ends_own && !ends_other)
}

/// An account is deleted: its contacts lose it, as if it had removed each of them. `items` is its roster as it was,
/// read with `WriteTransaction::roster_items` in the transaction that deleted the account.
///
/// Runs on the home worker of `local`, before its sessions are ended: they have no roster any more that would tell
/// who sees their presence.
pub fn account_deleted(users: &mut Users, env: &Env, fx: &mut Effects, local: &str, items: &[Item]) {
    for item in items {
        removed(users, env, fx, local, item, None);
    }
}

/// Sends a subscription stanza that the server makes in a user's name to a contact of this server.
fn send(
    users: &mut Users,
    env: &Env,
    fx: &mut Effects,
    (local, contact): (&str, &str),
    verb: Verb,
    pending_ack: Option<PendingAck>,
) {
    let tail = format!(" type='{}'/>", verb.typ().name().unwrap_or_default());
    let from = env.bare_jid(local);
    let to_local = address::local_of(contact);
    if to_local.is_empty() {
        return notify_durable(users, env, fx, pending_ack);
    }
    let mut bytes = Vec::with_capacity(tail.len() + 128);
    presence::write(&from, contact, tail.as_bytes(), &mut bytes);
    Stanza { verb, from: &from, to_local, id: None, bytes: &bytes, pending_ack }.route(env, fx);
}

fn on_this_server(env: &Env, contact: &str) -> bool {
    address::contact_here(contact, &env.shared.domain).is_some()
}
