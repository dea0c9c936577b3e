//! When a device is told that something waits for it (XEP-0357): the last step of a message's way.
//!
//! A device is the resource that has enabled it. What counts is a message that wakes ([`Traits::WAKES`]) and is kept:
//!
//! | session of the device | |
//! | --- | --- |
//! | none, or it has lost its connection | told at once; in a moment, where an active client of the account has the message and nobody has acknowledged it until then |
//! | connected | told in a moment, where nobody has acknowledged the message until then |
//!
//! A moment is `push.ack_seconds`. A device that was told is left alone until it is here again or `push.pause_seconds` are over;
//! then it is told of what has come since. Calls do not wait.
//!
//! | module | what |
//! | --- | --- |
//! | [`known`] | which devices there are, and what each was told |
//! | [`compose`] | what a device is told |
//! | [`group`] | messages of rooms |
//! | [`saved`] | what goes to another program |

pub mod compose;
pub mod group;
pub mod known;
pub mod saved;

use memchr::memmem;
use smallvec::SmallVec;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::PushDevice;
use whimbrel_storage::log::Sequence;

use crate::effects::work;
use crate::env::Env;
use crate::push::outlet::{self, Outlet, Ticket};
use crate::runtime::driver::ConnId;
use crate::stanza::{Delivery, Traits};
use crate::user::actors::{Actors, Effects};
use crate::user::archive::{Archives, open};
use crate::user::commits::CommitTracker;
use crate::user::record;
use crate::user::tables::{Flags, ResourceKey, UserKey, Users};
use compose::Told;
use known::{Account, Check, Due, Pushes};

/// Checks and devices that are due, handled at one look: others have their turn in between.
const LOOK_MAX: usize = 4096;

/// Whose devices are told.
#[derive(Copy, Clone, Debug)]
pub struct Recipient<'a> {
    /// The account.
    pub account: ActorId,
    /// Its localpart.
    pub local: &'a str,
    /// The user, if online.
    pub user: Option<UserKey>,
}

/// A message that waits, or was handed to `reached`, is told to those devices that need it.
pub fn message(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    d: &Delivery<'_>,
    to: Recipient<'_>,
    (sequence, reached): (Sequence, &[ResourceKey]),
) {
    let Some(outlet) = env.shared.push.get() else { return };
    if !d.traits.has(Traits::WAKES) || !has_devices(&mut actors.pushes, env, fx, to) {
        return;
    }
    let told = Told::of(env, d.from, d.bytes);
    let is_read = |key: &ResourceKey| {
        let resource = actors.users.resource(*key);
        resource.conn != ConnId::NONE && !resource.flags.has(Flags::INACTIVE)
    };
    let may_be_read = !told.is_call && reached.iter().any(is_read);
    let (mut now, mut later) = (Chosen::new(), false);
    let Some(account) = actors.pushes.get_mut(to.account) else { return };
    for at in 0..account.devices.len() {
        if !concerns(account, at, told.is_call) {
            continue;
        }
        match session_of(&actors.users, to.user, &account.devices[at].resource) {
            Session::Away if may_be_read => later = true,
            Session::Away => now.push(at),
            Session::Inactive if told.is_call => now.push(at),
            Session::Inactive | Session::Active => later = true,
        }
    }
    for &at in &now {
        account.devices[at].count += 1;
        account.devices[at].newest = sequence;
    }
    if later {
        check_later(&mut actors.pushes, env, to, sequence);
    }
    if !now.is_empty() {
        tell(&mut actors.pushes, env, fx, outlet, to, (&now, &told));
    }
}

/// Places of devices among those of their account.
type Chosen = SmallVec<[usize; 4]>;

/// Where a device is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Session {
    /// It has no session, or that has no connection.
    Away,
    /// It has said that it is inactive.
    Inactive,
    /// It is here.
    Active,
}

