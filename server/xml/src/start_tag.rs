//! The start tag of an element that has been checked: what it says of itself, without a look at what is in it.

use std::borrow::Cow;

use super::namespace::{self, text};

/// The start tag of an element that was accepted once, or that the server has written.
#[derive(Copy, Clone, Debug)]
pub struct StartTag<'a> {
    /// What stands behind the name.
    pub(super) rest: &'a [u8],
}

impl<'a> StartTag<'a> {
    /// Of an element with nothing before it. `None`: there is none.
    #[must_use]
    pub fn of(element: &'a [u8]) -> Option<StartTag<'a>> {
        let inside = element.strip_prefix(b"<")?;
        let name =
            inside.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>'))?;
        Some(StartTag { rest: &inside[name..] })
    }

    /// The value of an attribute without a prefix, references decoded. Walks along the tag.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        debug_assert!(!name.contains(':') && name != "xmlns", "only names without a prefix");
        // The tag has been checked: names, equals signs and quoted values up to its end.
        let mut rest = self.rest;
        loop {
            rest = rest.trim_ascii_start();
            let equals = match rest.first() {
                None | Some(b'>' | b'/') => return None,
                Some(_) => memchr::memchr(b'=', rest)?,
            };
            let found = rest[..equals].trim_ascii_end();
            let value = rest[equals + 1..].trim_ascii_start();
            let (quote, value) = value.split_first()?;
            let end = memchr::memchr(*quote, value)?;
            if found == name.as_bytes() {
                return Some(namespace::attribute_value(text(&value[..end])));
            }
            rest = &value[end + 1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_without_a_look_at_what_is_inside() {
        for (element, expected) in [
            ("<iq id='7'/>", Some("7")),
            ("<iq type=\"a='>\" id = '&lt;7'\n>", Some("<7")),
            ("<iq\tx:id='1' id=\"7\"><unfinished", Some("7")),
            ("<iq id=''/>", Some("")),
            ("<iq><a id='7'/></iq>", None),
            ("<iq/>", None),
        ] {
            let tag = StartTag::of(element.as_bytes()).expect("it has one");
            assert_eq!(tag.attribute("id").as_deref(), expected, "{element}");
        }
        for none in ["", "iq", "<iq"] {
            assert!(StartTag::of(none.as_bytes()).is_none(), "{none}");
        }
    }
}
