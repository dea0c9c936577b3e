//! Publishing and retracting items (XEP-0060 §7).

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::pubsub::{ITEM_ROW_BYTES, NewItem, Node, NodeConfig, NodeFlags, PubsubView};
use whimbrel_storage::directory::{DirectoryError, WriteTransaction};

use super::access::Visitor;
use super::bounds::Bounds;
use super::node::{self, Found, defaults_of, made_up, whose};
use super::notify::{self, Happened, Notice, PublishedItem};
use crate::effects::work;
use crate::env::Env;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::proto::pubsub::config::ConfigChange;
use crate::proto::pubsub::error;
use crate::proto::pubsub::request::Published;
use crate::service::commit::JobResult;
use crate::service::{Committed, Reply, Request};
use crate::user::actors::{Actors, Effects};
use crate::xml::Element;

/// What is to be published.
pub(super) struct Publication {
    /// The node.
    pub(super) node: String,
    /// The items.
    pub(super) items: Vec<Published>,
    /// Conditions.
    pub(super) options: Option<ConfigChange>,
}

/// A publication on its way to the directory.
pub(super) struct Job {
    /// The owner's localpart.
    pub(super) local: String,
    /// Who publishes, and where its next stanza waits.
    pub(super) visitor: Visitor,
    /// The node.
    pub(super) node: String,
    /// Conditions.
    pub(super) options: Option<ConfigChange>,
    /// What the node is configured to if it is made because of this, before the conditions.
    pub(super) defaults: NodeConfig,
    /// The items.
    pub(super) items: Vec<PublishedItem>,
    /// How much there may be.
    pub(super) bounds: Bounds,
    /// The time, milliseconds since 1970.
    pub(super) now_ms: u64,
}

/// §7.1
pub(super) fn publish(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (request, visitor): (&Request, Visitor),
    publication: Publication,
) -> Reply {
    let bounds = Bounds::of(env, &request.account);
    let bytes_max = bounds.item_bytes;
    let mut items = Vec::with_capacity(publication.items.len());
    for item in publication.items {
        let payload = item.bytes();
        if payload.len() > bytes_max {
            match visitor.is_guest() {
                true => env.metrics().refused_pubsub_item.add(1),
                false => env.metrics().refused_pep_item.add(1),
            }
            return Reply::Error(error::payload_too_big(bytes_max));
        }
        items.push(PublishedItem { id: item.id.unwrap_or_else(|| made_up(env)), payload });
    }
    match visitor.is_guest() {
        true => env.metrics().pubsub_published.add(items.len() as u64),
        false => env.metrics().pep_published.add(items.len() as u64),
    }
    // Each is a few rows of the directory, however short it is.
    fx.work.add(items.len() as u64 * work::LOOK);
    let job = Job {
        local: request.account.clone(),
        visitor,
        defaults: defaults_of(&publication.node),
        node: publication.node,
        options: publication.options,
        items,
        bounds,
        now_ms: env.unix_ms(),
    };
    request.commit(actors, env, fx, move |transaction| job.run(transaction))
}

impl Job {
    fn run(self, transaction: &mut WriteTransaction<'_>) -> JobResult {
        let sender = self.visitor.full.clone();
        let notice = match self.apply(transaction)? {
            Ok(notice) => notice,
            Err(error) => return Ok(Err(error)),
        };
        let result = Some(result(&notice));
        Ok(Ok(Committed { result, ..notify::tell_all(vec![notice], sender) }))
    }

    /// Publishes in a transaction, or changes nothing. Returns what is to be told of it.
    pub(super) fn apply(
        self,
        transaction: &mut WriteTransaction<'_>,
    ) -> Result<Result<Notice, StanzaError>, DirectoryError> {
        let Some(view) = transaction.pubsub(&self.local)? else { return Ok(Err(error::not_found())) };
        let account = view.account();
        let (node, config) = match view.node(&self.node)? {
            Some(node) => {
                if let Err(error) = self.check(&view, &node)? {
                    return Ok(Err(error));
                }
                let config = node.config.clone();
                (Some(node), config)
            }
            None => match self.configuration(&view)? {
                Ok(config) => (None, config),
                Err(error) => return Ok(Err(error)),
            },
        };
        let checked = match self.check_items(&config) {
            Ok(()) => self.check_room(&view, node.as_ref(), &config)?,
            Err(error) => Err(error),
        };
        if let Err(error) = checked {
            return Ok(Err(error));
        }
        let mut node = match node {
            Some(node) => node,
            None => transaction.create_node(account, &self.node, config.clone(), self.now_ms)?,
        };
        self.store(transaction, account, &mut node)?;
        let happened = Happened::Published { items: self.items, publisher: self.visitor.bare };
        Notice::of(transaction, &self.local, &node, happened).map(Ok)
    }

    /// Whether the publisher may publish to a node that is there, under its conditions.
    fn check(&self, view: &PubsubView<'_>, node: &Node) -> Result<Result<(), StanzaError>, DirectoryError> {
        let member = self.visitor.member(view, node)?;
        if let Err(error) = self.visitor.may_publish(&node.config, member) {
            return Ok(Err(error));
        }
        let agrees = |options: &ConfigChange| options.agrees(&node.config, self.bounds.items);
        Ok(match self.options.as_ref().is_none_or(agrees) {
            true => Ok(()),
            false => Err(error::precondition_not_met()),
        })
    }