fn session_of(users: &Users, user: Option<UserKey>, resource: &str) -> Session {
    let found = user.and_then(|user| users.find_resource(user, resource)).map(|key| users.resource(key));
    match found {
        Some(resource) if resource.conn == ConnId::NONE => Session::Away,
        Some(resource) if resource.flags.has(Flags::INACTIVE) => Session::Inactive,
        Some(_) => Session::Active,
        None => Session::Away,
    }
}

/// Whether an account has any device, as far as it is known here. What is not known is read.
fn has_devices(pushes: &mut Pushes, env: &Env, fx: &Effects, to: Recipient<'_>) -> bool {
    let known = pushes.get_mut(to.account).map(|account| (account.is_stale, !account.devices.is_empty()));
    if let Some((false, has_some)) = known {
        return has_some;
    }
    fx.work.add(work::LOOK);
    let rows = rows_of(env, to);
    if known.is_some() {
        pushes.update(to.account, &rows);
        return !rows.is_empty();
    }
    let accounts_max = env.config.push.accounts_remembered as usize;
    !pushes.insert((to.account, to.local), &rows, accounts_max).devices.is_empty()
}

fn rows_of(env: &Env, to: Recipient<'_>) -> Vec<PushDevice> {
    env.shared.directory.push_devices(to.account).unwrap_or_else(|error| {
        tracing::error!(user = to.local, %error, "cannot read devices for push");
        Vec::new()
    })
}

/// Whether the own device of a resource is told by push: then its session can be resumed for longer.
pub fn has_device(actors: &mut Actors, env: &Env, fx: &Effects, key: ResourceKey) -> bool {
    if env.shared.push.get().is_none() {
        return false;
    }
    let resource = actors.users.resource(key);
    let user = actors.users.user(resource.user);
    let to = Recipient { account: user.id, local: &user.local, user: Some(resource.user) };
    if !has_devices(&mut actors.pushes, env, fx, to) {
        return false;
    }
    let account = actors.pushes.get_mut(to.account);
    account.is_some_and(|account| account.devices.iter().any(|device| device.resource == resource.name))
}

/// It is looked in a moment whether a message was acknowledged. One look of an account is under way at a time.
fn check_later(pushes: &mut Pushes, env: &Env, to: Recipient<'_>, sequence: Sequence) {
    if !pushes.has_room_to_wait(env.config.push.accounts_remembered as usize) {
        return env.metrics().refused_push_queue.add(1);
    }
    let Some(account) = pushes.get_mut(to.account) else { return };
    if account.checked.replace(sequence).is_none() {
        pushes.checks.push_back(check(env, to.account, to.local, sequence));
    }
}

fn check(env: &Env, account: ActorId, local: &str, sequence: Sequence) -> Check {
    let at_ms = env.now.0 + u64::from(env.config.push.ack_seconds) * 1000;
    Check { at_ms, account, local: local.into(), sequence }
}

/// Tells devices of an account of what has come for them, as far as they may be told now.
fn tell(
    pushes: &mut Pushes,
    env: &Env,
    fx: &mut Effects,
    outlet: &Outlet,
    to: Recipient<'_>,
    (chosen, told): (&[usize], &Told),
) {
    let mut rows = None;
    for &at in chosen {
        let Some(account) = pushes.get_mut(to.account) else { return };
        if !may_tell(account, env, at, told) {
            continue;
        }
        let rows = rows.get_or_insert_with(|| {
            fx.work.add(work::LOOK);
            rows_of(env, to)
        });
        fx.work.add(work::WRITE);
        if !send(account, env, outlet, to.local, (at, told), rows) {
            // Another worker or thread has taken it away.
            pushes.update(to.account, rows);
            return;
        }
    }
    let has_room = pushes.has_room_to_wait(env.config.push.accounts_remembered as usize);
    let Some(account) = pushes.get_mut(to.account) else { return };
    let mut due: SmallVec<[Due; 2]> = SmallVec::new();
    for device in account.devices.iter_mut().filter(|device| device.count > device.told && !device.is_due) {
        if device.is_voip {
            continue;
        }
        if !has_room {
            // The next message tells it of this one, too.
            env.metrics().refused_push_queue.add(1);
            continue;
        }
        device.is_due = true;
        let at_ms = device.pause_until_ms.max(env.now.0 + 1);
        due.push(Due { at_ms, account: to.account, local: to.local.into(), node: device.node.clone() });
    }
    pushes.due.extend(due);
}

