//! Where a stanza goes: RFC 6120 §8 and §10, RFC 6121 §8.
//!
//! [`from_client`] takes what a bound resource sent, checks and stamps it, and sends it on its way;
//! [`deliver`] hands a stanza to a user of this worker by the rules for its kind and type.

use std::borrow::Cow;

use smallvec::SmallVec;
use whimbrel_storage::jid::JidRef;
use whimbrel_storage::log::Sequence;

use crate::reply;
use crate::service;
use crate::stanza::{Delivery, Kind, Ticket, Traits, Type};
use crate::stream::errors::{StanzaCondition, StanzaError, StreamCondition, StreamEnd};
use crate::user::flow::Class;
use crate::user::home::Home;
use crate::user::inactive::Urgency;
use crate::user::subscription::table::Verb;
use crate::user::tables::{Flags, ResourceKey, UserKey};
use crate::user::writes::{Area, Place};
use crate::user::{blocking, carbons, flow, inactive, offline, presence, room, stranger};
use crate::xml::{CLIENT, CommonAttributes, Stamp, Stanza};

/// What a client sent, with everything that was read from it once.
pub struct Inbound<'a> {
    /// The sender.
    pub sender: ResourceKey,
    /// His full JID.
    pub from: &'a str,
    /// Kind.
    pub kind: Kind,
    /// Type.
    pub typ: Type,
    /// The `to` attribute as the client wrote it, entities decoded.
    pub to_text: Option<&'a str>,
    /// The `id` attribute, entities decoded.
    pub id: Option<&'a str>,
    /// The default language of his stream, when it is not the server's.
    pub language: Option<&'a str>,
    /// The stanza.
    pub stanza: &'a Stanza<'a>,
    /// Its number, when the sender's stream is managed.
    pub ticket: Option<Ticket>,
}

impl Inbound<'_> {
    /// The sender's localpart.
    pub fn local(&self) -> &str {
        self.from.split_once('@').map_or("", |(local, _)| local)
    }

    /// Appends the stanza as its recipient gets it.
    pub fn write_stamped(&self, out: &mut Vec<u8>) {
        self.stanza.write_stamped(&Stamp { from: self.from, to: None, language: self.language }, out);
    }
}

/// How the next stanza of a bound resource stands to writes that it has begun: what it does may depend on them.
pub fn place_of(home: &Home, sender: ResourceKey, stanza: &Stanza<'_>) -> Place {
    let CommonAttributes { to, typ, .. } = stanza.common_attributes();
    match Kind::from_name(stanza.name()) {
        Some(Kind::Iq) => {
            let own = home.users.local_of(sender);
            let to_server = to.is_none_or(|to| {
                JidRef::parse(&to).is_ok_and(|to| {
                    to.is_bare()
                        && to.domain() == &*home.shared.domain
                        && to.local().is_none_or(|local| local == own)
                })
            });
            if to_server { service::place_of(stanza) } else { Place::Behind }
        }
        Some(Kind::Presence) => match Type::parse(Kind::Presence, typ.as_deref()).and_then(Verb::of) {
            Some(_) => Place::In(Area::Roster),
            None => Place::Behind,
        },
        _ => Place::Behind,
    }
}

/// Handles a stanza from a bound resource.
///
/// # Errors
/// The condition with which the stream is to be ended: `unsupported-stanza-type` and `invalid-from`
/// (RFC 6120 §4.9.3).
pub fn from_client(
    home: &mut Home,
    sender: ResourceKey,
    language: Option<&str>,
    stanza: &Stanza<'_>,
) -> Result<(), StreamEnd> {
    let mut from = std::mem::take(&mut home.sender);
    from.clear();
    home.write_full(sender, &mut from);
    let result = from_client_as(home, sender, &from, language, stanza);
    home.sender = from;
    result
}

