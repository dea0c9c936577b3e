//! Bookmarks of private groups, which the server keeps for their members (XEP-0402): so every client of a member finds the group
//! by itself, also one that was away when somebody made its account a member.
//!
//! | an account becomes a member by | what follows |
//! | --- | --- |
//! | itself | a bookmark, unless there is one |
//! | somebody who may add it: see [`may_add`] | a bookmark, unless there is one |
//! | somebody else, by an invitation | nothing more |
//! | somebody else | an invitation |
//! | somebody whom it blocks, or whose group it blocks | nothing |
//!
//! A bookmark that is there already stays as its owner wants it. When membership ends, or the group, it goes; and whoever removes it
//! tells the group.
//!
//! The room's home writes the bookmark in the transaction in which it writes the membership ([`BookmarkChange`]), so that a crash
//! leaves both or neither; the account's home tells its clients then.

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::pubsub::NewItem;
use whimbrel_storage::directory::rooms::{Affiliation, Room, RoomConfig, RoomFlags};
use whimbrel_storage::directory::{Directory, DirectoryError, MayAdd, WriteTransaction};
use whimbrel_storage::jid::Jid;

use super::bounds::Bounds;
use super::node::defaults_of;
use super::notify::{self, Happened, Notice, PublishedItem};
use crate::config::RoomsConfig;
use crate::effects::work;
use crate::env::Env;
use crate::exchange::membership::Membership;
use crate::proto::address;
use crate::proto::errors::StanzaError;
use crate::proto::muc::invite::{DirectInvite, PassedInvite};
use crate::proto::ns;
use crate::proto::pubsub::request::Published;
use crate::proto::reply;
use crate::stanza::{Delivery, Kind, PendingAck, Traits, Type};
use crate::user::actors::{Actors, Effects};
use crate::user::blocking;
use crate::user::jobs::Then;
use crate::xml::Element;

/// Whether the server keeps a room in the bookmarks of those who belong to it.
pub fn keeps(config: &RoomsConfig, room: &RoomConfig) -> bool {
    config.bookmarks && room.is_private_group() && room.flags.has(RoomFlags::BOOKMARKS)
}

/// An account that belongs to a room, and may have it in its bookmarks.
pub struct Holder {
    local: String,
    account: ActorId,
}

/// Accounts that belong to a room.
///
/// # Errors
/// The directory cannot be read or is damaged.
pub fn holders(directory: &Directory, room: &Room, domain: &str) -> Result<Vec<Holder>, DirectoryError> {
    let mut found = Vec::new();
    directory.rooms(|rooms| {
        rooms.each_affiliate(room.actor, |one| {
            let belongs = one.affiliation >= Affiliation::Member && one.account != ActorId::NOBODY;
            if let Some(local) = address::contact_here(&one.jid, domain).filter(|_| belongs) {
                found.push(Holder { local: local.to_owned(), account: one.account });
            }
            true
        })
    })?;
    Ok(found)
}

/// Takes a room out of these accounts' bookmarks; the localparts of those who had it there. Their clients are told by their homes.
///
/// # Errors
/// The directory cannot be read or written.
pub fn forget(
    transaction: &mut WriteTransaction<'_>,
    room: &str,
    holders: &[Holder],
) -> Result<Vec<String>, DirectoryError> {
    let mut told = Vec::new();
    for Holder { local, account } in holders {
        // Another account of the name has bookmarks of its own.
        let is_same = transaction.pubsub(local)?.is_some_and(|view| view.account() == *account);
        if is_same && retract(transaction, local, room)?.is_some() {
            told.push(local.clone());
        }
    }
    Ok(told)
}

