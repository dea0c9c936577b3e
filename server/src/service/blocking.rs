//! The block list (XEP-0191): reading and changing it, and what a change means for presence.
//!
//! Whom the list stops is decided in [`crate::user::blocking`].

use std::collections::{BTreeSet, HashSet};

use whimbrel_storage::directory::{Subscription, Table};
use whimbrel_storage::jid::{Jid, JidRef};

use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::{Broadcast, Targets};
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::letters::{self, Letters};
use crate::proto::ns;
use crate::service::{Answers, Committed, Reply, Request, Scopes, Service};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::delivery;
use crate::user::flow::Outgoing;
use crate::user::presence::contacts;
use crate::user::tables::{Flags, ResourceKey};
use crate::user::writes::Area;
use crate::user::{blocking, presence};
use crate::xml::Element;

const FULL: &str = "the block list is full";

/// A resource that has asked for the list hears of changes from then on.
pub static SERVICE: Service = Service {
    name: "block list",
    answers: &[
        Answers {
            element: "blocklist",
            namespace: ns::BLOCKING,
            scopes: Scopes::OWN,
            writes: Area::Alone,
            handle: list,
        },
        Answers {
            element: "block",
            namespace: ns::BLOCKING,
            scopes: Scopes::OWN,
            writes: Area::BlockList,
            handle: block,
        },
        Answers {
            element: "unblock",
            namespace: ns::BLOCKING,
            scopes: Scopes::OWN,
            writes: Area::BlockList,
            handle: unblock,
        },
    ],
    features: &[(ns::BLOCKING, Scopes::SERVER_AND_OWN)],
    tables: &[Table::Blocked],
    ..Service::NOTHING
};

fn list(actors: &mut Actors, _: &Env, _: &mut Effects, request: &Request) -> Reply {
    let (Type::Get, Some(key)) = (request.typ, request.sender) else {
        return StanzaCondition::BadRequest.into();
    };
    let resource = actors.users.resource_mut(key);
    resource.flags.put(Flags::BLOCK_LIST, true);
    let user = resource.user;
    let blocked = actors.users.user(user).blocked.iter().flat_map(|list| list.iter());
    let items: Vec<Element> = blocked.map(|jid| item(jid)).collect();
    Reply::Result(Element::new("blocklist", ns::BLOCKING).children(items))
}

fn item(jid: &str) -> Element {
    Element::new("item", ns::BLOCKING).attr("jid", jid)
}

fn block(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    let jids = match items(fx, request) {
        Ok(jids) if jids.is_empty() => return StanzaCondition::BadRequest.into(),
        Ok(jids) => jids,
        Err(error) => return Reply::Error(error),
    };
    let account = request.account.clone();
    let count_max = env.config.limits.blocked_jids as usize;
    let bytes_max = env.config.limits.stanza_bytes as usize;
    request.commit(actors, env, fx, move |transaction| {
        let before = sorted(transaction.blocked(&account)?);
        let after = sorted(before.iter().chain(&jids).cloned().collect());
        // The whole list has to fit the stanza in which its owner asks for it.
        let bytes: usize = after.iter().map(String::len).sum();
        if after.len() > before.len() && (after.len() > count_max || bytes > bytes_max) {
            return Ok(Err(StanzaError::from(StanzaCondition::ResourceConstraint).with_text(FULL)));
        }
        transaction.set_blocked(&account, &after)?;
        Ok(Ok(Committed::then(move |actors, env, fx| {
            let push = Element::new("block", ns::BLOCKING).children(jids.iter().map(|jid| item(jid)));
            changed(actors, env, fx, &account, &Lists { before, after }, &push);
        })))
    })
}

/// Without items: all.
fn unblock(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    let jids = match items(fx, request) {
        Ok(jids) => jids,
        Err(error) => return Reply::Error(error),
    };
    let account = request.account.clone();
    request.commit(actors, env, fx, move |transaction| {
        let before = sorted(transaction.blocked(&account)?);
        let stays = |jid: &&String| !jids.is_empty() && jids.binary_search(*jid).is_err();
        let after: Vec<String> = before.iter().filter(stays).cloned().collect();
        transaction.set_blocked(&account, &after)?;
        Ok(Ok(Committed::then(move |actors, env, fx| {
            let push = Element::new("unblock", ns::BLOCKING).children(jids.iter().map(|jid| item(jid)));
            changed(actors, env, fx, &account, &Lists { before, after }, &push);
        })))
    })
}

fn sorted(mut jids: Vec<String>) -> Vec<String> {
    jids.sort_unstable();
    jids.dedup();
    jids
}

/// The JIDs of a request, normalised and sorted.
fn items(fx: &Effects, request: &Request) -> Result<Vec<String>, StanzaError> {
    if request.typ != Type::Set {
        return Err(StanzaCondition::BadRequest.into());
    }
    fx.work.add_letters(letters::weight(&request.query));
    let (mut jids, letters) = (Vec::new(), Letters::of_list());
    for item in request.query.elements().filter(|child| child.is("item", ns::BLOCKING)) {
        let jid = item.attribute("jid").ok_or(StanzaCondition::BadRequest)?;
        letters.check(jid)?;
        let jid = Jid::parse(jid)
            .map_err(|error| StanzaError::from(StanzaCondition::JidMalformed).with_text(error.to_string()))?;
        jids.push(jid.as_str().to_owned());
    }
    fx.work.add(jids.len() as u64 * work::ADDRESS);
    Ok(sorted(jids))
}

