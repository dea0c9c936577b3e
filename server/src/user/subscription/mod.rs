//! Subscriptions (RFC 6121 §3): who may see whose presence, and how that changes.
//!
//! ```text
//! user's client ─► from_client ─► user's item moves ─► stanza ─► receive ─► contact's item moves ─► contact's clients
//!                  (his home)     (directory writer)             (contact's home)  (directory writer)
//! ```
//! Each half happens on the home worker of the user whose item moves: a job in a transaction of the directory
//! moves the item by the [`table`], and what follows from it happens on the worker after the commit. What is sent in
//! the meantime stays behind it: [`under_way`]. The sender's next stanza waits for the first half; the ticket travels on
//! and is settled when the second half is written, or there is none.

pub mod change;
pub mod table;
pub mod under_way;

use whimbrel_storage::directory::{Item, Job, Subscription};
use whimbrel_storage::jid::JidRef;

use crate::runtime::jobs::Then;
use crate::stanza::{Delivery, Kind, Ticket, Traits};
use crate::stream::errors::{StanzaCondition, StanzaError};
use crate::user::home::Home;
use crate::user::routing::{self, Inbound};
use crate::user::subscription::change::{Change, Outcome, Room};
use crate::user::subscription::table::{Direction, Effects, Verb};
use crate::user::subscription::under_way::About;
use crate::user::tables::{Flags, ResourceKey};
use crate::user::writes::{Area, Write};
use crate::user::{blocking, presence, roster};
use crate::xml::Stamp;

/// Whom to tell that a stanza was not accepted.
#[derive(Clone)]
struct Refusal {
    from: String,
    to: Option<String>,
    id: Option<String>,
}

impl Refusal {
    fn send(&self, home: &mut Home, error: StanzaError) {
        routing::refuse(home, Kind::Presence, &self.from, self.to.as_deref(), self.id.as_deref(), error);
    }
}

/// A bound resource sends a subscription stanza to `local`, a user of this server.
pub fn from_client(home: &mut Home, inbound: &Inbound<'_>, local: &str) {
    let Some(verb) = Verb::of(inbound.typ) else { return };
    let own = home.users.local_of(inbound.sender).to_owned();
    if own == local {
        // Every user sees his own presence (§4.2.2); there is nothing to ask for and nothing to cancel.
        return;
    }
    let (to, id) = (inbound.to_text.map(str::to_owned), inbound.id.map(str::to_owned));
    let refusal = Refusal { from: inbound.from.to_owned(), to, id };
    let contact = home.bare_jid(local);
    if JidRef::parse(&contact).is_ok_and(|contact| blocking::blocks(home, &own, &contact)) {
        return refusal.send(home, blocking::own_block_error());
    }
    // §3.1.2 and so on: stamped with bare JIDs.
    let from = home.bare_jid(&own);
    let stamp = Stamp { from: &from, to: Some(&contact), language: inbound.language };
    let mut bytes = Vec::new();
    inbound.stanza.write_stamped(&stamp, &mut bytes);
    let limit = home.config.limits.roster_request_bytes as usize;
    if verb == Verb::Subscribe && bytes.len() > limit {
        home.metrics().refused_roster.add(1);
        let text = format!("a subscription request may have at most {limit} bytes");
        return refusal.send(home, StanzaError::from(StanzaCondition::PolicyViolation).with_text(text));
    }
    let room = Room::of(&home.config.limits);
    let to_local = local.to_owned();
    let (when_full, when_failed) = (refusal.clone(), refusal.clone());
    let write = Write::of(home, inbound.sender, inbound.ticket);
    let about = About { local: own.clone(), contact: contact.clone(), direction: Direction::Outbound };
    let submitted = under_way::write(
        home,
        about,
        move |transaction| {
            let moved = (Direction::Outbound, verb);
            let outcome = change::make(transaction, &own, &contact, moved, &[], room)?;
            Ok(Box::new(move |home: &mut Home| match outcome {
                Outcome::Moved(change) => {
                    let (id, ticket) = (when_full.id.as_deref(), write.ticket);
                    let stanza = Stanza { verb, from: &from, to_local: &to_local, id, bytes: &bytes, ticket };
                    sent(home, &own, &stanza, change);
                    home.took_effect(write);
                }
                Outcome::Full => {
                    home.metrics().refused_roster.add(1);
                    when_full.send(home, roster::full());
                    home.end_write(write);
                }
                // It was deleted, and this session is about to end.
                Outcome::NoAccount => home.end_write(write),
            }))
        },
        move |home, error| {
            when_failed.send(home, error);
            home.end_write(write);
        },
    );
    match submitted {
        Ok(()) => home.begin_write(write, Area::Roster),
        Err(error) => refusal.send(home, error),
    }
}