/// Whether a device may be told of a message now. What it is not told now it is told when it may be.
fn may_tell(account: &mut Account, env: &Env, at: usize, told: &Told) -> bool {
    if !concerns(account, at, told.is_call) {
        return false;
    }
    let config = &env.config.push;
    let device = &mut account.devices[at];
    if !told.is_call && env.now.0 < device.pause_until_ms {
        env.metrics().push_coalesced.add(1);
        return false;
    }
    let now_ms = env.unix_ms();
    let has_room = device.hourly.has_room(now_ms, config.per_device_per_hour)
        && account.hourly.has_room(now_ms, config.per_account_per_hour);
    if !has_room {
        env.metrics().refused_push_rate.add(1);
        device.pause_until_ms = env.now.0 + u64::from(config.pause_seconds) * 1000;
    }
    has_room
}

/// Whether a device is one that is told of calls, or of messages. Where a resource has one for calls alone, that one rings.
fn concerns(account: &Account, at: usize, is_call: bool) -> bool {
    let device = &account.devices[at];
    let rings_otherwise = |other: &known::Device| other.is_voip && other.resource == device.resource;
    match is_call {
        true => device.is_voip || !account.devices.iter().any(rings_otherwise),
        false => !device.is_voip,
    }
}

/// Sends a device a notification. `false`: the account does not have that device any more.
fn send(
    account: &mut Account,
    env: &Env,
    outlet: &Outlet,
    local: &str,
    (at, told): (usize, &Told),
    rows: &[PushDevice],
) -> bool {
    let device = &mut account.devices[at];
    let Some(row) = rows.iter().find(|row| *row.node == *device.node) else { return false };
    let Some((service, target)) = outlet::target(row) else { return true };
    let notification = compose::notification(env, (local, row), target, told, device.count);
    device.pause_until_ms = env.now.0 + u64::from(env.config.push.pause_seconds) * 1000;
    if !outlet.send(Ticket::of(local, row), service, notification) {
        env.metrics().refused_push_queue.add(1);
        return true;
    }
    let now_ms = env.unix_ms();
    device.hourly.count(now_ms);
    account.hourly.count(now_ms);
    device.told = device.count;
    env.metrics().push_told.add(1);
    true
}

/// A resource is here: its device need not be told of anything before it goes again.
pub fn returned(actors: &mut Actors, key: ResourceKey) {
    if actors.pushes.is_empty() {
        return;
    }
    let (users, resource) = (&actors.users, actors.users.resource(key));
    let Some(account) = actors.pushes.get_mut(users.account_of(key)) else { return };
    for device in account.devices.iter_mut().filter(|device| device.resource == resource.name) {
        (device.count, device.told, device.pause_until_ms) = (0, 0, 0);
    }
}

/// A user sends a message. If it says how far the user has read (XEP-0333), the user's other devices need not be told of what
/// there is.
pub fn sent(actors: &mut Actors, user: UserKey, d: &Delivery<'_>) {
    let may_tell = d.traits.has(Traits::ARCHIVED) && !d.traits.has(Traits::WAKES);
    if actors.pushes.is_empty() || !may_tell || memmem::find(d.bytes, b"<displayed").is_none() {
        return;
    }
    has_read(&mut actors.pushes, actors.users.user(user).id);
}