/// A block list, sorted, before a change and after it.
struct Lists {
    before: Vec<String>,
    after: Vec<String>,
}

/// The list of a user of this worker has changed.
fn changed(actors: &mut Actors, env: &Env, fx: &mut Effects, account: &str, lists: &Lists, push: &Element) {
    let Some(user) = actors.users.find(account) else { return };
    let Lists { before, after } = lists;
    fx.work.add((before.len() + after.len()) as u64 / 2);
    let list: Vec<Box<str>> = after.iter().map(|jid| jid.as_str().into()).collect();
    actors.users.user_mut(user).blocked = (!list.is_empty()).then(|| Box::new(list));
    actors.pushes.wishes_changed(actors.users.user(user).id);
    send_pushes(actors, env, fx, account, push);
    let blocked = difference(after, before);
    let unblocked = difference(before, after);
    if !blocked.is_empty() {
        hide_from(actors, env, fx, account, before, &blocked);
    }
    if !unblocked.is_empty() {
        show_to(actors, env, fx, account, after, &unblocked);
    }
}

/// What is in `a` and not in `b`; both are sorted.
fn difference(a: &[String], b: &[String]) -> Vec<Box<str>> {
    a.iter().filter(|jid| b.binary_search(jid).is_err()).map(|jid| jid.as_str().into()).collect()
}

/// §3.3, §3.4: tells the resources that have asked for the list.
fn send_pushes(actors: &mut Actors, env: &Env, fx: &mut Effects, account: &str, push: &Element) {
    let from = env.bare_jid(account);
    for key in actors.users.resources_of(account) {
        if !actors.users.resource(key).flags.has(Flags::BLOCK_LIST) {
            continue;
        }
        let (to, id) = (actors.users.full_jid(env, key), env.shared.unique_id());
        let iq = Element::new("iq", crate::xml::CLIENT)
            .attr("type", "set")
            .attr("from", from.as_str())
            .attr("to", to)
            .attr("id", id)
            .child(push.clone());
        let mut bytes = Vec::new();
        iq.write(crate::xml::CLIENT, &mut bytes);
        delivery::push_as(actors, env, fx, key, &Outgoing::own(&bytes));
    }
}

/// §3.3: who was just blocked sees the user's resources go.
fn hide_from(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    account: &str,
    before: &[String],
    blocked: &[Box<str>],
) {
    let before: Vec<Box<str>> = before.iter().map(|jid| jid.as_str().into()).collect();
    let newly = |jid: &JidRef<'_>| blocking::on_list(blocked, jid) && !blocking::on_list(&before, jid);
    let fits = |jid: &str| JidRef::parse(jid).is_ok_and(|jid| newly(&jid));
    let audience = audience(actors, env, fx, account, (blocked, Change::Hides), newly);
    let (domain, rooms) = (env.shared.domain.clone(), env.services().rooms);
    for key in actors.users.resources_of(account) {
        let from = actors.users.full_jid(env, key);
        let resource = actors.users.resource_mut(key);
        let mut told: BTreeSet<Box<str>> = BTreeSet::new();
        if let Some(directed) = &mut resource.directed {
            directed.retain(|entity| {
                let Some(jid) = entity.jid(rooms) else { return true };
                // What goes to the bare JID passes by a resource that is on the list itself.
                told.extend(resources_on(blocked, &jid, &domain).into_iter().filter(|full| fits(full)));
                let goes = fits(&jid);
                if goes {
                    told.insert((*jid).into());
                }
                !goes
            });
            if directed.is_empty() {
                resource.directed = None;
            }
        }
        let shown = Broadcast::new(Type::Unavailable, &from, b" type='unavailable'/>");
        if resource.flags.has(Flags::AVAILABLE) {
            told.extend(resources_in(&audience, |how| how.0).map(Box::from));
            let lists = accounts_in(env, fx, &audience, |how| how.0);
            for (jid, _) in audience.iter().filter(|(_, how)| how.0) {
                if !address::has_resource(jid) {
                    told.remove(jid);
                }
            }
            presence::send_to_lists(actors, env, fx, &shown, lists);
        }
        for to in told {
            presence::send_one(&mut actors.users, env, fx, &shown, &to);
        }
    }
}

