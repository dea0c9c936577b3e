//! Hats (XEP-0317): what an operator says of somebody in a room. Nobody can put one on by itself.

use whimbrel_storage::directory::rooms::{HAT_TEXT_BYTES_MAX, Hat};

use super::{push, push_attribute};
use crate::proto::ns;

/// A hat with this name, if it can have it.
///
/// # Errors
/// What is wrong with it.
pub fn named(uri: &str, title: &str) -> Result<Hat, &'static str> {
    let is_plain = |text: &str| !text.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'));
    if uri.len() > HAT_TEXT_BYTES_MAX || title.len() > HAT_TEXT_BYTES_MAX {
        return Err("the URI and the title of a hat may have at most 255 bytes each");
    }
    let has_scheme = uri.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
    if !has_scheme || !is_plain(uri) || uri.contains(char::is_whitespace) {
        return Err("a hat is named by a URI, like https://example.org/hats#teacher");
    }
    if title.trim().is_empty() || !is_plain(title) {
        return Err("a hat needs a title of one line");
    }
    Ok(Hat { uri: uri.to_owned(), title: title.to_owned() })
}

/// `<hats/>` as it stands in presence; nothing for none.
pub fn written(hats: &[Hat]) -> Box<[u8]> {
    if hats.is_empty() {
        return Box::default();
    }
    let mut out = Vec::new();
    push(&mut out, &["<hats xmlns='", ns::HATS, "'>"]);
    for hat in hats {
        push(&mut out, &["<hat"]);
        push_attribute("uri", &hat.uri, &mut out);
        push_attribute("title", &hat.title, &mut out);
        push(&mut out, &["/>"]);
    }
    push(&mut out, &["</hats>"]);
    out.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hat_has_a_uri_and_a_title() {
        let hat = named("https://x/hats#1", "Teacher's <pet>").unwrap();
        let other = named("urn:x:y", "Host").unwrap();
        let expected = "<hats xmlns='urn:xmpp:hats:0'>\
            <hat uri='https://x/hats#1' title='Teacher&apos;s &lt;pet>'/><hat uri='urn:x:y' title='Host'/></hats>";
        let found = String::from_utf8(written(&[hat, other]).into_vec()).unwrap();
        assert_eq!(found.replace("&gt;", ">"), expected);
        assert!(written(&[]).is_empty());
        let long = "x".repeat(256);
        for (uri, title) in [
            ("", "t"),
            ("teacher", "t"),
            (":x", "t"),
            ("x:", "t"),
            ("urn:x y", "t"),
            ("urn:x", ""),
            ("urn:x", " "),
            ("urn:x", "a\nb"),
            ("urn:x\u{ffff}", "t"),
            (&*format!("urn:{long}"), "t"),
            ("urn:x", &long),
        ] {
            assert!(named(uri, title).is_err(), "{uri} {title}");
        }
    }
}
