//! SASLprep (RFC 4013) of a query string: code points that Unicode 3.2 does not assign pass as they are.
//!
//! RFC 4616 §2 asks for that where a password is presented, and RFC 5802 §2.2 makes clients do it before they derive
//! their SCRAM keys, so a server that refused an emoji here would refuse with PLAIN what it takes with SCRAM. Passwords
//! that are set are prepared alike, although RFC 3454 §7 would have "stored strings" without such code points: its
//! reason is that a later Unicode might normalise them otherwise, which has not happened to any since, and clients do
//! not ask which kind of string their user types.

use stringprep::tables;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use super::CredentialsError;

/// Maps, normalises and checks a password.
pub(super) fn prepare(password: &str) -> Result<Zeroizing<String>, CredentialsError> {
    // §2.1
    let mapped = password
        .chars()
        .map(|c| if tables::non_ascii_space_character(c) { ' ' } else { c })
        .filter(|&c| !tables::commonly_mapped_to_nothing(c));
    // §2.2. Sized once, or growing would leave copies behind; what normalisation makes longer is rare.
    let mut prepared = Zeroizing::new(String::with_capacity(password.len() * 2));
    prepared.extend(mapped.nfkc());
    if let Some(c) = prepared.chars().find(|&c| is_prohibited(c)) {
        return Err(CredentialsError::PasswordForbidden(format!(
            "prohibited character U+{:04X}",
            u32::from(c)
        )));
    }
    if !is_bidi_sound(&prepared) {
        return Err(CredentialsError::PasswordForbidden("prohibited bidirectional text".into()));
    }
    Ok(prepared)
}

/// §2.3: tables C.1.2 to C.9 of RFC 3454.
fn is_prohibited(c: char) -> bool {
    tables::non_ascii_space_character(c)
        || tables::ascii_control_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::surrogate_code(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
}

/// §2.4, RFC 3454 §6. Code points that Unicode 3.2 does not assign are of no direction.
fn is_bidi_sound(text: &str) -> bool {
    let is_right = |c: char| !tables::unassigned_code_point(c) && tables::bidi_r_or_al(c);
    let is_left = |c: char| !tables::unassigned_code_point(c) && tables::bidi_l(c);
    if !text.contains(is_right) {
        return true;
    }
    !text.contains(is_left) && text.starts_with(is_right) && text.ends_with(is_right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_unicode_3_2_assigns_is_prepared_as_the_stringprep_crate_does() {
        for text in
            ["I\u{ad}X", "user", "USER", "\u{aa}", "\u{2168}", "a\u{a0}b", "\u{627}\u{628}", "e\u{301}", ""]
        {
            let expected = stringprep::saslprep(text).unwrap_or_else(|_| panic!("{text:?} is allowed"));
            assert_eq!(prepare(text).as_deref().map(String::as_str), Ok(&*expected), "{text:?}");
        }
        for text in ["\u{7}", "\u{627}1", "\u{627}a\u{627}", "\u{e000}", "\u{fffd}", "\u{200e}", "\u{2028}"] {
            assert!(stringprep::saslprep(text).is_err() && prepare(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn code_points_that_unicode_3_2_does_not_assign_pass() {
        for text in ["p\u{1f600}w", "gro\u{1e9e}", "\u{20bf}", "\u{221}"] {
            assert!(stringprep::saslprep(text).is_err(), "{text:?} is assigned");
            assert_eq!(prepare(text).as_deref().map(String::as_str), Ok(text));
        }
        // Beside letters that are written from right to left, too.
        assert!(prepare("\u{627}\u{1f600}\u{628}").is_ok());
    }
}
