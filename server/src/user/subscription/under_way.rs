//! Changes of roster items that are under way to the directory, and what must not overtake them.
//!
//! A subscription takes effect on a worker when its write has come back, not when it is committed: until then the
//! other stanzas between the two are treated as if it had not happened, and those that the client sent after it wait.
//!
//! ```text
//! outbound lane (user ─► contact)   [write] stanza presence [write] stanza
//! inbound lane  (contact ─► user)   [write] stanza
//!                                      │
//!             comes back, takes effect ┴► what stands behind it up to the next write goes on
//! ```
//! So RFC 6120 §10.1 holds between two users: what one sends reaches the other in the order it was sent, whether it
//! needs the directory or not. Who sees whose presence ([`PendingSubscriptions::visible`]) changes at the same moment: a resource
//! that ends between commit and return is still announced to whoever has seen it.
//!
//! An inbound subscription stanza for which the directory's queue has no room waits here, and nothing else is written
//! until it is (`limits.directory_queue`).
//!
//! All that is held has at most `limits.held_bytes`, and those who cause it pay for it: the less is free, the less of it may be
//! one sender's ([`PendingSubscriptions::has_room`]).
//!
//! | a sender has its part, and a stanza of it would be held | |
//! | --- | --- |
//! | its home is this worker | it waits at its connection, until it would not be held or there is room |
//! | a message or request from another worker | is answered with `resource-constraint` |
//! | anything else from another worker | is held, and its sender is charged for it |
//!
//! So many senders together leave something free. Past the limit all the same, the worker reads neither from clients nor from
//! other workers. Anything that it waits for needs only the directory's writer, so that ends.

use std::collections::{BTreeMap, VecDeque};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use whimbrel_storage::directory::{DirectoryError, Job, Subscription, WriteTransaction};

use crate::env::Env;
use crate::exchange::fanout::Broadcast;
use crate::proto::address;
use crate::proto::errors::StanzaError;
use crate::stanza::{Delivery, Kind, PendingAck, Traits, Type};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::jobs::{Failed, Then};
use crate::user::presence;
use crate::user::subscription::table::Direction;

/// What an entry costs beside its texts, in bytes.
const ENTRY_BYTES: usize = 128;

/// A sender may have this part of what is free held.
const PART: usize = 8;

/// Where no more than this may be held in all, there are no parts: an eighth of it would be no stanza.
const PARTS_FROM_BYTES: usize = 64 * 1024;

/// A stanza that is kept.
#[derive(Debug)]
pub struct DeferredStanza {
    kind: Kind,
    typ: Type,
    traits: Traits,
    from: Box<str>,
    to_local: Box<str>,
    to_resource: Option<Box<str>>,
    id: Option<Box<str>>,
    bytes: Box<[u8]>,
    pending_ack: Option<PendingAck>,
}

impl DeferredStanza {
    fn new(d: &Delivery<'_>) -> DeferredStanza {
        DeferredStanza {
            kind: d.kind,
            typ: d.typ,
            traits: d.traits,
            from: d.from.into(),
            to_local: d.to_local.into(),
            to_resource: d.to_resource.map(Into::into),
            id: d.id.map(Into::into),
            bytes: d.bytes.into(),
            pending_ack: d.pending_ack,
        }
    }

    /// The stanza, to be delivered.
    pub fn delivery(&self) -> Delivery<'_> {
        Delivery {
            kind: self.kind,
            typ: self.typ,
            traits: self.traits,
            from: &self.from,
            to_local: &self.to_local,
            to_resource: self.to_resource.as_deref(),
            id: self.id.as_deref(),
            bytes: &self.bytes,
            pending_ack: self.pending_ack,
        }
    }

    fn size(&self) -> usize {
        ENTRY_BYTES + self.from.len() + self.id.as_ref().map_or(0, |id| id.len()) + self.bytes.len()
    }
}

