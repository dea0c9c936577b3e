//! Of which messages of a room a person wants to hear (XEP-0492, in the bookmark of XEP-0402), and whether a message mentions the
//! person (XEP-0372, XEP-0461, the nick).

use crate::proto::ns;
use crate::xml::{CLIENT, Element};

/// Of which messages a person wants to hear.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Notify {
    /// Of all.
    Always,
    /// Of those that mention the person.
    OnMention,
    /// Of none.
    Never,
}

/// What kind of client a device is (XEP-0492 §3.2; the registrar's category `client`).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ClientType {
    /// A phone.
    Phone,
    /// A page in a browser.
    Web,
}

impl ClientType {
    fn name(self) -> &'static str {
        match self {
            ClientType::Phone => "phone",
            ClientType::Web => "web",
        }
    }
}

/// What a bookmark says of notifications.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BookmarkSettings {
    /// For phones, for pages in browsers.
    settings: [Option<Notify>; 2],
    /// The nick in the room.
    pub nick: Option<String>,
}

impl BookmarkSettings {
    /// Reads `<conference/>`.
    pub fn read(conference: &Element) -> BookmarkSettings {
        let nick = conference.find("nick", ns::BOOKMARKS).map(|nick| nick.content().into_owned());
        let extensions = conference.find("extensions", ns::BOOKMARKS);
        let notify = extensions.and_then(|extensions| extensions.find("notify", ns::NOTIFICATION_SETTINGS));
        let read = |client| notify.and_then(|notify| setting(notify, client));
        let settings = [ClientType::Phone, ClientType::Web].map(read);
        BookmarkSettings { settings, nick: nick.filter(|nick| !nick.is_empty()) }
    }

    /// For a client; `None`: nothing is said.
    pub fn of(&self, client: ClientType) -> Option<Notify> {
        self.settings[client as usize]
    }
}

/// §3.2: the element that is most specific to a client.
fn setting(notify: &Element, client: ClientType) -> Option<Notify> {
    let mut best: Option<(u8, Notify)> = None;
    for element in notify.elements().filter(|element| element.namespace() == ns::NOTIFICATION_SETTINGS) {
        let said = match element.name() {
            "always" => Notify::Always,
            "on-mention" => Notify::OnMention,
            "never" => Notify::Never,
            _ => continue,
        };
        let category = element.attribute("identity-category");
        let typ = element.attribute("identity-type");
        let weight = match (category, typ) {
            (None, None) => 0,
            (Some("client"), None) => 1,
            (Some("client"), Some(typ)) if typ == client.name() => 2,
            _ => continue,
        };
        if best.is_none_or(|(of, _)| weight > of) {
            best = Some((weight, said));
        }
    }
    best.map(|(_, said)| said)
}

/// Whom a message may mention.
#[derive(Copy, Clone, Debug)]
pub struct Person<'a> {
    /// The bare JID of the account.
    pub bare: &'a str,
    /// The bare JID of the room.
    pub room: &'a str,
    /// The nick there.
    pub nick: &'a str,
}

/// Whether nobody but those who have the key knows what a message says.
pub fn is_encrypted(message: &Element) -> bool {
    message
        .elements()
        .any(|child| matches!(child.namespace(), ns::OMEMO | ns::OMEMO_LEGACY | ns::OPENPGP | ns::ENCRYPTION))
}

/// Whether a message mentions a person. One that nobody can read may.
pub fn mentions(message: &Element, person: Person<'_>) -> bool {
    if is_encrypted(message) {
        return true;
    }
    let occupant = format!("{}/{}", person.room, person.nick);
    let is_person = |jid: &str| jid == person.bare || jid == occupant;
    message.elements().any(|child| match (child.name(), child.namespace()) {
        ("reference", ns::REFERENCES) => {
            let uri = child.attribute("uri").and_then(|uri| uri.strip_prefix("xmpp:"));
            let jid = uri.map(|uri| uri.split(['?', ';']).next().unwrap_or(uri));
            child.attribute("type") == Some("mention") && jid.is_some_and(is_person)
        }
        ("reply", ns::REPLY) => child.attribute("to").is_some_and(is_person),
        ("body", CLIENT) => names(&child.content(), person.nick),
        _ => false,
    })
}

