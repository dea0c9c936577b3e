//! Making, configuring, purging and deleting nodes (XEP-0060 §8), by their owner.

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::pubsub::{
    AccessModel, Affiliation, Member, Node, NodeConfig, NodeFlags, PubsubView, SendLast,
};
use whimbrel_storage::directory::{DirectoryError, WriteTransaction};

use super::access::Visitor;
use super::bounds::Bounds;
use super::notify::{self, Happened};
use crate::config::NodeMakers;
use crate::effects::work;
use crate::env::Env;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::proto::pubsub::config::{self, ConfigChange, Whose};
use crate::proto::pubsub::error;
use crate::service::commit::JobResult;
use crate::service::{Committed, Reply, Request, unreadable};
use crate::user::actors::{Actors, Effects};
use crate::xml::Element;

/// Random bytes of the name of a node that has none, and of the id of an item.
const NAME_BYTES: usize = 12;

/// Nodes that clients keep for themselves alone (XEP-0223): they are born closed, with all their items.
const PRIVATE: [&str; 2] = [ns::BOOKMARKS, ns::READ_POSITIONS];

/// What a node is configured to that is made without a word about that.
pub(super) fn defaults_of(name: &str) -> NodeConfig {
    match PRIVATE.contains(&name) {
        true => NodeConfig {
            access: AccessModel::Whitelist,
            max_items: u32::MAX,
            send_last: SendLast::Never,
            ..NodeConfig::default()
        },
        false => NodeConfig::default(),
    }
}

/// What a node of the service is configured to that is made without a word about that: everybody looks, and it keeps as much
/// as it may.
pub(super) fn defaults_of_service() -> NodeConfig {
    NodeConfig {
        access: AccessModel::Open,
        max_items: u32::MAX,
        send_last: SendLast::OnSubscription,
        ..NodeConfig::default()
    }
}

/// To whom the nodes belong that are named by a localpart.
pub(super) fn whose(local: &str) -> Whose {
    if local.is_empty() { Whose::Service } else { Whose::Account }
}

/// A name or an id that nobody else has.
pub(super) fn made_up(env: &Env) -> String {
    let bytes = env.shared.chance.bytes::<NAME_BYTES>();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A node that is being changed.
pub(super) struct Found<'a> {
    /// The owner's localpart.
    pub(super) local: &'a str,
    /// The owner.
    pub(super) account: ActorId,
    /// The node.
    pub(super) node: Node,
}

/// A node of an account, to be changed.
pub(super) fn find<'a>(
    transaction: &WriteTransaction<'_>,
    local: &'a str,
    name: &str,
) -> Result<Option<Found<'a>>, DirectoryError> {
    let Some(view) = transaction.pubsub(local)? else { return Ok(None) };
    Ok(view.node(name)?.map(|node| Found { local, account: view.account(), node }))
}

/// Changes a node of the account that a request is to, if there is one of this name.
pub(super) fn change(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    request: &Request,
    name: String,
    job: impl FnOnce(&mut WriteTransaction<'_>, Found<'_>) -> JobResult + Send + 'static,
) -> Reply {
    let local = request.account.clone();
    request.commit(actors, env, fx, move |transaction| match find(transaction, &local, &name)? {
        Some(found) => job(transaction, found),
        None => Ok(Err(error::not_found())),
    })
}

/// As [`change`], if the requester owns the node.
pub(super) fn change_as_owner(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (request, visitor): (&Request, Visitor),
    name: String,
    job: impl FnOnce(&mut WriteTransaction<'_>, Found<'_>) -> JobResult + Send + 'static,
) -> Reply {
    change(actors, env, fx, request, name, move |transaction, found| {
        if let Some(view) = transaction.pubsub(found.local)?
            && let Err(error) = check_owner(&view, &visitor, &found.node)?
        {
            return Ok(Err(error));
        }
        job(transaction, found)
    })
}

/// Whether somebody may do with a node what is its owners'.
pub(super) fn check_owner(
    view: &PubsubView<'_>,
    visitor: &Visitor,
    node: &Node,
) -> Result<Result<(), StanzaError>, DirectoryError> {
    Ok(match visitor.owns(visitor.member(view, node)?) {
        true => Ok(()),
        false => Err(visitor.not_the_owners()),
    })
}

