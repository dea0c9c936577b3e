//! Subscriptions and affiliations: one's own (XEP-0060 §6.1, §6.2), and those that the owner of a node manages (§8.8, §8.9).

use whimbrel_storage::directory::pubsub::{
    AccessModel, Affiliation, Member, Node, PubsubView, SubscriptionState,
};
use whimbrel_storage::directory::{DirectoryError, WriteTransaction};
use whimbrel_storage::jid::Jid;

use super::access::Visitor;
use super::bounds::Bounds;
use super::lists::subscription;
use super::node::{self, Found};
use super::{authorize, last, notify};
use crate::effects::work;
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::proto::pubsub::error;
use crate::proto::pubsub::request::subscription_name;
use crate::service::{Committed, Reply, Request};
use crate::user::actors::{Actors, Effects};
use crate::xml::Element;

fn answer(child: Element) -> Element {
    Element::new("pubsub", ns::PUBSUB).child(child)
}

/// §6.1
pub(super) fn subscribe(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (request, visitor): (&Request, Visitor),
    (name, jid): (String, Jid),
) -> Reply {
    if jid.as_str() != visitor.bare && jid.as_str() != visitor.full {
        return Reply::Error(error::with(StanzaCondition::BadRequest, "invalid-jid"));
    }
    let bounds = Bounds::of(env, &request.account);
    node::change(actors, env, fx, request, name, move |transaction, Found { local, account, mut node }| {
        let row = match admit(transaction, local, &node, (&visitor, &jid), bounds)? {
            Ok(admitted) => admitted,
            Err(error) => return Ok(Err(error)),
        };
        let state = row.subscription;
        transaction.set_member(account, &mut node, jid.as_str(), row)?;
        let result = answer(subscription(ns::PUBSUB, Some(&node.name), jid.as_str(), state));
        let owners = authorize::whom_to_ask(transaction, local, &node, state)?;
        let local = local.to_owned();
        let told = Committed::then(move |_, env, fx| match state {
            SubscriptionState::Subscribed => {
                last::to_subscriber(env, fx, &local, &node.name, jid.as_str());
            }
            _ => authorize::ask(env, fx, &owners, (&node.name, jid.as_str())),
        });
        Ok(Ok(Committed { result: Some(result), ..told }))
    })
}

/// What somebody becomes to a node by subscribing.
fn admit(
    transaction: &WriteTransaction<'_>,
    local: &str,
    node: &Node,
    (visitor, jid): (&Visitor, &Jid),
    bounds: Bounds,
) -> Result<Result<Member, StanzaError>, DirectoryError> {
    let Some(view) = transaction.pubsub(local)? else { return Ok(Err(error::not_found())) };
    let member = visitor.member(&view, node)?;
    if let Err(error) = visitor.may_subscribe(&node.config, member) {
        return Ok(Err(error));
    }
    let row = match jid.is_bare() {
        true if visitor.is_owner() => view.member(node, &visitor.bare, Some(local))?,
        true => member,
        false => visitor.member_as_resource(&view, node)?,
    };
    let state = match (node.config.access, row.subscription) {
        (AccessModel::Authorize, SubscriptionState::Pending) => {
            return Ok(Err(error::pending_subscription()));
        }
        (AccessModel::Authorize, SubscriptionState::None)
            if visitor.may_look(&node.config, member).is_err() =>
        {
            SubscriptionState::Pending
        }
        _ => SubscriptionState::Subscribed,
    };
    let account = view.number_of(address::local_of(jid.as_str()))?;
    let after = Member { subscription: state, account, ..row };
    let checked = bounds.check_members(view.usage()?, node, u64::from(row.is_nothing()));
    Ok(match checked {
        Ok(()) => bounds.check_account(&view, account, (row, after))?.map(|()| after),
        Err(error) => Err(error),
    })
}

/// §6.2
pub(super) fn unsubscribe(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (request, visitor): (&Request, Visitor),
    (name, jid): (String, Jid),
) -> Reply {
    if jid.bare_str() != visitor.bare {
        return Reply::Error(StanzaCondition::Forbidden.into());
    }
    node::change(actors, env, fx, request, name, move |transaction, Found { local, account, mut node }| {
        let Some(view) = transaction.pubsub(local)? else { return Ok(Err(error::not_found())) };
        let row = view.member(&node, jid.as_str(), Some(address::local_of(jid.as_str())))?;
        if row.subscription == SubscriptionState::None {
            let may_know = visitor.may_subscribe(&node.config, visitor.member(&view, &node)?);
            return Ok(Err(may_know.err().unwrap_or_else(error::not_subscribed)));
        }
        let row = Member { subscription: SubscriptionState::None, ..row };
        transaction.set_member(account, &mut node, jid.as_str(), row)?;
        Ok(Ok(Committed::default()))
    })
}

/// Changes that the owner of a node makes to its members.
pub(super) struct Changes<T> {
    /// The node.
    pub(super) node: String,
    /// Who becomes what.
    pub(super) wanted: Vec<(Jid, T)>,
    /// The domain of accounts.
    pub(super) domain: Box<str>,
    /// How much there may be.
    pub(super) bounds: Bounds,
}

