//! What stands inside stanzas: forms and pages that clients ask for are read or refused, and forged ids of stanzas are found
//! where they are and nowhere else.
//!
//! The input is one element. It is read as a form, as a command, as a request for a page, as one to nodes, as what an owner of a node
//! says of a subscription, as an answer to disco, as bookmarks and a vCard, as what enables a
//! device for push, and as a message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_server::proto::errors::StanzaError;
use whimbrel_server::proto::commands::CommandRequest;
use whimbrel_server::proto::forms::{Form, Submission, Submitted};
use whimbrel_server::proto::avatar::{self, Picture};
use whimbrel_server::proto::muc::notify::{self, BookmarkSettings, Person};
use whimbrel_server::proto::push::{PushRequest, PushService};
use whimbrel_server::proto::pubsub::authorization::{self, Decision};
use whimbrel_server::proto::pubsub::config::{self, ConfigChange, Whose};
use whimbrel_server::proto::pubsub::request::{Request, node_of_set};
use whimbrel_server::proto::rsm::{PageRequest, Sizes};
use whimbrel_server::proto::caps::{self, Described};
use whimbrel_server::proto::{bookmarks, ns, stanza_id};
use whimbrel_server::stanza::Type;
use whimbrel_storage::directory::PUSH_NODE_BYTES_MAX;
use whimbrel_storage::directory::pubsub::{AccessModel, NODE_NAME_BYTES_MAX, NodeConfig};
use whimbrel_storage::jid::{Jid, JidRef};
use whimbrel_xml::{Element, Frame, Framer, Limits, Node, Phase, Stamp};

const FORM_TYPE: &str = "urn:f";
const OPTIONS: [(&str, u8); 3] = [("a", 0), ("b", 1), ("", 2)];
const SIZES: Sizes = Sizes { default: 2, max: 3 };
const LIST: [&str; 5] = ["a", "b", "c", "d", "e"];

fuzz_target!(|data: &[u8]| {
    if let Ok(element) = Element::parse(data) {
        forms(&element);
        commands(&element);
        pages(&element);
        nodes(&element);
        hosted(&element);
        capabilities(&element);
        conversions(&element);
        pushes(&element);
    }
    ids(data);
});

fn forms(element: &Element) {
    let strict = Submission::read(element, FORM_TYPE);
    let lenient = Submission::read_implied(element, FORM_TYPE);
    if strict.is_ok() {
        assert!(lenient.is_ok(), "a type that is named is implied, too");
    }
    match lenient {
        Ok(Submission::Submitted(form)) => fields(element, form),
        Ok(Submission::Cancelled) => assert_eq!(element.attribute("type"), Some("cancel")),
        Err(error) => refused(error.into()),
    }
}

/// What a client says of its device is read or refused; what is read fits the directory.
fn pushes(element: &Element) {
    match PushRequest::read(element) {
        Ok(PushRequest::Enable { node, options, .. }) => {
            assert!(node.is_none_or(|node| !node.is_empty() && node.len() <= PUSH_NODE_BYTES_MAX));
            let Some(options) = options else { return };
            assert!(!options.token.is_empty() && options.token.bytes().all(|byte| byte.is_ascii_graphic()));
            let is_web = options.service == PushService::WebPush;
            assert_eq!(options.keys.len(), if is_web { 65 + 16 } else { 0 });
        }
        Ok(PushRequest::Disable { node, .. }) => assert_ne!(node.as_deref(), Some("")),
        Err(error) => refused(error),
    }
    let settings = BookmarkSettings::read(element);
    let nick = settings.nick.as_deref().unwrap_or("n");
    let _ = notify::mentions(element, Person { bare: "a@x", room: "r@y", nick });
}