/// As [`from_client`]; `from` is the sender's full JID.
fn from_client_as(
    home: &mut Home,
    sender: ResourceKey,
    from: &str,
    language: Option<&str>,
    stanza: &Stanza<'_>,
) -> Result<(), StreamEnd> {
    let Some(kind) = Kind::from_name(stanza.name()) else {
        return Err((StreamCondition::UnsupportedStanzaType, None));
    };
    if stanza.namespace() != CLIENT {
        return Err((StreamCondition::InvalidNamespace, None));
    }
    let metrics = home.metrics();
    match kind {
        Kind::Message => metrics.messages_in.add(1),
        Kind::Presence => metrics.presences_in.add(1),
        Kind::Iq => metrics.iqs_in.add(1),
    }
    let ticket = home.count_received(sender);
    let CommonAttributes { to: to_text, from: claimed, id, typ: typ_text } = stanza.common_attributes();
    if let Some(claimed) = claimed {
        check_from(&claimed, from)?;
    }
    let id = id.as_deref();
    let Some(typ) = Type::parse(kind, typ_text.as_deref()) else {
        refuse(home, kind, from, to_text.as_deref(), id, StanzaCondition::BadRequest.into());
        return Ok(());
    };
    let to = match to_text.as_deref().map(JidRef::parse).transpose() {
        Ok(to) => to,
        Err(_) => {
            if may_be_answered(kind, typ) {
                refuse(home, kind, from, None, id, StanzaCondition::JidMalformed.into());
            }
            return Ok(());
        }
    };
    let to_text = to_text.as_deref();
    let inbound = Inbound { sender, from, kind, typ, to_text, id, language, stanza, ticket };
    if kind == Kind::Iq && !well_formed_iq(&inbound) {
        if may_be_answered(kind, typ) {
            refuse(home, kind, from, inbound.to_text, id, StanzaCondition::BadRequest.into());
        }
        return Ok(());
    }
    if kind == Kind::Presence {
        presence::from_client(home, &inbound, to.as_ref());
        return Ok(());
    }
    forward(home, &inbound, to.as_ref());
    Ok(())
}

/// RFC 6120 §8.1.2.1: a client may say who it is, but not that it is somebody else.
fn check_from(claimed: &str, full: &str) -> Result<(), StreamEnd> {
    let bare_length = full.find('/').expect("a full JID has a resource");
    if claimed == full || claimed == &full[..bare_length] {
        return Ok(());
    }
    match JidRef::parse(claimed) {
        Ok(jid) if jid.to_jid().as_str() == full || jid.to_jid().as_str() == &full[..bare_length] => Ok(()),
        _ => Err((StreamCondition::InvalidFrom, None)),
    }
}

/// RFC 6120 §8.2.3: an id always, if only an empty one; get and set have exactly one child, a result at most one.
fn well_formed_iq(inbound: &Inbound<'_>) -> bool {
    let children = inbound.stanza.children().len();
    inbound.id.is_some()
        && match inbound.typ {
            Type::Get | Type::Set => children == 1,
            Type::Result => children <= 1,
            _ => true,
        }
}

/// Whether an error may be sent in answer (RFC 6120 §8.3.1: never to an error; a result gets no answer).
pub fn may_be_answered(kind: Kind, typ: Type) -> bool {
    match kind {
        Kind::Iq => matches!(typ, Type::Get | Type::Set),
        Kind::Message => typ != Type::Error,
        Kind::Presence => !matches!(typ, Type::Error | Type::Unavailable),
    }
}

/// Sends a message or iq from a client on its way.
pub fn forward(home: &mut Home, inbound: &Inbound<'_>, to: Option<&JidRef<'_>>) {
    let own_local = inbound.local();
    let to_own_account = |jid: &JidRef<'_>| jid.is_bare() && jid.local() == Some(own_local);
    let Some(to) = to.filter(|jid| !(jid.domain() == &*home.shared.domain && to_own_account(jid))) else {
        match inbound.kind {
            Kind::Iq => service::dispatch(home, inbound, service::Scope::OwnAccount),
            Kind::Message | Kind::Presence => send_to_user(home, inbound, own_local, None),
        }
        return;
    };
    if to.domain() != &*home.shared.domain {
        // No server-to-server: RFC 6120 §8.3.3.16.
        if may_be_answered(inbound.kind, inbound.typ) {
            let error = StanzaCondition::RemoteServerNotFound.into();
            refuse(home, inbound.kind, inbound.from, inbound.to_text, inbound.id, error);
        }
        return;
    }
    match (to.local(), to.resource()) {
        (Some(local), resource) => {
            let own = home.users.resource(inbound.sender).user;
            if local != own_local && blocking::user_blocks(home, own, to) {
                if may_be_answered(inbound.kind, inbound.typ) {
                    let error = blocking::own_block_error();
                    refuse(home, inbound.kind, inbound.from, inbound.to_text, inbound.id, error);
                }
                return;
            }
            send_to_user(home, inbound, local, resource);
        }
        (None, None) if inbound.kind == Kind::Iq => {
            service::dispatch(home, inbound, service::Scope::Server);
        }
        (None, _) => {
            // A message to the server itself, or to a resource of the domain: nobody is there.
            if may_be_answered(inbound.kind, inbound.typ) {
                let error = StanzaCondition::ServiceUnavailable.into();
                refuse(home, inbound.kind, inbound.from, inbound.to_text, inbound.id, error);
            }
        }
    }
}

