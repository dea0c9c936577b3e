//! Nodes on their way out.

use whimbrel_storage::directory::pubsub::{
    Affiliation, MemberRow, Node, NodeConfig, PubsubView, SubscriptionState,
};
use whimbrel_storage::directory::{Directory, DirectoryError};

use super::{
    ACCESS_MODELS, AFFILIATIONS, FLAGS, OWNER, PUBLISH_MODELS, PUBSUB, SEND_LAST, SUBSCRIPTIONS, escaped,
    word,
};

/// Appends the nodes of an account, each with its items, its configuration and its members. How many nodes and items there are.
///
/// # Errors
/// The directory cannot be read or is damaged.
pub(in crate::migrate) fn write(
    directory: &Directory,
    (local, owner): (&str, &str),
    out: &mut String,
) -> Result<(u64, u64), DirectoryError> {
    let written = directory.pubsub(local, |view| {
        let nodes = view.nodes()?;
        if nodes.is_empty() {
            return Ok((0, 0));
        }
        out.push_str(&format!("<pubsub xmlns='{PUBSUB}'>"));
        for node in &nodes {
            items(&view, node, owner, out)?;
        }
        out.push_str(&format!("</pubsub><pubsub xmlns='{OWNER}'>"));
        for node in &nodes {
            configure(&node.name, &node.config, out);
            members(&view, node, out)?;
        }
        out.push_str("</pubsub>");
        Ok((nodes.len() as u64, nodes.iter().map(|node| node.items).sum()))
    })?;
    Ok(written.unwrap_or_default())
}

/// The oldest first: an import publishes them in this order.
fn items(view: &PubsubView<'_>, node: &Node, owner: &str, out: &mut String) -> Result<(), DirectoryError> {
    if node.items == 0 {
        return Ok(());
    }
    out.push_str(&format!("<items node='{}'>", escaped(&node.name)));
    view.each_item(node, (0, u64::MAX), false, |item| {
        out.push_str(&format!("<item id='{}'", escaped(item.id)));
        if item.publisher != owner {
            out.push_str(&format!(" publisher='{}'", escaped(item.publisher)));
        }
        out.push('>');
        out.push_str(&String::from_utf8_lossy(item.payload));
        out.push_str("</item>");
        true
    })?;
    out.push_str("</items>");
    Ok(())
}

fn configure(name: &str, config: &NodeConfig, out: &mut String) {
    out.push_str(&format!(
        "<configure node='{}'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>\
         <value>http://jabber.org/protocol/pubsub#node_config</value></field>",
        escaped(name)
    ));
    let mut field = |name: &str, values: &[&str]| {
        out.push_str(&format!("<field var='{name}'>"));
        values.iter().for_each(|value| out.push_str(&format!("<value>{}</value>", escaped(value))));
        out.push_str("</field>");
    };
    let words = [
        ("pubsub#access_model", word(&ACCESS_MODELS, &config.access)),
        ("pubsub#publish_model", word(&PUBLISH_MODELS, &config.publish)),
        ("pubsub#send_last_published_item", word(&SEND_LAST, &config.send_last)),
    ];
    for (name, value) in words {
        field(name, &[value.unwrap_or_default()]);
    }
    for (name, flag) in FLAGS {
        field(name, &[if config.flags.has(flag) { "1" } else { "0" }]);
    }
    let max_items = match config.max_items {
        u32::MAX => "max".to_owned(),
        number => number.to_string(),
    };
    field("pubsub#max_items", &[&max_items]);
    for (name, text) in [("pubsub#title", &config.title), ("pubsub#type", &config.payload_type)] {
        if !text.is_empty() {
            field(name, &[text]);
        }
    }
    if !config.groups.is_empty() {
        let groups: Vec<&str> = config.groups.iter().map(String::as_str).collect();
        field("pubsub#roster_groups_allowed", &groups);
    }
    out.push_str("</x></configure>");
}

/// Those that still count: a grant to an account that is gone is none to another of its name.
fn members(view: &PubsubView<'_>, node: &Node, out: &mut String) -> Result<(), DirectoryError> {
    let mut current = Vec::new();
    for row in view.members(node)? {
        if view.is_current(&row)? {
            current.push(row);
        }
    }
    let affiliation = |row: &MemberRow| match row.member.affiliation {
        Affiliation::None => None,
        affiliation => word(&AFFILIATIONS, &affiliation),
    };
    let subscription = |row: &MemberRow| match row.member.subscription {
        SubscriptionState::None => None,
        subscription => word(&SUBSCRIPTIONS, &subscription),
    };
    list(&node.name, "affiliation", current.iter().map(|row| (row.jid.as_str(), affiliation(row))), out);
    list(&node.name, "subscription", current.iter().map(|row| (row.jid.as_str(), subscription(row))), out);
    Ok(())
}

/// A list of those that are something to a node, unless there is none.
fn list<'a>(
    node: &str,
    what: &str,
    members: impl Iterator<Item = (&'a str, Option<&'static str>)>,
    out: &mut String,
) {
    let listed: String = members
        .filter_map(|(jid, word)| {
            word.map(|word| format!("<{what} jid='{}' {what}='{word}'/>", escaped(jid)))
        })
        .collect();
    if !listed.is_empty() {
        out.push_str(&format!("<{what}s node='{}'>{listed}</{what}s>", escaped(node)));
    }
}