/// A user has read what there is, as a client says (XEP-0333, XEP-0490): devices need not be told of it, and what comes next is the
/// first that waits.
pub fn has_read(pushes: &mut Pushes, account: ActorId) {
    let Some(account) = pushes.get_mut(account) else { return };
    account.has_read = account.checked.take().is_some();
    account.group = None;
    for device in &mut account.devices {
        (device.count, device.told) = (0, 0);
    }
}

/// A session has lost its connection, or is over: its device is told of what it was sent and has not acknowledged.
pub fn gone(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    let Some(outlet) = env.shared.push.get() else { return };
    let (users, log) = (&actors.users, actors.commits.log());
    let resource = users.resource(key);
    let user = users.user(resource.user);
    let to = Recipient { account: user.id, local: &user.local, user: Some(resource.user) };
    let flow = resource.flow.as_deref();
    let mut waiting = flow.into_iter().flat_map(|flow| flow.under_way()).collect::<Vec<_>>();
    waiting.retain(|&sequence| log.is_waiting(to.account, sequence));
    waiting.sort_unstable();
    let behind = flow.and_then(|flow| flow.after).and_then(|after| first_behind(actors, to.account, after));
    let newest = waiting.last().copied().or(behind);
    if !has_devices(&mut actors.pushes, env, fx, to) {
        return;
    }
    let kept = (&actors.commits, &mut actors.archives);
    let told = newest.and_then(|newest| told_of(kept, env, to.account, newest));
    let Some(account) = actors.pushes.get_mut(to.account) else { return };
    let of_rooms = group::unacked(account, users, key);
    let of_people = if told.is_some() { waiting.len().max(1) } else { 0 };
    let count = u32::try_from(of_people + of_rooms).unwrap_or(u32::MAX);
    let (told, newest) = (told.unwrap_or_default(), newest.unwrap_or(Sequence::ZERO));
    let mut chosen = Chosen::new();
    for (at, device) in account.devices.iter_mut().enumerate() {
        if device.resource == resource.name && device.count < count {
            (device.count, device.newest) = (count, newest);
            chosen.push(at);
        }
    }
    tell(&mut actors.pushes, env, fx, outlet, to, (&chosen, &told));
}

/// The first message that waits behind another one.
fn first_behind(actors: &Actors, account: ActorId, after: Sequence) -> Option<Sequence> {
    let first = actors.commits.log().read(account, after, 1).next()?;
    first.ok().map(|record| record.sequence)
}

/// What a message of the log is to devices. `None`: it is not there, is retracted, or wakes nobody.
fn told_of(
    (commits, archives): (&CommitTracker, &mut Archives),
    env: &Env,
    account: ActorId,
    sequence: Sequence,
) -> Option<Told> {
    let before = Sequence(sequence.0.checked_sub(1)?);
    let record = commits.log().read(account, before, 1).next()?.ok()?;
    if record.sequence != sequence {
        return None;
    }
    let kept = record::decode(record.payload)?;
    let (from, _) = record::addresses(kept.stanza)?;
    if !compose::wakes(kept.stanza) {
        return None;
    }
    // A retraction that has not taken effect yet leaves the message in the mailbox.
    let taken_back = open::taken_back_of(commits, archives, account);
    if taken_back.has(sequence, kept.stanza) {
        return None;
    }
    let told = Told::of(env, &from, kept.stanza);
    Some(if taken_back.unread() > sequence { Told { text: None, ..told } } else { told })
}

/// Looks at what is due: once a second.
pub fn look(actors: &mut Actors, env: &Env, fx: &mut Effects) {
    let Some(outlet) = env.shared.push.get() else { return };
    for _ in 0..LOOK_MAX {
        let checks = &mut actors.pushes.checks;
        let is_due = checks.front().is_some_and(|check| check.at_ms <= env.now.0);
        let Some(check) = is_due.then(|| checks.pop_front()).flatten() else { break };
        look_at(actors, env, fx, outlet, check);
    }
    for _ in 0..LOOK_MAX {
        let all = &mut actors.pushes.due;
        let is_due = all.front().is_some_and(|due| due.at_ms <= env.now.0);
        let Some(due) = is_due.then(|| all.pop_front()).flatten() else { break };
        tell_due(actors, env, fx, outlet, &due);
    }
    env.metrics().push_remembered.set(actors.pushes.len() as u64);
    env.metrics().push_waiting.set(actors.pushes.waiting() as u64);
}

