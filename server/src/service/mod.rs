//! What the server answers itself: one file a XEP, registered in one table.
//!
//! A service is an element (name and namespace) that an iq may carry, the places where it may be sent, and a
//! function from a request to a reply. Nothing else in the server knows which services there are; disco reads
//! the same table.

use crate::effects::answer::{self, Made, Refused};
use crate::effects::work;
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::reply;
use crate::stanza::{Delivery, Kind, PendingAck, Traits, Type};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::inbound::Inbound;
use crate::user::jobs::Then;
use crate::user::subscription::under_way::{self, About};
use crate::user::tables::ResourceKey;
use crate::user::tables::Users;
use crate::user::writes::{Area, Place, Write};
use crate::xml::{CLIENT, Element, Node, Stanza};
use whimbrel_storage::directory::{DirectoryError, Subscription, WriteTransaction};

/// To whom a request is addressed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// To the domain.
    Server,
    /// To the requester's own account: no `to`, or the own bare JID.
    OwnAccount,
    /// To the bare JID of another account of this server; handled on that account's home worker.
    OtherAccount,
}

/// A set of scopes.
#[derive(Copy, Clone, Debug)]
pub struct Scopes {
    /// [`Scope::Server`]
    pub server: bool,
    /// [`Scope::OwnAccount`]
    pub own: bool,
    /// [`Scope::OtherAccount`]
    pub other: bool,
}

impl Scopes {
    /// Only the requester's own account.
    pub const OWN: Scopes = Scopes { server: false, own: true, other: false };
    /// Only the domain.
    pub const SERVER: Scopes = Scopes { server: true, own: false, other: false };
    /// The domain and the requester's own account.
    pub const SERVER_AND_OWN: Scopes = Scopes { server: true, own: true, other: false };
    /// Everywhere.
    pub const ANY: Scopes = Scopes { server: true, own: true, other: true };
    /// The requester's own account and other accounts.
    pub const ACCOUNTS: Scopes = Scopes { server: false, own: true, other: true };

    fn contains(self, scope: Scope) -> bool {
        match scope {
            Scope::Server => self.server,
            Scope::OwnAccount => self.own,
            Scope::OtherAccount => self.other,
        }
    }
}

/// A request to the server.
pub struct Request {
    /// The requester's full JID.
    pub from: String,
    /// The requester's localpart.
    pub from_local: String,
    /// The requester's resource on this worker; `None` when that is another one's ([`Scope::OtherAccount`]).
    pub sender: Option<ResourceKey>,
    /// The address that the request was sent to; `None` when it has none.
    pub to: Option<String>,
    /// The localpart of the account that is asked: the requester's own, another's, or empty for the domain.
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
    /// Its number, when the requester's stream is managed and on this worker.
    pub pending_ack: Option<PendingAck>,
    /// [`Service::writes`] of the service that answers it.
    pub area: Area,
}

/// What a service says to a request.
pub enum Reply {
    /// An empty result.
    Done,
    /// A result with this child.
    Result(Element),
    /// An error.
    Error(StanzaError),
    /// The reply will be sent later, by [`Request::reply_to`].
    Later,
}

impl From<StanzaCondition> for Reply {
    fn from(condition: StanzaCondition) -> Reply {
        Reply::Error(condition.into())
    }
}

/// Where a reply goes.
#[derive(Clone, Debug)]
pub struct ReplyTo {
    from: String,
    to: Option<String>,
    id: String,
}

/// A request that is answered later: what its requester sends behind it and its acknowledgement wait for that.
#[derive(Clone, Debug)]
pub struct Begun {
    reply_to: ReplyTo,
    write: Option<Write>,
}

impl Request {
    /// Where the reply goes.
    pub fn reply_to(&self) -> ReplyTo {
        ReplyTo { from: self.from.clone(), to: self.to.clone(), id: self.id.clone() }
    }

    /// Runs a job in a write transaction of the directory and replies with what it returns once that is
    /// committed: `Ok` with a function that runs on this worker after the result was sent (pushes, for
    /// example), or an error of its own, for which the job must not have written anything.
    ///
    /// A full queue is answered with `resource-constraint`, a failed write with `internal-server-error`.
    pub fn commit(
        &self,
        actors: &mut Actors,
        env: &Env,
        fx: &mut Effects,
        job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<Result<Committed, StanzaError>, DirectoryError>
        + Send
        + 'static,
    ) -> Reply {
        self.commit_about(actors, env, fx, None, job)
    }

    /// As [`commit`](Request::commit), for a job that ends a subscription: what follows it stays behind it.
    pub fn commit_about(
        &self,
        actors: &mut Actors,
        env: &Env,
        fx: &mut Effects,
        about: Option<About>,
        job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<Result<Committed, StanzaError>, DirectoryError>
        + Send
        + 'static,
    ) -> Reply {
        let begun = self.to_begin(&actors.users);
        match begun.clone().submit(actors, env, fx, about, job) {
            Ok(()) => {
                begun.note(actors, fx, self.area);
                Reply::Later
            }
            Err(error) => Reply::Error(error),
        }
    }

