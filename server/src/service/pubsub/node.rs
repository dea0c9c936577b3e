//! Making, configuring, purging and deleting nodes (XEP-0060 §8), by their owner.

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::pubsub::{AccessModel, Node, NodeConfig, NodeFlags, PubsubUsage, SendLast};
use whimbrel_storage::directory::{DirectoryError, WriteTransaction};

use super::notify::{self, Happened};
use crate::effects::work;
use crate::env::Env;
use crate::limits::Limits;
use crate::proto::errors::StanzaError;
use crate::proto::ns;
use crate::proto::pubsub::config::{self, ConfigChange};
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

/// A name or an id that nobody else has.
pub(super) fn made_up(env: &Env) -> String {
    let bytes = env.shared.chance.bytes::<NAME_BYTES>();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether an account may have another node of this name.
pub(super) fn has_room(
    usage: PubsubUsage,
    (name, config): (&str, &NodeConfig),
    limits: &Limits,
) -> Result<(), StanzaError> {
    if usage.nodes >= u64::from(limits.pep_nodes) {
        return Err(error::too_many_nodes(limits.pep_nodes));
    }
    if usage.bytes + Node::bytes_of(name, config) > limits.pep_bytes {
        return Err(error::no_room());
    }
    Ok(())
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

/// Units of work for items that are dropped.
fn dropping(items: u64) -> u64 {
    items * work::LOOK
}

/// §8.1
pub(super) fn create(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    request: &Request,
    (name, change): (Option<String>, ConfigChange),
) -> Reply {
    let is_instant = name.is_none();
    let name = name.unwrap_or_else(|| made_up(env));
    let config = match change.apply(defaults_of(&name), env.config.limits.pep_items) {
        Ok(config) => config,
        Err(error) => return Reply::Error(error),
    };
    let (local, limits, now) = (request.account.clone(), env.config.limits.clone(), env.unix_ms());
    request.commit(actors, env, fx, move |transaction| {
        let Some(view) = transaction.pubsub(&local)? else { return Ok(Err(error::not_found())) };
        if view.node(&name)?.is_some() {
            return Ok(Err(crate::proto::errors::StanzaCondition::Conflict.into()));
        }
        if let Err(error) = has_room(view.usage()?, (&name, &config), &limits) {
            return Ok(Err(error));
        }
        let account = view.account();
        transaction.create_node(account, &name, config, now)?;
        let create = Element::new("create", ns::PUBSUB).attr("node", name);
        let result = is_instant.then(|| Element::new("pubsub", ns::PUBSUB).child(create));
        Ok(Ok(Committed { result, after: None }))
    })
}

/// §8.2.1: the form, filled in.
pub(super) fn configuration(env: &Env, request: &Request, name: &str) -> Reply {
    match env.shared.directory.pubsub(&request.account, |view| view.node(name)) {
        Ok(Some(Some(node))) => {
            let configure = Element::new("configure", ns::PUBSUB_OWNER).attr("node", name);
            Reply::Result(owners(configure.child(config::form(&node.config))))
        }
        Ok(_) => Reply::Error(error::not_found()),
        Err(error) => unreadable(&request.account, &error),
    }
}

/// §8.3
pub(super) fn default_configuration() -> Reply {
    let form = config::form(&NodeConfig::default());
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
    request: &Request,
    (name, wanted): (String, Option<ConfigChange>),
) -> Reply {
    let Some(wanted) = wanted else { return Reply::Done };
    let (items_max, bytes_max) = (env.config.limits.pep_items, env.config.limits.pep_bytes);
    let sender = request.from.clone();
    change(actors, env, fx, request, name, move |transaction, found| {
        let Found { local, account, mut node } = found;
        let config = match wanted.apply(node.config.clone(), items_max) {
            Ok(config) => config,
            Err(error) => return Ok(Err(error)),
        };
        let (old, new) = (node.config.text_bytes(), config.text_bytes());
        let usage = transaction.pubsub(local)?.map(|view| view.usage()).transpose()?.unwrap_or_default();
        if new > old && usage.bytes + (new - old) as u64 > bytes_max {
            return Ok(Err(error::no_room()));
        }
        let (tells, before) = (config.flags.has(NodeFlags::NOTIFY_CONFIG), node.items);
        transaction.configure_node(account, &mut node, config.clone())?;
        let kept = if config.flags.has(NodeFlags::PERSIST) { config.max_items.min(items_max) } else { 0 };
        transaction.trim_node(account, &mut node, kept.into())?;
        let happened = if tells { Some(Happened::Configured(config)) } else { None };
        let committed = notify::committed(transaction, local, &node, happened, &sender)?;
        Ok(committed.map(|committed| committed.charged(dropping(before - node.items))))
    })
}

/// §8.4
pub(super) fn delete(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    request: &Request,
    name: String,
) -> Reply {
    let sender = request.from.clone();
    change(actors, env, fx, request, name, move |transaction, Found { local, account, node }| {
        let happened = node.config.flags.has(NodeFlags::NOTIFY_DELETE).then_some(Happened::Deleted);
        let committed = notify::committed(transaction, local, &node, happened, &sender)?;
        transaction.delete_node(account, &node)?;
        Ok(committed.map(|committed| committed.charged(dropping(node.items + node.members))))
    })
}

/// §8.5
pub(super) fn purge(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    request: &Request,
    name: String,
) -> Reply {
    let sender = request.from.clone();
    change(actors, env, fx, request, name, move |transaction, Found { local, account, mut node }| {
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
