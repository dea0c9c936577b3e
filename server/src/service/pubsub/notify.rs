//! What has happened to a node, to those who hear of it (XEP-0163 §4, XEP-0060 §7.1.2).
//!
//! | who | hears of |
//! | --- | --- |
//! | the owner's own clients | nodes that they want (`+notify`) |
//! | contacts who see the owner's presence and may look at the node | nodes that they want |
//! | subscribers who may look at the node still | the nodes that they are subscribed to |
//!
//! Nodes of the service have subscribers only.

use whimbrel_storage::directory::pubsub::{
    AccessModel, Affiliation, Member, MemberRow, Node, NodeConfig, NodeFlags, SubscriptionState,
};
use whimbrel_storage::directory::{DirectoryError, Subscription, WriteTransaction};

use super::access::Visitor;
use super::node::whose;
use super::{bookmarks, groups, last};
use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::{EventKind, NodeEvent, Targets};
use crate::proto::address;
use crate::proto::ns;
use crate::proto::pubsub::event::{self, Event, WrittenItem};
use crate::service::Committed;
use crate::service::commit::JobResult;
use crate::user::actors::{Actors, Effects};
use crate::user::presence::contacts;
use crate::user::{blocking, events, presence, push};

/// An item that was published.
#[derive(Clone, Debug)]
pub(super) struct PublishedItem {
    /// Its id.
    pub(super) id: String,
    /// Its payload as it is kept.
    pub(super) payload: Vec<u8>,
}

/// What has happened to a node.
#[derive(Clone, Debug)]
pub(super) enum Happened {
    /// Items were published by a bare JID.
    Published {
        /// The items.
        items: Vec<PublishedItem>,
        /// Who.
        publisher: String,
    },
    /// Items with these ids were retracted.
    Retracted(Vec<String>),
    /// All items are gone.
    Purged,
    /// The node is gone.
    Deleted,
    /// The node is configured otherwise.
    Configured(NodeConfig),
}

/// Something to tell.
#[derive(Clone, Debug)]
pub(in crate::service) struct Notice {
    /// The owner's localpart, or empty for the service.
    pub(super) account: String,
    /// The node.
    pub(super) node: String,
    config: NodeConfig,
    /// Members of the node when it happened: a node that was deleted has none any more.
    members: Vec<MemberRow>,
    pub(super) happened: Happened,
}

impl Notice {
    /// What is to be told of a change that a transaction makes.
    pub(super) fn of(
        transaction: &WriteTransaction<'_>,
        account: &str,
        node: &Node,
        happened: Happened,
    ) -> Result<Notice, DirectoryError> {
        let members = match transaction.pubsub(account)? {
            Some(view) if node.members > 0 => view.members(node)?,
            _ => Vec::new(),
        };
        let (account, node, config) = (account.to_owned(), node.name.clone(), node.config.clone());
        Ok(Notice { account, node, config, members, happened })
    }

    /// Tells it. `sender`: the full JID that has caused it.
    pub(super) fn tell(&self, actors: &mut Actors, env: &Env, fx: &mut Effects, sender: &str) {
        if !actors.pushes.is_empty() {
            self.tell_push(actors, env);
        }
        let owner = env.owner_jid(&self.account);
        let tail = self.tail(&owner, env.config.limits.pep_payload_bytes as usize);
        let conn = presence::conn_of(&actors.users, sender);
        let Some(members) = self.current_members(env, fx) else { return };
        if !self.is_of_service() {
            let lists = self.contacts(actors, env, fx, &members);
            let told = NodeEvent::new(EventKind::Filtered, &self.account, &self.node, &tail);
            events::send(actors, env, fx, &told, lists, conn);
        }
        let lists = self.subscribers(actors, env, fx, &members);
        let told = NodeEvent::new(EventKind::Subscribed, &self.account, &self.node, &tail);
        events::send(actors, env, fx, &told, lists, conn);
    }

    /// Some nodes of accounts say what is to be told by push: which rooms are of interest, and what has been read.
    fn tell_push(&self, actors: &mut Actors, env: &Env) {
        let has_read = self.node == ns::READ_POSITIONS && matches!(self.happened, Happened::Published { .. });
        if self.is_of_service() || self.node != ns::BOOKMARKS && !has_read {
            return;
        }
        let known = actors.users.find(&self.account).map(|user| actors.users.user(user).id);
        let account = known.or_else(|| env.shared.directory.account_id(&self.account).ok().flatten());
        let Some(account) = account else { return };
        match has_read {
            true => push::has_read(&mut actors.pushes, account),
            false => actors.pushes.wishes_changed(account),
        }
    }

    /// Whether the node belongs to no account.
    fn is_of_service(&self) -> bool {
        self.account.is_empty()
    }

