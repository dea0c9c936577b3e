//! What rooms are asked: each request is read or refused, what the server writes reads back, and what occupants send passes on
//! without anything that only a room may say.
//!
//! The input is one element. It is read as the payload of a presence, of each kind of request, as a configuration, and as a
//! message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_server::proto::forms;
use whimbrel_server::proto::muc::admin::{AdminRequest, ITEMS_MAX};
use whimbrel_server::proto::muc::config::{self, ConfigChange};
use whimbrel_server::proto::muc::forged::forged;
use whimbrel_server::proto::muc::invite::{DirectInvite, Mediated, PassedInvite};
use whimbrel_server::proto::muc::join::Join;
use whimbrel_server::proto::muc::occupant::OccupantIds;
use whimbrel_server::proto::muc::owner::OwnerRequest;
use whimbrel_server::proto::muc::question::Questions;
use whimbrel_server::proto::muc::register::{self, Registration};
use whimbrel_server::proto::muc::retraction::{Moderated, Moderation, RoomRetraction};
use whimbrel_server::proto::muc::versions::VersionTexts;
use whimbrel_server::proto::muc::voice::{self, Voice};
use whimbrel_server::proto::ns;
use whimbrel_server::stanza::Type;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::rooms::RoomConfig;
use whimbrel_storage::jid::JidRef;
use whimbrel_xml::{Element, Frame, Framer, Limits, Node, Phase, Stamp};

const NOW_MS: u64 = 1_700_000_000_000;
const USERS_MAX: u32 = 100;

fuzz_target!(|data: &[u8]| {
    if let Ok(element) = Element::parse(data) {
        joins(&element);
        requests(&element);
        configurations(&element);
        invitations(&element);
        voices(&element);
        moderations(&element, data);
    }
    messages(data);
    if let Ok(id) = std::str::from_utf8(data) {
        assert_eq!(Questions::new(&[7; 32]).open(id, "a", 1_700_000_000), None, "nobody has asked this");
        assert_eq!(VersionTexts::new(&[7; 32]).read(id), None, "nobody was told this");
    }
});

fn joins(element: &Element) {
    let join = Join::read(element, NOW_MS);
    assert_eq!(Join::read(element, NOW_MS), join);
}

fn requests(element: &Element) {
    for typ in [Type::Get, Type::Set] {
        match AdminRequest::read(typ, element) {
            Ok(AdminRequest::Lists(lists)) => assert!(typ == Type::Get && (1..=ITEMS_MAX).contains(&lists.len())),
            Ok(AdminRequest::Changes(items)) => assert!(typ == Type::Set && (1..=ITEMS_MAX).contains(&items.len())),
            Err(_) => {}
        }
        if let Ok(OwnerRequest::Destroy(destroy)) = OwnerRequest::read(typ, element) {
            assert!(destroy.alternate.is_none_or(|room| room.is_bare()));
        }
    }
    if let Ok(Registration::Register(nick)) = Registration::read(element) {
        let mut out = Vec::new();
        register::write(Some(&nick), &mut out);
        let told = Element::parse(&out).expect("an answer is well-formed");
        assert_eq!(told.find("username", ns::REGISTER).expect("the nick is told").content(), nick);
    }
}

/// Whatever a form makes of a room is a configuration that the server can send and read again.
fn configurations(element: &Element) {
    let Some(form) = Some(element).filter(|x| x.is("x", ns::DATA_FORMS)).or_else(|| forms::find(element)) else { return };
    let Ok(Some(change)) = ConfigChange::read(form) else { return };
    let Ok(config) = change.apply(RoomConfig::default(), USERS_MAX) else { return };
    let mut sent = config::form("r", &config).into_element();
    sent.set_attribute("type", "submit");
    let again = ConfigChange::read(&sent).expect("what the server sends is good").expect("it is submitted");
    assert_eq!(again.apply(RoomConfig::private_group(), USERS_MAX), Ok(config.clone()));
    assert!(config::announced(&config, &config).is_empty());
}