#[derive(Debug)]
enum Entry {
    /// A write that has not come back. The first entry of every lane is one.
    Write,
    Stanza(DeferredStanza),
    /// A presence that the user broadcasts, for the contact if it may have it by then.
    Broadcast {
        typ: Type,
        from: Box<str>,
        tail: Box<[u8]>,
    },
}

impl Entry {
    fn size(&self) -> usize {
        match self {
            Entry::Write => 0,
            Entry::Stanza(kept) => kept.size(),
            Entry::Broadcast { from, tail, .. } => ENTRY_BYTES + from.len() + tail.len(),
        }
    }

    /// The localpart of its sender.
    fn sender(&self) -> &str {
        match self {
            Entry::Write => "",
            Entry::Stanza(kept) => address::local_of(&kept.from),
            Entry::Broadcast { from, .. } => address::local_of(from),
        }
    }
}

/// A user of this worker and a contact between whom something is under way.
#[derive(Debug, Default)]
struct Pair {
    /// What the user's item says as of the last write that came back; `None` when it could not be read.
    visible: Option<Subscription>,
    outbound: VecDeque<Entry>,
    inbound: VecDeque<Entry>,
}

impl Pair {
    fn lane(&mut self, direction: Direction) -> &mut VecDeque<Entry> {
        match direction {
            Direction::Outbound => &mut self.outbound,
            Direction::Inbound => &mut self.inbound,
        }
    }

    fn is_over(&self) -> bool {
        self.outbound.is_empty() && self.inbound.is_empty()
    }
}

/// What is held, and of whom.
#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    /// Of each sender, by localpart; of nobody who has nothing held.
    senders: HashMap<Box<str>, usize, RandomState>,
}

impl Held {
    fn add(&mut self, sender: &str, bytes: usize) {
        if bytes > 0 {
            self.bytes += bytes;
            *self.senders.entry_ref(sender).or_insert(0) += bytes;
        }
    }

    fn take(&mut self, sender: &str, bytes: usize) {
        self.bytes -= bytes;
        let Some(own) = self.senders.get_mut(sender) else { return };
        *own -= bytes;
        if *own == 0 {
            self.senders.remove(sender);
        }
        if self.senders.is_empty() {
            // What a crowd has needed is given back.
            self.senders = HashMap::default();
        }
    }

    /// As [`PendingSubscriptions::has_room`].
    fn has_room(&self, sender: &str, more: usize, bytes_max: usize) -> bool {
        let own = self.senders.get(sender).copied().unwrap_or(0);
        let free = bytes_max.saturating_sub(self.bytes);
        bytes_max < PARTS_FROM_BYTES || own + more <= free / PART
    }
}

/// The changes under way of one worker's users.
#[derive(Debug, Default)]
pub struct PendingSubscriptions {
    /// By `user/contact`, localparts; no localpart has a slash.
    pairs: BTreeMap<Box<str>, Pair>,
    /// Inbound subscription stanzas for whose writes there was no room, oldest first.
    waiting: VecDeque<DeferredStanza>,
    /// What lanes and `waiting` hold.
    held: Held,
}

fn key(local: &str, contact: &str) -> String {
    format!("{local}/{contact}")
}

