//! Messages of rooms: those who belong to a room are told of what is said there, whether they have entered it or not.
//!
//! The room sends its members' homes one stanza and a list of accounts. Here lies what each wants to hear of the room (XEP-0492),
//! read once and kept until the account's bookmarks or its block list change. The bookmark is the member's consent: without one it is
//! told of nothing, whoever has put it on the list.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use smallvec::SmallVec;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::log::{PeerHash, Sequence};

use super::compose::{self, Told};
use super::known::{Account, Device, Pushes};
use super::{Chosen, Recipient, Session, check, has_devices, session_of, tell};
use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::{Cast, Weight};
use crate::keys::{ResourceKey, StreamId, UserKey};
use crate::proto::address;
use crate::proto::muc::notify::{self, BookmarkSettings, ClientType, Notify, Person};
use crate::proto::ns;
use crate::proto::push::PushService;
use crate::proto::sm::Unacked;
use crate::push::outlet::Outlet;
use crate::runtime::driver::ConnId;
use crate::stanza::Kind;
use crate::user::actors::{Actors, Effects};
use crate::user::blocking;
use crate::user::recall;
use crate::user::record;
use crate::user::tables::{Flags, Users};
use crate::xml::Element;

/// Rooms of one account of which it is remembered what the account wants to hear.
const ROOMS_MAX: usize = 64;

/// What an account wants to hear of a room.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// Of its address.
    room: u64,
    /// By which sessions without a connection refer to what was said there.
    reference: PeerHash,
    /// By [`ClientType`].
    notify: [Notify; 2],
    /// The nick in the room, if its bookmark tells one.
    nick: Option<Box<str>>,
}

/// A message of a room.
struct Message<'a> {
    room: &'a str,
    hash: u64,
    is_private: bool,
    stanza: &'a Element,
    /// The id that the room has given to it.
    id: Option<&'a str>,
    told: Told,
}

/// A session of an account that was given what was said in a room, and the number of that stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reader {
    key: ResourceKey,
    stream: StreamId,
    number: u32,
}

/// Nodes of devices.
type Nodes = SmallVec<[Box<str>; 2]>;

/// Sessions of an account.
type Readers = SmallVec<[Reader; 1]>;

/// What was said in rooms, and whom devices wait for.
#[derive(Clone, Debug)]
pub(super) struct GroupWait {
    /// The newest message, and its id in the archive of its room.
    told: Told,
    id: Option<Box<str>>,
    /// Messages.
    count: u32,
    /// Nodes of the devices that are told if nobody acknowledges it.
    devices: Nodes,
    /// Who was given the first message, and who the newest.
    first: Readers,
    newest: Readers,
}

/// Sessions of a user that are in a room and have a connection.
#[derive(Debug, Default)]
struct Listeners {
    /// One is active and does not acknowledge anything: it has read what was said.
    is_read: bool,
    /// One is active.
    is_active: bool,
    readers: Readers,
}

/// Members of a room whose home is this worker are told of a message.
pub fn receive(actors: &mut Actors, env: &Env, fx: &mut Effects, cast: &Cast<'_>) {
    let Some(outlet) = env.shared.push.get() else { return };
    let room = address::bare_of(cast.from);
    fx.work.add_tree(cast.head.len() + cast.tail.len());
    let Ok(stanza) = Element::parse(&[cast.head, cast.tail].concat()) else { return };
    let told = Told { is_call: false, sender: Some(room.to_owned()), text: compose::text_of(&stanza) };
    let is_private = cast.weight == Weight::AbsentOfGroup;
    let is_id =
        |child: &&Element| child.is("stanza-id", ns::STANZA_ID) && child.attribute("by") == Some(room);
    let id = stanza.elements().find(is_id).and_then(|child| child.attribute("id"));
    let message = Message { room, hash: hash_of(room), is_private, stanza: &stanza, id, told };
    for target in cast.targets() {
        fx.work.add(work::RECIPIENT);
        let (local, Some(number)) = address::local_and_resource_of_target(target) else { continue };
        let Ok(number) = u64::from_str_radix(number, 16) else { continue };
        let to = Recipient { account: ActorId::from_raw(number), local, user: actors.users.find(local) };
        tell_member(actors, env, fx, outlet, to, &message);
    }
}

fn hash_of(room: &str) -> u64 {
    FixedState::default().hash_one(room)
}

