//! Last items, which come without being asked for (XEP-0060 §6.1.7, XEP-0163 §4.3).
//!
//! | whose | to | when |
//! | --- | --- | --- |
//! | nodes of accounts | clients that want them | they come online, or want to hear of a node from then on |
//! | nodes of accounts and of the service | new subscribers | the subscription is written |
//! | nodes of the service | subscribers | they come online |

use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::directory::pubsub::{
    Member, Node, NodeFlags, NodeOfAccount, PubsubView, SendLast, SubscriptionState,
};

use super::access::Visitor;
use super::notify::push;
use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::{EventKind, NodeEvent, Targets};
use crate::proto::address;
use crate::proto::pubsub::event::{self, Event, WrittenItem};
use crate::user::actors::{Actors, Effects};
use crate::user::events;
use crate::user::lifecycle::{Available, Interested};

/// Bytes of last items that one account sends somebody who comes, payloads alone. The others are told by their ids.
const LAST_BYTES_MAX: usize = 64 * 1024;

/// Somebody wants to hear of nodes of a user of this worker from now on, and gets their last items.
pub(super) fn last_items(_: &mut Actors, env: &Env, fx: &mut Effects, event: &Interested<'_>) {
    let &Interested { account, contact, nodes } = event;
    let owner = env.bare_jid(account);
    let found = env.shared.directory.pubsub(account, |view| {
        if view.usage()?.nodes == 0 {
            return Ok(Vec::new());
        }
        let visitor = Visitor::from_full(env, account, contact)?;
        let mut found = Vec::new();
        let mut left = LAST_BYTES_MAX.min(env.config.limits.pep_payload_bytes as usize);
        for name in nodes {
            fx.work.add(work::LOOK);
            let Some(node) = view.node(name)? else { continue };
            let wanted = node.config.send_last == SendLast::OnPresence
                && visitor.sees_presence()
                && visitor.may_look(&node.config, visitor.member(&view, &node)?).is_ok();
            if !wanted {
                continue;
            }
            if let Some(tail) = last_of(&view, &node, &owner, &mut left)? {
                found.push(((*name).to_owned(), tail));
            }
        }
        Ok(found)
    });
    match found {
        Ok(found) => send(env, fx, account, contact, &found.unwrap_or_default()),
        Err(error) => tracing::error!(user = account, %error, "cannot read nodes"),
    }
}

/// The message with a node's last item. The payload is in it if there is room for it in what is `left`.
fn last_of(
    view: &PubsubView<'_>,
    node: &Node,
    owner: &str,
    left: &mut usize,
) -> Result<Option<Vec<u8>>, DirectoryError> {
    let Some(item) = view.last_item(node)? else { return Ok(None) };
    let mut written = WrittenItem::of(&item, owner);
    if item.payload.len() <= *left && node.config.flags.has(NodeFlags::PAYLOADS) {
        *left -= item.payload.len();
    } else {
        written.payload = b"";
    }
    Ok(Some(event::message_tail(owner, &node.name, Event::Last(written, item.published_ms))))
}

/// Sends messages to an address of this server, each about a node of an account or of the service.
pub(super) fn send(env: &Env, fx: &mut Effects, account: &str, to: &str, found: &[(String, Vec<u8>)]) {
    for (node, tail) in found {
        let mut lists = fx.links.take_lists();
        push(env, &mut lists, to);
        let told = NodeEvent::new(EventKind::Last, account, node, tail);
        let home = env.home_of(address::local_of(to));
        fx.work.add_bytes(tail.len());
        fx.links.to(home).event(&told.to(&lists[home]));
        fx.links.put_lists(lists);
    }
}

/// A new subscriber gets the last item (XEP-0060 §6.1.7).
pub(super) fn to_subscriber(env: &Env, fx: &mut Effects, account: &str, node: &str, to: &str) {
    let owner = env.owner_jid(account);
    let mut left = env.config.limits.pep_payload_bytes as usize;
    let found = env.shared.directory.pubsub(account, |view| {
        let Some(node) = view.node(node)?.filter(|node| node.config.send_last != SendLast::Never) else {
            return Ok(None);
        };
        last_of(&view, &node, &owner, &mut left)
    });
    match found {
        Ok(Some(Some(tail))) => send(env, fx, account, to, &[(node.to_owned(), tail)]),
        Ok(_) => {}
        Err(error) => tracing::error!(user = account, %error, "cannot read a node"),
    }
}

/// A client that comes online gets the last items of the nodes of the service to which it or its account is subscribed, and
/// which are configured to do so. The nodes' homes are not asked: what is read here and given to the client at once comes
/// before anything that is published later, because that takes an envelope.
pub(super) fn come(actors: &mut Actors, env: &Env, fx: &mut Effects, event: &Available<'_>) {
    if !env.config.pubsub.enabled {
        return;
    }
    let local = address::local_of(event.full);
    let owner = env.owner_jid("");
    let mut left = LAST_BYTES_MAX.min(env.config.limits.pep_payload_bytes as usize);
    let found = env.shared.directory.pubsub("", |view| {
        fx.work.add(work::LOOK);
        let (account, mut rows) = (view.number_of(local)?, Vec::new());
        view.each_of_account(account, None, |row| {
            fx.work.add(work::ITEM);
            let is_told = row.jid == address::bare_of(event.full) || row.jid == event.full;
            if is_told && row.subscription == SubscriptionState::Subscribed {
                rows.push(row);
            }
            true
        })?;
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        for row in &rows {
            // An account may be subscribed under two addresses that are both this client's.
            let is_known = found.iter().any(|(node, _)| *node == row.node);
            if !is_known && let Some(tail) = last_on_presence(&view, fx, row, (&owner, &mut left))? {
                found.push((row.node.clone(), tail));
            }
        }
        Ok(found)
    });
    let found = match found {
        Ok(found) => found.unwrap_or_default(),
        Err(error) => return tracing::error!(user = local, %error, "cannot read nodes"),
    };
    let mut client = Targets::default();
    if let Some((local, resource)) = address::local_and_resource(event.full) {
        client.push_seat(local, resource);
    }
    for (node, tail) in &found {
        fx.work.add_bytes(tail.len());
        events::receive(actors, env, fx, &NodeEvent::new(EventKind::Last, "", node, tail).to(&client));
    }
}

/// The message with the last item of a node of the service, for a subscriber who comes online and may look at it still.
fn last_on_presence(
    view: &PubsubView<'_>,
    fx: &Effects,
    row: &NodeOfAccount,
    (owner, left): (&str, &mut usize),
) -> Result<Option<Vec<u8>>, DirectoryError> {
    fx.work.add(work::LOOK);
    let Some(node) = view.node(&row.node)?.filter(|node| node.config.send_last == SendLast::OnPresence)
    else {
        return Ok(None);
    };
    let visitor = Visitor::guest(&row.jid);
    let member = visitor.member(view, &node)?;
    let member = Member { subscription: row.subscription, ..member };
    match visitor.may_look(&node.config, member) {
        Ok(()) => last_of(view, &node, owner, left),
        Err(_) => Ok(None),
    }
}