fn invitations(element: &Element) {
    if let Ok(Some(Mediated::Invites(invites))) = Mediated::read(element) {
        for invite in invites {
            let mut out = Vec::new();
            let passed = PassedInvite {
                from: "a@x",
                reason: &invite.reason,
                thread: invite.thread.as_deref(),
                password: &invite.reason,
            };
            passed.write(&mut out);
            let x = Element::parse(&out).expect("an invitation is well-formed");
            let inside = x.find("invite", ns::MUC_USER).expect("the invitation is in it");
            let reason = inside.find("reason", ns::MUC_USER).map(Element::content).unwrap_or_default();
            assert_eq!(reason, invite.reason);
        }
    }
    if let Some(invite) = DirectInvite::read(element) {
        let mut out = Vec::new();
        invite.write(&mut out);
        assert_eq!(DirectInvite::read(&Element::parse(&out).expect("it is well-formed")), Some(invite));
    }
}

fn voices(element: &Element) {
    if let Ok(Some(Voice::Answered { nick, .. })) = Voice::read(element) {
        let mut form = voice::form("a@x/r", &nick);
        form.set_attribute("type", "submit");
        assert_eq!(Voice::read(&form), Ok(Some(Voice::Answered { nick, allowed: false })));
    }
}

/// What a room says of a moderator reads back, and what stands for a message is one of which it is known whose it was.
fn moderations(element: &Element, message: &[u8]) {
    let own = RoomRetraction::read(message);
    let mut told = Vec::new();
    if let Ok(moderation) = Moderation::read(element) {
        let occupant = OccupantIds::new(&[7; 32]).of("a@x", ActorId::user(1));
        told.extend_from_slice(b"<message from='r@c.x' type='groupchat'>");
        Moderated { moderation: &moderation, by: "r@c.x/n", occupant }.write(&mut told);
        told.extend_from_slice(b"</message>");
        let read = RoomRetraction::read(&told).expect("what the room says is a retraction");
        assert_eq!(read.target(), moderation.target);
    }
    const TAKEN: &[u8] = b"<message from='r@c.x'><retract xmlns='urn:xmpp:message-retract:1' id='i'>\
        <moderated xmlns='urn:xmpp:message-moderate:1' by='r@c.x/n'/></retract></message>";
    for retraction in own.into_iter().chain(RoomRetraction::read(&told)).chain(RoomRetraction::read(TAKEN)) {
        let Some(tombstone) = retraction.replace(message, NOW_MS) else { continue };
        let read = Element::parse(&tombstone).expect("what stands for a message is well-formed");
        assert!(read.find("retracted", ns::RETRACTION).is_some());
        assert_eq!(read.attribute("from"), element.attribute("from"));
    }
}

/// Nothing that only a room may say is left, and all else is as it was.
fn messages(data: &[u8]) {
    let is_room = |jid: &JidRef<'_>| jid.to_jid().as_str() == "r@c.x";
    let mut framer = Framer::new();
    let Ok((_, Some(Frame::Stanza(stanza)))) =
        framer.next(Phase::InStream, None, &mut None, data, &Limits::default())
    else {
        return;
    };
    let found = forged(&stanza, is_room);
    let mut out = Vec::new();
    stanza.write_stamped(&Stamp { from: "r@c.x/n", without: &found, ..Stamp::default() }, &mut out);
    let left = Element::parse(&out).expect("what is left is well-formed");
    let names_room = |element: &Element, name: &str| {
        element.attribute(name).is_some_and(|jid| JidRef::parse(jid).is_ok_and(|jid| is_room(&jid.bare())))
    };
    let is_forged = |element: &Element| match (element.name(), element.namespace()) {
        ("occupant-id", ns::OCCUPANT_ID)
        | ("x", ns::MUC_USER | ns::MUC)
        | ("retracted", ns::RETRACTION)
        | ("moderated", ns::MODERATION)
        | ("hats", ns::HATS) => true,
        ("stanza-id", ns::STANZA_ID) => names_room(element, "by"),
        ("delay", ns::DELAY) => names_room(element, "from"),
        ("retract", ns::RETRACTION) => element.elements().any(|inside| inside.namespace() == ns::MODERATION),
        _ => false,
    };
    assert!(!left.elements().any(is_forged), "nothing forged is left");
    // A retraction whose prefixes are declared outside it cannot be looked into, and goes as well.
    let may_go = |element: &Element| is_forged(element) || element.is("retract", ns::RETRACTION);
    let mut expected = stanza.to_element();
    expected.retain(|node| !matches!(node, Node::Element(element) if may_go(element)));
    let kept = left.elements().filter(|element| !may_go(element));
    assert!(kept.eq(expected.elements()), "the others are as they were");
}
