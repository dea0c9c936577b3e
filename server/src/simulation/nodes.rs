//! Nodes of the publish-subscribe service: what must be true of them, and what clients make of what they hear from there.
//!
//! The directory has the items of a node in the order in which they were published. So each session must hear rising items,
//! each once, whatever happens to others: then there is one order for everybody. What was confirmed is there when the world is at
//! rest, and so is all that anybody has heard of.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::pubsub::{AccessModel, NodeConfig, PublishModel, SendLast};
use whimbrel_storage::directory::{self, Directory};

use super::oracle::Broken;
use super::world::{DOMAIN, World};
use crate::xml::Element;

/// Nodes of a world.
pub(super) const NODES: usize = 3;

/// The address of the service.
pub(super) fn service() -> String {
    format!("pubsub.{DOMAIN}")
}

/// The name of a node.
pub(super) fn node(number: usize) -> String {
    format!("news{number}")
}

/// The publication of an item to a node.
pub(super) fn publication(number: usize, n: u32, id: &str) -> String {
    let item = format!("<item id='{n}'><v xmlns='urn:sim'>{n}</v></item>");
    let inside = format!("<publish node='{}'>{item}</publish>", node(number));
    format!("<iq type='set' id='{id}' to='{}'>{}</iq>", service(), pubsub(&inside))
}

/// A request to the service.
pub(super) fn pubsub(inside: &str) -> String {
    format!("<pubsub xmlns='http://jabber.org/protocol/pubsub'>{inside}</pubsub>")
}

/// Makes the nodes, to which everybody may publish.
pub(super) fn create(directory: &Directory) -> Result<(), String> {
    let job = Box::new(move |transaction: &mut directory::WriteTransaction<'_>| {
        for number in 0..NODES {
            let config = NodeConfig {
                access: AccessModel::Open,
                publish: PublishModel::Open,
                send_last: SendLast::OnPresence,
                max_items: u32::MAX,
                ..NodeConfig::default()
            };
            transaction.create_node(ActorId::NODES, &node(number), config, 0)?;
        }
        Ok(())
    });
    directory::run_inline(directory, job).map_err(|error| error.to_string())
}

/// What is known of all nodes.
#[derive(Debug, Default)]
pub(super) struct NodesOracle {
    /// By number of the item: its node.
    published: Vec<usize>,
    /// Items whose publication was confirmed since the world was last at rest.
    confirmed: BTreeSet<u32>,
    /// Users and nodes: the user has ever asked to be subscribed.
    asked: BTreeSet<(usize, usize)>,
    /// Sessions and nodes: the items heard since the world was last at rest.
    heard: BTreeMap<(usize, usize), Vec<u32>>,
    /// Items heard, over all sessions.
    pub(super) count: u64,
}

impl NodesOracle {
    /// A user asks to be subscribed to a node.
    pub(super) fn subscribes(&mut self, user: usize, node: usize) {
        self.asked.insert((user, node));
    }

    /// Something is published to a node; its number.
    pub(super) fn publishes(&mut self, node: usize) -> u32 {
        self.published.push(node);
        u32::try_from(self.published.len() - 1).expect("a world publishes less")
    }

    /// A publication is confirmed.
    pub(super) fn confirmed(&mut self, n: u32) {
        self.confirmed.insert(n);
    }

    fn hears(
        &mut self,
        (user, session): (usize, usize),
        node: usize,
        n: u32,
        is_last: bool,
    ) -> Result<(), Broken> {
        if self.published.get(n as usize) != Some(&node) {
            return Err(format!(
                "session {session} hears of item {n} in node {node}, which nobody has published"
            ));
        }
        if !self.asked.contains(&(user, node)) {
            return Err(format!(
                "session {session} hears of node {node}, to which user {user} never subscribed"
            ));
        }
        self.count += 1;
        let heard = self.heard.entry((session, node)).or_default();
        // A last item comes of its own accord: to one who subscribes once more, for example.
        if !is_last {
            heard.push(n);
        }
        Ok(())
    }