/// An account of this worker has become a member of a private group, or is one no more.
pub fn changed(actors: &mut Actors, env: &Env, fx: &mut Effects, membership: &Membership<'_>) {
    let (account, room, is_granted, pending_ack) = (
        membership.account.to_owned(),
        membership.room.to_owned(),
        membership.is_granted,
        membership.pending_ack,
    );
    if membership.is_written {
        let job =
            move |transaction: &mut WriteTransaction<'_>| announce(transaction, &account, &room, is_granted);
        return write(actors, env, fx, pending_ack, job);
    }
    if !is_granted {
        return write(actors, env, fx, pending_ack, move |transaction| retract(transaction, &account, &room));
    }
    if is_blocked(env, fx, membership) {
        return settle(actors, env, fx, pending_ack);
    }
    if may_add(env, fx, membership) {
        let name = membership.name.to_owned();
        let (bounds, now_ms) = (Bounds::of(env, &account), env.unix_ms());
        let owner = env.bare_jid(&account);
        return write(actors, env, fx, pending_ack, move |transaction| {
            let bookmark = Bookmark { account: &account, owner: &owner, room: &room, name: &name };
            bookmark.publish(transaction, bounds, now_ms)
        });
    }
    if membership.is_invited {
        return settle(actors, env, fx, pending_ack);
    }
    env.metrics().room_additions_asked.add(1);
    if !invite(env, fx, membership) {
        settle(actors, env, fx, pending_ack);
    }
}

/// Nothing has to be kept any more of what somebody waits for.
fn settle(actors: &mut Actors, env: &Env, fx: &mut Effects, pending_ack: Option<PendingAck>) {
    if let Some(pending_ack) = pending_ack {
        actors.users.notify_durable(env, fx, pending_ack);
    }
}

/// Whether the account blocks the group, or whoever has made it a member.
fn is_blocked(env: &Env, fx: &Effects, membership: &Membership<'_>) -> bool {
    let &Membership { account, room, by, .. } = membership;
    if by == account {
        return false;
    }
    // As the directory has it, because the account may live on another worker.
    let list = blocking::load(env, fx, account);
    blocking::names(&list, room) || !by.is_empty() && blocking::names(&list, &env.bare_jid(by))
}

/// Whether the account has come by itself, or lets others put it into groups without asking it: as it says itself, or as the server
/// is configured. The operator counts as a contact of everybody. An account that cannot be looked at is asked.
fn may_add(env: &Env, fx: &Effects, membership: &Membership<'_>) -> bool {
    let &Membership { account, by, .. } = membership;
    if by == account {
        return true;
    }
    let may = |account: &str| -> Result<bool, DirectoryError> {
        fx.work.add(work::LOOK);
        let settings = env.shared.directory.settings(account)?;
        Ok(match settings.groups_add.unwrap_or(env.config.rooms.add) {
            MayAdd::Everyone => true,
            MayAdd::Nobody => false,
            MayAdd::Contacts if by.is_empty() => true,
            MayAdd::Contacts => {
                fx.work.add(work::LOOK);
                let item = env.shared.directory.roster_item(account, &env.bare_jid(by))?;
                item.is_some_and(|item| item.listed)
            }
        })
    };
    may(account).unwrap_or_else(|error| {
        tracing::error!(user = account, %error, "cannot read whether an account may be added to groups");
        false
    })
}

/// Has a change of bookmarks written, of which the owner's clients hear. Whoever waits for it hears when it is on the disk, or
/// cannot be: that one is missed by nobody who looks at the group itself.
fn write(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    pending_ack: Option<PendingAck>,
    job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<Option<Notice>, DirectoryError> + Send + 'static,
) {
    let job = move |transaction: &mut WriteTransaction<'_>| {
        let notice = job(transaction)?;
        let then: Then = Box::new(move |actors, env, fx| {
            let told = notify::tell_all(notice.into_iter().collect(), String::new());
            if let Some(after) = told.after {
                after(actors, env, fx, None);
            }
            settle(actors, env, fx, pending_ack);
        });
        Ok(then)
    };
    let failed = move |actors: &mut Actors, env: &Env, fx: &mut Effects, error: StanzaError| {
        tracing::warn!(?error, "a bookmark of a group is not written");
        settle(actors, env, fx, pending_ack);
    };
    if !actors.submit(fx, Box::new(job), Box::new(failed)) {
        tracing::warn!("a bookmark of a group is not written: the directory has too much to do");
        settle(actors, env, fx, pending_ack);
    }
}

