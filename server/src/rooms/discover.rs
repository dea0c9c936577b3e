//! What rooms and their service tell those who discover them (XEP-0045 §6).

use crate::env::Env;
use crate::occupancy::room::Room;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::muc::info::{self, RoomState};
use crate::proto::muc::rules::Standing;
use crate::proto::muc::{Affiliation, error};
use crate::proto::ns;
use crate::proto::rsm::{self, PageRequest, Sizes, Start};
use crate::rooms::visit::{Ack, Visit};
use crate::rooms::{vcard, versions};
use crate::service::reply::ReplyTo;
use crate::service::{Reply, version};
use crate::stanza::Type;
use crate::user::actors::{Actors, Effects};
use crate::user::inbound::Inbound;
use crate::xml::Element;
use whimbrel_storage::directory::rooms::RoomFlags;

/// The features of every room, beside those that its configuration decides.
pub(super) const ROOM_FEATURES: &[&str] = &[
    ns::DISCO_INFO,
    ns::DISCO_ITEMS,
    ns::HATS,
    ns::MUC,
    ns::MUC_REQUEST,
    ns::MUC_SELF_PING,
    ns::MUC_STABLE_ID,
    ns::OCCUPANT_ID,
    ns::PING,
    ns::STANZA_ID,
    ns::VCARD,
];

/// The features of the service of rooms.
pub(super) const SERVICE_FEATURES: &[&str] =
    &[ns::DISCO_INFO, ns::DISCO_ITEMS, ns::HATS, ns::MUC, ns::PING, ns::RSM];

/// The node that says which nick is reserved for the requester (§7.10.1).
const OWN_ITEM: &str = "x-roomuser-item";

/// Rooms in one page of the list.
const PAGE: usize = 100;

fn identity(name: &str) -> Element {
    Element::new("identity", ns::DISCO_INFO)
        .attr("category", "conference")
        .attr("type", "text")
        .attr("name", name)
}

fn features<'a>(all: impl Iterator<Item = &'a str>) -> impl Iterator<Item = Element> {
    let mut all: Vec<&str> = all.collect();
    all.sort_unstable();
    all.dedup();
    let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
    all.into_iter().map(|feature| Element::new("feature", ns::DISCO_INFO).attr("var", feature))
}

/// What a room is (§6.4).
pub(super) fn info(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    query: &Element,
) -> Ack {
    let Some(room) = actors.rooms.room(visit.name) else { return visit.refuse(env, fx, error::no_room()) };
    let answer = Element::new("query", ns::DISCO_INFO);
    match query.attribute("node") {
        None => {}
        Some(OWN_ITEM) => {
            let actor = room.record.actor;
            let found =
                env.shared.directory.rooms(|rooms| rooms.affiliate(actor, visit.bare(), Some(visit.local)));
            return match found {
                Ok(own) => {
                    let nick = own.map(|own| own.nick).filter(|nick| !nick.is_empty());
                    let answer = answer.attr("node", OWN_ITEM).children(nick.as_deref().map(identity));
                    visit.reply(env, fx, Reply::Result(answer))
                }
                Err(error) => visit.unreadable(env, fx, &error),
            };
        }
        Some(_) => return visit.refuse(env, fx, StanzaCondition::ItemNotFound),
    }
    let config = room.config();
    let own = match visit.standing(env, fx, room) {
        Ok(own) => own,
        Err(ack) => return ack,
    };
    let versions = versions::tells(room).then_some(ns::MUC_AFFILIATIONS);
    let all = ROOM_FEATURES.iter().copied().chain(versions).chain(info::features(config).filter(|feature| {
        // An archive that the server does not keep is none.
        env.config.archive.enabled || !info::OF_ARCHIVE.contains(feature)
    }));
    let answer =
        answer.child(identity(if may_know(own, room) { info::name(visit.name, config) } else { visit.name }));
    let answer = answer.children(features(all));
    if !may_know(own, room) {
        return visit.reply(env, fx, Reply::Result(answer));
    }
    let may_enter = own.affiliation > Affiliation::None || !room.has(RoomFlags::MEMBERS_ONLY);
    let picture = vcard::picture(env, fx, room);
    let state = RoomState {
        subject: room.record.subject.as_ref().filter(|_| may_enter).map_or("", |subject| &subject.text),
        occupants: may_enter.then(|| room.occupants.len()),
        avatar: &picture,
    };
    let answer = answer.child(info::form(config, &state));
    visit.reply(env, fx, Reply::Result(answer))
}

