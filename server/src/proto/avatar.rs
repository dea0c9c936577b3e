//! Avatars in both their forms: in nodes (XEP-0084) and in vCards (XEP-0153), and what is converted between them (XEP-0398).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use ring::digest;

use crate::proto::ns;
use crate::xml::{Element, Node};

const PHOTO: &str = "PHOTO";
const BINARY: &str = "BINVAL";

/// Padding is what clients forget.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// SHA-1 of its bytes, in hexadecimal digits: the id of its items, and what presence tells.
    pub hash: String,
    /// Its media type.
    pub media_type: String,
    /// Its length in bytes.
    pub bytes: usize,
    /// Its bytes in base64.
    pub encoded: String,
}

impl Picture {
    /// Takes a picture from the text of an element; `None`: there is none in it, or it is not base64.
    pub fn decode(text: &str, media_type: Option<&str>) -> Option<Picture> {
        let text: String = text.split_ascii_whitespace().collect();
        let bytes = LENIENT.decode(text).ok().filter(|bytes| !bytes.is_empty())?;
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &bytes);
        let hash = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let media_type = media_type.map(str::trim).filter(|typ| !typ.is_empty());
        let media_type = media_type.unwrap_or_else(|| sniffed(&bytes)).to_owned();
        Some(Picture { hash, media_type, bytes: bytes.len(), encoded: STANDARD.encode(&bytes) })
    }

    /// The picture of a vCard.
    pub fn of_vcard(vcard: &Element) -> Option<Picture> {
        let photo = vcard.find(PHOTO, ns::VCARD)?;
        let media_type = photo.find("TYPE", ns::VCARD).map(Element::content);
        Picture::decode(&photo.find(BINARY, ns::VCARD)?.content(), media_type.as_deref())
    }

    /// A vCard as it is kept when its picture is in a node: of that only the place is left.
    pub fn taken_from(vcard: &Element) -> Element {
        changed(vcard, |photo| {
            let mut photo = photo.clone();
            photo.retain(|node| !matches!(node, Node::Element(child) if child.is(BINARY, ns::VCARD)));
            Some(photo)
        })
    }

    /// The payload of the item that has the picture (XEP-0084 §4.2).
    pub fn data(&self) -> Element {
        Element::new("data", ns::AVATAR_DATA).text(&self.encoded)
    }

    /// The payload of the item that tells of it.
    pub fn metadata(&self) -> Element {
        let info = Element::new("info", ns::AVATAR_METADATA)
            .attr("bytes", self.bytes.to_string())
            .attr("id", self.hash.as_str())
            .attr("type", self.media_type.as_str());
        no_picture().child(info)
    }

    fn photo(&self) -> Element {
        Element::new(PHOTO, ns::VCARD)
            .child(Element::new("TYPE", ns::VCARD).text(&self.media_type))
            .child(Element::new(BINARY, ns::VCARD).text(&self.encoded))
    }
}

/// By the first bytes: what clients publish, and PNG for all else, which is what XEP-0084 wants.
fn sniffed(bytes: &[u8]) -> &'static str {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        _ => "image/png",
    }
}

/// The payload of the item that tells that there is no picture.
pub fn no_picture() -> Element {
    Element::new("metadata", ns::AVATAR_METADATA)
}

/// The id and the media type of the picture that an item tells of; `None`: there is none here.
pub fn told(metadata: &Element) -> Option<(&str, Option<&str>)> {
    let infos = metadata.elements().filter(|child| child.is("info", ns::AVATAR_METADATA));
    // A picture elsewhere in the web is none of the node's.
    let mut here = infos.filter(|info| info.attribute("url").is_none());
    here.find_map(|info| Some((info.attribute("id")?, info.attribute("type"))))
}

/// A vCard with this picture, or with none.
pub fn with_picture(vcard: &Element, picture: Option<&Picture>) -> Element {
    let mut has_place = false;
    let mut changed = changed(vcard, |_| {
        let is_first = !std::mem::replace(&mut has_place, true);
        picture.filter(|_| is_first).map(Picture::photo)
    });
    if let Some(picture) = picture.filter(|_| !has_place) {
        changed.push(picture.photo());
    }
    changed
}

