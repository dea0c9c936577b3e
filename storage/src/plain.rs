//! Errors of the system in words only.

use std::borrow::Cow;

/// What Rust adds to the system's words, before the number.
const NUMBER: &str = " (os error ";

/// A message without the numbers of the system's errors: `No such file or directory (os error 2)` says with its number
/// nothing that it does not say with its words.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(NUMBER) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(NUMBER) {
        let after = &rest[at + NUMBER.len()..];
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && after[digits..].starts_with(')') {
            out.push_str(&rest[..at]);
            rest = &after[digits + 1..];
        } else {
            out.push_str(&rest[..at + NUMBER.len()]);
            rest = after;
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn only_the_number_of_the_systems_error_is_left_out() {
        let table = [
            (
                "cannot read a: No such file or directory (os error 2)",
                "cannot read a: No such file or directory",
            ),
            ("a (os error 2); b (os error 13): c", "a; b: c"),
            ("nothing of the kind", "nothing of the kind"),
            ("(os error x) (os error 3", "(os error x) (os error 3"),
            ("", ""),
        ];
        for (text, expected) in table {
            assert_eq!(plain(text), expected);
        }
    }
}
