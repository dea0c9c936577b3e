//! Media types of files, and what a browser may do with one: nothing that was uploaded runs in it.

use crate::url;

/// The type of what says nothing of itself (RFC 9110 §8.3).
pub const UNKNOWN: &str = "application/octet-stream";

/// Bytes of a media type at most.
pub const BYTES_MAX: usize = 127;

/// Types that a browser shows and in which nothing runs. SVG is none of them: it has scripts.
const HARMLESS: [&str; 21] = [
    "audio/aac",
    "audio/flac",
    "audio/mp4",
    "audio/mpeg",
    "audio/ogg",
    "audio/opus",
    "audio/wav",
    "audio/webm",
    "audio/x-m4a",
    "audio/x-wav",
    "image/avif",
    "image/bmp",
    "image/gif",
    "image/heic",
    "image/jpeg",
    "image/png",
    "image/webp",
    "video/mp4",
    "video/ogg",
    "video/quicktime",
    "video/webm",
];

/// Whether a text is a media type (RFC 9110 §8.3.1), perhaps with parameters, that can stand in a field.
#[must_use]
pub fn is_type(text: &str) -> bool {
    let is_token = |part: &str| {
        let is_mark = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !part.is_empty() && part.bytes().all(is_mark)
    };
    // A browser takes the last of several types that commas part.
    let is_visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic() && byte != b',';
    text.len() <= BYTES_MAX
        && text.bytes().all(is_visible)
        && essence(text).split_once('/').is_some_and(|(kind, sub)| is_token(kind) && is_token(sub))
}

/// Without its parameters.
fn essence(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}

/// Whether two types are one, whatever their parameters.
#[must_use]
pub fn is_same(one: &str, other: &str) -> bool {
    essence(one).eq_ignore_ascii_case(essence(other))
}

/// The field `Content-Disposition` of a file (RFC 6266): shown where nothing can run in it, else saved under its name.
#[must_use]
pub fn disposition(media: &str, name: &str) -> String {
    let is_harmless = HARMLESS.iter().any(|harmless| is_same(harmless, media));
    let mut field = String::from(if is_harmless { "inline" } else { "attachment" });
    let plain: String = name.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect();
    field += "; filename=\"";
    field += &plain;
    field += "\"";
    if plain != name {
        field += "; filename*=UTF-8''";
        url::encode(name, &mut field);
    }
    field
}

fn is_plain(letter: char) -> bool {
    letter == ' ' || letter.is_ascii_graphic() && !"\"\\%".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_from_other_texts() {
        for (text, is) in [
            ("image/jpeg", true),
            ("text/plain; charset=utf-8", true),
            ("application/vnd.a+xml", true),
            ("image", false),
            ("/jpeg", false),
            ("image/", false),
            ("image/jp eg", false),
            ("image/jpeg\r\nX: y", false),
            ("image/jpeg; a=\u{e4}", false),
            ("image/png;,text/html", false),
            ("", false),
        ] {
            assert_eq!(is_type(text), is, "{text:?}");
        }
        assert!(!is_type(&format!("image/{}", "x".repeat(BYTES_MAX))));
        assert!(is_same("Text/Plain;charset=utf-8", "text/plain") && !is_same("text/html", "text/plain"));
    }

    #[test]
    fn only_what_is_harmless_is_shown() {
        for (media, name, expected) in [
            ("image/png", "a.png", "inline; filename=\"a.png\""),
            ("Image/PNG; x=y", "a.png", "inline; filename=\"a.png\""),
            ("image/svg+xml", "a.svg", "attachment; filename=\"a.svg\""),
            ("text/html", "a.html", "attachment; filename=\"a.html\""),
            ("image/png/x", "a", "attachment; filename=\"a\""),
            ("", "a", "attachment; filename=\"a\""),
            (
                "application/pdf",
                "ä\"%.pdf",
                "attachment; filename=\"___.pdf\"; filename*=UTF-8''%C3%A4%22%25.pdf",
            ),
        ] {
            assert_eq!(disposition(media, name), expected, "{media}");
        }
    }
}
