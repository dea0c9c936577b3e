//! Versions of the list of those who belong to a room (XEP-0463), as clients see them.
//!
//! A version is told with a code that only this server can make. So whoever asks what has changed since one has been told of it: the
//! answer says who has lost an affiliation, which is nobody's business who was not there.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use whimbrel_storage::directory::rooms::AffiliationVersion;

use super::{push, push_attribute};
use crate::proto::ns;
use crate::xml::Element;

/// Bytes of the code.
const CODE_BYTES: usize = 12;

/// Ids of occupants are made with the same key, of texts that begin otherwise.
const LABEL: &[u8] = b"versions of affiliations:";

/// From which version on somebody wants to hear who belongs to a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Since {
    /// It knows nothing: it wants all of the list.
    Nothing,
    /// What it has been told last, as it says.
    Version(String),
}

impl Since {
    /// Reads what is in `<x/>` of a presence that enters; `None`: it does not ask.
    pub fn find(x: &Element) -> Option<Since> {
        let mav = x.find("mav", ns::MUC_AFFILIATIONS)?;
        Some(match mav.attribute("since") {
            None | Some("") => Since::Nothing,
            Some(version) => Since::Version(version.to_owned()),
        })
    }
}

/// `<mav/>`: what the list is after a change, and what it was before.
#[derive(Clone, Copy, Debug)]
pub struct Versions<'a> {
    /// The version before; `None`: nothing is known of it.
    pub since: Option<&'a str>,
    /// The version after.
    pub until: &'a str,
}

impl Versions<'_> {
    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        push(out, &["<mav xmlns='", ns::MUC_AFFILIATIONS, "'"]);
        for (name, version) in [("since", self.since), ("until", Some(self.until))] {
            if let Some(version) = version {
                push_attribute(name, version, out);
            }
        }
        push(out, &["/>"]);
    }
}

/// Makes versions into texts, and texts into versions, for one room.
pub struct VersionTexts(ring::hmac::Key);

impl std::fmt::Debug for VersionTexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VersionTexts")
    }
}

impl VersionTexts {
    /// Those of the room with this secret.
    pub fn new(secret: &[u8; 32]) -> VersionTexts {
        VersionTexts(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret))
    }

    /// As it is told.
    pub fn of(&self, version: AffiliationVersion) -> String {
        let text = version.to_string();
        let code = self.code(&text);
        format!("{text}.{code}")
    }

    /// The version that a client names; `None`: this room has never told it.
    pub fn read(&self, told: &str) -> Option<AffiliationVersion> {
        let (text, code) = told.split_once('.')?;
        (self.code(text) == code).then(|| text.parse().ok()).flatten()
    }

    fn code(&self, text: &str) -> String {
        let code = ring::hmac::sign(&self.0, &[LABEL, text.as_bytes()].concat());
        URL_SAFE_NO_PAD.encode(&code.as_ref()[..CODE_BYTES])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_back_in_its_room_alone() {
        let here = VersionTexts::new(&[7; 32]);
        let version = AffiliationVersion { number: 12, incarnation: 0xabc };
        for version in [version, AffiliationVersion::NEVER_CHANGED] {
            let told = here.of(version);
            assert_eq!(here.read(&told), Some(version));
            assert_eq!(VersionTexts::new(&[8; 32]).read(&told), None, "it is another room's");
        }
        let told = here.of(version);
        let code = told.split_once('.').unwrap().1;
        let guessed = format!("{}.{code}", AffiliationVersion { number: 11, ..version });
        for none in
            ["", ".", "12", "12-0000000000000abc", &guessed, &format!("{told}x"), &told.replace('.', "")]
        {
            assert_eq!(here.read(none), None, "{none}");
        }
    }

    #[test]
    fn a_join_says_from_which_version_on() {
        let read = |inside: &str| {
            let text = format!("<x xmlns='http://jabber.org/protocol/muc'>{inside}</x>");
            Since::find(&Element::parse(text.as_bytes()).unwrap())
        };
        let mav =
            |attributes: &str| read(&format!("<mav xmlns='urn:xmpp:muc:affiliations:1' {attributes}/>"));
        assert_eq!(mav(""), Some(Since::Nothing));
        assert_eq!(mav("since=''"), Some(Since::Nothing));
        assert_eq!(mav("since='a&amp;b'"), Some(Since::Version("a&b".into())));
        for none in ["", "<mav/>", "<mav xmlns='urn:xmpp:muc:affiliations:0'/>"] {
            assert_eq!(read(none), None, "{none}");
        }
        let mut out = Vec::new();
        Versions { since: None, until: "a&b" }.write(&mut out);
        Versions { since: Some("a"), until: "b" }.write(&mut out);
        let ns = "urn:xmpp:muc:affiliations:1";
        let expected = format!("<mav xmlns='{ns}' until='a&amp;b'/><mav xmlns='{ns}' since='a' until='b'/>");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
