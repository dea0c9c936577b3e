//! Bookmarks seen through three doors: an item for each room (XEP-0402), a node with all in one item (XEP-0048), private XML
//! (XEP-0049). They are kept as items; the other two are made of these when somebody looks, and taken apart when somebody
//! sets them (XEP-0411).
//!
//! What the element with all bookmarks has beside rooms lies in the private XML, under its own name.

use std::collections::BTreeMap;

use whimbrel_storage::directory::pubsub::{NewItem, Node};
use whimbrel_storage::directory::{DirectoryError, WriteTransaction};

use super::access::Visitor;
use super::bounds::Bounds;
use super::node::defaults_of;
use super::notify::{self, Happened, Notice, PublishedItem};
use crate::env::Env;
use crate::exchange::fanout::{EventKind, NodeEvent};
use crate::proto::bookmarks::{self, CURRENT, STORAGE};
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::proto::pubsub::error;
use crate::proto::pubsub::event::{self, Event, ItemsAnswer, WrittenItem};
use crate::proto::pubsub::request::{Published, Request as Asked};
use crate::runtime::driver::ConnId;
use crate::service::commit::JobResult;
use crate::service::{Committed, Reply, Request, unreadable};
use crate::user::actors::{Actors, Effects};
use crate::user::events;
use crate::xml::Element;

/// A payload as it is kept.
fn bytes_of(payload: Element) -> Vec<u8> {
    Published { id: None, payload: Some(payload) }.bytes()
}

/// All bookmarks of an account in one element; `None`: it has none. An error: they are more than fits an answer.
pub(in crate::service) fn read(
    env: &Env,
    fx: &Effects,
    account: &str,
) -> Result<Result<Option<Element>, StanzaError>, DirectoryError> {
    let bytes_max = env.config.limits.pep_answer_bytes() as u64;
    let directory = &env.shared.directory;
    let rest = directory.private(account, STORAGE, ns::BOOKMARKS_STORAGE)?;
    let rest = rest.and_then(|bytes| Element::parse(&bytes).ok());
    let rooms = directory.pubsub(account, |view| {
        let Some(node) = view.node(ns::BOOKMARKS)? else { return Ok(Ok(None)) };
        if node.bytes > bytes_max {
            let text = "there are too many bookmarks for one answer; ask for them one by one";
            return Ok(Err(StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text)));
        }
        fx.work.add_tree(usize::try_from(node.bytes).unwrap_or(usize::MAX));
        let mut rooms = Vec::new();
        view.each_item(&node, (0, u64::MAX), false, |item| {
            rooms.extend(Element::parse(item.payload).ok().map(|payload| (item.id, payload)));
            true
        })?;
        Ok(Ok(Some(bookmarks::storage(rooms.into_iter(), None))))
    })?;
    Ok(match rooms {
        Some(Err(error)) => Err(error),
        // What is kept beside the rooms comes first, as it was set.
        Some(Ok(Some(rooms))) => Ok(Some(match rest {
            Some(rest) => rest.children(rooms.elements().cloned()),
            None => rooms,
        })),
        Some(Ok(None)) | None => Ok(rest),
    })
}

