//! Subscriptions to nodes of the service that wait for an owner (XEP-0060 §8.6): each owner is asked by a message with a form, and
//! the first answer counts. The messages are kept for owners who are away.

use whimbrel_storage::directory::pubsub::{Member, Node, SubscriptionState};
use whimbrel_storage::directory::{DirectoryError, WriteTransaction};

use super::access::Visitor;
use super::members;
use super::node::{self, Found};
use crate::effects::answer::{self, Refused};
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::StanzaError;
use crate::proto::pubsub::authorization::{self, Decision};
use crate::proto::pubsub::error;
use crate::proto::{ns, reply};
use crate::service::request;
use crate::stanza::{Delivery, Kind, PendingAck, Traits, Type};
use crate::user::actors::{Actors, Effects};
use crate::user::jobs::Then;
use crate::xml::Element;

/// Owners of a node who are asked at most.
const OWNERS_ASKED_MAX: usize = 32;

/// The owners who are to be asked about a subscription that is in this state now.
pub(super) fn whom_to_ask(
    transaction: &WriteTransaction<'_>,
    local: &str,
    node: &Node,
    state: SubscriptionState,
) -> Result<Vec<String>, DirectoryError> {
    match transaction.pubsub(local)? {
        Some(view) if state == SubscriptionState::Pending && local.is_empty() => {
            view.owners(node, OWNERS_ASKED_MAX)
        }
        _ => Ok(Vec::new()),
    }
}

/// Asks owners, by their bare JIDs, about a subscription.
pub(super) fn ask(env: &Env, fx: &mut Effects, owners: &[String], (node, subscriber): (&str, &str)) {
    let from = env.owner_jid("");
    let form = authorization::form(node, subscriber);
    for owner in owners {
        let mut bytes = Vec::with_capacity(1024);
        reply::open(Kind::Message, Type::Normal, Some(&from), owner, None, &mut bytes);
        bytes.push(b'>');
        form.write(ns::CLIENT, &mut bytes);
        bytes.extend_from_slice(b"</message>");
        let delivery = Delivery {
            kind: Kind::Message,
            typ: Type::Normal,
            traits: Traits::CONTENT.and(Traits::NO_COPY),
            from: &from,
            to_local: address::local_of(owner),
            to_resource: None,
            id: None,
            bytes: &bytes,
            pending_ack: None,
        };
        fx.route(env, &delivery);
    }
}

/// Whom an answer to a message goes to.
#[derive(Clone)]
struct Sender {
    full: String,
    id: Option<String>,
    pending_ack: Option<PendingAck>,
}

impl Sender {
    /// The message has been dealt with; its sender pays for what that has led to.
    fn finish(&self, actors: &mut Actors, env: &Env, fx: &mut Effects, outcome: Result<(), StanzaError>) {
        if let Err(error) = outcome {
            let (to, id) = (env.owner_jid(""), self.id.as_deref());
            let refused = Refused { kind: Kind::Message, sender: &self.full, to: Some(&to), id };
            answer::refuse(env, fx, &refused, &error);
        }
        request::bill(env, fx, &self.full, fx.work.charge_completion());
        if let Some(pending_ack) = self.pending_ack {
            actors.users.notify_durable(env, fx, pending_ack);
        }
    }
}

/// An owner of a node, whose home is this worker, has decided.
pub(super) fn decided(actors: &mut Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>) {
    fx.work.add_tree(d.bytes.len());
    let sender = Sender { full: d.from.to_owned(), id: d.id.map(str::to_owned), pending_ack: d.pending_ack };
    let read = Element::parse(d.bytes).ok().map(|message| Decision::read(&message));
    let decision = match read {
        Some(Ok(Some(decision))) => decision,
        Some(Err(error)) => return sender.finish(actors, env, fx, Err(error)),
        _ => return sender.finish(actors, env, fx, Ok(())),
    };
    let visitor = Visitor::guest(d.from);
    let (on_failure, on_refusal) = (sender.clone(), sender.clone());
    let job = move |transaction: &mut WriteTransaction<'_>| {
        let decided = decide(transaction, &visitor, &decision)?;
        let then: Then = Box::new(move |actors, env, fx| {
            if let Ok(Some(state)) = decided {
                let subscriber = decision.subscriber.as_str();
                members::tell(env, fx, ("", &decision.node), subscriber, state);
            }
            sender.finish(actors, env, fx, decided.map(|_| ()));
        });
        Ok(then)
    };
    let failed = move |actors: &mut Actors, env: &Env, fx: &mut Effects, error| {
        on_failure.finish(actors, env, fx, Err(error));
    };
    if let Err(error) = actors.write(env, fx, job, failed) {
        on_refusal.finish(actors, env, fx, Err(error));
    }
}

/// Grants a subscription that waits, or takes it away; what it has become, or `None`: none waits.
fn decide(
    transaction: &mut WriteTransaction<'_>,
    visitor: &Visitor,
    decision: &Decision,
) -> Result<Result<Option<SubscriptionState>, StanzaError>, DirectoryError> {
    let Some(Found { account, mut node, .. }) = node::find(transaction, "", &decision.node)? else {
        return Ok(Err(error::not_found()));
    };
    let Some(view) = transaction.pubsub("")? else { return Ok(Err(error::not_found())) };
    if let Err(error) = node::check_owner(&view, visitor, &node)? {
        return Ok(Err(error));
    }
    let jid = decision.subscriber.as_str();
    let row = view.member(&node, jid, Some(address::local_of(jid)))?;
    if row.subscription != SubscriptionState::Pending {
        return Ok(Ok(None));
    }
    let subscription = if decision.allow { SubscriptionState::Subscribed } else { SubscriptionState::None };
    transaction.set_member(account, &mut node, jid, Member { subscription, ..row })?;
    Ok(Ok(Some(subscription)))
}