/// A vCard with other pictures in the places of those that it has.
fn changed(vcard: &Element, mut change: impl FnMut(&Element) -> Option<Element>) -> Element {
    let mut changed = vcard.clone();
    changed.retain(|_| false);
    for node in vcard.nodes() {
        match node {
            Node::Element(photo) if photo.is(PHOTO, ns::VCARD) => {
                if let Some(photo) = change(photo) {
                    changed.push(photo);
                }
            }
            Node::Element(child) => changed.push(child.clone()),
            Node::Text(text) => changed.push_text(text),
        }
    }
    changed
}

/// A presence that tells of this picture, or, with an empty hash, that there is none (XEP-0153 §3.2).
pub fn with_hash(presence: &Element, hash: &str) -> Element {
    let mut presence = presence.clone();
    presence.retain(|node| !matches!(node, Node::Element(child) if child.is("x", ns::VCARD_UPDATE)));
    let photo = Element::new("photo", ns::VCARD_UPDATE).text(hash);
    presence.child(Element::new("x", ns::VCARD_UPDATE).child(photo))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(text: &str) -> Element {
        Element::parse(text.as_bytes()).unwrap()
    }

    const CARD: &str = "<vCard xmlns='vcard-temp'><FN>J</FN>\
        <PHOTO><TYPE>image/png</TYPE><BINVAL>aGVsbG8=</BINVAL></PHOTO><NICKNAME>j</NICKNAME></vCard>";

    #[test]
    fn a_picture_leaves_a_vcard_and_comes_back_to_its_place() {
        let card = element(CARD);
        let picture = Picture::of_vcard(&card).unwrap();
        assert_eq!(picture.hash, "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d", "SHA-1 of hello");
        assert_eq!((picture.bytes, picture.media_type.as_str()), (5, "image/png"));
        let kept = Picture::taken_from(&card);
        assert!(Picture::of_vcard(&kept).is_none());
        assert_eq!(with_picture(&kept, Some(&picture)), card);
        assert!(with_picture(&kept, None).find(PHOTO, ns::VCARD).is_none());
        let bare = element("<vCard xmlns='vcard-temp'/>");
        assert_eq!(Picture::of_vcard(&with_picture(&bare, Some(&picture))), Some(picture));
    }

    #[test]
    fn items_tell_of_the_picture_that_they_were_made_of() {
        let picture = Picture::decode(" aGVs\n bG8 ", None).expect("white space and padding do not matter");
        assert_eq!(told(&picture.metadata()), Some((picture.hash.as_str(), Some("image/png"))));
        let again = Picture::decode(&picture.data().content(), Some("image/png"));
        assert_eq!(again, Some(picture));
        assert_eq!(told(&no_picture()), None);
        let elsewhere = "<metadata xmlns='urn:xmpp:avatar:metadata'><info id='a' url='http://x' type='image/png'/></metadata>";
        assert_eq!(told(&element(elsewhere)), None);
        for nothing in ["", "  ", "***"] {
            assert_eq!(Picture::decode(nothing, None), None, "{nothing}");
        }
        assert_eq!(sniffed(b"GIF89a"), "image/gif");
        assert_eq!(sniffed(b"RIFF....WEBPVP8 "), "image/webp");
        assert_eq!(sniffed(&[0xff, 0xd8, 0xff, 0xe0]), "image/jpeg");
    }

    #[test]
    fn a_presence_tells_of_one_picture() {
        let before = element(
            "<presence><x xmlns='vcard-temp:x:update'><photo>old</photo></x><show>away</show></presence>",
        );
        let after = with_hash(&before, "new");
        let expected =
            "<presence><show>away</show><x xmlns='vcard-temp:x:update'><photo>new</photo></x></presence>";
        assert_eq!(after, element(expected));
        let none = with_hash(&before, "");
        assert_eq!(none.find("x", ns::VCARD_UPDATE).unwrap().elements().next().unwrap().content(), "");
    }
}