impl PendingSubscriptions {
    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Whether inbound subscription stanzas wait for room in the directory's queue.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.held.bytes
    }

    /// Whether so many bytes more of a sender may be held, when `bytes_max` may be in all: it may have an eighth of what is free.
    /// Thus a sender alone has a ninth of all of it, and the more of them there are, the less has each; together they leave
    /// something.
    pub fn has_room(&self, sender: &str, more: usize, bytes_max: usize) -> bool {
        self.held.has_room(sender, more, bytes_max)
    }

    /// Whether a stanza of a user of this worker must wait at its connection: it would be held, and there is no room for it.
    /// `contact`: who gets it; `None`: a presence for all contacts.
    pub fn is_to_wait(&self, local: &str, contact: Option<&str>, bytes: usize, bytes_max: usize) -> bool {
        if self.pairs.is_empty() {
            return false;
        }
        let copies = match contact {
            Some(contact) => usize::from(self.is_held(local, contact)),
            None => self.of(local).filter(|(_, pair)| !pair.outbound.is_empty()).count(),
        };
        copies > 0 && !self.has_room(local, copies * (ENTRY_BYTES + bytes), bytes_max)
    }

    /// Whether what one user sends another is held on this worker, wherever they live.
    fn is_held(&self, from: &str, to: &str) -> bool {
        let outbound = self.pairs.get(key(from, to).as_str());
        outbound.is_some_and(|pair| !pair.outbound.is_empty()) || self.is_held_inbound(from, to)
    }

    fn is_held_inbound(&self, from: &str, to: &str) -> bool {
        self.pairs.get(key(to, from).as_str()).is_some_and(|pair| !pair.inbound.is_empty())
    }

    /// Whether a stanza to a user of this worker would be held and there is no room for it.
    pub fn lacks_room(&self, d: &Delivery<'_>, bytes_max: usize) -> bool {
        let from = address::local_of(d.from);
        !self.pairs.is_empty()
            && self.is_held_inbound(from, d.to_local)
            && !self.has_room(from, ENTRY_BYTES + d.bytes.len(), bytes_max)
    }

    /// The contacts of a user with whom something is under way.
    fn of(&self, local: &str) -> impl Iterator<Item = (&str, &Pair)> {
        let prefix = key(local, "");
        let from = (std::ops::Bound::Included(prefix.as_str()), std::ops::Bound::Unbounded);
        let range = self.pairs.range::<str, _>(from);
        range.map_while(move |(key, pair)| Some((key.strip_prefix(prefix.as_str())?, pair)))
    }

    /// What a user's item about a contact (localparts) says, when that is not what the directory says. `None`: ask
    /// the directory.
    pub fn visible(&self, local: &str, contact: &str) -> Option<Subscription> {
        if self.pairs.is_empty() {
            return None;
        }
        self.pairs.get(key(local, contact).as_str())?.visible
    }

    /// As [`visible`](PendingSubscriptions::visible), for all contacts with whom something is under way.
    pub fn visible_of(&self, local: &str) -> Vec<(Box<str>, Subscription)> {
        if self.pairs.is_empty() {
            return Vec::new();
        }
        self.of(local).filter_map(|(contact, pair)| Some((contact.into(), pair.visible?))).collect()
    }

    fn hold(
        &mut self,
        local: &str,
        contact: &str,
        direction: Direction,
        entry: impl FnOnce() -> Entry,
    ) -> bool {
        let Some(pair) = self.pairs.get_mut(key(local, contact).as_str()) else { return false };
        let lane = pair.lane(direction);
        if lane.is_empty() {
            return false;
        }
        let entry = entry();
        self.held.add(entry.sender(), entry.size());
        lane.push_back(entry);
        true
    }

    /// Holds a stanza of a user of this worker to a contact if it must wait; whether it does.
    pub fn hold_outbound(&mut self, d: &Delivery<'_>) -> bool {
        if self.pairs.is_empty() {
            return false;
        }
        let local = address::local_of(d.from);
        self.hold(local, d.to_local, Direction::Outbound, || Entry::Stanza(DeferredStanza::new(d)))
    }

    /// Holds a stanza to a user of this worker if it must wait; whether it does.
    pub fn hold_inbound(&mut self, d: &Delivery<'_>) -> bool {
        if self.pairs.is_empty() {
            return false;
        }
        let contact = address::local_of(d.from);
        self.hold(d.to_local, contact, Direction::Inbound, || Entry::Stanza(DeferredStanza::new(d)))
    }

    /// Holds a presence that a user of this worker broadcasts, for one contact; whether it waits.
    pub fn hold_broadcast(&mut self, local: &str, contact: &str, shown: &Broadcast<'_>) -> bool {
        let entry =
            || Entry::Broadcast { typ: shown.typ, from: shown.from.into(), tail: shown.payload.into() };
        self.hold(local, contact, Direction::Outbound, entry)
    }
}

