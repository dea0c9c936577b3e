//! Stream errors (RFC 6120 §4.9) and stanza errors (§8.3): every defined condition, its name on
//! the wire, and the bytes that say it. Nobody else writes these names down.

mod stanza;
mod stream;
#[cfg(test)]
mod tests;

pub use stanza::{ApplicationDetail, ErrorKind, StanzaCondition, StanzaError};
pub use stream::StreamCondition;

/// A stream error with its text, which ends the stream.
pub type StreamEnd = (StreamCondition, Option<&'static str>);

/// Declares an enum of conditions together with the one table of their names.
macro_rules! conditions {
    ($(#[$outer:meta])* $enum:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
        pub enum $enum { $($(#[$doc])* $variant,)* }

        impl $enum {
            /// Every condition, in the order of the RFC.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The element name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
use conditions;

/// Appends `parts` one after the other.
fn push(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Appends character data: markup escaped, and characters that XML 1.0 (§2.2) has no way to say
/// replaced by U+FFFD, so that no text can break a stream.
fn push_text(out: &mut Vec<u8>, text: &str) {
    let mut utf8 = [0; 4];
    for character in text.chars() {
        let written = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            // A bare carriage return would be read as a line feed.
            '\r' => "&#13;",
            '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                "\u{fffd}"
            }
            _ => character.encode_utf8(&mut utf8),
        };
        out.extend_from_slice(written.as_bytes());
    }
}

/// Appends `<text xmlns='…' xml:lang='en'>…</text>`: our own texts are English.
fn push_text_element(out: &mut Vec<u8>, namespace: &str, text: &str) {
    push(out, &["<text xmlns='", namespace, "' xml:lang='en'>"]);
    push_text(out, text);
    push(out, &["</text>"]);
}
