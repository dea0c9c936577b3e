//! What comes along when a phone number is pasted: address books, web pages and text processors put it into no-break
//! spaces, invisible marks of direction and full-width forms. They are written out as a person would type them.
//! Everything else is left as it is, for the reader of numbers to refuse.

/// A number as a person would type it.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter_map(typed).collect()
}

/// What a character stands for; `None`: nothing.
fn typed(one: char) -> Option<char> {
    Some(match one {
        // Marks, embeddings and isolates of the direction of text.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            return None;
        }
        // The spaces between which no line is broken, and the full-width one.
        '\u{a0}' | '\u{2007}' | '\u{202f}' | '\u{3000}' => ' ',
        // The hyphen at which no line is broken.
        '\u{2011}' => '-',
        // Full-width forms have the order of ASCII.
        '＋' | '０'..='９' | '（' | '）' | '－' | '．' | '／' => {
            char::from_u32(u32::from(one) - 0xff00 + 0x20).unwrap_or(one)
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pasted_along_is_written_as_it_is_typed_and_the_rest_is_left() {
        let table = [
            ("+49 (151) 123-456.78", "+49 (151) 123-456.78"),
            ("\u{202d}+49\u{a0}151\u{202c}", "+49 151"),
            ("＋０１２３４５６７８９（）－．／", "+0123456789()-./"),
            ("\u{200b}+49", "\u{200b}+49"),
            ("+٤٩", "+٤٩"),
            ("Ａ", "Ａ"),
        ];
        for (pasted, expected) in table {
            assert_eq!(plain(pasted), expected, "{pasted:?}");
        }
    }
}
