//! The table of the configuration for the publish-subscribe service.

use serde::{Deserialize, Serialize};
use whimbrel_storage::jid::JidRef;

/// What the server can take, whatever is configured: members of one node, which one transaction reads and deletes.
const MEMBERS_CEILING: u32 = 10_000;

/// What the server can take of one node: a transaction reads what it drops.
const MIB_PER_NODE_CEILING: u32 = 256;

/// What the server can take of one account: its end takes all of them away in one transaction.
const OF_ACCOUNT_CEILING: u32 = 1_000;

/// Who may make a node of the service.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeMakers {
    /// Every user.
    Everyone,
    /// Nobody: nodes are made with `whimbrelctl node create`.
    Operators,
}

/// The publish-subscribe service (XEP-0060), whose nodes belong to no account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PubsubConfig {
    /// Whether there is one. Switched off, nothing of it is announced and nobody can reach it; what is in the directory stays.
    pub enabled: bool,
    /// Its domain. Empty: `pubsub.` before the server's.
    pub domain: String,
    /// Who may make a node.
    pub create: NodeMakers,
    /// Nodes in all.
    pub nodes_max: u32,
    /// MiB of all nodes and items, with 128 bytes for each.
    pub mib_max: u32,
    /// Items that one node keeps.
    pub items_max: u32,
    /// MiB of one node with its items.
    pub mib_per_node: u32,
    /// Bytes of the payload of one item.
    pub item_bytes: u32,
    /// Affiliations and subscriptions of one node.
    pub members_max: u32,
    /// Affiliations and subscriptions of one account.
    pub per_account: u32,
    /// Nodes that one account may own.
    pub owned_per_account: u32,
}

impl Default for PubsubConfig {
    fn default() -> Self {
        PubsubConfig {
            enabled: true,
            domain: String::new(),
            create: NodeMakers::Operators,
            nodes_max: 10_000,
            mib_max: 1024,
            items_max: 1000,
            mib_per_node: 8,
            item_bytes: 256 * 1024,
            members_max: 2000,
            per_account: 200,
            owned_per_account: 20,
        }
    }
}

impl PubsubConfig {
    /// The domain of the service of a server of this domain.
    pub fn domain_of(&self, server: &str) -> String {
        match self.domain.is_empty() {
            true => format!("pubsub.{server}"),
            false => self.domain.clone(),
        }
    }

    /// Bytes of all nodes and items.
    pub fn bytes_max(&self) -> u64 {
        u64::from(self.mib_max) << 20
    }

    /// Bytes of one node with its items.
    pub fn node_bytes_max(&self) -> u64 {
        u64::from(self.mib_per_node) << 20
    }

    /// Checks what types cannot. `rooms`: the domain of rooms.
    pub(super) fn check(&self, server: &str, rooms: &str) -> Result<(), String> {
        let domain = self.domain_of(server);
        let is_one = JidRef::parse(&domain).is_ok_and(|jid| jid.is_bare() && jid.local().is_none());
        if !is_one {
            return Err(format!("pubsub.domain is `{domain}`, which is no domain"));
        }
        if domain == server || domain == rooms {
            return Err(
                "pubsub.domain is the domain of the users or of the rooms; nodes need one of their own"
                    .into(),
            );
        }
        let least = [
            ("nodes_max", self.nodes_max),
            ("mib_max", self.mib_max),
            ("items_max", self.items_max),
            ("mib_per_node", self.mib_per_node),
            ("item_bytes", self.item_bytes),
            ("members_max", self.members_max),
            ("per_account", self.per_account),
            ("owned_per_account", self.owned_per_account),
        ];
        if let Some((name, _)) = least.iter().find(|(_, value)| *value == 0) {
            return Err(format!("pubsub.{name} is 0; set it to at least 1, or pubsub.enabled to false"));
        }
        let most = [
            ("mib_per_node", self.mib_per_node, MIB_PER_NODE_CEILING),
            ("members_max", self.members_max, MEMBERS_CEILING),
            ("per_account", self.per_account, OF_ACCOUNT_CEILING),
        ];
        match most.iter().find(|(_, value, max)| value > max) {
            Some((name, value, max)) => Err(format!("pubsub.{name} is {value}; at most {max}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_a_domain_of_their_own() {
        let of = |domain: &str| PubsubConfig { domain: domain.into(), ..PubsubConfig::default() };
        assert_eq!(of("").domain_of("x.org"), "pubsub.x.org");
        assert_eq!(of("news.x.org").domain_of("x.org"), "news.x.org");
        assert_eq!(of("").check("x.org", "conference.x.org"), Ok(()));
        for (domain, said) in [
            ("x.org", "of their own"),
            ("conference.x.org", "of their own"),
            ("a@b", "no domain"),
            ("a/b", "no domain"),
        ] {
            let error = of(domain).check("x.org", "conference.x.org").unwrap_err();
            assert!(error.contains(said), "{domain}: {error}");
        }
    }

    #[test]
    fn limits_have_bounds() {
        let table = [
            (PubsubConfig { nodes_max: 0, ..PubsubConfig::default() }, "pubsub.nodes_max is 0"),
            (PubsubConfig { mib_per_node: 257, ..PubsubConfig::default() }, "at most 256"),
            (PubsubConfig { members_max: 10_001, ..PubsubConfig::default() }, "at most 10000"),
            (PubsubConfig { per_account: 1001, ..PubsubConfig::default() }, "at most 1000"),
        ];
        for (config, said) in table {
            let error = config.check("x.org", "conference.x.org").unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