    /// Work outside the worker has begun that ends with [`Begun::commit`] or [`Begun::send`]. Nothing that the
    /// requester sends behind the request is looked at before that.
    pub fn begin(&self, actors: &mut Actors, fx: &mut Effects) -> Begun {
        let begun = self.to_begin(&actors.users);
        begun.note(actors, fx, Area::Alone);
        begun
    }

    fn to_begin(&self, users: &Users) -> Begun {
        let write = self.sender.map(|sender| Write::of(users, sender, self.pending_ack));
        Begun { reply_to: self.reply_to(), write }
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

/// The answer to a request that needs the directory when it cannot be read.
pub fn unreadable(account: &str, error: &DirectoryError) -> Reply {
    tracing::error!(user = account, %error, "cannot read the directory");
    StanzaCondition::InternalServerError.into()
}

/// What follows on the worker from a committed job. It is given the pending ack of the request, and returns it unless
/// something has to be written elsewhere because of the request; then it goes there.
pub type After =
    Box<dyn FnOnce(&mut Actors, &Env, &mut Effects, Option<PendingAck>) -> Option<PendingAck> + Send>;

/// What a committed job of a request leads to.
#[derive(Default)]
pub struct Committed {
    /// Child of the result.
    pub result: Option<Element>,
    /// Runs on the worker after the result was sent.
    pub after: Option<After>,
}

impl Committed {
    /// An empty result, then `after`.
    pub fn then(after: impl FnOnce(&mut Actors, &Env, &mut Effects) + Send + 'static) -> Committed {
        Committed::hand_on(move |actors, env, fx, pending_ack| {
            after(actors, env, fx);
            pending_ack
        })
    }

    /// As [`then`](Committed::then), where `after` may hand the pending ack on.
    pub fn hand_on(
        after: impl FnOnce(&mut Actors, &Env, &mut Effects, Option<PendingAck>) -> Option<PendingAck>
        + Send
        + 'static,
    ) -> Committed {
        Committed { result: None, after: Some(Box::new(after)) }
    }
}

impl Begun {
    fn note(&self, actors: &mut Actors, fx: &mut Effects, area: Area) {
        if let Some(write) = self.write {
            actors.begin_write(fx, write, area);
        }
    }

    fn end(&self, actors: &mut Actors, env: &Env, fx: &mut Effects) {
        if let Some(write) = self.write {
            actors.end_write(env, fx, write);
        }
    }

    /// Sends the reply; nothing waits for the request any more.
    pub fn send(&self, actors: &mut Actors, env: &Env, fx: &mut Effects, reply: Reply) {
        self.reply_to.send(env, fx, reply);
        self.end(actors, env, fx);
    }

    /// As [`Request::commit`]. Every outcome is answered.
    pub fn commit(
        self,
        actors: &mut Actors,
        env: &Env,
        fx: &mut Effects,
        job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<Result<Committed, StanzaError>, DirectoryError>
        + Send
        + 'static,
    ) {
        let on_refusal = self.clone();
        if let Err(error) = self.submit(actors, env, fx, None, job) {
            on_refusal.send(actors, env, fx, Reply::Error(error));
        }
    }

    /// # Errors
    /// `resource-constraint` when the directory's queue is full; then nothing has been sent.
    fn submit(
        self,
        actors: &mut Actors,
        env: &Env,
        fx: &mut Effects,
        about: Option<About>,
        job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<Result<Committed, StanzaError>, DirectoryError>
        + Send
        + 'static,
    ) -> Result<(), StanzaError> {
        let on_failure = self.clone();
        let job = move |transaction: &mut WriteTransaction<'_>| {
            let outcome = job(transaction)?;
            let then: Then = Box::new(move |actors, env, fx| self.committed(actors, env, fx, outcome));
            Ok(then)
        };
        let failed = move |actors: &mut Actors, env: &Env, fx: &mut Effects, error| {
            on_failure.send(actors, env, fx, Reply::Error(error));
        };
        match about {
            Some(about) => under_way::write(actors, env, fx, about, job, failed),
            None => actors.write(env, fx, job, failed),
        }
    }

    /// The job has run and what it has written is on the disk.
    fn committed(
        self,
        actors: &mut Actors,
        env: &Env,
        fx: &mut Effects,
        outcome: Result<Committed, StanzaError>,
    ) {
        let committed = match outcome {
            Ok(committed) => committed,
            Err(error) => {
                if error.condition == StanzaCondition::ResourceConstraint {
                    env.metrics().refused_account.add(1);
                }
                return self.send(actors, env, fx, Reply::Error(error));
            }
        };
        self.reply_to.send(env, fx, committed.result.map_or(Reply::Done, Reply::Result));
        let pending_ack = self.write.and_then(|write| write.pending_ack);
        let pending_ack = match committed.after {
            Some(after) => after(actors, env, fx, pending_ack),
            None => pending_ack,
        };
        if let Some(write) = self.write {
            actors.took_effect(fx, write);
        }
        if let Some(pending_ack) = pending_ack {
            actors.users.notify_durable(env, fx, pending_ack);
        }
    }
}

impl ReplyTo {
    /// Sends the reply.
    pub fn send(&self, env: &Env, fx: &mut Effects, reply: Reply) {
        let typ = match reply {
            Reply::Done | Reply::Result(_) => Type::Result,
            Reply::Error(error) => {
                let (to, id) = (self.to.as_deref(), Some(self.id.as_str()));
                return answer::refuse(
                    env,
                    fx,
                    &Refused { kind: Kind::Iq, sender: &self.from, to, id },
                    &error,
                );
            }
            Reply::Later => return,
        };
        let mut bytes = Vec::with_capacity(256);
        let (from, id) = (self.to.as_deref(), Some(self.id.as_str()));
        match reply {
            Reply::Result(child) => {
                reply::iq(typ, from, &self.from, id, &mut bytes, |out| child.write(CLIENT, out));
            }
            _ => {
                reply::open(Kind::Iq, typ, from, &self.from, id, &mut bytes);
                bytes.extend_from_slice(b"/>");
            }
        }
        fx.work.add_tree(bytes.len());
        let made = Made {
            kind: Kind::Iq,
            typ,
            traits: Traits::FROM_SERVER,
            from: self.to.as_deref(),
            id: Some(&self.id),
            bytes: &bytes,
        };
        answer::send(env, fx, &made, &self.from);
    }
}

/// A service.
pub struct Service {
    /// Name of the iq's child.
    pub element: &'static str,
    /// Namespace of the iq's child.
    pub namespace: &'static str,
    /// Where it may be sent.
    pub scopes: Scopes,
    /// The feature that disco announces for it; empty for none.
    pub feature: &'static str,
    /// What its sets write. A service whose sets do anything but submit a write when they are handled, or look at what
    /// another set may be about to change, says [`Area::Alone`], and so does one whose sets write nothing.
    pub writes: Area,
    /// Answers a request.
    pub handle: fn(&mut Actors, &Env, &mut Effects, &Request) -> Reply,
}

/// All services.
pub static SERVICES: &[Service] = &[
    disco::INFO,
    disco::ITEMS,
    ping::SERVICE,
    roster::SERVICE,
    version::SERVICE,
    time::SERVICE,
    last::SERVICE,
    vcard::SERVICE,
    private::SERVICE,
    carbons::ENABLE,
    carbons::DISABLE,
    blocking::LIST,
    blocking::BLOCK,
    blocking::UNBLOCK,
    register::SERVICE,
    session::SERVICE,
];

pub mod blocking;
pub mod caps;
pub mod carbons;
pub mod disco;
pub mod last;
pub mod open_account;
pub mod ping;
pub mod private;
pub mod register;
pub mod roster;
pub mod session;
pub mod time;
pub mod vcard;
pub mod version;

/// Answers an iq get or set of a bound resource to the domain or to its own account. A result or an error is
/// an answer to a ping of ours, and has already said what matters: that the client is alive.
pub fn dispatch(actors: &mut Actors, env: &Env, fx: &mut Effects, inbound: &Inbound<'_>, scope: Scope) {
    if !matches!(inbound.typ, Type::Get | Type::Set) {
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
            account: if scope == Scope::Server { String::new() } else { own },
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
}

/// How an iq of a client that is for the server or the client's own account stands to writes that it has begun.
pub fn place_of(iq: &Stanza<'_>) -> Place {
    match Type::parse(Kind::Iq, iq.attribute("type").as_deref()) {
        // Pushes and pings of ours are answered by these; nothing follows from them.
        Some(Type::Result | Type::Error) => Place::Anywhere,
        Some(Type::Set) => iq.children().next().map_or(Place::Behind, |child| {
            SERVICES
                .iter()
                .find(|service| service.element == child.name() && service.namespace == child.namespace())
                .map_or(Place::Behind, |service| Place::In(service.writes))
        }),
        _ => Place::Behind,
    }
}

fn only_child(iq: Element) -> Option<Element> {
    iq.into_nodes().into_iter().find_map(|node| match node {
        Node::Element(element) => Some(element),
        Node::Text(_) => None,
    })
}

fn answer(actors: &mut Actors, env: &Env, fx: &mut Effects, mut request: Request) {
    fx.work.add(work::REQUEST);
    let service = SERVICES.iter().find(|service| {
        service.element == request.query.name()
            && service.namespace == request.query.namespace()
            && service.scopes.contains(request.scope)
    });
    let reply = match service {
        Some(service) => {
            request.area = service.writes;
            (service.handle)(actors, env, fx, &request)
        }
        None => StanzaCondition::ServiceUnavailable.into(),
    };
    request.reply_to().send(env, fx, reply);
}