fn tell_member(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    outlet: &Outlet,
    to: Recipient<'_>,
    message: &Message<'_>,
) {
    if !has_devices(&mut actors.pushes, env, fx, to) {
        return;
    }
    let users = &actors.users;
    let Some(account) = actors.pushes.get_mut(to.account) else { return };
    let wish = wish_of(account, env, fx, to.local, message);
    let listeners = listeners(users, to.user, message.room);
    if listeners.is_read {
        return;
    }
    let bare = env.bare_jid(to.local);
    let person = Person { bare: &bare, room: message.room, nick: wish.nick.as_deref().unwrap_or(to.local) };
    let mut mentioned = None;
    let (mut chosen, mut later) = (Chosen::new(), SmallVec::new());
    for (at, device) in account.devices.iter_mut().enumerate() {
        let wants = match wish.notify[client_of(device) as usize] {
            Notify::Always => true,
            Notify::Never => false,
            Notify::OnMention => *mentioned.get_or_insert_with(|| notify::mentions(message.stanza, person)),
        };
        if !wants || device.is_voip {
            continue;
        }
        match session_of(users, to.user, &device.resource) {
            Session::Away if !listeners.is_active => {
                device.count += 1;
                device.newest = Sequence::ZERO;
                chosen.push(at);
            }
            Session::Away => later.push(device.node.clone()),
            Session::Inactive | Session::Active if listeners.has(users, &device.resource) => {
                later.push(device.node.clone());
            }
            Session::Inactive | Session::Active => {}
        }
    }
    if !later.is_empty() {
        wait(&mut actors.pushes, env, to, (message, later, listeners.readers));
    }
    if !chosen.is_empty() {
        tell(&mut actors.pushes, env, fx, outlet, to, (&chosen, &message.told));
    }
}

fn client_of(device: &Device) -> ClientType {
    match device.service == PushService::WebPush.code() {
        true => ClientType::Web,
        false => ClientType::Phone,
    }
}

/// Who of a user's clients is in a room and hears what is said there.
fn listeners(users: &Users, user: Option<UserKey>, room: &str) -> Listeners {
    let (mut found, room_name) = (Listeners::default(), address::local_of(room));
    for &key in user.iter().flat_map(|user| &users.user(*user).resources) {
        let resource = users.resource(key);
        if resource.conn == ConnId::NONE || !resource.is_in_room(room_name) {
            continue;
        }
        let is_active = !resource.flags.has(Flags::INACTIVE);
        found.is_active |= is_active;
        match resource.flow.as_ref().and_then(|flow| flow.sm.as_ref()) {
            Some(sm) => found.readers.push(Reader { key, stream: sm.id(), number: sm.sent_count() }),
            None => found.is_read |= is_active,
        }
    }
    found
}

impl Listeners {
    /// Whether a resource of this name is among those who may acknowledge it.
    fn has(&self, users: &Users, resource: &str) -> bool {
        self.readers.iter().any(|reader| *users.resource(reader.key).name == *resource)
    }
}