/// Whether somebody may know what a room is called and about: of a hidden room for members, those who belong to it.
pub(super) fn may_know(own: Standing, room: &Room) -> bool {
    own.affiliation > Affiliation::None
        || own.affiliation == Affiliation::None && !room.config().is_private_group()
}

/// §6.5: who is in a room is told to those who enter.
pub(super) fn items(_: &mut Actors, env: &Env, fx: &mut Effects, visit: &Visit<'_>) -> Ack {
    visit.reply(env, fx, Reply::Result(Element::new("query", ns::DISCO_ITEMS)))
}

/// An iq of a client of this worker to the service of rooms (§6.2, §6.3).
pub fn ask_service(env: &Env, fx: &mut Effects, inbound: &Inbound<'_>) {
    if !matches!(inbound.typ, Type::Get | Type::Set) {
        return;
    }
    let iq = inbound.stanza.to_element();
    fx.work.add_tree(inbound.stanza.bytes().len());
    let reply = match iq.elements().next() {
        Some(query) => answer(env, query, inbound.typ),
        None => StanzaCondition::BadRequest.into(),
    };
    ReplyTo::new(inbound.from, inbound.to_text, inbound.id.unwrap_or_default()).send(env, fx, reply);
}

fn answer(env: &Env, query: &Element, typ: Type) -> Reply {
    match (query.name(), query.namespace(), query.attribute("node"), typ) {
        ("query", ns::DISCO_INFO | ns::DISCO_ITEMS, Some(_), Type::Get) => {
            StanzaCondition::ItemNotFound.into()
        }
        ("query", ns::DISCO_INFO, None, Type::Get) => {
            let answer = Element::new("query", ns::DISCO_INFO).child(identity(version::NAME));
            Reply::Result(answer.children(features(SERVICE_FEATURES.iter().copied())))
        }
        ("query", ns::DISCO_ITEMS, None, Type::Get) => list(env, query),
        ("ping", ns::PING, _, Type::Get) => Reply::Done,
        _ => StanzaCondition::ServiceUnavailable.into(),
    }
}

/// The public rooms, a page at a time.
fn list(env: &Env, query: &Element) -> Reply {
    let page = match PageRequest::find(query, Sizes { default: PAGE, max: PAGE }) {
        Ok(page) => page,
        Err(error) => return Reply::Error(error),
    };
    let (after, max) = match page {
        None => (None, PAGE),
        Some(PageRequest { start: Start::First, max }) => (None, max),
        Some(PageRequest { start: Start::After(name), max }) => (Some(name), max),
        Some(_) => {
            let text = "rooms are listed from the first one on, or after one of them";
            return Reply::Error(StanzaError::from(StanzaCondition::FeatureNotImplemented).with_text(text));
        }
    };
    // Hidden rooms cost nothing here, and a page costs as many rows as it has.
    let found =
        env.shared.directory.rooms(|rooms| Ok((rooms.public(after.as_deref(), max)?, rooms.counts()?.1)));
    let (rooms, count) = match found {
        Ok(found) => found,
        Err(error) => return crate::service::unreadable("rooms", &error),
    };
    let mut answer = Element::new("query", ns::DISCO_ITEMS);
    let bounds = rooms.first().zip(rooms.last()).map(|(first, last)| (first.name.clone(), last.name.clone()));
    // A client that has asked for no page hears that there is more.
    let is_paged = query.find("set", ns::RSM).is_some() || count > rooms.len() as u64;
    let set = is_paged.then(|| rsm::Page { bounds, index: None, count: Some(count) }.to_element());
    for room in &rooms {
        let name = if room.title.is_empty() { &room.name } else { &room.title };
        let item = Element::new("item", ns::DISCO_ITEMS);
        answer.push(item.attr("jid", env.room_jid(&room.name)).attr("name", name.as_str()));
    }
    Reply::Result(answer.children(set))
}
