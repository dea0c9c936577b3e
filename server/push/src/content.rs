//! What the payloads of all providers say, and how it is made to fit: a text is cut, a notification is never refused for
//! its length.

use crate::notification::Notification;

/// Names of the app's data, the same with each provider; the first three are the fields of XEP-0357's summary.
pub(crate) mod field {
    pub(crate) const COUNT: &str = "message-count";
    pub(crate) const SENDER: &str = "last-message-sender";
    pub(crate) const TEXT: &str = "last-message-body";
    pub(crate) const KIND: &str = "kind";
    pub(crate) const ID: &str = "id";
    pub(crate) const CONVERSATION: &str = "conversation";
    pub(crate) const SOUND: &str = "sound";
    pub(crate) const CLICK_ACTION: &str = "click-action";
}

/// What stands behind a text that was cut.
const CUT: &str = "…";

/// Bytes of a text that are kept: more than any provider takes, so that one which is cut here is cut again, with the mark.
const TEXT_BYTES_MAX: usize = 6 << 10;

/// Bytes of a sender's address (RFC 7622 §3.1), of a sound's name and of an action that are kept.
const SENDER_BYTES_MAX: usize = 2_047;
const NAME_BYTES_MAX: usize = 256;

/// Bytes of the name of a conversation (RFC 8030 §5.4).
const COLLAPSE_BYTES_MAX: usize = 32;

/// Takes no more of a notification than is of use while it waits. A field that breaks its limit is left out, a text cut.
pub(crate) fn bound(notification: &mut Notification) {
    if let Some(text) = notification.text.as_mut().filter(|text| text.len() > TEXT_BYTES_MAX) {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.shrink_to_fit();
    }
    let limit = |field: &mut Option<String>, bytes| drop(field.take_if(|text| text.len() > bytes));
    limit(&mut notification.sender, SENDER_BYTES_MAX);
    limit(&mut notification.sound, NAME_BYTES_MAX);
    limit(&mut notification.click_action, NAME_BYTES_MAX);
    let collapse = &mut notification.collapse;
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if collapse.len() > COLLAPSE_BYTES_MAX || !collapse.bytes().all(is_safe) {
        *collapse = String::new();
    }
}

/// The parts of a notification whose length others decide.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    pub(crate) sender: Option<&'a str>,
    pub(crate) text: Option<&'a str>,
    pub(crate) sound: Option<&'a str>,
    pub(crate) click_action: Option<&'a str>,
}

