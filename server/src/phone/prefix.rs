//! Beginnings of numbers, as `denied_prefixes` has them: one that no number can begin with would keep
//! nobody out, so it is refused.

use phonenumber::metadata::DATABASE;

/// Digits of a number in E.164 at most.
const DIGITS_MAX: usize = 15;

/// Whether a number can begin with this: with a country code, and after it not with the zero that is dialled inside of
/// the country only.
///
/// # Errors
/// Why not, and what to write; to be read after the prefix.
pub(super) fn check(prefix: &str) -> Result<(), String> {
    let digits = prefix.strip_prefix('+').unwrap_or(prefix);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("; write the beginning of a number like +4415".into());
    }
    if digits.len() > DIGITS_MAX {
        return Err(format!(", but no number has more than {DIGITS_MAX} digits"));
    }
    let code = digits.trim_start_matches('0');
    if code.len() < digits.len() {
        let instead = if digits.starts_with("00") && !code.is_empty() {
            format!("write +{code}")
        } else {
            "write the beginning of a number with its country code, like +4415".into()
        };
        return Err(format!(
            ", but numbers are compared in international form and none begins with 0; {instead}"
        ));
    }
    let codes: Vec<String> = codes_of(digits).map(|code| code.to_string()).collect();
    if codes.is_empty() {
        return Err(", but no country code begins like that; write one like +4415".into());
    }
    let trunk = codes.iter().find(|code| is_dialled_inside_only(code, digits));
    match trunk {
        Some(code) => {
            let rest = digits[code.len()..].trim_start_matches('0');
            Err(format!(", but in international form no number has a 0 after +{code}; write +{code}{rest}"))
        }
        None => Ok(()),
    }
}

/// Whether numbering plans know a region.
pub(super) fn is_region(region: &str) -> bool {
    DATABASE.by_id(region).is_some()
}

/// The country codes that such a number can have: one that the digits begin with, or, if they are that few, those that
/// begin with them.
fn codes_of(digits: &str) -> impl Iterator<Item = u16> {
    let fits = move |code: &u16| {
        let code = code.to_string();
        digits.starts_with(&code) || code.starts_with(digits)
    };
    (1..1000).filter(move |code| fits(code) && DATABASE.by_code(code).is_some())
}

/// Whether what follows the country code begins with a zero that every plan of the code drops in international form.
fn is_dialled_inside_only(code: &str, digits: &str) -> bool {
    let begins = digits.strip_prefix(code).is_some_and(|rest| rest.starts_with('0'));
    let plans = code.parse::<u16>().ok().and_then(|code| DATABASE.by_code(&code)).unwrap_or_default();
    begins && !plans.is_empty() && plans.iter().all(|plan| plan.national_prefix() == Some("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_that_no_number_has_is_refused_with_what_to_write() {
        let table = [
            ("+49", Ok(())),
            ("49", Ok(())),
            ("+4", Ok(())),
            ("7", Ok(())),
            ("+491511", Ok(())),
            ("+882", Ok(())),
            ("+1242", Ok(())),
            // Numbers of these countries do begin with 0.
            ("+3906", Ok(())),
            ("+22507", Ok(())),
            ("+", Err("beginning of a number")),
            ("+49x", Err("beginning of a number")),
            ("+49 151", Err("beginning of a number")),
            ("+٤٩", Err("beginning of a number")),
            ("0049", Err("write +49")),
            ("+0049", Err("write +49")),
            ("0151", Err("with its country code")),
            ("000", Err("with its country code")),
            ("+490151", Err("write +49151")),
            ("+44(0)", Err("beginning of a number")),
            ("+4407", Err("write +447")),
            ("+999", Err("no country code")),
            ("+4915112345678901", Err("more than 15 digits")),
        ];
        for (prefix, expected) in table {
            match (check(prefix), expected) {
                (Ok(()), Ok(())) => {}
                (Err(text), Err(said)) => assert!(text.contains(said), "{prefix}: {text}"),
                (found, _) => panic!("{prefix}: {found:?}"),
            }
        }
        assert!(is_region("DE") && !is_region("de") && !is_region("XX"));
    }
}