fn commands(element: &Element) {
    let Ok(request) = CommandRequest::read(element) else { return };
    let session = request.session.unwrap_or("new");
    let form = Form::to_fill_in(FORM_TYPE);
    for answer in [request.to_fill_in(form, "new"), request.completed(session, "new"), request.canceled("new")] {
        let told = Element::parse(&answer.to_bytes()).expect("an answer is well-formed");
        assert_eq!((told.attribute("node"), told.attribute("sessionid")), (Some(request.node), Some(session)));
    }
}

fn fields(element: &Element, mut form: Submitted<'_>) {
    let names: Vec<&str> = form.unread().collect();
    assert!(names.is_sorted() && !names.contains(&"FORM_TYPE"));
    for name in &names {
        let texts = form.lines(name).expect("the field is there");
        let named = |field: &&Element| field.is("field", ns::DATA_FORMS) && field.attribute("var") == Some(name);
        let field = element.elements().find(named).expect("it comes from the form");
        let values = field.elements().filter(|child| child.is("value", ns::DATA_FORMS));
        assert!(values.map(Element::content).eq(texts.iter().cloned()), "the values are those of the field");
        match form.text(name) {
            Ok(text) => assert!(texts.len() <= 1 && text.as_deref() == Some(texts.first().map_or("", |t| t))),
            Err(error) => refused(error.into()),
        }
        if let Ok(Some(flag)) = form.boolean(name) {
            assert!(["0", "false", "1", "true"][usize::from(flag) * 2..][..2].contains(&&*texts[0]));
        }
        if let Ok(Some(jids)) = form.jids(name) {
            assert!(jids.len() <= texts.len() && jids.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()));
        }
        if let Ok(Some(jid)) = form.jid(name) {
            assert_eq!(Jid::parse(jid.as_str()).expect("it is one").as_str(), jid.as_str());
        }
        if let Ok(Some(chosen)) = form.choices(name, &OPTIONS) {
            assert!(chosen.is_sorted() && texts.iter().all(|text| OPTIONS.iter().any(|(name, _)| name == text)));
        }
        let _ = form.choice(name, &OPTIONS);
    }
    assert_eq!(form.finish(), Ok(()), "every field was asked for");
}

fn pages(element: &Element) {
    match PageRequest::read(element, SIZES) {
        Err(error) => refused(error),
        Ok(request) => {
            assert!(request.max <= SIZES.max);
            match request.of_list(&LIST, |item| item) {
                Err(error) => refused(error),
                Ok((items, page)) => {
                    assert!(items.len() <= request.max);
                    let set = page.to_element();
                    let text = |name| set.find(name, ns::RSM).map(|child| child.content().into_owned());
                    assert_eq!(text("first").as_deref(), items.first().copied());
                    assert_eq!(text("last").as_deref(), items.last().copied());
                    assert_eq!(text("count").as_deref(), Some("5"));
                }
            }
        }
    }
}

/// A request to nodes is read or refused; what is published can stand anywhere, and a configuration reads back.
fn nodes(element: &Element) {
    for typ in [Type::Get, Type::Set] {
        match Request::read(typ, element) {
            Err(error) => assert!(error.text.is_none_or(|text| !text.is_empty() && text.len() < 500)),
            Ok(Request::Publish { items, .. }) => {
                for item in items.iter().filter(|item| item.payload.is_some()) {
                    let inside = [b"<e xmlns='urn:e'>".as_slice(), &item.bytes(), b"</e>"].concat();
                    let found = Element::parse(&inside).expect("it can stand in another element");
                    assert_eq!(found.elements().next(), item.payload.as_ref());
                }
            }
            Ok(_) => {}
        }
    }
    let Ok(Some(change)) = ConfigChange::read(element) else { return };
    let open = NodeConfig { access: AccessModel::Open, ..NodeConfig::default() };
    for (whose, start) in [(Whose::Account, NodeConfig::default()), (Whose::Service, open)] {
        let Ok(config) = change.apply(start.clone(), 100, whose) else { continue };
        assert!(whose.has(config.access));
        assert!(change.agrees(&config, 100));
        let mut form = config::form(&config, whose);
        form.set_attribute("type", "submit");
        let again = ConfigChange::read(&form).expect("it is one of ours").expect("it is submitted");
        // Groups mean nothing to a node without a roster, and its form leaves them out.
        let groups = config.groups.clone();
        let again = again.apply(start, 100, whose).map(|again| NodeConfig { groups, ..again });
        assert_eq!(again, Ok(config));
    }
}