/// Units of work for items that are dropped.
fn dropping(items: u64) -> u64 {
    items * work::LOOK
}

/// §8.1
pub(super) fn create(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (request, visitor): (&Request, Visitor),
    (name, change): (Option<String>, ConfigChange),
) -> Reply {
    if visitor.is_guest() && env.config.pubsub.create != NodeMakers::Everyone {
        return StanzaCondition::Forbidden.into();
    }
    let is_instant = name.is_none();
    let name = name.unwrap_or_else(|| made_up(env));
    let (local, bounds, now_ms) = (request.account.clone(), Bounds::of(env, &request.account), env.unix_ms());
    let defaults = if visitor.is_guest() { defaults_of_service() } else { defaults_of(&name) };
    let config = match change.apply(defaults, bounds.items, whose(&local)) {
        Ok(config) => config,
        Err(error) => return Reply::Error(error),
    };
    request.commit(actors, env, fx, move |transaction| {
        let new = New { local: &local, name: &name, config, bounds, now_ms };
        let owner = (visitor.bare.as_str(), visitor.local());
        let owners = if visitor.is_guest() { std::slice::from_ref(&owner) } else { &[] };
        if let Err(error) = make(transaction, new, owners)? {
            return Ok(Err(error));
        }
        let create = Element::new("create", ns::PUBSUB).attr("node", name);
        let result = is_instant.then(|| Element::new("pubsub", ns::PUBSUB).child(create));
        Ok(Ok(Committed { result, after: None }))
    })
}

/// A node that is to be made.
pub(super) struct New<'a> {
    /// The owner's localpart, or empty for the service.
    pub(super) local: &'a str,
    /// Its name.
    pub(super) name: &'a str,
    /// What it is configured to.
    pub(super) config: NodeConfig,
    /// How much there may be.
    pub(super) bounds: Bounds,
    /// The time, milliseconds since 1970.
    pub(super) now_ms: u64,
}

/// Makes a node in a transaction, or changes nothing. `owners`: of a node of the service, bare JIDs and localparts of accounts.
pub(super) fn make(
    transaction: &mut WriteTransaction<'_>,
    new: New<'_>,
    owners: &[(&str, &str)],
) -> Result<Result<Node, StanzaError>, DirectoryError> {
    let Some(view) = transaction.pubsub(new.local)? else { return Ok(Err(error::not_found())) };
    if view.node(new.name)?.is_some() {
        return Ok(Err(StanzaCondition::Conflict.into()));
    }
    if let Err(error) = new.bounds.check_node(view.usage()?, new.name, &new.config) {
        return Ok(Err(error));
    }
    let mut rows = Vec::new();
    for (bare, local) in owners {
        let account = view.number_of(local)?;
        // It may have gone since the request was made.
        if account == ActorId::NOBODY {
            return Ok(Err(error::not_found()));
        }
        let owner = Member { affiliation: Affiliation::Owner, account, ..Member::default() };
        if let Err(error) = new.bounds.check_account(&view, account, (Member::default(), owner))? {
            return Ok(Err(error));
        }
        rows.push((*bare, owner));
    }
    let account = view.account();
    let mut node = transaction.create_node(account, new.name, new.config, new.now_ms)?;
    for (bare, owner) in rows {
        transaction.set_member(account, &mut node, bare, owner)?;
    }
    Ok(Ok(node))
}

/// §8.2.1: the form, filled in.
pub(super) fn configuration(env: &Env, request: &Request, visitor: &Visitor, name: &str) -> Reply {
    let found = env.shared.directory.pubsub(&request.account, |view| {
        let Some(node) = view.node(name)? else { return Ok(Err(error::not_found())) };
        Ok(check_owner(&view, visitor, &node)?.map(|()| node.config))
    });
    match found {
        Ok(Some(Ok(config))) => {
            let configure = Element::new("configure", ns::PUBSUB_OWNER).attr("node", name);
            Reply::Result(owners(configure.child(config::form(&config, whose(&request.account)))))
        }
        Ok(Some(Err(error))) => Reply::Error(error),
        Ok(None) => Reply::Error(error::not_found()),
        Err(error) => unreadable(&request.account, &error),
    }
}