/// Stamps a client's stanza and routes it to a user of this server.
pub fn send_to_user(home: &mut Home, inbound: &Inbound<'_>, local: &str, resource: Option<&str>) {
    let traits = match inbound.kind {
        Kind::Message => Traits::of(inbound.stanza.children().map(|child| (child.name(), child.namespace()))),
        Kind::Presence => presence_traits(home, inbound.typ, inbound.from),
        Kind::Iq => Traits::default(),
    };
    let mut bytes = std::mem::take(&mut home.scratch);
    bytes.clear();
    inbound.write_stamped(&mut bytes);
    let mut delivery = Delivery {
        kind: inbound.kind,
        typ: inbound.typ,
        traits,
        from: inbound.from,
        to_local: local,
        to_resource: resource,
        id: inbound.id,
        bytes: &bytes,
        ticket: None,
    };
    if inbound.kind == Kind::Message {
        if delivery.is_kept()
            && let Some(ticket) = inbound.ticket
        {
            home.leave_unsettled(ticket);
            delivery.ticket = Some(ticket);
        }
        carbons::copy_sent(home, inbound.sender, &delivery);
    }
    home.route_in_order(&delivery);
    home.scratch = bytes;
}

/// How a presence of a user of this worker is treated.
pub fn presence_traits(home: &Home, typ: Type, from: &str) -> Traits {
    let shows = matches!(typ, Type::Available | Type::Unavailable);
    match shows && blocking::chooses_resources(home, from) {
        true => Traits::CHOOSES_RESOURCES,
        false => Traits::default(),
    }
}

/// Hands a stanza to a user whose home is this worker (RFC 6121 §8.5), behind the subscriptions that its sender has
/// under way with him.
pub fn deliver(home: &mut Home, d: &Delivery<'_>) {
    let is_subscription = Verb::of(d.typ).is_some();
    if is_subscription || !home.under_way.hold_inbound(d) {
        deliver_now(home, d);
    }
}

/// As [`deliver`], at once.
pub fn deliver_now(home: &mut Home, d: &Delivery<'_>) {
    let user = home.users.find(d.to_local);
    if blocking::stops(home, d, user) {
        // XEP-0191 §3.2: as if the user were not there.
        match d.kind {
            Kind::Message if deliver_message_to_nobody(home, d) => return,
            Kind::Iq => deliver_iq(home, d, None, true),
            Kind::Message | Kind::Presence => {}
        }
        return settle_now(home, d);
    }
    match d.kind {
        Kind::Message if d.is_kept() => {
            if !offline::keep(home, d, user) {
                settle_now(home, d);
            }
        }
        Kind::Message => deliver_message(home, d, user),
        Kind::Presence => presence::receive(home, d, user),
        Kind::Iq => deliver_iq(home, d, user, false),
    }
}

/// Nothing has to be kept of a message: its sender need not wait.
fn settle_now(home: &mut Home, d: &Delivery<'_>) {
    if let Some(ticket) = d.ticket {
        home.settle(ticket);
    }
}

/// `is_hidden`: the user blocks the sender, and `user` is `None`.
fn deliver_iq(home: &mut Home, d: &Delivery<'_>, user: Option<UserKey>, is_hidden: bool) {
    let Some(resource) = d.to_resource else {
        // RFC 6121 §8.5.2.1.3: the server answers on behalf of the account; results to it mean nothing.
        if matches!(d.typ, Type::Get | Type::Set) {
            service::dispatch_for_account(home, d, is_hidden);
        }
        return;
    };
    match user.and_then(|user| home.users.find_resource(user, resource)) {
        Some(key) if d.traits.has(Traits::FROM_SERVER) || takes(home, key, d) => hand_over(home, key, d),
        Some(_) => not_taken(home, d),
        None => bounce(home, d, StanzaCondition::ServiceUnavailable),
    }
}