/// A set names one node or none, as reading all of it does; and what an owner says of a subscription reads back from its form.
fn hosted(element: &Element) {
    if let Some(node) = node_of_set(element) {
        assert!((1..=NODE_NAME_BYTES_MAX).contains(&node.len()));
    }
    match Decision::read(element) {
        Ok(Some(decision)) => {
            let mut form = authorization::form(&decision.node, decision.subscriber.as_str());
            form.set_attribute("type", "submit");
            let again = Decision::read(&Element::new("message", ns::CLIENT).child(form));
            assert_eq!(again, Ok(Some(Decision { allow: false, ..decision })));
        }
        Ok(None) => {}
        Err(error) => assert!(error.text.is_none_or(|text| !text.is_empty() && text.len() < 500)),
    }
}

/// The order of what an answer says does not change its hash.
fn capabilities(element: &Element) {
    let mut turned = element.clone();
    turned.retain(|_| false);
    let children: Vec<_> = element.elements().cloned().collect();
    children.into_iter().rev().for_each(|child| turned.push(child));
    let described = Described::read(element);
    assert_eq!(described, Described::read(&turned));
    assert!(described.is_none_or(|described| described.interests().is_sorted()));
    let _ = caps::Announced::read(element);
}

/// Bookmarks and pictures come back from their other form as they went.
fn conversions(element: &Element) {
    let (rooms, rest) = bookmarks::rooms(element);
    let all = bookmarks::storage(rooms.iter().map(|(room, item)| (room.as_str(), item.clone())), Some(rest));
    let (again, _) = bookmarks::rooms(&all);
    assert_eq!(again, rooms);
    for (_, item) in rooms {
        assert_eq!(bookmarks::merged(&item, item.clone()), None);
    }
    if let Some(picture) = Picture::of_vcard(element) {
        let complete = avatar::with_picture(&Picture::taken_from(element), Some(&picture));
        assert_eq!(Picture::of_vcard(&complete), Some(picture));
    }
    assert!(Picture::of_vcard(&avatar::with_picture(element, None)).is_none());
}

/// Without forged ids a message has what it had but those of its children that are.
fn ids(data: &[u8]) {
    let is_ours = |by: &JidRef<'_>| by.to_jid().as_str() == "x";
    let mut framer = Framer::new();
    let Ok((_, Some(Frame::Stanza(stanza)))) =
        framer.next(Phase::InStream, None, &mut None, data, &Limits::default())
    else {
        return;
    };
    let forged = stanza_id::forged(&stanza, is_ours);
    let mut out = Vec::new();
    stanza.write_stamped(&Stamp { from: "f", without: &forged, ..Stamp::default() }, &mut out);
    let left = Element::parse(&out).expect("what is left is well-formed");
    let is_forged = |element: &Element| {
        element.is("stanza-id", ns::STANZA_ID)
            && element.attribute("by").is_some_and(|by| JidRef::parse(by).is_ok_and(|by| is_ours(&by)))
    };
    assert!(!left.elements().any(is_forged));
    let mut expected = stanza.to_element();
    expected.retain(|node| !matches!(node, Node::Element(element) if is_forged(element)));
    assert!(left.elements().eq(expected.elements()), "the others are as they were");
    assert_eq!(left.content(), expected.content());
}

fn refused(error: StanzaError) {
    assert!(error.text.is_some_and(|text| !text.is_empty() && text.len() < 500));
}