/// §8.3
pub(super) fn default_configuration(request: &Request) -> Reply {
    let form = match whose(&request.account) {
        Whose::Account => config::form(&NodeConfig::default(), Whose::Account),
        Whose::Service => config::form(&defaults_of_service(), Whose::Service),
    };
    Reply::Result(owners(Element::new("default", ns::PUBSUB_OWNER).child(form)))
}

/// What an answer to the owner is wrapped in.
pub(super) fn owners(child: Element) -> Element {
    Element::new("pubsub", ns::PUBSUB_OWNER).child(child)
}

/// §8.2.4, §8.2.5
pub(super) fn configure(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (request, visitor): (&Request, Visitor),
    (name, wanted): (String, Option<ConfigChange>),
) -> Reply {
    let Some(wanted) = wanted else { return Reply::Done };
    let bounds = Bounds::of(env, &request.account);
    let sender = request.from.clone();
    change_as_owner(actors, env, fx, (request, visitor), name, move |transaction, found| {
        reconfigure(transaction, found, &wanted, (bounds, &sender))
    })
}

/// Gives a node another configuration, and tells of it.
pub(super) fn reconfigure(
    transaction: &mut WriteTransaction<'_>,
    Found { local, account, mut node }: Found<'_>,
    wanted: &ConfigChange,
    (bounds, sender): (Bounds, &str),
) -> JobResult {
    let config = match wanted.apply(node.config.clone(), bounds.items, whose(local)) {
        Ok(config) => config,
        Err(error) => return Ok(Err(error)),
    };
    let (old, new) = (node.config.text_bytes(), config.text_bytes());
    let usage = transaction.pubsub(local)?.map(|view| view.usage()).transpose()?.unwrap_or_default();
    if new > old && usage.bytes + (new - old) as u64 > bounds.bytes {
        return Ok(Err(error::no_room()));
    }
    let (tells, before) = (config.flags.has(NodeFlags::NOTIFY_CONFIG), node.items);
    transaction.configure_node(account, &mut node, config.clone())?;
    let kept = if config.flags.has(NodeFlags::PERSIST) { config.max_items.min(bounds.items) } else { 0 };
    transaction.trim_node(account, &mut node, kept.into())?;
    let happened = if tells { Some(Happened::Configured(config)) } else { None };
    let committed = notify::committed(transaction, local, &node, happened, sender)?;
    Ok(committed.map(|committed| committed.charged(dropping(before - node.items))))
}

/// §8.4
pub(super) fn delete(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (request, visitor): (&Request, Visitor),
    name: String,
) -> Reply {
    let sender = request.from.clone();
    change_as_owner(actors, env, fx, (request, visitor), name, move |transaction, found| {
        end(transaction, &found, &sender)
    })
}

/// Deletes a node, and tells of it.
pub(super) fn end(
    transaction: &mut WriteTransaction<'_>,
    Found { local, account, node }: &Found<'_>,
    sender: &str,
) -> JobResult {
    let happened = node.config.flags.has(NodeFlags::NOTIFY_DELETE).then_some(Happened::Deleted);
    let committed = notify::committed(transaction, local, node, happened, sender)?;
    transaction.delete_node(*account, node)?;
    Ok(committed.map(|committed| committed.charged(dropping(node.items + node.members))))
}

/// §8.5
pub(super) fn purge(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (request, visitor): (&Request, Visitor),
    name: String,
) -> Reply {
    let sender = request.from.clone();
    change_as_owner(actors, env, fx, (request, visitor), name, move |transaction, found| {
        let Found { local, account, mut node } = found;
        if !node.config.flags.has(NodeFlags::PERSIST) {
            return Ok(Err(error::unsupported("persistent-items")));
        }
        let before = node.items;
        transaction.purge_node(account, &mut node)?;
        let happened = node.config.flags.has(NodeFlags::NOTIFY_RETRACT).then_some(Happened::Purged);
        let committed = notify::committed(transaction, local, &node, happened, &sender)?;
        Ok(committed.map(|committed| committed.charged(dropping(before))))
    })
}