/// Sets all bookmarks of an account, in a transaction, or changes nothing. Returns what is to be told of it.
pub(in crate::service) fn write(
    transaction: &mut WriteTransaction<'_>,
    (local, owner): (&str, &str),
    storage: &Element,
    (bounds, now_ms): (Bounds, u64),
) -> Result<Result<Vec<Notice>, StanzaError>, DirectoryError> {
    let (rooms, rest) = bookmarks::rooms(storage);
    let Some(view) = transaction.pubsub(local)? else { return Ok(Err(error::not_found())) };
    let (account, found, usage) = (view.account(), view.node(ns::BOOKMARKS)?, view.usage()?);
    let mut old = BTreeMap::new();
    if let Some(node) = &found {
        view.each_item(node, (0, u64::MAX), false, |item| {
            old.insert(item.id.to_owned(), item.payload.to_vec());
            true
        })?;
    } else if let Err(error) = bounds.check_node(usage, ns::BOOKMARKS, &defaults_of(ns::BOOKMARKS)) {
        return Ok(Err(error));
    }
    let change = Change::of(rooms, old);
    if change.count > u64::from(bounds.items) || usage.bytes + change.added(owner) > bounds.bytes {
        return Ok(Err(error::no_room()));
    }
    let mut node = match found {
        Some(node) => node,
        None => transaction.create_node(account, ns::BOOKMARKS, defaults_of(ns::BOOKMARKS), now_ms)?,
    };
    for id in &change.gone {
        transaction.retract_item(account, &mut node, id)?;
    }
    for item in &change.put {
        let new = NewItem { id: &item.id, publisher: owner, published_ms: now_ms, payload: &item.payload };
        transaction.publish_item(account, &mut node, &new)?;
    }
    transaction.set_private(local, STORAGE, ns::BOOKMARKS_STORAGE, &rest.to_bytes())?;
    change.notices(transaction, local, &node, owner).map(Ok)
}

/// What setting all bookmarks comes to.
struct Change {
    put: Vec<PublishedItem>,
    gone: Vec<String>,
    /// Bookmarks afterwards.
    count: u64,
}

impl Change {
    fn of(rooms: Vec<(String, Element)>, mut old: BTreeMap<String, Vec<u8>>) -> Change {
        let count = rooms.len() as u64;
        let mut put = Vec::new();
        for (id, item) in rooms {
            let before = old.remove(&id).and_then(|bytes| Element::parse(&bytes).ok());
            let item = match before {
                Some(before) => bookmarks::merged(&before, item),
                None => Some(item),
            };
            put.extend(item.map(|item| PublishedItem { id, payload: bytes_of(item) }));
        }
        Change { put, gone: old.into_keys().collect(), count }
    }

    /// Bytes that are added at most.
    fn added(&self, owner: &str) -> u64 {
        let size = |item: &PublishedItem| {
            let new = NewItem { id: &item.id, publisher: owner, published_ms: 0, payload: &item.payload };
            new.bytes()
        };
        self.put.iter().map(size).sum()
    }

    fn notices(
        self,
        transaction: &WriteTransaction<'_>,
        local: &str,
        node: &Node,
        owner: &str,
    ) -> Result<Vec<Notice>, DirectoryError> {
        let mut notices = Vec::new();
        if !self.gone.is_empty() {
            notices.push(Notice::of(transaction, local, node, Happened::Retracted(self.gone))?);
        }
        if !self.put.is_empty() {
            let happened = Happened::Published { items: self.put, publisher: owner.to_owned() };
            notices.push(Notice::of(transaction, local, node, happened)?);
        }
        Ok(notices)
    }
}

/// A job that sets all bookmarks.
pub(in crate::service) fn job(
    env: &Env,
    request: &Request,
    storage: Element,
) -> impl FnOnce(&mut WriteTransaction<'_>) -> JobResult + Send + use<> {
    let (local, sender) = (request.account.clone(), request.from.clone());
    let (owner, bounds, now_ms) = (env.bare_jid(&local), Bounds::of(env, &local), env.unix_ms());
    move |transaction| {
        let written = write(transaction, (&local, &owner), &storage, (bounds, now_ms))?;
        Ok(written.map(|notices| notify::tell_all(notices, sender)))
    }
}

