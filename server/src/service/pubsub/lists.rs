//! Lists of subscriptions and affiliations: one's own (XEP-0060 §5.6, §5.7), and those of a node, for its owner (§8.8.1, §8.9.1).
//!
//! An answer is one stanza, so its bytes are bounded (`limits.pep_answer_bytes`): a list that would be longer ends before that, as a
//! page (XEP-0059), and goes on behind the last one of it.

use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::directory::pubsub::{Affiliation, Member, PubsubView, SubscriptionState};

use super::access::Visitor;
use super::node::check_owner;
use crate::effects::work;
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::StanzaError;
use crate::proto::ns;
use crate::proto::pubsub::error;
use crate::proto::pubsub::request::{affiliation_name, subscription_name};
use crate::proto::rsm::{self, Page, PageRequest, Start};
use crate::service::{Reply, Request, unreadable};
use crate::user::actors::Effects;
use crate::xml::Element;

/// What is listed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Who is subscribed.
    Subscriptions,
    /// Who is affiliated.
    Affiliations,
}

/// Which list.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// Of what.
    pub(super) kind: Kind,
    /// The node; `None`: all nodes.
    pub(super) node: Option<String>,
    /// Which page.
    pub(super) page: Option<PageRequest>,
}

/// A `<subscription/>`.
pub(super) fn subscription(
    namespace: &'static str,
    node: Option<&str>,
    jid: &str,
    state: SubscriptionState,
) -> Element {
    Element::new("subscription", namespace)
        .attr_opt("node", node)
        .attr("jid", jid)
        .attr("subscription", subscription_name(state))
}

/// A list that is being written.
struct Listing<'a> {
    query: &'a Query,
    namespace: &'static str,
    list: Element,
    bytes: usize,
    bytes_max: usize,
    count: usize,
    bounds: Option<(String, String)>,
    is_cut: bool,
}

impl<'a> Listing<'a> {
    fn new(query: &'a Query, namespace: &'static str, bytes_max: usize) -> Listing<'a> {
        let name = match query.kind {
            Kind::Subscriptions => "subscriptions",
            Kind::Affiliations => "affiliations",
        };
        let list = Element::new(name, namespace).attr_opt("node", query.node.as_deref());
        Listing { query, namespace, list, bytes: 0, bytes_max, count: 0, bounds: None, is_cut: false }
    }

    /// Behind which id it begins.
    fn after(&self) -> Result<Option<&'a str>, StanzaError> {
        match self.query.page.as_ref().map(|page| &page.start) {
            None | Some(Start::First) => Ok(None),
            Some(Start::After(id)) => Ok(Some(id)),
            Some(Start::Before(_) | Start::Last | Start::Index(_)) => Err(error::unsupported("rsm")),
        }
    }

    /// Takes what somebody is to a node, if that belongs into the list and there is room; for the first one there always is.
    /// Whether it wants more. `id`: for pages.
    fn take(&mut self, id: &str, node: &str, jid: &str, member: Member) -> bool {
        let is_owners = self.namespace == ns::PUBSUB_OWNER;
        let row = match self.query.kind {
            Kind::Subscriptions if member.subscription != SubscriptionState::None => {
                subscription(self.namespace, Some(node).filter(|_| !is_owners), jid, member.subscription)
            }
            Kind::Affiliations if member.affiliation != Affiliation::None => {
                let (name, value) = if is_owners { ("jid", jid) } else { ("node", node) };
                let row = Element::new("affiliation", self.namespace).attr(name, value);
                row.attr("affiliation", affiliation_name(member.affiliation))
            }
            _ => return true,
        };
        let bytes = node.len() + jid.len() + 64;
        let max = self.query.page.as_ref().map_or(usize::MAX, |page| page.max);
        let fits = self.bytes + bytes <= self.bytes_max || self.count == 0;
        if self.count >= max || !fits {
            self.is_cut = true;
            return false;
        }
        self.list.push(row);
        self.bytes += bytes;
        self.count += 1;
        match &mut self.bounds {
            Some((_, last)) => id.clone_into(last),
            None => self.bounds = Some((id.to_owned(), id.to_owned())),
        }
        true
    }

    /// The answer, with a page where one was asked for or where there is more.
    fn finish(self) -> Reply {
        let answer = Element::new("pubsub", self.namespace).child(self.list);
        let is_page = self.query.page.is_some() || self.is_cut;
        let page = is_page.then(|| Page { bounds: self.bounds, index: None, count: None }.to_element());
        Reply::Result(answer.children(page))
    }
}

type Listed = Result<Result<(), StanzaError>, DirectoryError>;

