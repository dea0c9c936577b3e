//! Nodes as disco tells of them (XEP-0060 §5.2 to §5.5): of an account those that the requester may look at and no others; of the
//! service all of them, a page at a time, with what is in those that the requester may look at.

use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::directory::pubsub::{Node, PubsubView};

use super::access::Visitor;
use super::items as answers;
use crate::clock::datetime_ms;
use crate::effects::work;
use crate::env::Env;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::proto::pubsub::{config, error};
use crate::proto::rsm::{Page, PageRequest, Sizes, Start};
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

/// Nodes of the service in a page, at most.
const PAGE: usize = 100;

/// §5.2, of the service.
pub(super) fn page(env: &Env, fx: &Effects, request: &Request) -> Reply {
    let page = match PageRequest::find(&request.query, Sizes { default: PAGE, max: PAGE }) {
        Ok(page) => page,
        Err(error) => return Reply::Error(error),
    };
    let is_asked = page.is_some();
    let (after, max) = match page {
        None => (None, PAGE),
        Some(PageRequest { start: Start::First, max }) => (None, max),
        Some(PageRequest { start: Start::After(name), max }) => (Some(name), max),
        Some(_) => {
            let text = "nodes are listed from the first one on, or after one of them";
            return Reply::Error(StanzaError::from(StanzaCondition::FeatureNotImplemented).with_text(text));
        }
    };
    let found = env
        .shared
        .directory
        .pubsub("", |view| Ok((view.nodes_after(after.as_deref(), max)?, view.usage()?.nodes)));
    let (nodes, count) = match found {
        Ok(found) => found.unwrap_or_default(),
        Err(error) => return unreadable("nodes", &error),
    };
    fx.work.add(nodes.len() as u64 * work::ITEM);
    let bounds = nodes.first().zip(nodes.last()).map(|(first, last)| (first.name.clone(), last.name.clone()));
    // A client that has asked for no page hears that there is more.
    let set = (is_asked || count > nodes.len() as u64)
        .then(|| Page { bounds, index: None, count: Some(count) }.to_element());
    let jid = env.owner_jid("");
    let item = |node: Node| {
        let title = Some(node.config.title).filter(|title| !title.is_empty());
        let item = Element::new("item", ns::DISCO_ITEMS).attr("jid", jid.as_str()).attr("node", node.name);
        item.attr_opt("name", title)
    };
    let query = Element::new("query", ns::DISCO_ITEMS).children(nodes.into_iter().map(item));
    Reply::Result(query.children(set))
}

type Looked<T> = Result<Result<T, StanzaError>, DirectoryError>;

/// Looks at a node; of an account, at one that the requester may look at.
fn look<T>(
    env: &Env,
    fx: &Effects,
    request: &Request,
    name: &str,
    look: impl FnOnce(&PubsubView<'_>, Node, Result<(), StanzaError>) -> Looked<T>,
) -> Looked<T> {
    fx.work.add(work::LOOK);
    let visitor = Visitor::of(env, request)?;
    let found = env.shared.directory.pubsub(&request.account, |view| {
        let Some(node) = view.node(name)? else { return Ok(Err(error::not_found())) };
        match visitor.may_look(&node.config, visitor.member(&view, &node)?) {
            Err(_) if !visitor.is_guest() => Ok(Err(error::not_found())),
            may => look(&view, node, may),
        }
    })?;
    Ok(found.unwrap_or_else(|| Err(error::not_found())))
}

/// Owners of a node of the service that are told.
const OWNERS_TOLD_MAX: usize = 32;

/// §5.3, §5.4: nodes of the service are described to everybody who finds them there.
pub(super) fn info(env: &Env, fx: &Effects, request: &Request, name: &str) -> Reply {
    let found = look(env, fx, request, name, |view, node, may| {
        let owners = match request.account.is_empty() && may.is_ok() {
            true => view.owners(&node, OWNERS_TOLD_MAX)?,
            false => Vec::new(),
        };
        Ok(Ok((node, owners)))
    });
    let (node, owners) = match found {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Reply::Error(error),
        Err(error) => return unreadable(&request.account, &error),
    };
    let identity = Element::new("identity", ns::DISCO_INFO).attr("category", "pubsub").attr("type", "leaf");
    let feature = Element::new("feature", ns::DISCO_INFO).attr("var", ns::PUBSUB);
    let metadata = config::metadata(&node.config, &datetime_ms(node.created_ms), node.items, &owners);
    let query = Element::new("query", ns::DISCO_INFO).attr("node", name);
    Reply::Result(query.child(identity).child(feature).child(metadata))
}

/// §5.5: the ids of the items, newest first, as many as fit into an answer, or page by page.
pub(super) fn items(env: &Env, fx: &Effects, request: &Request, name: &str) -> Reply {
    let page = match PageRequest::find(&request.query, Sizes { default: usize::MAX, max: usize::MAX }) {
        Ok(page) => page,
        Err(error) => return Reply::Error(error),
    };
    let bytes_max = env.config.limits.pep_answer_bytes();
    let found = look(env, fx, request, name, |view, node, may| match may {
        Ok(()) => answers::ids(view, fx, &node, (page.as_ref(), bytes_max)),
        Err(error) => Ok(Err(error)),
    });
    let (ids, set) = match found {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Reply::Error(error),
        Err(error) => return unreadable(&request.account, &error),
    };
    let owner = env.owner_jid(&request.account);
    let item =
        |id: String| Element::new("item", ns::DISCO_ITEMS).attr("jid", owner.as_str()).attr("name", id);
    let query = Element::new("query", ns::DISCO_ITEMS).attr("node", name);
    Reply::Result(query.children(ids.into_iter().map(item)).children(set.map(|set| set.to_element())))
}