impl<T: Copy> Changes<T> {
    /// Makes them, all or none.
    pub(super) fn make(
        &self,
        transaction: &mut WriteTransaction<'_>,
        local: &str,
        visitor: Option<&Visitor>,
        apply: impl Fn(Member, T) -> Member,
    ) -> Result<Result<(), StanzaError>, DirectoryError> {
        let Some(Found { account, mut node, .. }) = node::find(transaction, local, &self.node)? else {
            return Ok(Err(error::not_found()));
        };
        let Some(view) = transaction.pubsub(local)? else { return Ok(Err(error::not_found())) };
        if let Some(visitor) = visitor
            && let Err(error) = node::check_owner(&view, visitor, &node)?
        {
            return Ok(Err(error));
        }
        let (mut rows, mut added) = (Vec::new(), 0);
        for (jid, wanted) in &self.wanted {
            let (before, after) = match self.row(&view, &node, local, (jid, *wanted, &apply))? {
                Ok(row) => row,
                Err(error) => return Ok(Err(error)),
            };
            added += u64::from(before.is_nothing() && !after.is_nothing());
            rows.push((jid, before, after));
        }
        // Members can be shut out also where there is no room for another.
        if let Err(error) = self.bounds.check_members(view.usage()?, &node, added) {
            return Ok(Err(error));
        }
        if visitor.is_some() && local.is_empty() && !keeps_an_owner(&view, &node, &rows)? {
            return Ok(Err(error::last_owner()));
        }
        for (jid, _, row) in rows {
            transaction.set_member(account, &mut node, jid.as_str(), row)?;
        }
        Ok(Ok(()))
    }

    /// What somebody was and becomes.
    fn row(
        &self,
        view: &PubsubView<'_>,
        node: &Node,
        local: &str,
        (jid, wanted, apply): (&Jid, T, &impl Fn(Member, T) -> Member),
    ) -> Result<Result<(Member, Member), StanzaError>, DirectoryError> {
        let named = address::contact_here(jid.bare_str(), &self.domain);
        let before = view.member(node, jid.as_str(), named)?;
        let account = named.map(|named| view.number_of(named)).transpose()?.unwrap_or_default();
        let after = Member { account, ..apply(before, wanted) };
        // Nobody but accounts of this server can reach the service; and a name that somebody gets later is to have nothing.
        if local.is_empty() && account.is_nobody() && !after.is_nothing() {
            return Ok(Err(error::no_account(jid.as_str())));
        }
        Ok(self.bounds.check_account(view, account, (before, after))?.map(|()| (before, after)))
    }
}

/// Whether a node of the service has an owner when somebody has become something else. One that had none needs none: it is the
/// operator's.
fn keeps_an_owner(
    view: &PubsubView<'_>,
    node: &Node,
    rows: &[(&Jid, Member, Member)],
) -> Result<bool, DirectoryError> {
    let is_owner = |member: &Member| member.affiliation == Affiliation::Owner;
    let gone = rows.iter().filter(|(_, before, after)| is_owner(before) && !is_owner(after)).count();
    if gone == 0 || rows.iter().any(|(_, _, after)| is_owner(after)) {
        return Ok(true);
    }
    Ok(view.owners(node, gone + 1)?.len() > gone)
}

/// §8.8.2: those concerned are told (§8.6).
pub(super) fn change_subscribers(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (request, visitor): (&Request, Visitor),
    (node, wanted): (String, Vec<(Jid, SubscriptionState)>),
) -> Reply {
    fx.work.add(wanted.len() as u64 * work::LOOK);
    let local = request.account.clone();
    let bounds = Bounds::of(env, &local);
    let changes = Changes { node, wanted, domain: env.shared.domain.clone(), bounds };
    request.commit(actors, env, fx, move |transaction| {
        let apply = |member, subscription| Member { subscription, ..member };
        if let Err(error) = changes.make(transaction, &local, Some(&visitor), apply)? {
            return Ok(Err(error));
        }
        Ok(Ok(Committed::then(move |_, env, fx| {
            let node = (local.as_str(), changes.node.as_str());
            changes.wanted.iter().for_each(|(jid, state)| tell(env, fx, node, jid.as_str(), *state));
        })))
    })
}

/// Tells somebody what has become of its subscription.
pub(super) fn tell(
    env: &Env,
    fx: &mut Effects,
    (local, node): (&str, &str),
    jid: &str,
    state: SubscriptionState,
) {
    notify::tell_subscriber(env, fx, (local, node), jid, subscription_name(state));
    if state == SubscriptionState::Subscribed {
        last::to_subscriber(env, fx, local, node, jid);
    }
}

/// What somebody is that gets an affiliation.
pub(super) fn affiliated_as(member: Member, affiliation: Affiliation) -> Member {
    match affiliation {
        Affiliation::Outcast => Member { affiliation, subscription: SubscriptionState::None, ..member },
        _ => Member { affiliation, ..member },
    }
}

/// §8.9.2: an account is the one owner of its nodes, whatever is asked; nodes of the service have owners as others have members.
pub(super) fn change_affiliated(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (request, visitor): (&Request, Visitor),
    (node, changes): (String, Vec<(Jid, Option<Affiliation>)>),
) -> Reply {
    let own = (!visitor.is_guest()).then(|| env.bare_jid(&request.account));
    let mut wanted = Vec::new();
    for (jid, affiliation) in changes {
        let is_own = own.as_deref() == Some(jid.as_str());
        match affiliation {
            None if is_own => {}
            None if own.is_none() && jid.is_bare() => wanted.push((jid, Affiliation::Owner)),
            Some(affiliation) if jid.is_bare() && !is_own => wanted.push((jid, affiliation)),
            _ => {
                let text =
                    "the account is the one owner of its nodes, and affiliations are of bare addresses";
                return Reply::Error(StanzaError::from(StanzaCondition::NotAcceptable).with_text(text));
            }
        }
    }
    fx.work.add(wanted.len() as u64 * work::LOOK);
    let local = request.account.clone();
    let bounds = Bounds::of(env, &local);
    let changes = Changes { node, wanted, domain: env.shared.domain.clone(), bounds };
    request.commit(actors, env, fx, move |transaction| {
        let changed = changes.make(transaction, &local, Some(&visitor), affiliated_as)?;
        Ok(changed.map(|()| Committed::default()))
    })
}