    /// The message. Payloads are in it as long as there is room for them.
    fn tail(&self, owner: &str, bytes_max: usize) -> Vec<u8> {
        let event = match &self.happened {
            Happened::Published { items, publisher } => {
                let publisher = Some(publisher.as_str()).filter(|publisher| *publisher != owner);
                let mut left = if self.config.flags.has(NodeFlags::PAYLOADS) { bytes_max } else { 0 };
                let write = |item: &'_ PublishedItem| {
                    let fits = item.payload.len() <= left;
                    left -= if fits { item.payload.len() } else { 0 };
                    fits
                };
                let fits: Vec<bool> = items.iter().map(write).collect();
                let items: Vec<WrittenItem<'_>> = items
                    .iter()
                    .zip(fits)
                    .map(|(item, fits)| WrittenItem {
                        id: &item.id,
                        publisher,
                        payload: if fits { &item.payload } else { b"" },
                    })
                    .collect();
                return event::message_tail(owner, &self.node, Event::Items(&items));
            }
            Happened::Retracted(ids) => Event::Retracted(ids),
            Happened::Purged => Event::Purged,
            Happened::Deleted => Event::Deleted,
            Happened::Configured(config) => Event::Configured(config, whose(&self.account)),
        };
        event::message_tail(owner, &self.node, event)
    }

    /// The members, sorted, without those that were granted something as another account. `None`: nobody can know.
    fn current_members(&self, env: &Env, fx: &Effects) -> Option<Vec<&MemberRow>> {
        // Members of the service's nodes go with their accounts, and lie in the order of their addresses but for the longest.
        if self.members.is_empty() || self.is_of_service() {
            let mut members: Vec<&MemberRow> = self.members.iter().collect();
            members.sort_unstable_by(|a, b| a.jid.cmp(&b.jid));
            return Some(members);
        }
        fx.work.add(self.members.len() as u64 * work::LOOK);
        let found = env.shared.directory.pubsub(&self.account, |view| {
            let mut current = Vec::new();
            for row in &self.members {
                if view.is_current(row)? {
                    current.push(row);
                }
            }
            Ok(current)
        });
        match found {
            Ok(found) => {
                let mut current = found.unwrap_or_default();
                current.sort_unstable_by(|a, b| a.jid.cmp(&b.jid));
                Some(current)
            }
            Err(error) => {
                tracing::error!(user = self.account, %error, "cannot read the members of a node");
                None
            }
        }
    }

    /// The owner, and contacts who see the owner's presence and may look at the node, by their home workers. Without those
    /// who are subscribed, whom the owner has shut out, or whom the owner blocks.
    fn contacts(
        &self,
        actors: &mut Actors,
        env: &Env,
        fx: &mut Effects,
        members: &[&MemberRow],
    ) -> Vec<Targets> {
        let mut lists = fx.links.take_lists();
        lists[env.worker].push(&self.account);
        let in_groups = match self.config.access {
            AccessModel::Roster => Some(self.contacts_in_groups(env, fx)),
            _ => None,
        };
        let by_name = matches!(self.config.access, AccessModel::Whitelist | AccessModel::Authorize);
        if by_name && members.is_empty() {
            return lists;
        }
        let blocked = blocking::list_of(&actors.users, env, fx, &self.account);
        let shared = env.shared.clone();
        let read = contacts::each(actors, env, fx, &self.account, |contact, subscription| {
            if !matches!(subscription, Subscription::From | Subscription::Both) {
                return;
            }
            if in_groups
                .as_ref()
                .is_some_and(|list| list.binary_search_by(|one| one.as_str().cmp(contact)).is_err())
            {
                return;
            }
            if !members.is_empty() || blocked.is_some() {
                let bare = format!("{contact}@{}", shared.domain);
                let Member { affiliation, subscription, .. } = member_of(members, &bare);
                let named = matches!(affiliation, Affiliation::Member | Affiliation::Publisher);
                let shut_out = matches!(affiliation, Affiliation::Outcast | Affiliation::PublishOnly);
                let subscribed = subscription == SubscriptionState::Subscribed;
                if shut_out || subscribed || by_name && !named || blocking::names(&blocked, &bare) {
                    return;
                }
            }
            lists[shared.home_of(contact)].push(contact);
        });
        if let Err(error) = read {
            tracing::error!(user = self.account, %error, "cannot read a roster");
        }
        // The owner may have gone meanwhile, or somebody else has published: contacts are kept for those who are online.
        if actors.users.find(&self.account).is_none() {
            actors.contacts.forget(&self.account);
        }
        lists
    }

    /// Localparts of the contacts in the groups that the node names, sorted.
    fn contacts_in_groups(&self, env: &Env, fx: &Effects) -> Vec<String> {
        let items = env.shared.directory.roster_items(&self.account).unwrap_or_else(|error| {
            tracing::error!(user = self.account, %error, "cannot read a roster");
            Vec::new()
        });
        fx.work.add(items.len() as u64 * work::ITEM);
        let fits =
            items.iter().filter(|item| item.groups.iter().any(|group| self.config.groups.contains(group)));
        let locals = fits.filter_map(|item| address::contact_here(&item.contact, &env.shared.domain));
        let mut locals: Vec<String> = locals.map(str::to_owned).collect();
        locals.sort_unstable();
        locals
    }

    /// Those who are subscribed and may look at the node still, by their home workers. A subscription outlasts what it was
    /// granted for: the subscriber may have lost the owner's presence since, or the node may have another access model.
    fn subscribers(
        &self,
        actors: &Actors,
        env: &Env,
        fx: &mut Effects,
        members: &[&MemberRow],
    ) -> Vec<Targets> {
        let mut lists = fx.links.take_lists();
        let blocked = match self.is_of_service() {
            true => None,
            false => blocking::list_of(&actors.users, env, fx, &self.account),
        };
        for row in members.iter().filter(|row| row.member.subscription == SubscriptionState::Subscribed) {
            fx.work.add(work::LOOK);
            let affiliation = member_of(members, address::bare_of(&row.jid)).affiliation;
            let member = Member { affiliation, ..row.member };
            match Visitor::from_full(env, &self.account, &row.jid) {
                Ok(visitor) if visitor.may_look(&self.config, member).is_ok() => {
                    if !blocking::names(&blocked, &row.jid) {
                        push(env, &mut lists, &row.jid);
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::error!(user = self.account, %error, "cannot read a roster"),
            }
        }
        lists
    }
}

/// What somebody is to a node, by its sorted members.
fn member_of(members: &[&MemberRow], jid: &str) -> Member {
    let row = members.binary_search_by(|row| row.jid.as_str().cmp(jid)).ok();
    row.map_or(Member::default(), |row| members[row].member)
}

/// Puts a JID of this server on the list of its home.
pub(super) fn push(env: &Env, lists: &mut [Targets], jid: &str) {
    let bare = address::bare_of(jid);
    let Some(local) = address::contact_here(bare, &env.shared.domain) else { return };
    let target = match address::local_and_resource(jid) {
        Some((local, resource)) => format!("{local}/{resource}"),
        None => local.to_owned(),
    };
    lists[env.home_of(local)].push(&target);
}

/// What a transaction leads to that has changed a node: those who hear of it are told once it is committed.
pub(super) fn committed(
    transaction: &WriteTransaction<'_>,
    account: &str,
    node: &Node,
    happened: Option<Happened>,
    sender: &str,
) -> JobResult {
    let Some(happened) = happened else { return Ok(Ok(Committed::default())) };
    let notice = Notice::of(transaction, account, node, happened)?;
    Ok(Ok(tell_all(vec![notice], sender.to_owned())))
}

/// Tells everything once it is committed.
pub(in crate::service) fn tell_all(notices: Vec<Notice>, sender: String) -> Committed {
    Committed::then(move |actors, env, fx| {
        for notice in &notices {
            notice.tell(actors, env, fx, &sender);
        }
        let concerns =
            |node: &str| notices.iter().find(|notice| notice.node == node && !notice.is_of_service());
        // What the server takes out by itself follows from a membership that has ended: it ends none, least of all a newer one.
        let is_of_client = |notice: &Notice| !sender.is_empty() && !notice.is_of_service();
        for notice in notices.iter().filter(|notice| notice.node == ns::BOOKMARKS && is_of_client(notice)) {
            if let Happened::Retracted(ids) = &notice.happened {
                groups::removed(env, fx, &notice.account, ids);
            }
        }
        if let Some(notice) = concerns(ns::BOOKMARKS) {
            bookmarks::tell_all_in_one(actors, env, fx, &notice.account);
        }
        if let Some(notice) = concerns(ns::AVATAR_METADATA) {
            presence::show_again(actors, env, fx, &notice.account);
        }
    })
}

/// Somebody's subscription is another one by the owner's will (XEP-0060 §8.6, §8.8).
pub(super) fn tell_subscriber(
    env: &Env,
    fx: &mut Effects,
    (account, node): (&str, &str),
    to: &str,
    state: &str,
) {
    let owner = env.owner_jid(account);
    let tail = event::message_tail(&owner, node, Event::Subscription { jid: to, state });
    last::send(env, fx, account, to, &[(node.to_owned(), tail)]);
}