/// A subscription stanza, stamped with bare JIDs.
struct Stanza<'a> {
    verb: Verb,
    from: &'a str,
    to_local: &'a str,
    id: Option<&'a str>,
    bytes: &'a [u8],
    ticket: Option<Ticket>,
}

impl Stanza<'_> {
    fn route(&self, home: &mut Home) {
        home.route(&Delivery {
            kind: Kind::Presence,
            typ: self.verb.typ(),
            traits: Traits::default(),
            from: self.from,
            to_local: self.to_local,
            to_resource: None,
            id: self.id,
            bytes: self.bytes,
            ticket: self.ticket,
        });
    }
}

/// The outbound half is written: what follows from it.
fn sent(home: &mut Home, own: &str, stanza: &Stanza<'_>, change: Change) {
    let effects = change.effects;
    let contact = home.bare_jid(stanza.to_local);
    // §3.2.2: the contact hears of the end while he may still see the presence.
    if effects.has(Effects::UNAVAILABLE) {
        presence::send_unavailable(home, own, &contact);
    }
    if effects.has(Effects::ROUTE) {
        stanza.route(home);
    } else {
        settle(home, stanza.ticket);
    }
    if let Some(item) = change.push {
        roster::push(home, own, &item);
    }
}

/// A user of this worker receives a subscription stanza. That he does not block the sender is known already.
pub fn receive(home: &mut Home, d: &Delivery<'_>) {
    let own = d.from.strip_suffix(&*home.shared.domain).and_then(|rest| rest.strip_suffix('@'));
    if Verb::of(d.typ).is_some() && own != Some(d.to_local) {
        under_way::receive(home, d, inbound);
    } else {
        settle(home, d.ticket);
    }
}

/// Everything that a stanza causes is written.
fn settle(home: &mut Home, ticket: Option<Ticket>) {
    if let Some(ticket) = ticket {
        home.settle(ticket);
    }
}

/// Goes on with subscription stanzas for whose writes there was no room (`limits.directory_queue`).
pub fn retry(home: &mut Home) {
    under_way::retry(home, inbound);
}

/// The write of an inbound subscription stanza.
fn inbound(home: &Home, d: &Delivery<'_>) -> under_way::Inbound {
    let contact = bare(d.from).to_owned();
    let room = Room::of(&home.config.limits);
    let (local, bytes, ticket) = (d.to_local.to_owned(), d.bytes.to_vec(), d.ticket);
    let verb = Verb::of(d.typ).expect("only subscription stanzas come here");
    let about = About { local: local.clone(), contact: contact.clone(), direction: Direction::Inbound };
    let job: Job<Then> = Box::new(move |transaction| {
        let moved = (Direction::Inbound, verb);
        let outcome = change::make(transaction, &local, &contact, moved, &bytes, room)?;
        Ok(Box::new(move |home: &mut Home| {
            match outcome {
                Outcome::Moved(change) => received(home, &local, &contact, verb, &bytes, change),
                // §8.5.1: dropped. The sender of a request waits as for an account that has not answered yet; an answer
                // would tell which accounts exist.
                Outcome::NoAccount => {}
                Outcome::Full => {
                    home.metrics().refused_roster.add(1);
                    tracing::info!(
                        user = local,
                        contact,
                        "a subscription request was dropped: too many wait"
                    );
                }
            }
            settle(home, ticket);
        }))
    });
    // The log has the reason. The sender's half stands; a managed stream ends without an acknowledgement, and its client
    // sends the stanza again.
    let failed = move |home: &mut Home, _| {
        if let Some(ticket) = ticket {
            home.say(ticket, false);
        }
    };
    (about, job, Box::new(failed))
}

/// The inbound half is written: what follows from it.
fn received(home: &mut Home, local: &str, contact: &str, verb: Verb, bytes: &[u8], change: Change) {
    let effects = change.effects;
    if effects.has(Effects::DELIVER) {
        // A request goes to available resources (§3.1.3), what changes the roster to interested ones (§3.1.6 …).
        let flag = if verb == Verb::Subscribe { Flags::AVAILABLE } else { Flags::INTERESTED };
        deliver(home, local, flag, contact, verb, bytes);
    }
    if effects.has(Effects::REPLY) {
        send(home, local, contact, Verb::Subscribed, None);
    }
    if let Some(item) = change.push {
        roster::push(home, local, &item);
    }
    if effects.has(Effects::UNAVAILABLE) {
        presence::send_unavailable(home, local, contact);
    }
    if effects.has(Effects::PROBE) {
        presence::probe_from_each(home, local, contact);
    }
}

