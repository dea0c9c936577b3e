//! Nodes of accounts as disco tells of them (XEP-0060 §5.2 to §5.5): those that the requester may look at, and no others.

use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::directory::pubsub::{Node, PubsubView};

use super::access::Visitor;
use crate::clock::datetime_ms;
use crate::effects::work;
use crate::env::Env;
use crate::proto::ns;
use crate::proto::pubsub::{config, error};
use crate::service::{Reply, Request, unreadable};
use crate::user::actors::Effects;
use crate::xml::Element;

/// §5.2
pub(super) fn nodes(env: &Env, fx: &Effects, request: &Request) -> Result<Vec<String>, DirectoryError> {
    let visitor = Visitor::of(env, request)?;
    let names = env.shared.directory.pubsub(&request.account, |view| {
        let mut names = Vec::new();
        let nodes = view.nodes()?;
        fx.work.add(nodes.len() as u64 * work::ITEM);
        for node in nodes {
            fx.work.add(if node.members > 0 { work::LOOK } else { 0 });
            if visitor.may_look(&node.config, visitor.member(&view, &node)?).is_ok() {
                names.push(node.name);
            }
        }
        Ok(names)
    })?;
    Ok(names.unwrap_or_default())
}

/// Looks at a node that the requester may look at.
fn look<T>(
    env: &Env,
    fx: &Effects,
    request: &Request,
    name: &str,
    look: impl FnOnce(&PubsubView<'_>, Node) -> Result<T, DirectoryError>,
) -> Result<Option<T>, DirectoryError> {
    fx.work.add(work::LOOK);
    let visitor = Visitor::of(env, request)?;
    let found = env.shared.directory.pubsub(&request.account, |view| {
        let Some(node) = view.node(name)? else { return Ok(None) };
        match visitor.may_look(&node.config, visitor.member(&view, &node)?) {
            Ok(()) => look(&view, node).map(Some),
            Err(_) => Ok(None),
        }
    })?;
    Ok(found.flatten())
}

/// §5.3, §5.4
pub(super) fn info(env: &Env, fx: &Effects, request: &Request, name: &str) -> Reply {
    let node = match look(env, fx, request, name, |_, node| Ok(node)) {
        Ok(Some(node)) => node,
        Ok(None) => return Reply::Error(error::not_found()),
        Err(error) => return unreadable(&request.account, &error),
    };
    let identity = Element::new("identity", ns::DISCO_INFO).attr("category", "pubsub").attr("type", "leaf");
    let feature = Element::new("feature", ns::DISCO_INFO).attr("var", ns::PUBSUB);
    let metadata = config::metadata(&node.config, &datetime_ms(node.created_ms), node.items);
    let query = Element::new("query", ns::DISCO_INFO).attr("node", name);
    Reply::Result(query.child(identity).child(feature).child(metadata))
}

/// §5.5: the ids of the items, newest first.
pub(super) fn items(env: &Env, fx: &Effects, request: &Request, name: &str) -> Reply {
    let owner = env.bare_jid(&request.account);
    let ids = look(env, fx, request, name, |view, node| {
        let mut ids = Vec::new();
        // All of them are read, with what is in them.
        fx.work.add(node.items * work::ITEM);
        fx.work.add_bytes(usize::try_from(node.bytes).unwrap_or(usize::MAX));
        view.each_item(&node, (0, u64::MAX), true, |item| {
            ids.push(item.id.to_owned());
            true
        })?;
        Ok(ids)
    });
    let ids = match ids {
        Ok(Some(ids)) => ids,
        Ok(None) => return Reply::Error(error::not_found()),
        Err(error) => return unreadable(&request.account, &error),
    };
    let item =
        |id: String| Element::new("item", ns::DISCO_ITEMS).attr("jid", owner.as_str()).attr("name", id);
    let query = Element::new("query", ns::DISCO_ITEMS).attr("node", name);
    Reply::Result(query.children(ids.into_iter().map(item)))
}
