//! How much there may be in nodes: in those of one account, or in those of the publish-subscribe service.

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::directory::pubsub::{Affiliation, Member, Node, NodeConfig, PubsubUsage, PubsubView};

use crate::config::PubsubConfig;
use crate::env::Env;
use crate::limits::Limits;
use crate::proto::errors::StanzaError;
use crate::proto::pubsub::error;

/// Limits of the nodes of an account, or of the service.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct Bounds {
    /// Nodes.
    pub nodes: u64,
    /// Items of one node.
    pub items: u32,
    /// Bytes of the payload of one item.
    pub item_bytes: usize,
    /// Bytes of all nodes and items.
    pub bytes: u64,
    /// Bytes of one node with its items.
    pub node_bytes: u64,
    /// Affiliations and subscriptions of all nodes.
    members: u64,
    /// Those of one node.
    members_of_node: u64,
    /// Those of one account, which also may own so many nodes. `None`: nobody counts.
    of_account: Option<(u64, u64)>,
}

impl Bounds {
    /// Those of an account by its localpart, or by the empty one those of the service.
    pub(in crate::service) fn of(env: &Env, local: &str) -> Bounds {
        match local.is_empty() {
            true => Bounds::of_service(&env.config.pubsub),
            false => Bounds::of_account(&env.config.limits),
        }
    }

    fn of_account(limits: &Limits) -> Bounds {
        Bounds {
            nodes: limits.pep_nodes.into(),
            items: limits.pep_items,
            item_bytes: limits.pep_item_bytes as usize,
            bytes: limits.pep_bytes,
            node_bytes: limits.pep_bytes,
            members: limits.pep_members.into(),
            members_of_node: u64::MAX,
            of_account: None,
        }
    }

    fn of_service(config: &PubsubConfig) -> Bounds {
        Bounds {
            nodes: config.nodes_max.into(),
            items: config.items_max,
            item_bytes: config.item_bytes as usize,
            bytes: config.bytes_max(),
            node_bytes: config.node_bytes_max(),
            members: u64::MAX,
            members_of_node: config.members_max.into(),
            of_account: Some((config.per_account.into(), config.owned_per_account.into())),
        }
    }

    /// Whether there may be another node of this name.
    pub(in crate::service) fn check_node(
        &self,
        usage: PubsubUsage,
        name: &str,
        config: &NodeConfig,
    ) -> Result<(), StanzaError> {
        if usage.nodes >= self.nodes {
            return Err(error::too_many_nodes(self.nodes));
        }
        match usage.bytes + Node::bytes_of(name, config) > self.bytes {
            true => Err(error::no_room()),
            false => Ok(()),
        }
    }

    /// Whether there may be so many more affiliations and subscriptions of a node.
    pub(super) fn check_members(
        &self,
        usage: PubsubUsage,
        node: &Node,
        added: u64,
    ) -> Result<(), StanzaError> {
        let fits = added == 0
            || usage.members + added <= self.members && node.members + added <= self.members_of_node;
        if fits { Ok(()) } else { Err(error::too_many_members()) }
    }

    /// Whether an account may become this to another node of the service.
    pub(super) fn check_account(
        &self,
        view: &PubsubView<'_>,
        account: ActorId,
        (before, after): (Member, Member),
    ) -> Result<Result<(), StanzaError>, DirectoryError> {
        let Some((all_max, owned_max)) = self.of_account else { return Ok(Ok(())) };
        let is_more = before.is_nothing() && !after.is_nothing();
        let owns_more = before.affiliation != Affiliation::Owner && after.affiliation == Affiliation::Owner;
        if account == ActorId::NOBODY || !is_more && !owns_more {
            return Ok(Ok(()));
        }
        let (all, owned) = view.counts_of_account(account, all_max.saturating_add(1))?;
        Ok(match (is_more && all >= all_max, owns_more && owned >= owned_max) {
            (false, false) => Ok(()),
            (true, _) => Err(error::too_many_of_account()),
            (_, true) => Err(error::too_many_owned(owned_max)),
        })
    }
}