/// A change of the bookmarks of an account that is written together with the membership from which it follows.
#[derive(Clone)]
pub struct BookmarkChange {
    account: String,
    /// Bare JID of the account.
    owner: String,
    room: String,
    /// The room's name for people; `None`: the bookmark goes.
    name: Option<String>,
    bounds: Bounds,
    now_ms: u64,
}

impl BookmarkChange {
    /// What follows from a membership that is about to be written; `None`: nothing, or an invitation.
    pub fn of(env: &Env, fx: &Effects, membership: &Membership<'_>) -> Option<BookmarkChange> {
        let &Membership { account, room, name, is_granted, .. } = membership;
        fx.work.add(work::LOOK);
        let found = env.shared.directory.pubsub(account, |pubsub| {
            let Some(node) = pubsub.node(ns::BOOKMARKS)? else { return Ok(false) };
            Ok(pubsub.item(&node, room)?.is_some())
        });
        let is_there = match found {
            Ok(is_there) => is_there?,
            Err(error) => {
                tracing::error!(user = account, %error, "cannot read bookmarks");
                return None;
            }
        };
        let is_wanted = || !is_blocked(env, fx, membership) && may_add(env, fx, membership);
        let changes = if is_granted { !is_there && is_wanted() } else { is_there };
        changes.then(|| BookmarkChange {
            account: account.to_owned(),
            owner: env.bare_jid(account),
            room: room.to_owned(),
            name: is_granted.then(|| name.to_owned()),
            bounds: Bounds::of(env, account),
            now_ms: env.unix_ms(),
        })
    }

    /// Writes it.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn write(&self, transaction: &mut WriteTransaction<'_>) -> Result<(), DirectoryError> {
        let Self { account, owner, room, name, bounds, now_ms } = self;
        let notice = match name {
            Some(name) => Bookmark { account, owner, room, name }.publish(transaction, *bounds, *now_ms)?,
            None => retract(transaction, account, room)?,
        };
        // The clients are told by the account's home.
        drop(notice);
        Ok(())
    }
}

/// A bookmark was written, or taken out: what clients hear of it, unless it has changed since.
fn announce(
    transaction: &WriteTransaction<'_>,
    local: &str,
    room: &str,
    is_granted: bool,
) -> Result<Option<Notice>, DirectoryError> {
    let Some(view) = transaction.pubsub(local)? else { return Ok(None) };
    let Some(node) = view.node(ns::BOOKMARKS)? else { return Ok(None) };
    let item = view.item(&node, room)?.map(|item| item.to_item());
    let happened = match (item, is_granted) {
        (Some(item), true) => {
            let items = vec![PublishedItem { id: item.id, payload: item.payload }];
            Happened::Published { items, publisher: item.publisher }
        }
        (None, false) => Happened::Retracted(vec![room.to_owned()]),
        _ => return Ok(None),
    };
    Notice::of(transaction, local, &node, happened).map(Some)
}

/// The bookmark of a group, as the server makes it.
struct Bookmark<'a> {
    account: &'a str,
    owner: &'a str,
    room: &'a str,
    name: &'a str,
}

