//! Bookmarks of private groups, which the server keeps for their members (XEP-0402): so every client of a member finds the group
//! by itself, also one that was away when somebody made its account a member.
//!
//! | an account becomes a member by | what follows |
//! | --- | --- |
//! | itself, an operator, or somebody in its roster | a bookmark, unless there is one |
//! | somebody else, by an invitation | nothing more |
//! | somebody else | an invitation |
//!
//! A bookmark that is there already stays as its owner wants it. When membership ends, it goes; and whoever removes it tells the
//! group.

use whimbrel_storage::directory::pubsub::NewItem;
use whimbrel_storage::directory::{DirectoryError, WriteTransaction};
use whimbrel_storage::jid::Jid;

use super::bounds::Bounds;
use super::node::defaults_of;
use super::notify::{self, Happened, Notice, PublishedItem};
use crate::effects::work;
use crate::env::Env;
use crate::exchange::membership::Membership;
use crate::proto::address;
use crate::proto::muc::invite::{DirectInvite, PassedInvite};
use crate::proto::ns;
use crate::proto::pubsub::request::Published;
use crate::proto::reply;
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::actors::{Actors, Effects};
use crate::user::jobs::Then;
use crate::xml::Element;

/// An account of this worker has become a member of a private group, or is one no more.
pub fn changed(actors: &mut Actors, env: &Env, fx: &mut Effects, membership: &Membership<'_>) {
    let (account, room) = (membership.account.to_owned(), membership.room.to_owned());
    if !membership.is_granted {
        return write(actors, fx, move |transaction| retract(transaction, &account, &room));
    }
    match is_wanted(env, fx, membership) {
        true => {
            let name = membership.name.to_owned();
            let (bounds, now_ms) = (Bounds::of(env, &account), env.unix_ms());
            let owner = env.bare_jid(&account);
            write(actors, fx, move |transaction| {
                let bookmark = Bookmark { account: &account, owner: &owner, room: &room, name: &name };
                bookmark.publish(transaction, bounds, now_ms)
            });
        }
        false if !membership.is_invited => invite(env, fx, membership),
        false => {}
    }
}

/// Whether the account lets whoever has made it a member do so without being asked.
fn is_wanted(env: &Env, fx: &Effects, membership: &Membership<'_>) -> bool {
    let &Membership { account, by, .. } = membership;
    if by.is_empty() || by == account {
        return true;
    }
    fx.work.add(work::LOOK);
    match env.shared.directory.roster_item(account, &env.bare_jid(by)) {
        Ok(item) => item.is_some_and(|item| item.listed),
        Err(error) => {
            tracing::error!(user = account, %error, "cannot read a roster");
            false
        }
    }
}

/// Has a change of bookmarks written, of which the owner's clients hear. Nobody waits for it: one that cannot be written is
/// missed by nobody who looks at the group itself.
fn write(
    actors: &mut Actors,
    fx: &mut Effects,
    job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<Option<Notice>, DirectoryError> + Send + 'static,
) {
    let job = move |transaction: &mut WriteTransaction<'_>| {
        let notice = job(transaction)?;
        let then: Then = Box::new(move |actors, env, fx| {
            let told = notify::tell_all(notice.into_iter().collect(), String::new());
            if let Some(after) = told.after {
                after(actors, env, fx, None);
            }
        });
        Ok(then)
    };
    let failed =
        Box::new(|_: &mut Actors, _: &Env, _: &mut Effects, error: crate::proto::errors::StanzaError| {
            tracing::warn!(?error, "a bookmark of a group is not written");
        });
    if !actors.submit(fx, Box::new(job), failed) {
        tracing::warn!("a bookmark of a group is not written: the directory has too much to do");
    }
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

/// The room invites somebody who has been made a member by a stranger.
fn invite(env: &Env, fx: &mut Effects, membership: &Membership<'_>) {
    let &Membership { account, room, by, .. } = membership;
    let Ok(room_jid) = Jid::parse(room) else { return };
    let (to, by) = (env.bare_jid(account), env.bare_jid(by));
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
        pending_ack: None,
    };
    fx.route(env, &delivery);
}

/// Bookmarks with these ids are gone: their rooms hear of it.
pub(super) fn removed(env: &Env, fx: &mut Effects, account: &str, ids: &[String]) {
    let Some(rooms) = env.domains().rooms else { return };
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