/// The item that a write moves.
#[derive(Clone, Debug)]
pub struct About {
    /// Localpart of its owner, a user of this worker.
    pub local: String,
    /// The contact, a bare JID of this server.
    pub contact: String,
    /// The sender of whatever moves it.
    pub direction: Direction,
}

impl About {
    fn key(&self) -> String {
        key(&self.local, address::local_of(&self.contact))
    }
}

/// Runs a job that moves a roster item; as [`Actors::write`], and keeps what follows it in order.
///
/// # Errors
/// As [`Actors::write`].
pub fn write(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    about: About,
    job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<Then, DirectoryError> + Send + 'static,
    failed: impl FnOnce(&mut Actors, &Env, &mut Effects, StanzaError) + Send + 'static,
) -> Result<(), StanzaError> {
    begin(&mut actors.under_way, env, &about);
    let (job, failed) = wrap(about.clone(), job, failed);
    let submitted = actors.write(env, fx, job, failed);
    if submitted.is_err() {
        cancel(&mut actors.under_way, &about);
    }
    submitted
}

fn wrap(
    about: About,
    job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<Then, DirectoryError> + Send + 'static,
    failed: impl FnOnce(&mut Actors, &Env, &mut Effects, StanzaError) + Send + 'static,
) -> (Job<Then>, Failed) {
    let on_failure = about.clone();
    let job = move |transaction: &mut WriteTransaction<'_>| -> Result<Then, DirectoryError> {
        let then = job(transaction)?;
        let item = transaction.roster_item(&about.local, &about.contact)?;
        let now = item.map_or(Subscription::None, |item| item.subscription);
        Ok(Box::new(move |actors: &mut Actors, env: &Env, fx: &mut Effects| {
            then(actors, env, fx);
            done(actors, env, fx, &about, Some(now));
        }))
    };
    let failed = move |actors: &mut Actors, env: &Env, fx: &mut Effects, error: StanzaError| {
        failed(actors, env, fx, error);
        done(actors, env, fx, &on_failure, None);
    };
    (Box::new(job), Box::new(failed))
}

/// Notes that a write is under way.
fn begin(under_way: &mut PendingSubscriptions, env: &Env, about: &About) {
    let key = about.key();
    if !under_way.pairs.contains_key(key.as_str()) {
        // Nothing else moves the item, so the directory has what was in effect last.
        let visible = match env.shared.directory.roster_item(&about.local, &about.contact) {
            Ok(item) => Some(item.map_or(Subscription::None, |item| item.subscription)),
            Err(error) => {
                tracing::error!(user = about.local, %error, "cannot read a roster");
                None
            }
        };
        let pair = Pair { visible, ..Pair::default() };
        under_way.pairs.insert(key.clone().into(), pair);
    }
    if let Some(pair) = under_way.pairs.get_mut(key.as_str()) {
        pair.lane(about.direction).push_back(Entry::Write);
    }
}

/// Takes back the last [`begin`].
fn cancel(under_way: &mut PendingSubscriptions, about: &About) {
    let key = about.key();
    let Some(pair) = under_way.pairs.get_mut(key.as_str()) else { return };
    pair.lane(about.direction).pop_back();
    if pair.is_over() {
        under_way.pairs.remove(key.as_str());
    }
}