/// §3.4: a contact that is no longer blocked sees the user's resources again, and the user sees the contact's.
fn show_to(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    account: &str,
    after: &[String],
    unblocked: &[Box<str>],
) {
    let after: Vec<Box<str>> = after.iter().map(|jid| jid.as_str().into()).collect();
    let free = |jid: &JidRef<'_>| blocking::on_list(unblocked, jid) && !blocking::on_list(&after, jid);
    let audience = audience(actors, env, fx, account, (unblocked, Change::Shows), free);
    let available: Vec<ResourceKey> = actors
        .users
        .resources_of(account)
        .into_iter()
        .filter(|key| actors.users.resource(*key).flags.has(Flags::AVAILABLE))
        .collect();
    for key in available {
        let from = actors.users.full_jid(env, key);
        let tail = actors.users.resource(key).presence.clone();
        let shown = Broadcast::new(Type::Available, &from, &tail);
        let asked = Broadcast::new(Type::Probe, &from, b" type='probe'/>");
        tell(actors, env, fx, &shown, (&audience, |how| how.0));
        tell(actors, env, fx, &asked, (&audience, |how| how.1));
    }
}

/// Sends a presence to those of an audience whom it concerns.
fn tell(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    shown: &Broadcast<'_>,
    (audience, is_told): (&[(Box<str>, Seeing)], impl Fn(&Seeing) -> bool + Copy),
) {
    let lists = accounts_in(env, fx, audience, is_told);
    presence::send_to_lists(actors, env, fx, shown, lists);
    for jid in resources_in(audience, is_told) {
        presence::send_one(&mut actors.users, env, fx, shown, jid);
    }
}

/// The accounts of an audience that are told, by their home workers.
fn accounts_in(
    env: &Env,
    fx: &mut Effects,
    audience: &[(Box<str>, Seeing)],
    is_told: impl Fn(&Seeing) -> bool,
) -> Vec<Targets> {
    let mut lists = fx.links.take_lists();
    for (jid, _) in audience.iter().filter(|(jid, how)| is_told(how) && !address::has_resource(jid)) {
        let local = address::local_of(jid);
        lists[env.home_of(local)].push(local);
    }
    lists
}

/// The resources of an audience that are told, where not all of their account is.
fn resources_in(
    audience: &[(Box<str>, Seeing)],
    is_told: impl Fn(&Seeing) -> bool,
) -> impl Iterator<Item = &str> {
    audience
        .iter()
        .filter(move |(jid, how)| is_told(how) && address::has_resource(jid))
        .map(|(jid, _)| &**jid)
}

/// The full JIDs of an account, by its bare JID, that a sorted list names: as they are, or as a resource of the domain.
fn resources_on(list: &[Box<str>], bare: &str, domain: &str) -> Vec<Box<str>> {
    if address::has_resource(bare) {
        return Vec::new();
    }
    let of = |jid: &str| {
        let prefix = format!("{jid}/");
        let start = list.partition_point(|entry| **entry < *prefix);
        let entries = list[start..].iter().map_while(|entry| entry.strip_prefix(&*prefix));
        entries.map(|resource| format!("{bare}/{resource}").into()).collect::<Vec<Box<str>>>()
    };
    [of(bare), of(domain)].concat()
}

/// Subscribed to the user's presence; the user is subscribed to the contact's.
type Seeing = (bool, bool);

/// What a change of the list does with the user's presence.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Change {
    /// From resources that are put on the list with the account, too: what goes to its bare JID passes them by.
    Hides,
    Shows,
}

/// The contacts of this server to whom a change of the list matters: those that fit, by their bare JID, and the
/// full JIDs on the list whose bare JID is a contact. Only contacts whom the list names are looked at closely.
fn audience(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    account: &str,
    (changed, change): (&[Box<str>], Change),
    fits: impl Fn(&JidRef<'_>) -> bool,
) -> Vec<(Box<str>, Seeing)> {
    let domain = env.shared.domain.clone();
    let named = Named::on(changed, &domain);
    let mut audience = Vec::new();
    let read = contacts::each(actors, env, fx, account, |local, subscription| {
        let seeing = match subscription {
            Subscription::None => return,
            Subscription::To => (false, true),
            Subscription::From => (true, false),
            Subscription::Both => (true, true),
        };
        if !named.has(local) {
            return;
        }
        let bare = format!("{local}@{domain}");
        let Ok(contact) = JidRef::parse(&bare) else { return };
        if fits(&contact) {
            audience.push((bare.as_str().into(), seeing));
            if change == Change::Shows {
                return;
            }
        }
        for full in resources_on(changed, &bare, &domain) {
            if JidRef::parse(&full).is_ok_and(|jid| fits(&jid)) {
                audience.push((full, seeing));
            }
        }
    });
    if let Err(error) = read {
        tracing::error!(user = account, %error, "cannot read a roster");
    }
    fx.work.add(audience.len() as u64 * work::ITEM);
    audience
}

/// The accounts of this server to whom entries of a block list can apply.
struct Named<'a> {
    /// An entry of a domain, or a resource of one, can apply to everybody.
    everybody: bool,
    locals: HashSet<&'a str>,
}

impl<'a> Named<'a> {
    fn on(list: &'a [Box<str>], domain: &str) -> Named<'a> {
        let mut named = Named { everybody: false, locals: HashSet::new() };
        for jid in list {
            let bare = address::bare_of(jid);
            match address::contact_here(bare, domain) {
                Some(local) => drop(named.locals.insert(local)),
                None => named.everybody |= bare == domain,
            }
        }
        named
    }

    fn has(&self, local: &str) -> bool {
        self.everybody || self.locals.contains(local)
    }
}
