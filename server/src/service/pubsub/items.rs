//! Answers with items (XEP-0060 §6.5): some by their ids, the newest, or page by page (XEP-0059).
//!
//! An answer is one stanza, so its bytes are bounded (`limits.pep_answer_bytes`): an answer that would be longer ends before
//! that, as a page, and says how to ask for the next.

use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::directory::pubsub::{ItemRef, Node, PubsubView};

use super::access::Visitor;
use crate::effects::work;
use crate::env::Env;
use crate::proto::errors::StanzaError;
use crate::proto::pubsub::error;
use crate::proto::pubsub::event::{ItemsAnswer, WrittenItem};
use crate::proto::rsm::{self, Page, PageRequest, Start};
use crate::service::{Reply, Request, unreadable};
use crate::user::actors::Effects;

/// What of a node is asked for.
pub(super) struct Query {
    /// The node.
    pub(super) node: String,
    /// Only those with these ids.
    pub(super) ids: Vec<String>,
    /// At most so many, the newest.
    pub(super) max: Option<usize>,
    /// Which page.
    pub(super) page: Option<PageRequest>,
}

/// Items of an answer, in the order of publishing, newest first.
struct Found<'t> {
    items: Vec<ItemRef<'t>>,
    bytes: usize,
    bytes_max: usize,
    count_max: usize,
    /// There are more.
    is_cut: bool,
    /// The answer has their payloads.
    with_payloads: bool,
    /// Bytes that were read for it.
    read: usize,
}

impl<'t> Found<'t> {
    fn new(bytes_max: usize, count_max: usize) -> Found<'t> {
        Found {
            items: Vec::new(),
            bytes: 0,
            bytes_max,
            count_max,
            is_cut: false,
            with_payloads: true,
            read: 0,
        }
    }

    /// Takes an item, if there is room: for the first one there always is. Whether it wants more.
    fn take(&mut self, item: ItemRef<'t>) -> bool {
        let inside = if self.with_payloads { item.payload.len() + item.publisher.len() } else { 0 };
        let bytes = item.id.len() + inside + 64;
        self.read += item.payload.len();
        let fits = self.items.is_empty() || self.bytes + bytes <= self.bytes_max;
        if self.items.len() >= self.count_max || !fits {
            self.is_cut = true;
            return false;
        }
        self.bytes += bytes;
        self.items.push(item);
        true
    }

    /// Where they lie among the items of the node.
    fn page(&self, node: &Node) -> Page {
        let bounds = self.items.first().zip(self.items.last());
        let bounds = bounds.map(|(first, last)| (first.id.into(), last.id.into()));
        Page { bounds, index: None, count: Some(node.items) }
    }
}

/// §6.5
pub(super) fn get(env: &Env, fx: &mut Effects, request: &Request, visitor: &Visitor, query: &Query) -> Reply {
    let owner = env.owner_jid(&request.account);
    let bytes_max = env.config.limits.pep_answer_bytes();
    let answer = env.shared.directory.pubsub(&request.account, |view| {
        let Some(node) = view.node(&query.node)? else { return Ok(Err(error::not_found())) };
        if let Err(error) = visitor.may_look(&node.config, visitor.member(&view, &node)?) {
            return Ok(Err(error));
        }
        answer(&view, &node, query, (&owner, bytes_max))
    });
    match answer {
        Ok(Some(Ok((items, bytes)))) => {
            fx.work.add(work::LOOK + items as u64 * work::ITEM);
            Reply::Written(bytes)
        }
        Ok(Some(Err(error))) => Reply::Error(error),
        Ok(None) => Reply::Error(error::not_found()),
        Err(error) => unreadable(&request.account, &error),
    }
}

type Answered = Result<(usize, Vec<u8>), StanzaError>;

fn answer(
    view: &PubsubView<'_>,
    node: &Node,
    query: &Query,
    (owner, bytes_max): (&str, usize),
) -> Result<Answered, DirectoryError> {
    let count_max = query.max.unwrap_or(usize::MAX);
    let mut found = Found::new(bytes_max, count_max);
    if !query.ids.is_empty() {
        for id in &query.ids {
            if let Some(item) = view.item(node, id)?
                && !found.take(item)
            {
                break;
            }
        }
        return Ok(Ok(write(&query.node, found.items.iter(), owner, None)));
    }
    if let Err(error) = find_page(view, node, query.page.as_ref(), &mut found)? {
        return Ok(Err(error));
    }
    let is_page = query.page.is_some() || found.is_cut && query.max.is_none();
    let set = is_page.then(|| found.page(node));
    Ok(Ok(write(&query.node, found.items.iter(), owner, set.as_ref())))
}

/// Finds the items of a page; of the first one, if none is named.
fn find_page<'t>(
    view: &PubsubView<'t>,
    node: &Node,
    page: Option<&PageRequest>,
    found: &mut Found<'t>,
) -> Result<Result<(), StanzaError>, DirectoryError> {
    let first = PageRequest { max: usize::MAX, start: Start::First };
    let page = page.unwrap_or(&first);
    found.count_max = page.max.min(found.count_max);
    let bounds = match bounds(view, node, page)? {
        Ok(bounds) => bounds,
        Err(error) => return Ok(Err(error)),
    };
    let is_backwards = matches!(page.start, Start::Before(_) | Start::Last);
    if found.count_max > 0 {
        // Newest first: a page before another one is found from the oldest of its items on.
        view.each_item(node, bounds, !is_backwards, |item| found.take(item))?;
    }
    if is_backwards {
        found.items.reverse();
    }
    Ok(Ok(()))
}

/// Ids of items, and where they lie.
type Ids = Result<(Vec<String>, Option<Page>), StanzaError>;

/// Ids of items, newest first, with the page where one was asked for or where there is more.
pub(super) fn ids(
    view: &PubsubView<'_>,
    fx: &Effects,
    node: &Node,
    (page, bytes_max): (Option<&PageRequest>, usize),
) -> Result<Ids, DirectoryError> {
    let mut found = Found { with_payloads: false, ..Found::new(bytes_max, usize::MAX) };
    if let Err(error) = find_page(view, node, page, &mut found)? {
        return Ok(Err(error));
    }
    // They are read with what is in them.
    fx.work.add(found.items.len() as u64 * work::ITEM);
    fx.work.add_bytes(found.read);
    let set = (page.is_some() || found.is_cut).then(|| found.page(node));
    Ok(Ok((found.items.iter().map(|item| item.id.to_owned()).collect(), set)))
}

/// The sequences between which a page lies.
fn bounds(
    view: &PubsubView<'_>,
    node: &Node,
    page: &PageRequest,
) -> Result<Result<(u64, u64), StanzaError>, DirectoryError> {
    let place = |id: &str| Ok(view.item(node, id)?.map(|item| item.sequence));
    Ok(match &page.start {
        Start::First | Start::Last => Ok((0, u64::MAX)),
        Start::After(id) => place(id)?.map(|sequence| (0, sequence)).ok_or_else(rsm::not_found),
        Start::Before(id) => place(id)?.map(|sequence| (sequence, u64::MAX)).ok_or_else(rsm::not_found),
        Start::Index(_) => Err(error::unsupported("rsm")),
    })
}

fn write<'t>(
    node: &str,
    items: impl Iterator<Item = &'t ItemRef<'t>>,
    owner: &str,
    page: Option<&Page>,
) -> (usize, Vec<u8>) {
    let mut answer = ItemsAnswer::new(node);
    let mut count = 0;
    for item in items {
        answer.item(&WrittenItem::of(item, owner));
        count += 1;
    }
    (count, answer.finish(page))
}