    /// What a node is configured to that is made because somebody publishes to it (§7.1.4): the owner alone.
    fn configuration(
        &self,
        view: &PubsubView<'_>,
    ) -> Result<Result<NodeConfig, StanzaError>, DirectoryError> {
        if !self.visitor.is_owner() {
            return Ok(Err(error::not_found()));
        }
        let options = self.options.clone().unwrap_or_default();
        let usage = view.usage()?;
        let config = options.apply(self.defaults.clone(), self.bounds.items, whose(&self.local));
        Ok(config.and_then(|config| {
            self.bounds.check_node(usage, &self.node, &config)?;
            Ok(config)
        }))
    }

    /// Whether the items fit the node's kind (§7.1.3.6).
    fn check_items(&self, config: &NodeConfig) -> Result<(), StanzaError> {
        let (persists, tells) = (config.flags.has(NodeFlags::PERSIST), config.flags.has(NodeFlags::PAYLOADS));
        let bad = |name| Err(error::with(StanzaCondition::BadRequest, name));
        match self.items.as_slice() {
            [] if persists || tells => bad("item-required"),
            [_, ..] if !persists && !tells => bad("item-forbidden"),
            items if tells && items.iter().any(|item| item.payload.is_empty()) => bad("payload-required"),
            items if persists && items.len() as u64 > self.kept(config) => {
                Err(error::with(StanzaCondition::NotAllowed, "max-items-exceeded"))
            }
            _ => Ok(()),
        }
    }

    /// Items that a node keeps.
    fn kept(&self, config: &NodeConfig) -> u64 {
        config.max_items.min(self.bounds.items).into()
    }

    /// Whether there is room for what is published, less what goes because of it.
    fn check_room(
        &self,
        view: &PubsubView<'_>,
        node: Option<&Node>,
        config: &NodeConfig,
    ) -> Result<Result<(), StanzaError>, DirectoryError> {
        if !config.flags.has(NodeFlags::PERSIST) {
            return Ok(Ok(()));
        }
        let size = |item: &PublishedItem| {
            ITEM_ROW_BYTES + (item.id.len() + self.visitor.bare.len() + item.payload.len()) as u64
        };
        let added: u64 = self.items.iter().map(size).sum();
        let mut freed = 0;
        if let Some(node) = node {
            let mut surplus = (node.items + self.items.len() as u64).saturating_sub(self.kept(config));
            for item in &self.items {
                if let Some(old) = view.item(node, &item.id)? {
                    freed += ITEM_ROW_BYTES + (old.id.len() + old.publisher.len() + old.payload.len()) as u64;
                    surplus = surplus.saturating_sub(1);
                }
            }
            if surplus > 0 {
                view.each_item(node, (0, u64::MAX), false, |old| {
                    if self.items.iter().all(|item| item.id != old.id) {
                        freed +=
                            ITEM_ROW_BYTES + (old.id.len() + old.publisher.len() + old.payload.len()) as u64;
                        surplus -= 1;
                    }
                    surplus > 0
                })?;
            }
        }
        let made = if node.is_some() { 0 } else { Node::bytes_of(&self.node, config) };
        let fits = |bytes: u64, most| (bytes + made + added).saturating_sub(freed) <= most;
        let fits = fits(view.usage()?.bytes, self.bounds.bytes)
            && fits(node.map_or(0, |node| node.bytes), self.bounds.node_bytes);
        Ok(if fits { Ok(()) } else { Err(error::no_room()) })
    }

    fn store(
        &self,
        transaction: &mut WriteTransaction<'_>,
        account: ActorId,
        node: &mut Node,
    ) -> Result<(), DirectoryError> {
        if !node.config.flags.has(NodeFlags::PERSIST) {
            return Ok(());
        }
        for item in &self.items {
            let new = NewItem {
                id: &item.id,
                publisher: &self.visitor.bare,
                published_ms: self.now_ms,
                payload: &item.payload,
            };
            transaction.publish_item(account, node, &new)?;
        }
        let kept = self.kept(&node.config);
        transaction.trim_node(account, node, kept)
    }
}

/// The answer to a publication: the ids of the items.
fn result(notice: &Notice) -> Element {
    let mut publish = Element::new("publish", ns::PUBSUB).attr("node", notice.node.as_str());
    if let Happened::Published { items, .. } = &notice.happened {
        for item in items {
            publish.push(Element::new("item", ns::PUBSUB).attr("id", item.id.as_str()));
        }
    }
    Element::new("pubsub", ns::PUBSUB).child(publish)
}

/// §7.2
pub(super) fn retract(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (request, visitor): (&Request, Visitor),
    (name, ids, notify): (String, Vec<String>, bool),
) -> Reply {
    fx.work.add(ids.len() as u64 * work::LOOK);
    node::change(actors, env, fx, request, name, move |transaction, found| {
        let Found { local, account, mut node } = found;
        if let Some(view) = transaction.pubsub(local)? {
            let member = visitor.member(&view, &node)?;
            if let Err(error) = visitor.may_publish(&node.config, member) {
                return Ok(Err(error));
            }
            if !node.config.flags.has(NodeFlags::PERSIST) {
                return Ok(Err(error::unsupported("persistent-items")));
            }
            for id in &ids {
                let Some(item) = view.item(&node, id)? else { return Ok(Err(error::not_found())) };
                // §7.2.3.1: publishers retract what they have published.
                if !visitor.owns(member) && item.publisher != visitor.bare {
                    return Ok(Err(StanzaCondition::Forbidden.into()));
                }
            }
        }
        for id in &ids {
            transaction.retract_item(account, &mut node, id)?;
        }
        let tells = notify || node.config.flags.has(NodeFlags::NOTIFY_RETRACT);
        let happened = tells.then_some(Happened::Retracted(ids));
        notify::committed(transaction, local, &node, happened, &visitor.full)
    })
}