/// Whether a text has a nick as a word of its own, in any case.
fn names(text: &str, nick: &str) -> bool {
    if nick.is_empty() {
        return false;
    }
    let (text, nick) = (text.to_lowercase(), nick.to_lowercase());
    let mut from = 0;
    while let Some(at) = text[from..].find(&nick) {
        let (start, end) = (from + at, from + at + nick.len());
        let is_word = |neighbour: Option<char>| neighbour.is_some_and(char::is_alphanumeric);
        if !is_word(text[..start].chars().next_back()) && !is_word(text[end..].chars().next()) {
            return true;
        }
        from = start + text[start..].chars().next().map_or(1, char::len_utf8);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(inside: &str) -> BookmarkSettings {
        let notify = format!("<notify xmlns='urn:xmpp:notification-settings:0'>{inside}</notify>");
        let conference = format!(
            "<conference xmlns='urn:xmpp:bookmarks:1'><nick>Jule</nick><extensions>{notify}</extensions></conference>"
        );
        BookmarkSettings::read(&Element::parse(conference.as_bytes()).unwrap())
    }

    #[test]
    fn the_element_most_specific_to_the_device_decides() {
        let both = |inside: &str| {
            let settings = settings(inside);
            [settings.of(ClientType::Phone), settings.of(ClientType::Web)]
        };
        let (always, mention, never) = (Some(Notify::Always), Some(Notify::OnMention), Some(Notify::Never));
        assert_eq!(both(""), [None, None]);
        assert_eq!(both("<never/>"), [never, never]);
        assert_eq!(both("<never identity-category='client' identity-type='pc'/>"), [None, None]);
        let phone = "<always identity-category='client' identity-type='phone'/>";
        assert_eq!(both(&format!("<never/>{phone}")), [always, never]);
        let client = "<on-mention identity-category='client'/>";
        assert_eq!(both(&format!("{phone}{client}<never/><x xmlns='urn:x'/>")), [always, mention]);
        assert_eq!(settings("").nick.as_deref(), Some("Jule"));
        let bare = Element::parse(b"<conference xmlns='urn:xmpp:bookmarks:1'/>").unwrap();
        assert_eq!(BookmarkSettings::read(&bare), BookmarkSettings::default());
    }

    #[test]
    fn a_person_is_mentioned_by_reference_reply_or_nick() {
        let person = Person { bare: "juliet@x", room: "hall@rooms.x", nick: "Jule" };
        let table = [
            ("<body>hello all</body>", false),
            ("<body>hello jule, how are you?</body>", true),
            ("<body>JULE</body>", true),
            ("<body>julelicious juleps and xjule</body>", false),
            ("<body>julep jule</body>", true),
            ("<reference xmlns='urn:xmpp:reference:0' type='mention' uri='xmpp:juliet@x'/>", true),
            ("<reference xmlns='urn:xmpp:reference:0' type='mention' uri='xmpp:hall@rooms.x/Jule'/>", true),
            ("<reference xmlns='urn:xmpp:reference:0' type='data' uri='xmpp:juliet@x'/>", false),
            ("<reference xmlns='urn:xmpp:reference:0' type='mention' uri='xmpp:romeo@x'/>", false),
            ("<reply xmlns='urn:xmpp:reply:0' to='hall@rooms.x/Jule' id='1'/>", true),
            ("<reply xmlns='urn:xmpp:reply:0' to='hall@rooms.x/Romeo' id='1'/>", false),
            ("<encrypted xmlns='urn:xmpp:omemo:2'/>", true),
        ];
        for (inside, expected) in table {
            let message = format!("<message xmlns='jabber:client'>{inside}</message>");
            assert_eq!(mentions(&Element::parse(message.as_bytes()).unwrap(), person), expected, "{inside}");
        }
        let nobody = Person { nick: "", ..person };
        let message = Element::parse(b"<message xmlns='jabber:client'><body>x</body></message>").unwrap();
        assert!(!mentions(&message, nobody));
    }
}