    /// Compares everything with the order of a node's items; `is_cut`: the oldest are gone already.
    fn judge(&mut self, node: usize, order: &[u32], is_cut: bool) -> Result<(), Broken> {
        let place: BTreeMap<u32, usize> = order.iter().enumerate().map(|(at, n)| (*n, at + 1)).collect();
        let of_node = |n: &&u32| self.published.get(**n as usize) == Some(&node);
        if let Some(n) = self.confirmed.iter().filter(of_node).find(|n| !place.contains_key(n) && !is_cut) {
            return Err(format!("item {n} of node {node} was confirmed and is not there"));
        }
        for ((session, of), heard) in &self.heard {
            if *of != node {
                continue;
            }
            let places: Vec<usize> = heard.iter().map(|n| place.get(n).copied().unwrap_or(0)).collect();
            if !is_cut && places.contains(&0) {
                return Err(format!(
                    "session {session} has heard of an item of node {node} that is not there: {heard:?}"
                ));
            }
            let rises = |pair: &[usize]| pair[0] < pair[1] || pair[1] == 0 && pair[0] == 0;
            if !places.windows(2).all(rises) {
                return Err(format!(
                    "session {session} has heard of node {node} out of order: {heard:?} of {order:?}"
                ));
            }
        }
        Ok(())
    }
}

impl World {
    /// A client hears of the service's nodes.
    pub(super) fn node_heard(&mut self, index: usize, event: &Element, is_last: bool) {
        let user = self.clients[index].user;
        let Some(session) = self.clients[index].live.as_ref().map(|live| live.id) else { return };
        let Some(items) = event.elements().next().filter(|items| items.name() == "items") else { return };
        let name = items.attribute("node").unwrap_or_default();
        let number = name.strip_prefix("news").and_then(|number| number.parse().ok());
        let item = items.elements().next().and_then(|item| {
            let (id, value) = (item.attribute("id")?, item.elements().next()?.content());
            (id == value).then(|| id.parse().ok()).flatten()
        });
        let (Some(number), Some(n)) = (number, item) else {
            return self
                .fail(format!("client {index} hears in {name:?} what nobody has published: {event:?}"));
        };
        if let Err(what) = self.nodes.hears((user, session), number, n, is_last) {
            self.fail(what);
        }
    }

    /// Whether a node has an item.
    pub(super) fn has_item(&self, number: usize, n: u32) -> Result<bool, String> {
        let found = self.shared.directory.pubsub("", |view| {
            let Some(node) = view.node(&node(number))? else { return Ok(false) };
            // The oldest are gone when there are as many as may be.
            Ok(view.item(&node, &n.to_string())?.is_some()
                || node.items >= u64::from(self.config.pubsub.items_max))
        });
        found.map(Option::unwrap_or_default).map_err(|error| error.to_string())
    }

    /// What was confirmed and what was heard is there, in one order. The world is at rest.
    pub(super) fn check_nodes(&mut self) {
        for number in 0..NODES {
            let most = u64::from(self.config.pubsub.items_max);
            let read = self.shared.directory.pubsub("", |view| {
                let (mut order, mut is_cut) = (Vec::new(), false);
                if let Some(node) = view.node(&node(number))? {
                    is_cut = node.items >= most;
                    view.each_item(&node, (0, u64::MAX), false, |item| {
                        order.extend(item.id.parse::<u32>());
                        true
                    })?;
                }
                Ok((order, is_cut))
            });
            let outcome = match read {
                Ok(found) => {
                    let (order, is_cut) = found.unwrap_or_default();
                    self.nodes.judge(number, &order, is_cut)
                }
                Err(error) => Err(format!("node {number} cannot be read: {error}")),
            };
            if let Err(what) = outcome {
                return self.fail(what);
            }
        }
        self.nodes.confirmed.clear();
        self.nodes.heard.clear();
    }
}