/// A message that is not kept. (One that is goes through [`offline::keep`].)
fn deliver_message(home: &mut Home, d: &Delivery<'_>, user: Option<UserKey>) {
    let Some(user) = user else {
        deliver_message_to_nobody(home, d);
        return;
    };
    if let Some(resource) = d.to_resource {
        if let Some(key) = home.users.find_resource(user, resource) {
            if !d.traits.has(Traits::FROM_SERVER) && !takes(home, key, d) {
                return not_taken(home, d);
            }
            hand_over(home, key, d);
            carbons::copy_received(home, user, d, &[key]);
            return;
        }
        // RFC 6121 §8.5.3.2.1: only a chat message looks for another resource of the same user.
        if d.typ != Type::Chat {
            deliver_message_to_nobody(home, d);
            return;
        }
    }
    let recipients = recipients_of_bare(home, user, d.typ);
    if recipients.is_empty() {
        deliver_message_to_nobody(home, d);
        return;
    }
    if !recipients.iter().any(|&key| takes(home, key, d)) {
        return not_taken(home, d);
    }
    for &key in &recipients {
        hand_over(home, key, d);
    }
    carbons::copy_received(home, user, d, &recipients);
}

/// RFC 6121 §8.5.2.1.1: a headline goes to every resource with a non-negative priority; a chat or normal
/// message to the most available one, or to all that share the highest priority. Nothing else goes to a bare JID.
pub fn recipients_of_bare(home: &Home, user: UserKey, typ: Type) -> SmallVec<[ResourceKey; 4]> {
    let priority = |key: &ResourceKey| home.users.resource(*key).priority;
    let mut candidates = home.users.available_of(user);
    candidates.retain(|key| priority(key) >= 0);
    match typ {
        Type::Headline => candidates,
        Type::Chat | Type::Normal => {
            let highest = candidates.iter().map(priority).max();
            candidates.retain(|key| Some(priority(key)) == highest);
            candidates
        }
        _ => SmallVec::new(),
    }
}

/// RFC 6121 §8.5.1, §8.5.2.2, §8.5.3.2: the account does not exist or nobody can receive. Returns whether the sender will
/// hear when a commit has passed.
fn deliver_message_to_nobody(home: &mut Home, d: &Delivery<'_>) -> bool {
    match d.typ {
        Type::Error | Type::Headline => false,
        _ => stranger::turn_away(home, d, StanzaCondition::ServiceUnavailable.into()),
    }
}

/// Writes a stanza to a bound resource, or holds it back while the client is inactive or reads slowly.
pub fn hand_over(home: &mut Home, key: ResourceKey, d: &Delivery<'_>) {
    let urgency = inactive::urgency(d);
    let class = match (d.kind, d.typ) {
        _ if urgency == Urgency::Replaceable => Class::Presence(d.from),
        (Kind::Iq, Type::Result | Type::Error) if d.traits.has(Traits::FROM_SERVER) => {
            Class::Answer { from: Some(d.from), id: d.id.unwrap_or_default() }
        }
        _ if d.traits.has(Traits::FROM_SERVER) => Class::Own,
        _ => Class::Foreign,
    };
    hand_over_as(home, key, d.kind, class, urgency, d.bytes);
}

/// Hands a message of the log over.
pub fn hand_over_record(home: &mut Home, key: ResourceKey, bytes: &[u8], record: Sequence) {
    hand_over_as(home, key, Kind::Message, Class::Record(record), Urgency::Now, bytes);
}

/// As [`hand_over`], of what this server tells of the user's own account, or of presence from `from`.
pub fn hand_over_bytes(
    home: &mut Home,
    key: ResourceKey,
    kind: Kind,
    from: &str,
    urgency: Urgency,
    bytes: &[u8],
) {
    let class = match (kind, urgency) {
        (_, Urgency::Replaceable) => Class::Presence(from),
        (Kind::Iq, _) => Class::Own,
        _ => Class::Foreign,
    };
    hand_over_as(home, key, kind, class, urgency, bytes);
}

fn hand_over_as(
    home: &mut Home,
    key: ResourceKey,
    kind: Kind,
    class: Class<'_>,
    urgency: Urgency,
    bytes: &[u8],
) {
    let metrics = home.metrics();
    match kind {
        Kind::Message => metrics.messages_out.add(1),
        Kind::Presence => metrics.presences_out.add(1),
        Kind::Iq => metrics.iqs_out.add(1),
    }
    let from = match class {
        Class::Presence(from) => from,
        _ => "",
    };
    let flags = home.users.resource(key).flags;
    if (flags.has(Flags::INACTIVE) || flags.has(Flags::BACKED_UP))
        && inactive::hold(home, key, kind, from, urgency, bytes)
    {
        return;
    }
    flow::write(home, key, kind, class, bytes);
}