/// §5.6, §5.7. Somebody who is nothing to any node does not learn what there is.
pub(super) fn own(env: &Env, fx: &Effects, request: &Request, visitor: &Visitor, query: &Query) -> Reply {
    let mut listing = Listing::new(query, ns::PUBSUB, env.config.limits.pep_answer_bytes());
    let listed = env.shared.directory.pubsub(&request.account, |view| match visitor.is_guest() {
        true => of_guest(&view, fx, visitor, &mut listing),
        false => in_account(&view, fx, visitor, &mut listing),
    });
    match listed {
        Ok(Some(Err(error))) => Reply::Error(error),
        Ok(_) => listing.finish(),
        Err(error) => unreadable(&request.account, &error),
    }
}

/// What the requester is to nodes of the service. They are found by its account.
fn of_guest(view: &PubsubView<'_>, fx: &Effects, visitor: &Visitor, listing: &mut Listing<'_>) -> Listed {
    let after = match listing.after() {
        Ok(after) => after,
        Err(error) => return Ok(Err(error)),
    };
    let place = |id: &'_ str| {
        let (number, jid) = id.split_once(' ')?;
        Some((number.parse::<u64>().ok()?, jid.to_owned())).filter(|(_, jid)| !jid.is_empty())
    };
    let after = match after.map(place) {
        Some(None) => return Ok(Err(rsm::not_found())),
        after => after.flatten(),
    };
    let account = view.number_of(visitor.local())?;
    let after = after.as_ref().map(|(number, jid)| (*number, jid.as_str()));
    let mut looked_at = 0;
    view.each_of_account(account, after, |row| {
        looked_at += work::ITEM;
        if listing.query.node.as_ref().is_some_and(|node| *node != row.node) {
            return true;
        }
        let member = Member { affiliation: row.affiliation, subscription: row.subscription, account };
        listing.take(&format!("{} {}", row.number, row.jid), &row.node, &row.jid, member)
    })?;
    fx.work.add(work::LOOK + looked_at);
    Ok(Ok(()))
}

/// What the requester is to the nodes of an account. There are no more of them than limits allow.
fn in_account(view: &PubsubView<'_>, fx: &Effects, visitor: &Visitor, listing: &mut Listing<'_>) -> Listed {
    let mut after = match listing.after() {
        Ok(after) => after,
        Err(error) => return Ok(Err(error)),
    };
    let nodes = match &listing.query.node {
        Some(name) => view.node(name)?.into_iter().collect(),
        None => view.nodes()?,
    };
    fx.work.add(nodes.len() as u64 * work::ITEM);
    let is_owners_list = visitor.is_owner() && listing.query.kind == Kind::Affiliations;
    for node in nodes {
        let mut members = Vec::new();
        if is_owners_list {
            let owner = Member { affiliation: Affiliation::Owner, ..Member::default() };
            members.push((visitor.bare.clone(), owner));
        } else if node.members > 0 {
            fx.work.add(node.members * work::ITEM);
            let rows = view.members(&node)?.into_iter().map(|row| (row.jid, row.member));
            members.extend(rows.filter(|(jid, _)| address::bare_of(jid) == visitor.bare));
        }
        for (jid, member) in members {
            let id = format!("{} {jid}", node.number);
            match after {
                Some(last) if last == id => after = None,
                Some(_) => {}
                None if !listing.take(&id, &node.name, &jid, member) => return Ok(Ok(())),
                None => {}
            }
        }
    }
    Ok(if after.is_some() { Err(rsm::not_found()) } else { Ok(()) })
}

/// §8.8.1, §8.9.1: of one node, for its owner.
pub(super) fn of_node(env: &Env, fx: &Effects, request: &Request, visitor: &Visitor, query: &Query) -> Reply {
    let mut listing = Listing::new(query, ns::PUBSUB_OWNER, env.config.limits.pep_answer_bytes());
    let name = query.node.as_deref().unwrap_or_default();
    let owner = (!visitor.is_guest()).then(|| env.bare_jid(&request.account));
    let listed = env.shared.directory.pubsub(&request.account, |view| {
        let Some(node) = view.node(name)? else { return Ok(Err(error::not_found())) };
        if let Err(error) = check_owner(&view, visitor, &node)? {
            return Ok(Err(error));
        }
        let after = match listing.after() {
            Ok(after) => after,
            Err(error) => return Ok(Err(error)),
        };
        // The account that owns its nodes is first, and has no row of its own.
        let mut wants_more = true;
        if let (Some(owner), None) = (&owner, after) {
            let member = Member { affiliation: Affiliation::Owner, ..Member::default() };
            wants_more = listing.take(owner, name, owner, member);
        }
        let after = after.filter(|id| owner.as_deref() != Some(*id));
        let mut looked_at = 0;
        if wants_more && node.members > 0 {
            view.each_member(&node, after, |row| {
                looked_at += work::ITEM;
                listing.take(&row.jid, name, &row.jid, row.member)
            })?;
        }
        fx.work.add(work::LOOK + looked_at);
        Ok(Ok(()))
    });
    match listed {
        Ok(Some(Ok(()))) => listing.finish(),
        Ok(Some(Err(error))) => Reply::Error(error),
        Ok(None) => Reply::Error(error::not_found()),
        Err(error) => unreadable(&request.account, &error),
    }
}