impl Bookmark<'_> {
    /// Publishes it, unless there is one of the room, or no room for it.
    fn publish(
        &self,
        transaction: &mut WriteTransaction<'_>,
        bounds: Bounds,
        now_ms: u64,
    ) -> Result<Option<Notice>, DirectoryError> {
        let Some(view) = transaction.pubsub(self.account)? else { return Ok(None) };
        let (account, found, usage) = (view.account(), view.node(ns::BOOKMARKS)?, view.usage()?);
        let payload = Published { id: None, payload: Some(self.element()) }.bytes();
        let new = NewItem { id: self.room, publisher: self.owner, published_ms: now_ms, payload: &payload };
        let is_too_much = usage.bytes + new.bytes() > bounds.bytes;
        let mut node = match found {
            Some(node) if view.item(&node, self.room)?.is_some() => return Ok(None),
            Some(node) if node.items >= u64::from(bounds.items) || is_too_much => return Ok(None),
            Some(node) => node,
            None if is_too_much
                || bounds.check_node(usage, ns::BOOKMARKS, &defaults_of(ns::BOOKMARKS)).is_err() =>
            {
                return Ok(None);
            }
            None => transaction.create_node(account, ns::BOOKMARKS, defaults_of(ns::BOOKMARKS), now_ms)?,
        };
        transaction.publish_item(account, &mut node, &new)?;
        let items = vec![PublishedItem { id: self.room.to_owned(), payload: payload.clone() }];
        let happened = Happened::Published { items, publisher: self.owner.to_owned() };
        Notice::of(transaction, self.account, &node, happened).map(Some)
    }

    fn element(&self) -> Element {
        let name = Some(self.name).filter(|name| !name.is_empty());
        Element::new("conference", ns::BOOKMARKS).attr_opt("name", name).attr("autojoin", "true")
    }
}

fn retract(
    transaction: &mut WriteTransaction<'_>,
    local: &str,
    room: &str,
) -> Result<Option<Notice>, DirectoryError> {
    let Some(view) = transaction.pubsub(local)? else { return Ok(None) };
    let (account, found) = (view.account(), view.node(ns::BOOKMARKS)?);
    let Some(mut node) = found else { return Ok(None) };
    if view.item(&node, room)?.is_none() {
        return Ok(None);
    }
    transaction.retract_item(account, &mut node, room)?;
    Notice::of(transaction, local, &node, Happened::Retracted(vec![room.to_owned()])).map(Some)
}

/// The room invites somebody who has been made a member by one who may not add it; in the name of the domain, if that was an
/// operator. `false`: it does not.
fn invite(env: &Env, fx: &mut Effects, membership: &Membership<'_>) -> bool {
    let &Membership { account, room, by, pending_ack, .. } = membership;
    let Ok(room_jid) = Jid::parse(room) else { return false };
    let to = env.bare_jid(account);
    let by = if by.is_empty() { env.shared.domain.to_string() } else { env.bare_jid(by) };
    let mut bytes = Vec::with_capacity(512);
    reply::open(Kind::Message, Type::Normal, Some(room), &to, None, &mut bytes);
    bytes.push(b'>');
    PassedInvite { from: &by, reason: "", thread: None, password: "" }.write(&mut bytes);
    DirectInvite { room: room_jid, password: String::new(), reason: String::new() }.write(&mut bytes);
    bytes.extend_from_slice(b"</message>");
    let delivery = Delivery {
        kind: Kind::Message,
        typ: Type::Normal,
        traits: Traits::CONTENT.and(Traits::NO_COPY),
        from: room,
        to_local: account,
        to_resource: None,
        id: None,
        bytes: &bytes,
        pending_ack,
    };
    fx.route(env, &delivery);
    true
}

/// Bookmarks with these ids are gone: their rooms hear of it.
pub(super) fn removed(env: &Env, fx: &mut Effects, account: &str, ids: &[String]) {
    let Some(rooms) = env.services().rooms else { return };
    let from = env.bare_jid(account);
    for name in ids.iter().filter_map(|id| address::contact_here(id, rooms)) {
        let forsaken = Delivery {
            kind: Kind::Presence,
            typ: Type::Unsubscribed,
            traits: Traits::FROM_SERVER,
            from: &from,
            to_local: name,
            to_resource: None,
            id: None,
            bytes: b"<presence type='unsubscribed'/>",
            pending_ack: None,
        };
        fx.route_to_room(env, &forsaken);
    }
}
