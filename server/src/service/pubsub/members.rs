//! Subscriptions and affiliations: one's own (XEP-0060 §5.6, §5.7, §6.1, §6.2), and those that the owner of a node manages
//! (§8.8, §8.9).

use whimbrel_storage::directory::pubsub::{
    AccessModel, Affiliation, Member, MemberRow, Node, PubsubView, SubscriptionState,
};
use whimbrel_storage::directory::{DirectoryError, WriteTransaction};
use whimbrel_storage::jid::Jid;

use super::access::Visitor;
use super::node::{self, Found, owners};
use super::notify;
use crate::effects::work;
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::proto::pubsub::error;
use crate::proto::pubsub::request::{affiliation_name, subscription_name};
use crate::service::{Committed, Reply, Request, unreadable};
use crate::user::actors::{Actors, Effects};
use crate::xml::Element;

fn subscription(namespace: &'static str, node: Option<&str>, jid: &str, state: SubscriptionState) -> Element {
    Element::new("subscription", namespace)
        .attr_opt("node", node)
        .attr("jid", jid)
        .attr("subscription", subscription_name(state))
}

fn answer(child: Element) -> Element {
    Element::new("pubsub", ns::PUBSUB).child(child)
}

/// Nodes, and the members of each.
type MembersOfNodes = Vec<(String, Vec<MemberRow>)>;

/// Rows of the members of all nodes, or of one, of an account. `None`: there is no such account, or no such node.
fn rows(
    env: &Env,
    fx: &Effects,
    account: &str,
    name: Option<&str>,
) -> Result<Option<MembersOfNodes>, DirectoryError> {
    let read = env.shared.directory.pubsub(account, |view| {
        let nodes = match name {
            Some(name) => match view.node(name)? {
                Some(node) => vec![node],
                None => return Ok(None),
            },
            None => view.nodes()?,
        };
        let mut rows = Vec::new();
        fx.work.add(nodes.len() as u64 * work::ITEM);
        for node in nodes {
            fx.work.add(node.members * work::ITEM);
            let members = if node.members > 0 { view.members(&node)? } else { Vec::new() };
            rows.push((node.name, members));
        }
        Ok(Some(rows))
    })?;
    Ok(read.flatten())
}

/// §5.6
pub(super) fn own_subscriptions(
    env: &Env,
    fx: &Effects,
    request: &Request,
    visitor: &Visitor,
    name: Option<&str>,
) -> Reply {
    let rows = match rows(env, fx, &request.account, name) {
        Ok(Some(rows)) => rows,
        // Those who are subscribed to nothing do not learn what there is.
        Ok(None) => Vec::new(),
        Err(error) => return unreadable(&request.account, &error),
    };
    let mut list = Element::new("subscriptions", ns::PUBSUB).attr_opt("node", name);
    for (node, members) in &rows {
        for row in members.iter().filter(|row| address::bare_of(&row.jid) == visitor.bare) {
            if row.member.subscription != SubscriptionState::None {
                list.push(subscription(ns::PUBSUB, Some(node), &row.jid, row.member.subscription));
            }
        }
    }
    Reply::Result(answer(list))
}

/// §5.7
pub(super) fn own_affiliations(
    env: &Env,
    fx: &Effects,
    request: &Request,
    visitor: &Visitor,
    name: Option<&str>,
) -> Reply {
    let rows = match rows(env, fx, &request.account, name) {
        Ok(Some(rows)) => rows,
        Ok(None) => Vec::new(),
        Err(error) => return unreadable(&request.account, &error),
    };
    let mut list = Element::new("affiliations", ns::PUBSUB).attr_opt("node", name);
    let row = |node: &str, name: &str| {
        Element::new("affiliation", ns::PUBSUB).attr("node", node).attr("affiliation", name)
    };
    for (node, members) in &rows {
        if visitor.is_owner() {
            list.push(row(node, "owner"));
            continue;
        }
        for member in members.iter().filter(|member| member.jid == visitor.bare) {
            if member.member.affiliation != Affiliation::None {
                list.push(row(node, affiliation_name(member.member.affiliation)));
            }
        }
    }
    Reply::Result(answer(list))
}

/// Whether an account may have another member.
fn has_room(view: &PubsubView<'_>, members_max: u32) -> Result<bool, DirectoryError> {
    Ok(view.usage()?.members < u64::from(members_max))
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
    let members_max = env.config.limits.pep_members;
    node::change(actors, env, fx, request, name, move |transaction, Found { local, account, mut node }| {
        let (state, row) = match admit(transaction, local, &node, (&visitor, &jid), members_max)? {
            Ok(admitted) => admitted,
            Err(error) => return Ok(Err(error)),
        };
        transaction.set_member(account, &mut node, jid.as_str(), row)?;
        let result = answer(subscription(ns::PUBSUB, Some(&node.name), jid.as_str(), state));
        let local = local.to_owned();
        let told = Committed::then(move |_, env, fx| {
            if state == SubscriptionState::Subscribed {
                notify::last_item_to(env, fx, &local, &node.name, jid.as_str());
            }
        });
        Ok(Ok(Committed { result: Some(result), ..told }))
    })
}