/// Nobody has acknowledged a message in its moment: devices that do not have it are told.
fn look_at(actors: &mut Actors, env: &Env, fx: &mut Effects, outlet: &Outlet, was: Check) {
    let Check { account: id, local, sequence, .. } = was;
    let user = actors.users.find(&local);
    let to = Recipient { account: id, local: &local, user };
    if !has_devices(&mut actors.pushes, env, fx, to) {
        return;
    }
    if sequence == Sequence::ZERO {
        return group::look_at(actors, env, fx, outlet, to);
    }
    let Some(account) = actors.pushes.get_mut(id) else { return };
    let newest = match account.checked {
        Some(newest) => newest,
        None if std::mem::take(&mut account.has_read) => return,
        // The account was forgotten since.
        None => sequence,
    };
    if !actors.commits.log().is_waiting(id, sequence) {
        // What has come since has a moment of its own.
        match newest != sequence && actors.commits.log().is_waiting(id, newest) {
            true => actors.pushes.checks.push_back(check(env, id, &local, newest)),
            false => account.checked = None,
        }
        return;
    }
    account.checked = None;
    let mut told = |sequence| told_of((&actors.commits, &mut actors.archives), env, id, sequence);
    let Some(told) = told(newest).or_else(|| told(sequence)) else { return };
    let mut chosen = Chosen::new();
    let Some(account) = actors.pushes.get_mut(id) else { return };
    for (at, device) in account.devices.iter_mut().enumerate() {
        let key = user.and_then(|user| actors.users.find_resource(user, &device.resource));
        if key.is_none_or(|key| lacks(&actors.users, key, sequence)) {
            device.count += 1;
            device.newest = newest;
            chosen.push(at);
        }
    }
    tell(&mut actors.pushes, env, fx, outlet, to, (&chosen, &told));
}

/// Whether a resource has not acknowledged a message that is for it, or has no connection on which it could get it.
fn lacks(users: &Users, key: ResourceKey, sequence: Sequence) -> bool {
    let resource = users.resource(key);
    let Some(flow) = &resource.flow else { return resource.conn == ConnId::NONE };
    let is_behind = flow.after.is_some_and(|after| after < sequence);
    resource.conn == ConnId::NONE || is_behind || flow.under_way().any(|waiting| waiting == sequence)
}

/// The pause of a device is over: it is told of what has come since it was told.
fn tell_due(actors: &mut Actors, env: &Env, fx: &mut Effects, outlet: &Outlet, due: &Due) {
    let user = actors.users.find(&due.local);
    let to = Recipient { account: due.account, local: &due.local, user };
    if !has_devices(&mut actors.pushes, env, fx, to) {
        return;
    }
    let Some(account) = actors.pushes.get_mut(due.account) else { return };
    let Some(at) = account.devices.iter().position(|device| device.node == due.node) else { return };
    let device = &mut account.devices[at];
    // The account was forgotten since, and with it what this is about.
    let is_forgotten = !std::mem::take(&mut device.is_due) && device.count == 0;
    if is_forgotten && session_of(&actors.users, user, &device.resource) == Session::Away {
        device.count = 1;
    }
    if device.count <= device.told {
        return;
    }
    // A call of then is none any more.
    let newest = device.newest;
    let told = told_of((&actors.commits, &mut actors.archives), env, due.account, newest).unwrap_or_default();
    let told = Told { is_call: false, ..told };
    tell(&mut actors.pushes, env, fx, outlet, to, (&[at], &told));
}
