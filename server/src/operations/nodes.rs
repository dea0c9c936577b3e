//! Requests about nodes of the publish-subscribe service. What is in the directory is read here; what is changed is changed by the
//! worker that is the node's home, so that subscribers hear of it in its order.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};

use serde_json::{Value, json};
use whimbrel_storage::directory::pubsub::{MemberRow, NODE_NAME_BYTES_MAX, Node, NodeConfig};

use crate::clock::datetime_ms;
use crate::control::{Answer, ControlRefusal, PAGE_MAX, Problem, RoomSettings};
use crate::operations::Control;
use crate::operations::handlers::{WAIT_MAX, unreadable};
use crate::operations::rooms::{bad_setting, settings_of, submission};
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::pubsub::config::{self, ConfigChange, Whose};
use crate::proto::pubsub::request::{affiliation_name, affiliation_named, subscription_name};
use crate::service::pubsub::operator::{Order, Outcome};
use crate::worker::command::Command;

/// Owners that are shown; `node-members` has all.
const OWNERS_SHOWN_MAX: usize = 1000;

impl Control {
    /// A page of nodes.
    pub(super) fn node_list(&self, after: Option<&str>, max: usize) -> Answer {
        self.nodes_are_on()?;
        let max = max.min(PAGE_MAX);
        let found = self.server.shared.directory.pubsub("", |view| view.nodes_after(after, max));
        let nodes = found.map_err(unreadable)?.unwrap_or_default();
        let more = max > 0 && nodes.len() == max;
        let last = nodes.last().map(|node| node.name.clone());
        let nodes: Vec<Value> = nodes.iter().map(facts).collect();
        Ok(json!({ "nodes": nodes, "more": more, "last": last }))
    }

    /// All there is to know of one node, but its items and who is subscribed.
    pub(super) fn node_show(&self, name: &str) -> Answer {
        let node = self.node(name)?;
        let found = self.server.shared.directory.pubsub("", |view| view.owners(&node, OWNERS_SHOWN_MAX));
        let owners = found.map_err(unreadable)?.unwrap_or_default();
        let mut facts = facts(&node);
        facts["jid"] = json!(&*self.server.shared.nodes_domain);
        facts["created"] = json!(datetime_ms(node.created_ms));
        facts["bytes"] = json!(node.bytes);
        facts["owners"] = json!(owners);
        facts["settings"] = settings(&node.config);
        Ok(facts)
    }

    /// A page of those who are something to a node, in the order of their addresses.
    pub(super) fn node_members(&self, name: &str, after: Option<&str>, max: usize) -> Answer {
        let node = self.node(name)?;
        let max = max.min(PAGE_MAX);
        let (mut members, mut more) = (Vec::new(), false);
        let read = self.server.shared.directory.pubsub("", |view| {
            view.each_member(&node, after, |row| {
                more = members.len() == max;
                if !more {
                    members.push(member(&row));
                }
                !more
            })
        });
        read.map_err(unreadable)?;
        Ok(json!({ "members": members, "more": more }))
    }

    /// Makes a node.
    pub(super) fn node_create(&self, name: &str, owners: &[String], set: &RoomSettings) -> Answer {
        self.nodes_are_on()?;
        if name.is_empty() || name.len() > NODE_NAME_BYTES_MAX || name.contains(char::is_control) {
            let text =
                format!("a node's name has 1 to {NODE_NAME_BYTES_MAX} bytes and no control characters");
            return Err(Problem::new(ControlRefusal::BadRequest, text));
        }
        let owners = owners.iter().map(|owner| self.member_jid(owner)).collect::<Result<Vec<_>, _>>()?;
        let members_max = self.server.config().pubsub.members_max;
        if owners.len() > members_max as usize {
            let text = "more owners than a node may have members (pubsub.members_max)";
            return Err(Problem::new(ControlRefusal::BadRequest, text));
        }
        self.carry_out_on_node(name, Order::Create { config: change(set)?, owners })?;
        Ok(facts(&self.node(name)?))
    }

    /// Deletes a node; subscribers hear of it.
    pub(super) fn node_delete(&self, name: &str) -> Answer {
        self.nodes_are_on()?;
        self.carry_out_on_node(name, Order::Delete)?;
        Ok(json!({ "deleted": true }))
    }

    /// Makes somebody something to a node.
    pub(super) fn node_affiliate(&self, name: &str, member: &str, affiliation: &str) -> Answer {
        self.nodes_are_on()?;
        let jid = self.member_jid(member)?;
        let affiliation = affiliation_named(affiliation).ok_or_else(|| {
            let text =
                format!("`{affiliation}` is none of owner, publisher, publish-only, member, none, outcast");
            Problem::new(ControlRefusal::BadRequest, text)
        })?;
        self.carry_out_on_node(name, Order::Affiliate { jid, affiliation })?;
        Ok(json!({ "changed": true }))
    }