/// The subscription that somebody gets, and its row.
fn admit(
    transaction: &WriteTransaction<'_>,
    local: &str,
    node: &Node,
    (visitor, jid): (&Visitor, &Jid),
    members_max: u32,
) -> Result<Result<(SubscriptionState, Member), StanzaError>, DirectoryError> {
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
    if row == Member::default() && !has_room(&view, members_max)? {
        return Ok(Err(error::too_many_members()));
    }
    let account = view.number_of(address::local_of(jid.as_str()))?;
    Ok(Ok((state, Member { subscription: state, account, ..row })))
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

/// §8.8.1
pub(super) fn subscribers(env: &Env, fx: &Effects, request: &Request, name: &str) -> Reply {
    let rows = match rows(env, fx, &request.account, Some(name)) {
        Ok(Some(rows)) => rows,
        Ok(None) => return Reply::Error(error::not_found()),
        Err(error) => return unreadable(&request.account, &error),
    };
    let mut list = Element::new("subscriptions", ns::PUBSUB_OWNER).attr("node", name);
    for row in rows.iter().flat_map(|(_, members)| members) {
        if row.member.subscription != SubscriptionState::None {
            list.push(subscription(ns::PUBSUB_OWNER, None, &row.jid, row.member.subscription));
        }
    }
    Reply::Result(owners(list))
}

/// §8.9.1
pub(super) fn affiliated(env: &Env, fx: &Effects, request: &Request, name: &str) -> Reply {
    let rows = match rows(env, fx, &request.account, Some(name)) {
        Ok(Some(rows)) => rows,
        Ok(None) => return Reply::Error(error::not_found()),
        Err(error) => return unreadable(&request.account, &error),
    };
    let row = |jid: &str, name: &str| {
        Element::new("affiliation", ns::PUBSUB_OWNER).attr("jid", jid).attr("affiliation", name)
    };
    let mut list = Element::new("affiliations", ns::PUBSUB_OWNER).attr("node", name);
    list.push(row(&env.bare_jid(&request.account), "owner"));
    for member in rows.iter().flat_map(|(_, members)| members) {
        if member.member.affiliation != Affiliation::None {
            list.push(row(&member.jid, affiliation_name(member.member.affiliation)));
        }
    }
    Reply::Result(owners(list))
}

/// Changes members of a node by the owner's will, all of them or none.
fn change<T: Copy + Send + 'static>(
    (transaction, local, name): (&mut WriteTransaction<'_>, &str, &str),
    changes: &[(Jid, T)],
    (domain, members_max): (&str, u32),
    apply: impl Fn(Member, T) -> Member,
) -> Result<Result<(), StanzaError>, DirectoryError> {
    let Some(Found { account, mut node, .. }) = node::find(transaction, local, name)? else {
        return Ok(Err(error::not_found()));
    };
    let Some(view) = transaction.pubsub(local)? else { return Ok(Err(error::not_found())) };
    let (mut rows, mut added) = (Vec::new(), 0);
    for (jid, wanted) in changes {
        let named = address::contact_here(jid.bare_str(), domain);
        let before = view.member(&node, jid.as_str(), named)?;
        let number = named.map(|named| view.number_of(named)).transpose()?.unwrap_or_default();
        let after = Member { account: number, ..apply(before, *wanted) };
        added += u64::from(before == Member::default() && !after.is_nothing());
        rows.push((jid, after));
    }
    // Members can be shut out also where there is no room for another.
    if added > 0 && view.usage()?.members + added > u64::from(members_max) {
        return Ok(Err(error::too_many_members()));
    }
    for (jid, row) in rows {
        transaction.set_member(account, &mut node, jid.as_str(), row)?;
    }
    Ok(Ok(()))
}

/// §8.8.2: those concerned are told (§8.6).
pub(super) fn change_subscribers(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    request: &Request,
    (name, changes): (String, Vec<(Jid, SubscriptionState)>),
) -> Reply {
    let (local, members_max) = (request.account.clone(), env.config.limits.pep_members);
    let domain = env.shared.domain.clone();
    fx.work.add(changes.len() as u64 * work::LOOK);
    request.commit(actors, env, fx, move |transaction| {
        let apply = |member, subscription| Member { subscription, ..member };
        if let Err(error) = change((transaction, &local, &name), &changes, (&domain, members_max), apply)? {
            return Ok(Err(error));
        }
        Ok(Ok(Committed::then(move |_, env, fx| {
            for (jid, state) in &changes {
                notify::tell_subscriber(env, fx, (&local, &name), jid.as_str(), subscription_name(*state));
                if *state == SubscriptionState::Subscribed {
                    notify::last_item_to(env, fx, &local, &name, jid.as_str());
                }
            }
        })))
    })
}

/// §8.9.2: the account is the one owner of its nodes, whatever is asked.
pub(super) fn change_affiliated(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    request: &Request,
    (name, changes): (String, Vec<(Jid, Option<Affiliation>)>),
) -> Reply {
    let own = env.bare_jid(&request.account);
    let mut wanted = Vec::new();
    for (jid, affiliation) in changes {
        match affiliation {
            None if jid.as_str() == own => {}
            Some(affiliation) if jid.is_bare() && jid.as_str() != own => wanted.push((jid, affiliation)),
            _ => {
                let text =
                    "the account is the one owner of its nodes, and affiliations are of bare addresses";
                return Reply::Error(StanzaError::from(StanzaCondition::NotAcceptable).with_text(text));
            }
        }
    }
    let (local, members_max) = (request.account.clone(), env.config.limits.pep_members);
    let domain = env.shared.domain.clone();
    fx.work.add(wanted.len() as u64 * work::LOOK);
    request.commit(actors, env, fx, move |transaction| {
        let apply = |member: Member, affiliation| match affiliation {
            Affiliation::Outcast => Member { affiliation, subscription: SubscriptionState::None, ..member },
            _ => Member { affiliation, ..member },
        };
        let changed = change((transaction, &local, &name), &wanted, (&domain, members_max), apply)?;
        Ok(changed.map(|()| Committed::default()))
    })
}