/// It is looked in a moment whether somebody has acknowledged what was said. One look of an account is under way at a time.
fn wait(
    pushes: &mut Pushes,
    env: &Env,
    to: Recipient<'_>,
    (message, devices, readers): (&Message<'_>, Nodes, Readers),
) {
    if !pushes.has_room_to_wait(env.config.push.accounts_remembered as usize) {
        return env.metrics().refused_push_queue.add(1);
    }
    let Some(account) = pushes.get_mut(to.account) else { return };
    let (told, id) = (message.told.clone(), message.id.map(Into::into));
    if let Some(group) = &mut account.group {
        group.devices.extend(devices);
        group.devices.sort_unstable();
        group.devices.dedup();
        (group.told, group.id, group.newest) = (told, id, readers);
        group.count = group.count.saturating_add(1);
        return;
    }
    let group = GroupWait { told, id, count: 1, devices, first: readers.clone(), newest: readers };
    account.group = Some(Box::new(group));
    pushes.checks.push_back(check(env, to.account, to.local, Sequence::ZERO));
}

/// A message of a room is taken back, as a client of the account hears: no device is told what was in it.
pub fn forget(actors: &mut Actors, key: ResourceKey, (room, target): (&str, &str)) {
    if actors.pushes.is_empty() {
        return;
    }
    let account = actors.pushes.get_mut(actors.users.account_of(key));
    let Some(group) = account.and_then(|account| account.group.as_mut()) else { return };
    if group.id.as_deref() == Some(target) && group.told.sender.as_deref() == Some(room) {
        group.told.text = None;
    }
}

/// Nobody has acknowledged in their moment what was said in rooms: devices that wait for it are told.
pub(super) fn look_at(actors: &mut Actors, env: &Env, fx: &mut Effects, outlet: &Outlet, to: Recipient<'_>) {
    let users = &actors.users;
    let Some(account) = actors.pushes.get_mut(to.account) else { return };
    let Some(mut group) = account.group.take() else { return };
    let has_read = |reader: &Reader| {
        let sm = users.get(reader.key).and_then(|resource| resource.flow.as_ref()?.sm.as_ref());
        sm.is_some_and(|sm| sm.id() == reader.stream && sm.has_acknowledged(reader.number))
    };
    if group.first.iter().any(has_read) {
        if !group.newest.iter().any(has_read) {
            // What has come since has a moment of its own.
            (group.first, group.count) = (group.newest.clone(), 1);
            account.group = Some(group);
            actors.pushes.checks.push_back(check(env, to.account, to.local, Sequence::ZERO));
        }
        return;
    }
    let mut chosen = Chosen::new();
    for (at, device) in account.devices.iter_mut().enumerate() {
        let is_away = session_of(users, to.user, &device.resource) == Session::Away;
        let was_given = |reader: &Reader| {
            users.get(reader.key).is_some_and(|resource| *resource.name == *device.resource)
        };
        // One that has lost its connection meanwhile was told then.
        let was_told = is_away && group.newest.iter().any(was_given);
        if group.devices.contains(&device.node) && !was_told {
            device.count = device.count.saturating_add(group.count);
            device.newest = Sequence::ZERO;
            chosen.push(at);
        }
    }
    tell(&mut actors.pushes, env, fx, outlet, to, (&chosen, &group.told));
}

/// What an account wants to hear of a room, read where it is not known: nothing of one that it has not in its bookmarks.
fn wish_of(account: &mut Account, env: &Env, fx: &Effects, local: &str, message: &Message<'_>) -> Wish {
    if let Some(known) = account.wishes.iter().find(|wish| wish.room == message.hash) {
        return known.clone();
    }
    fx.work.add(2 * work::LOOK);
    let settings = settings_of(env, local, message.room).unwrap_or_else(|error| {
        tracing::error!(user = local, %error, "cannot read a bookmark");
        None
    });
    // No bookmark, no consent: somebody else may have made the account a member, or it has left.
    let has_agreed = settings.is_some() && !blocking::names(&blocking::load(env, fx, local), message.room);
    let settings = settings.unwrap_or_default();
    let usual = if message.is_private { Notify::Always } else { Notify::OnMention };
    let notify = match has_agreed {
        false => [Notify::Never; 2],
        true => [ClientType::Phone, ClientType::Web].map(|client| settings.of(client).unwrap_or(usual)),
    };
    let reference = recall::hash_of(env, message.room);
    let wish = Wish { room: message.hash, reference, notify, nick: settings.nick.map(Into::into) };
    if account.wishes.len() >= ROOMS_MAX {
        account.wishes.remove(0);
    }
    account.wishes.push(wish.clone());
    wish
}

fn settings_of(env: &Env, local: &str, room: &str) -> Result<Option<BookmarkSettings>, DirectoryError> {
    let found = env.shared.directory.pubsub(local, |view| {
        let Some(node) = view.node(ns::BOOKMARKS)? else { return Ok(None) };
        let item = view.item(&node, room)?;
        let conference = item.and_then(|item| Element::parse(item.payload).ok());
        Ok(conference.map(|conference| BookmarkSettings::read(&conference)))
    });
    found.map(Option::flatten)
}

/// Messages of rooms that a session has not acknowledged, of those rooms of which its account wants to hear everything.
pub(super) fn unacked(account: &Account, users: &Users, key: ResourceKey) -> usize {
    let sm = users.resource(key).flow.as_ref().and_then(|flow| flow.sm.as_ref());
    let unacked = sm.into_iter().flat_map(|sm| sm.unacked());
    let is_told = |stanza: &&Unacked| {
        if let Unacked::Archived { reference, .. } = stanza {
            let wish = account.wishes.iter().find(|wish| wish.reference == reference.room);
            return reference.wakes && wish.is_some_and(|wish| wish.notify.contains(&Notify::Always));
        }
        let Unacked::Stanza { kind: Kind::Message, bytes, .. } = stanza else { return false };
        let Some((from, _)) = record::addresses(bytes) else { return false };
        let hash = hash_of(address::bare_of(&from));
        let wish = account.wishes.iter().find(|wish| wish.room == hash);
        wish.is_some_and(|wish| wish.notify.contains(&Notify::Always)) && compose::wakes(bytes)
    };
    match account.wishes.is_empty() {
        true => 0,
        false => unacked.filter(is_told).count(),
    }
}