    /// Configures a node.
    pub(super) fn node_config(&self, name: &str, set: &RoomSettings) -> Answer {
        self.nodes_are_on()?;
        if !set.is_empty() {
            self.carry_out_on_node(name, Order::Configure(change(set)?))?;
        }
        Ok(json!({ "settings": settings(&self.node(name)?.config) }))
    }

    fn nodes_are_on(&self) -> Result<(), Problem> {
        match self.server.config().pubsub.enabled {
            true => Ok(()),
            false => {
                let text = "the publish-subscribe service is switched off (pubsub.enabled)";
                Err(Problem::new(ControlRefusal::Failed, text))
            }
        }
    }

    fn node(&self, name: &str) -> Result<Node, Problem> {
        self.nodes_are_on()?;
        let found = self.server.shared.directory.pubsub("", |view| view.node(name));
        found.map_err(unreadable)?.flatten().ok_or_else(|| no_node(name))
    }

    /// Has the node's home do something, and waits until it is committed.
    fn carry_out_on_node(&self, name: &str, order: Order) -> Result<(), Problem> {
        let (reply, replies) = sync_channel(1);
        let home = self.server.shared.home_of_node(name);
        self.give(home, Command::Node { name: name.to_owned(), order: Box::new(order), reply })?;
        match replies.recv_timeout(WAIT_MAX) {
            Ok(Outcome::Done) => Ok(()),
            Ok(Outcome::Refused(error)) => Err(refused(name, &error)),
            Err(RecvTimeoutError::Disconnected) => {
                let text = "the change could not be written to the directory; the server's log says why";
                Err(Problem::new(ControlRefusal::Failed, text))
            }
            Err(RecvTimeoutError::Timeout) => {
                let text = "the node's worker does not answer; the server may be stopping or overloaded";
                Err(Problem::new(ControlRefusal::Timeout, text))
            }
        }
    }
}

fn no_node(name: &str) -> Problem {
    Problem::new(ControlRefusal::NotFound, format!("there is no node {name}"))
}

fn refused(name: &str, error: &StanzaError) -> Problem {
    match error.condition {
        StanzaCondition::ItemNotFound => no_node(name),
        StanzaCondition::Conflict => {
            Problem::new(ControlRefusal::Exists, format!("there is a node {name} already"))
        }
        condition => {
            let own = error.application.map(|(name, _)| name);
            let text = error.text.as_deref().or(own).unwrap_or("it may not be done");
            Problem::new(ControlRefusal::Failed, format!("{name}: {condition} ({text})"))
        }
    }
}

fn facts(node: &Node) -> Value {
    let settings = settings(&node.config);
    json!({
        "node": node.name,
        "title": node.config.title,
        "access": settings["access_model"],
        "publish": settings["publish_model"],
        "items": node.items,
        "members": node.members,
    })
}

fn member(row: &MemberRow) -> Value {
    json!({
        "jid": row.jid,
        "affiliation": affiliation_name(row.member.affiliation),
        "subscription": subscription_name(row.member.subscription),
    })
}

/// The fields of the form, by their short names.
fn settings(config: &NodeConfig) -> Value {
    Value::Object(settings_of(&config::form(config, Whose::Service)))
}

/// The change of a configuration by short names of fields.
fn change(set: &RoomSettings) -> Result<ConfigChange, Problem> {
    let form = submission(&config::form(&NodeConfig::default(), Whose::Service), set)?;
    Ok(ConfigChange::read(&form).map_err(|error| bad_setting(&error))?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_storage::directory::pubsub::{AccessModel, NodeFlags};

    fn set(pairs: &[(&str, &str)]) -> RoomSettings {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn settings_are_those_of_the_form_by_short_names_and_read_back() {
        let mut config =
            NodeConfig { title: "T".into(), access: AccessModel::Whitelist, ..NodeConfig::default() };
        config.flags.put(NodeFlags::PAYLOADS, false);
        let shown = settings(&config);
        assert_eq!((&shown["title"], &shown["access_model"]), (&json!("T"), &json!("whitelist")));
        assert_eq!((&shown["deliver_payloads"], &shown["max_items"]), (&json!("0"), &json!("1")));
        let given =
            set(&[("title", "T"), ("pubsub#access_model", "whitelist"), ("deliver_payloads", "false")]);
        let open = NodeConfig { access: AccessModel::Open, ..NodeConfig::default() };
        assert_eq!(change(&given).unwrap().apply(open, 9, Whose::Service), Ok(config));
        for (pairs, said) in
            [([("colour", "red")], "no setting `colour`"), ([("max_items", "no")], "max_items")]
        {
            let problem = change(&set(&pairs)).unwrap_err();
            assert!(problem.message.contains(said), "{}", problem.message);
        }
        assert!(change(&set(&[("access_model", "roster")])).is_ok(), "it is refused when it is applied");
    }
}
