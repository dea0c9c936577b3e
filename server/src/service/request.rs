//! Requests to the server: read from an iq, and handed to the service that answers them.

use whimbrel_storage::directory::Subscription;

use crate::effects::work;
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::StanzaCondition;
use crate::service::SERVICES;
use crate::service::reply::{Reply, ReplyTo};
use crate::service::table::{self, Answer, Scope};
use crate::stanza::{Delivery, Kind, PendingAck, Type};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::inbound::Inbound;
use crate::user::tables::ResourceKey;
use crate::user::writes::{Area, Place};
use crate::xml::{Element, Node, Stanza};

/// A request to the server.
pub struct Request {
    /// The requester's full JID.
    pub from: String,
    /// The requester's localpart.
    pub from_local: String,
    /// The requester's resource on this worker; `None` when that is another one's ([`Scope::OtherAccount`], [`Scope::Nodes`]).
    pub sender: Option<ResourceKey>,
    /// The address that the request was sent to; `None` when it has none.
    pub to: Option<String>,
    /// The localpart of the account that is asked: the requester's own, another's, or empty for the domain and for the
    /// publish-subscribe service.
    pub account: String,
    /// To whom it is addressed.
    pub scope: Scope,
    /// The account blocks the requester, who is to find it as if it did not exist (XEP-0191 §3.2). False: it exists
    /// and is open to the request, or it does not exist.
    pub is_hidden: bool,
    /// `Get` or `Set`.
    pub typ: Type,
    /// The id.
    pub id: String,
    /// The one child of the iq.
    pub query: Element,
    /// Its number, when the requester's stream is managed: of a `sender`, or travelling with the request.
    pub pending_ack: Option<PendingAck>,
    /// [`Answers::writes`](crate::service::Answers::writes) of the service that answers it.
    pub area: Area,
}

impl Request {
    /// Where the reply goes.
    pub fn reply_to(&self) -> ReplyTo {
        ReplyTo::new(&self.from, self.to.as_deref(), &self.id)
    }

    /// Whether the requester may know whether the account is online: it is their own, or they are subscribed to its
    /// presence. An account that does not exist is seen by nobody.
    pub fn sees_presence(&self, env: &Env) -> bool {
        if self.from_local == self.account {
            return true;
        }
        if self.is_hidden {
            return false;
        }
        let requester = env.bare_jid(&self.from_local);
        match env.shared.directory.roster_item(&self.account, &requester) {
            Ok(item) => {
                item.is_some_and(|item| matches!(item.subscription, Subscription::From | Subscription::Both))
            }
            Err(error) => {
                tracing::error!(user = self.account, %error, "cannot read a roster");
                false
            }
        }
    }
}

/// Answers an iq get or set of a bound resource to the domain or to its own account. A result or an error goes to the
/// service that has asked for it; that of a push goes nowhere.
pub fn dispatch(actors: &mut Actors, env: &Env, fx: &mut Effects, inbound: &Inbound<'_>, scope: Scope) {
    if !matches!(inbound.typ, Type::Get | Type::Set) {
        if let Some((asks, about)) = table::asker(SERVICES, &env.config, inbound.id.unwrap_or_default()) {
            let &Inbound { sender, typ, stanza, .. } = inbound;
            (asks.answered)(actors, env, fx, &Answer { sender, typ, about, iq: stanza });
        }
        return;
    }
    let own = actors.users.local_of(inbound.sender).to_owned();
    fx.work.add_tree(inbound.stanza.bytes().len());
    let Some(query) = only_child(inbound.stanza.to_element()) else { return };
    answer(
        actors,
        env,
        fx,
        Request {
            from: inbound.from.to_owned(),
            from_local: own.clone(),
            sender: Some(inbound.sender),
            to: inbound.to_text.map(str::to_owned),
            account: if scope == Scope::OwnAccount { own } else { String::new() },
            scope,
            is_hidden: false,
            typ: inbound.typ,
            id: inbound.id.unwrap_or_default().to_owned(),
            query,
            pending_ack: inbound.pending_ack,
            area: Area::Alone,
        },
    );
}