/// The JSON that `build` makes of a notification, at most `limit` bytes of it: the text is cut, and where even that is
/// not enough, the sound and the action are left out, then the sender. `build` puts each part in once.
///
/// # Errors
/// What is left is still too long, which takes a notification that breaks its own limits.
pub(crate) fn fit(
    notification: &Notification,
    limit: usize,
    build: impl Fn(&Parts<'_>) -> String,
) -> Result<String, String> {
    let text = notification.text.as_deref();
    let all = Parts {
        sender: notification.sender.as_deref(),
        text: text.map(|_| ""),
        sound: notification.sound.as_deref(),
        click_action: notification.click_action.as_deref(),
    };
    let plain = Parts { sound: None, click_action: None, ..all };
    for parts in [all, plain, Parts { sender: None, ..plain }] {
        let json = build(&parts);
        let Some(room) = limit.checked_sub(json.len()) else { continue };
        let Some(text) = text else { return Ok(json) };
        return Ok(build(&Parts { text: Some(&cut(text, room)), ..parts }));
    }
    Err(format!("its payload has more than {limit} bytes"))
}

/// As much of a text as takes `room` bytes in a JSON string, cut between two characters.
fn cut(text: &str, room: usize) -> String {
    let (mut taken, mut whole, mut short) = (0, 0, 0);
    for (at, c) in text.char_indices() {
        taken += escaped(c);
        if taken > room {
            let mark = if short == 0 && room < CUT.len() { "" } else { CUT };
            return format!("{}{mark}", &text[..short]);
        }
        whole = at + c.len_utf8();
        if taken + CUT.len() <= room {
            short = whole;
        }
    }
    text[..whole].to_owned()
}

/// Bytes of a character in a JSON string, as serde_json writes it.
fn escaped(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use std::time::Duration;

    use super::*;
    use crate::notification::{Kind, Target};

    fn notification(text: Option<String>, sender: Option<String>, sound: Option<String>) -> Notification {
        Notification {
            id: 1,
            target: Target::Fcm { token: String::new() },
            kind: Kind::Message,
            count: None,
            sender,
            text,
            collapse: String::new(),
            time_to_live: Duration::ZERO,
            silent: false,
            sound,
            click_action: None,
            mutable_content: false,
            high_priority: false,
        }
    }

    fn build(parts: &Parts<'_>) -> String {
        let mut map = serde_json::Map::new();
        for (name, part) in [("from", parts.sender), ("text", parts.text), ("sound", parts.sound)] {
            map.extend(part.map(|part| (name.to_owned(), json!(part))));
        }
        serde_json::Value::from(map).to_string()
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let table = [
            ("hello", 5, "hello"),
            ("hello", 4, "h…"),
            ("hello", 3, "…"),
            ("hello", 2, ""),
            ("", 0, ""),
            ("äöü", 6, "äöü"),
            ("äöü", 5, "ä…"),
            ("😀😀", 7, "😀…"),
            ("\"\"", 4, "\"\""),
            ("\"\"\"", 5, "\"…"),
            ("\u{1}\u{1}", 11, "\u{1}…"),
        ];
        for (text, room, expected) in table {
            assert_eq!(cut(text, room), expected, "{text:?} in {room}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_text_the_payload_fits_and_loses_no_more_than_it_must(
            text in "\\PC{0,80}|[\u{0}-\u{1f}\"\\\\]{0,80}|.{0,80}",
            sender in proptest::option::of("[a-z\"]{0,40}"),
            sound in proptest::option::of("[a-z]{0,20}"),
            limit in 24_usize..400,
        ) {
            let told = notification(Some(text.clone()), sender.clone(), sound.clone());
            let json = fit(&told, limit, build).unwrap();
            prop_assert!(json.len() <= limit, "{} of {limit}: {json}", json.len());
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            let shown = read["text"].as_str().unwrap();
            let whole = build(&Parts {
                sender: sender.as_deref(), text: Some(&text), sound: sound.as_deref(), click_action: None,
            });
            if whole.len() <= limit {
                prop_assert_eq!(&json, &whole, "it fits as it is");
            } else if shown != text {
                let kept = shown.strip_suffix(CUT).unwrap_or(shown);
                prop_assert!(text.starts_with(kept));
                // One more character would not have fitted.
                let next = text[kept.len()..].chars().next().unwrap();
                prop_assert!(json.len() + escaped(next) > limit || (kept.is_empty() && shown.is_empty()));
            }
            if read.get("from").is_none() {
                let with = build(&Parts { sender: sender.as_deref(), text: Some(""), sound: None, click_action: None });
                prop_assert!(sender.is_none() || with.len() > limit, "it had room");
            }
        }

        #[test]
        fn the_length_of_a_character_is_what_serde_json_writes(c in any::<char>()) {
            prop_assert_eq!(escaped(c), json!(c.to_string()).to_string().len() - 2);
        }
    }

    #[test]
    fn no_more_is_kept_than_is_of_use() {
        let mut told =
            notification(Some("ä".repeat(100_000)), Some("s".repeat(3_000)), Some("s".repeat(300)));
        told.collapse = "a b".to_owned();
        bound(&mut told);
        assert_eq!(told.text.as_deref().map(str::len), Some(TEXT_BYTES_MAX));
        assert_eq!((told.sender, told.sound, told.collapse), (None, None, String::new()));
        let mut short =
            notification(Some("text".to_owned()), Some("a@b".to_owned()), Some("bell".to_owned()));
        short.collapse = "Y29udmVyc2F0aW9u".to_owned();
        let before = short.clone();
        bound(&mut short);
        assert_eq!(short, before);
    }

    #[test]
    fn what_breaks_its_own_limits_is_refused() {
        assert!(fit(&notification(None, None, None), 1, build).is_err());
    }
}