fn deliver(home: &mut Home, local: &str, flag: Flags, contact: &str, verb: Verb, bytes: &[u8]) {
    for key in home.users.resources_of(local) {
        if home.users.resource(key).flags.has(flag) {
            hand_over(home, key, contact, verb, bytes);
        }
    }
}

fn hand_over(home: &mut Home, key: ResourceKey, contact: &str, verb: Verb, bytes: &[u8]) {
    let local = home.users.local_of(key).to_owned();
    let d = Delivery {
        kind: Kind::Presence,
        typ: verb.typ(),
        traits: Traits::default(),
        from: contact,
        to_local: &local,
        to_resource: None,
        id: None,
        bytes,
        ticket: None,
    };
    routing::hand_over(home, key, &d);
}

/// Bytes of requests that a resource gets as they are when it becomes available.
const PENDING_BYTES_MAX: usize = 128 * 1024;

/// A resource has become available: it gets the requests that still wait for an answer (§3.1.3).
pub fn deliver_pending(home: &mut Home, key: ResourceKey) {
    let local = home.users.local_of(key).to_owned();
    let mut waiting = Vec::new();
    let directory = home.shared.directory.clone();
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
        if JidRef::parse(&contact).is_ok_and(|contact| blocking::blocks(home, &local, &contact)) {
            continue;
        }
        if let Ok(Some(Item { pending_in: Some(bytes), .. })) = directory.roster_item(&local, &contact) {
            // Strangers can send many of them: the first come as they are, the rest without what they say.
            let bytes = match left.checked_sub(bytes.len()) {
                Some(rest) => {
                    left = rest;
                    bytes
                }
                None => bare_request(&contact, &home.bare_jid(&local)),
            };
            hand_over(home, key, &contact, Verb::Subscribe, &bytes);
        }
    }
}

/// A request without what it says.
fn bare_request(from: &str, to: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    presence::write(from, to, b" type='subscribe'/>", &mut bytes);
    bytes
}

/// The user has removed a contact from his roster: ends what was between them (§2.5.2). `item` is the item as it was.
/// The last stanza that goes to the contact takes the ticket of the removal with it; returns the ticket if none does.
pub fn removed(home: &mut Home, local: &str, item: &Item, ticket: Option<Ticket>) -> Option<Ticket> {
    if !on_this_server(home, &item.contact) {
        return ticket;
    }
    let seen = matches!(item.subscription, Subscription::From | Subscription::Both);
    let sees = matches!(item.subscription, Subscription::To | Subscription::Both);
    let (ends_own, ends_other) = (sees || item.ask, seen || item.pending_in.is_some());
    if ends_own {
        // The contact's home writes both in their order.
        send(home, local, &item.contact, Verb::Unsubscribe, ticket.filter(|_| !ends_other));
    }
    if seen {
        presence::send_unavailable(home, local, &item.contact);
    }
    if ends_other {
        send(home, local, &item.contact, Verb::Unsubscribed, ticket);
    }
    ticket.filter(|_| !ends_own && !ends_other)
}

/// An account is deleted: its contacts lose it, as if it had removed each of them. `items` is its roster as it was,
/// read with `WriteTransaction::roster_items` in the transaction that deleted the account.
///
/// Runs on the home worker of `local`, before its sessions are ended: they have no roster any more that would tell
/// who sees their presence.
pub fn account_deleted(home: &mut Home, local: &str, items: &[Item]) {
    for item in items {
        removed(home, local, item, None);
    }
}

/// Sends a subscription stanza that the server makes in a user's name to a contact of this server.
fn send(home: &mut Home, local: &str, contact: &str, verb: Verb, ticket: Option<Ticket>) {
    let tail = format!(" type='{}'/>", verb.typ().name().unwrap_or_default());
    let from = home.bare_jid(local);
    let Some((to_local, _)) = contact.split_once('@') else { return settle(home, ticket) };
    let mut bytes = Vec::with_capacity(tail.len() + 128);
    presence::write(&from, contact, tail.as_bytes(), &mut bytes);
    Stanza { verb, from: &from, to_local, id: None, bytes: &bytes, ticket }.route(home);
}

fn on_this_server(home: &Home, contact: &str) -> bool {
    contact.split_once('@').is_some_and(|(_, domain)| domain == &*home.shared.domain)
}

fn bare(jid: &str) -> &str {
    jid.split_once('/').map_or(jid, |(bare, _)| bare)
}