/// A request to the node with all bookmarks in one item. `None`: it is to another node.
pub(super) fn answer(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (request, visitor): (&Request, &Visitor),
    asked: &Asked,
) -> Option<Reply> {
    let node = match asked {
        Asked::Items { node, .. }
        | Asked::Publish { node, .. }
        | Asked::Retract { node, .. }
        | Asked::Subscribe { node, .. }
        | Asked::Unsubscribe { node, .. }
        | Asked::Configuration(node)
        | Asked::Configure(node, _)
        | Asked::Delete(node)
        | Asked::Purge(node)
        | Asked::Create { node: Some(node), .. } => node,
        _ => return None,
    };
    if node != ns::BOOKMARKS_STORAGE {
        return None;
    }
    if !visitor.is_owner() {
        return Some(Reply::Error(visitor.not_the_owners()));
    }
    Some(match asked {
        Asked::Items { ids, .. } => items(env, fx, request, ids),
        Asked::Publish { items, .. } => publish(actors, env, fx, request, items),
        // It is there as long as there are bookmarks, and always closed.
        Asked::Create { .. } | Asked::Configure(..) => Reply::Done,
        Asked::Configuration(_) => super::node::configuration(env, request, visitor, ns::BOOKMARKS),
        _ => {
            let text = "this node shows bookmarks that are items of another one; change them there";
            Reply::Error(StanzaError::from(StanzaCondition::NotAllowed).with_text(text))
        }
    })
}

fn items(env: &Env, fx: &Effects, request: &Request, ids: &[String]) -> Reply {
    match read(env, fx, &request.account) {
        Ok(Ok(Some(storage))) => {
            let mut answer = ItemsAnswer::new(ns::BOOKMARKS_STORAGE);
            if ids.is_empty() || ids.iter().any(|id| id == CURRENT) {
                let payload = bytes_of(storage);
                answer.item(&WrittenItem { id: CURRENT, publisher: None, payload: &payload });
            }
            Reply::Written(answer.finish(None))
        }
        Ok(Ok(None)) => Reply::Error(error::not_found()),
        Ok(Err(error)) => Reply::Error(error),
        Err(error) => unreadable(&request.account, &error),
    }
}

fn publish(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    request: &Request,
    items: &[Published],
) -> Reply {
    let payload = match items {
        [item] => item.payload.clone(),
        _ => None,
    };
    let Some(storage) = payload.filter(|payload| payload.is(STORAGE, ns::BOOKMARKS_STORAGE)) else {
        return Reply::Error(error::with(StanzaCondition::BadRequest, "invalid-payload"));
    };
    let job = job(env, request, storage);
    request.commit(actors, env, fx, move |transaction| {
        Ok(job(transaction)?.map(|committed| {
            let item = Element::new("item", ns::PUBSUB).attr("id", CURRENT);
            let publish = Element::new("publish", ns::PUBSUB).attr("node", ns::BOOKMARKS_STORAGE).child(item);
            Committed { result: Some(Element::new("pubsub", ns::PUBSUB).child(publish)), ..committed }
        }))
    })
}

/// Bookmarks have changed: those of the owner's clients hear of it that want all in one item.
pub(super) fn tell_all_in_one(actors: &mut Actors, env: &Env, fx: &mut Effects, account: &str) {
    let Some(user) = actors.users.find(account) else { return };
    let wants = |key| actors.interests.wants(key, ns::BOOKMARKS_STORAGE);
    if !actors.users.available_of(user).into_iter().any(wants) {
        return;
    }
    let payload = match read(env, fx, account) {
        Ok(Ok(storage)) => storage.map(bytes_of).unwrap_or_default(),
        Ok(Err(_)) => Vec::new(),
        Err(error) => return tracing::error!(user = account, %error, "cannot read bookmarks"),
    };
    let fits = payload.len() <= env.config.limits.pep_payload_bytes as usize;
    let item = WrittenItem { id: CURRENT, publisher: None, payload: if fits { &payload } else { b"" } };
    let tail = event::message_tail(&env.bare_jid(account), ns::BOOKMARKS_STORAGE, Event::Items(&[item]));
    let mut lists = fx.links.take_lists();
    lists[env.worker].push(account);
    let told = NodeEvent::new(EventKind::Filtered, account, ns::BOOKMARKS_STORAGE, &tail);
    events::send(actors, env, fx, &told, lists, ConnId::NONE);
}