/// A write has come back and taken effect; `now` is what the item says since then, `None` for a write that failed.
fn done(actors: &mut Actors, env: &Env, fx: &mut Effects, about: &About, now: Option<Subscription>) {
    let key = about.key();
    let Some(pair) = actors.under_way.pairs.get_mut(key.as_str()) else { return };
    let before = pair.visible;
    pair.visible = now.or(before);
    let after = pair.visible;
    let lane = pair.lane(about.direction);
    lane.pop_front();
    let until = lane.iter().position(|entry| matches!(entry, Entry::Write)).unwrap_or(lane.len());
    let released: Vec<Entry> = lane.drain(..until).collect();
    if pair.is_over() {
        actors.under_way.pairs.remove(key.as_str());
    }
    for entry in released {
        actors.under_way.held.take(entry.sender(), entry.size());
        match entry {
            Entry::Write => {}
            Entry::Stanza(kept) if about.direction == Direction::Inbound => {
                let mut delivery = kept.delivery();
                delivery.traits.set(Traits::RELEASED);
                fx.route(env, &delivery);
            }
            Entry::Stanza(kept) => {
                let mut delivery = kept.delivery();
                delivery.traits.set(Traits::HELD);
                fx.route(env, &delivery);
            }
            Entry::Broadcast { typ, from, tail } => {
                let fits = match typ {
                    Type::Probe => sees(after),
                    // Everybody that has seen the resource hears of its end.
                    Type::Unavailable => is_seen_by(before) || is_seen_by(after),
                    _ => is_seen_by(after),
                };
                // Whoever was blocked meanwhile has been told that the user is gone.
                let contact = address::local_of(&about.contact);
                if fits && !presence::is_blocked(&actors.users, env, fx, &about.local, contact) {
                    let shown = Broadcast::new(typ, &from, &tail);
                    presence::send_one(&mut actors.users, env, fx, &shown, &about.contact);
                }
            }
        }
    }
}

fn sees(subscription: Option<Subscription>) -> bool {
    matches!(subscription, Some(Subscription::To | Subscription::Both))
}

fn is_seen_by(subscription: Option<Subscription>) -> bool {
    matches!(subscription, Some(Subscription::From | Subscription::Both))
}

/// What becomes of an inbound subscription stanza: the item it moves, the job, and what to do when it fails.
pub type Inbound = (About, Job<Then>, Failed);

/// Submits an inbound subscription stanza, or lets it wait for room.
pub(super) fn receive(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    d: &Delivery<'_>,
    inbound: impl Fn(&Env, &Delivery<'_>) -> Inbound,
) {
    let (about, job, failed) = inbound(env, d);
    begin(&mut actors.under_way, env, &about);
    let room = !actors.under_way.has_waiting();
    let (job, failed) = wrap(about, job, failed);
    if room && actors.submit(fx, job, failed) {
        return;
    }
    let kept = DeferredStanza::new(d);
    actors.under_way.held.add(address::local_of(&kept.from), kept.size());
    actors.under_way.waiting.push_back(kept);
}

/// Submits inbound subscription stanzas that wait, as far as there is room.
pub(super) fn retry(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    inbound: impl Fn(&Env, &Delivery<'_>) -> Inbound,
) {
    while let Some(kept) = actors.under_way.waiting.pop_front() {
        let (about, job, failed) = inbound(env, &kept.delivery());
        let (job, failed) = wrap(about, job, failed);
        if !actors.submit(fx, job, failed) {
            actors.under_way.waiting.push_front(kept);
            return;
        }
        actors.under_way.held.take(address::local_of(&kept.from), kept.size());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_together_leave_something_free() {
        const MAX: usize = 1 << 22;
        let mut held = Held::default();
        let take_all = |held: &mut Held, sender: &str| {
            while held.has_room(sender, 1000, MAX) {
                held.add(sender, 1000);
            }
        };
        take_all(&mut held, "a0");
        assert!((MAX / 10..MAX / 9).contains(&held.bytes), "one has a ninth: {}", held.bytes);
        (1..200).for_each(|n| take_all(&mut held, &format!("a{n}")));
        assert!(held.bytes < MAX, "{} of {MAX}", held.bytes);
        assert!(held.has_room("bystander", 500, MAX));
        for (sender, own) in held.senders.clone() {
            held.take(&sender, own);
        }
        assert_eq!((held.bytes, held.senders.capacity()), (0, 0), "nothing is left");
    }
}