/// Answers an iq get or set to the bare JID of another user, whose home is this worker. `is_hidden`: the user blocks
/// the sender.
pub fn dispatch_for_account(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    d: &Delivery<'_>,
    is_hidden: bool,
) {
    let begun = fx.work.spent();
    fx.work.add_tree(d.bytes.len());
    let Ok(iq) = Element::parse(d.bytes) else { return };
    let Some(query) = only_child(iq) else { return };
    let from_local = address::local_of(d.from).to_owned();
    answer(
        actors,
        env,
        fx,
        Request {
            from: d.from.to_owned(),
            from_local,
            sender: None,
            to: Some(env.bare_jid(d.to_local)),
            account: d.to_local.to_owned(),
            scope: Scope::OtherAccount,
            is_hidden,
            typ: d.typ,
            id: d.id.unwrap_or_default().to_owned(),
            query,
            pending_ack: None,
            area: Area::Alone,
        },
    );
    // Where it lives here, it is the requester's turn.
    if env.home_of(address::local_of(d.from)) != env.worker {
        bill(env, fx, d.from, fx.work.spent() - begun);
    }
}

/// Answers an iq set to a node of the publish-subscribe service, whose home is this worker. Its sender's stream acknowledges it
/// when it is written.
pub fn dispatch_for_node(actors: &mut Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>) {
    fx.work.add_tree(d.bytes.len());
    let query = Element::parse(d.bytes).ok().and_then(only_child);
    let is_later = query.is_some_and(|query| {
        let request = Request {
            from: d.from.to_owned(),
            from_local: address::local_of(d.from).to_owned(),
            sender: None,
            to: Some(env.owner_jid("")),
            account: String::new(),
            scope: Scope::Nodes,
            is_hidden: false,
            typ: d.typ,
            id: d.id.unwrap_or_default().to_owned(),
            query,
            pending_ack: d.pending_ack,
            area: Area::Alone,
        };
        answer(actors, env, fx, request)
    });
    if let (false, Some(pending_ack)) = (is_later, d.pending_ack) {
        actors.users.notify_durable(env, fx, pending_ack);
    }
}

/// Units of work that a request may lead to at the home of another account unpaid: about what any request does.
const BILLED_ABOVE: u64 = 16;

/// A stanza has led to work at the home of another account or of a room, and its sender, a full JID, is to pay for that at its own:
/// a publication to a node to which everybody may publish has as many recipients as one to a node of the requester's.
pub fn bill(env: &Env, fx: &mut Effects, requester: &str, work: u64) {
    if work > BILLED_ABOVE {
        fx.links.to(env.home_of(address::local_of(requester))).owed(requester, work);
    }
}

/// How an iq of a client that is for the server or the client's own account stands to writes that it has begun.
pub fn place_of(iq: &Stanza<'_>) -> Place {
    match Type::parse(Kind::Iq, iq.attribute("type").as_deref()) {
        // Pushes and pings of ours are answered by these; nothing follows from them.
        Some(Type::Result | Type::Error) => Place::Anywhere,
        Some(Type::Set) => {
            let child = iq.children().next();
            let area = child.and_then(|child| table::area_of(SERVICES, child.name(), child.namespace()));
            area.map_or(Place::Behind, Place::In)
        }
        _ => Place::Behind,
    }
}

/// The child of an iq, of which it has one.
pub fn only_child(iq: Element) -> Option<Element> {
    iq.into_nodes().into_iter().find_map(|node| match node {
        Node::Element(element) => Some(element),
        Node::Text(_) => None,
    })
}

/// Answers a request at once, or begins to; returns whether the answer comes later.
fn answer(actors: &mut Actors, env: &Env, fx: &mut Effects, mut request: Request) -> bool {
    fx.work.add(work::REQUEST);
    let child = (request.query.name(), request.query.namespace());
    let reply = match table::find(SERVICES, &env.config, child, request.scope) {
        Some(answers) => {
            request.area = answers.writes;
            (answers.handle)(actors, env, fx, &request)
        }
        None => StanzaCondition::ServiceUnavailable.into(),
    };
    let is_later = matches!(reply, Reply::Later);
    request.reply_to().send(env, fx, reply);
    is_later
}