/// Whether a resource takes a stanza that somebody else sends it and that is kept nowhere.
fn takes(home: &mut Home, key: ResourceKey, d: &Delivery<'_>) -> bool {
    inactive::urgency(d) != Urgency::Now || room::takes(home, key, Class::Foreign, d.bytes.len())
}

/// A stanza is not taken because too much waits for its recipient: its sender is told, if it is worth it.
fn not_taken(home: &mut Home, d: &Delivery<'_>) {
    home.metrics().dropped_output.add(1);
    if d.typ != Type::Headline && !d.traits.has(Traits::STATE_ONLY) {
        let text = "too much waits for the recipient; try again later";
        let error = StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text);
        match d.kind {
            // Not kept, so there is nothing to wait for.
            Kind::Message => {
                stranger::turn_away(home, d, error);
            }
            _ => bounce_with(home, d, error),
        }
    }
}

/// Answers a stanza that was on its way to a user with an error, unless it is one that gets no answer.
pub fn bounce(home: &mut Home, d: &Delivery<'_>, condition: StanzaCondition) {
    bounce_with(home, d, condition.into());
}

/// As [`bounce`], with an error that says more.
pub fn bounce_with(home: &mut Home, d: &Delivery<'_>, error: StanzaError) {
    if !may_be_answered(d.kind, d.typ) {
        return;
    }
    let mut to = String::with_capacity(d.to_local.len() + home.shared.domain.len() + 1);
    to.push_str(d.to_local);
    to.push('@');
    to.push_str(&home.shared.domain);
    if let Some(resource) = d.to_resource {
        to.push('/');
        to.push_str(resource);
    }
    let mut traits = Traits::FROM_SERVER;
    if d.kind == Kind::Message && carbons::eligible(d) {
        traits.set(Traits::ANSWERS_COPIED);
    }
    refuse_with(home, d.kind, traits, d.from, Some(&to), d.id, &error);
}

/// Sends a stanza error to `recipient` (a full JID of this server). `from` is the address that was written to.
pub fn refuse(
    home: &mut Home,
    kind: Kind,
    recipient: &str,
    from: Option<&str>,
    id: Option<&str>,
    error: StanzaError,
) {
    refuse_with(home, kind, Traits::FROM_SERVER, recipient, from, id, &error);
}

fn refuse_with(
    home: &mut Home,
    kind: Kind,
    traits: Traits,
    recipient: &str,
    from: Option<&str>,
    id: Option<&str>,
    error: &StanzaError,
) {
    home.metrics().errors_out.add(1);
    let mut bytes = Vec::with_capacity(256);
    reply::open(kind, Type::Error, from, recipient, id, &mut bytes);
    bytes.push(b'>');
    error.write(&mut bytes);
    bytes.extend_from_slice(b"</");
    bytes.extend_from_slice(kind.name().as_bytes());
    bytes.push(b'>');
    send_made(home, Made { kind, typ: Type::Error, traits, from, id, bytes: &bytes }, recipient);
}

/// Routes a presence that the server made in the name of one user, of this worker, to another. `recipient` is a JID of the
/// other, whose block list applies.
pub fn send_presence(home: &mut Home, typ: Type, recipient: &str, from: &str, bytes: &[u8]) {
    let traits = presence_traits(home, typ, from);
    let made = Made { kind: Kind::Presence, typ, traits, from: Some(from), id: None, bytes };
    send_made(home, made, recipient);
}

/// A stanza that the server made.
pub struct Made<'a> {
    /// Kind.
    pub kind: Kind,
    /// Type.
    pub typ: Type,
    /// Treatment; [`Traits::FROM_SERVER`] for what no block list may stop.
    pub traits: Traits,
    /// The address it comes from; `None` for the recipient's own account.
    pub from: Option<&'a str>,
    /// The id.
    pub id: Option<&'a str>,
    /// The whole stanza.
    pub bytes: &'a [u8],
}

/// Routes a stanza that the server made to one of its users.
pub fn send_made(home: &mut Home, made: Made<'_>, recipient: &str) {
    let Ok(to) = JidRef::parse(recipient) else { return };
    let Some(local) = to.local() else { return };
    let from = made.from.map_or_else(|| Cow::Owned(home.bare_jid(local)), Cow::Borrowed);
    let delivery = Delivery {
        kind: made.kind,
        typ: made.typ,
        traits: made.traits,
        from: &from,
        to_local: local,
        to_resource: to.resource(),
        id: made.id,
        bytes: made.bytes,
        ticket: None,
    };
    home.route(&delivery);
}
