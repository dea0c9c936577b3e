//! The three normal forms. Each function is idempotent: what it returns, it returns again.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use idna::uts46::{AsciiDenyList, Hyphens, Uts46};
use precis_profiles::precis_core::Error as PrecisError;
use precis_profiles::precis_core::profile::PrecisFastInvocation;
use precis_profiles::{OpaqueString, UsernameCaseMapped};

use super::{JidError, JidPart, PART_BYTES_MAX};

/// RFC 8264 §7: a profile that has not settled after this many rounds never will.
const PRECIS_ROUNDS_MAX: usize = 4;

/// Longest label of a host name, in bytes (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// Normalises a localpart (RFC 7622 §3.3): UsernameCaseMapped, then the excluded characters.
///
/// # Errors
/// Any [`JidError`] that speaks of [`JidPart::Local`].
pub fn normalise_local(local: &str) -> Result<Cow<'_, str>, JidError> {
    const PART: JidPart = JidPart::Local;
    check_length(PART, local)?;
    let mut upper = false;
    let mut ascii = true;
    for &byte in local.as_bytes() {
        match byte {
            b'"' | b'&' | b'\'' | b'/' | b':' | b'<' | b'>' | b'@' | 0..=b' ' | 0x7f => {
                return Err(JidError::Forbidden { part: PART, character: char::from(byte) });
            }
            b'A'..=b'Z' => upper = true,
            0x80.. => ascii = false,
            _ => {}
        }
    }
    if ascii {
        return Ok(if upper { Cow::Owned(local.to_ascii_lowercase()) } else { Cow::Borrowed(local) });
    }
    let settled = settle(PART, local, |text| UsernameCaseMapped::enforce(text))?;
    // Width mapping turns fullwidth forms into the very characters excluded above.
    if let Some(character) =
        settled.chars().find(|c| matches!(c, '"' | '&' | '\'' | '/' | ':' | '<' | '>' | '@'))
    {
        return Err(JidError::Forbidden { part: PART, character });
    }
    Ok(settled)
}

/// Normalises a resourcepart (RFC 7622 §3.4): OpaqueString.
///
/// Spaces at the ends are kept: the profile allows them, although one example in RFC 7622 §3.5
/// says otherwise.
///
/// # Errors
/// Any [`JidError`] that speaks of [`JidPart::Resource`].
pub fn normalise_resource(resource: &str) -> Result<Cow<'_, str>, JidError> {
    const PART: JidPart = JidPart::Resource;
    check_length(PART, resource)?;
    if resource.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(Cow::Borrowed(resource));
    }
    settle(PART, resource, |text| OpaqueString::enforce(text))
}

/// Normalises a domainpart (RFC 7622 §3.2): without a final dot, in lower case, `xn--` labels as
/// the letters they stand for, IPv6 addresses in their shortest text.
///
/// # Errors
/// Any [`JidError`] that speaks of [`JidPart::Domain`], [`JidError::HostName`] or
/// [`JidError::Ipv6`].
pub fn normalise_domain(domain: &str) -> Result<Cow<'_, str>, JidError> {
    const PART: JidPart = JidPart::Domain;
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    check_length(PART, domain)?;
    if domain.starts_with('[') {
        return normalise_ipv6(domain);
    }
    let mut plain = true;
    let mut label_start = 0;
    for (at, &byte) in domain.as_bytes().iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'.' => {
                plain &= is_plain_label(&domain.as_bytes()[label_start..at]);
                label_start = at + 1;
            }
            b'A'..=b'Z' | 0x80.. => plain = false,
            _ => return Err(JidError::Forbidden { part: PART, character: char::from(byte) }),
        }
    }
    plain &= is_plain_label(&domain.as_bytes()[label_start..]);
    if plain { Ok(Cow::Borrowed(domain)) } else { normalise_host_name(domain) }
}

/// A label in lower-case ASCII that needs no second look: sound, and not in `xn--` form.
pub(super) fn is_plain_label(label: &[u8]) -> bool {
    !label.is_empty()
        && label.len() <= LABEL_BYTES_MAX
        && label[0] != b'-'
        && label[label.len() - 1] != b'-'
        && !label.starts_with(b"xn--")
}

/// The slow way: upper case, `xn--` labels, letters beyond ASCII, and everything that is wrong.
#[cold]
fn normalise_host_name(domain: &str) -> Result<Cow<'_, str>, JidError> {
    const PART: JidPart = JidPart::Domain;
    let (unicode, valid) =
        Uts46::new().to_unicode(domain.as_bytes(), AsciiDenyList::EMPTY, Hyphens::CheckFirstLast);
    valid.map_err(|_| JidError::HostName)?;
    // UTS 46 maps other full stops to the ASCII one, also at the end.
    let unicode = unicode.strip_suffix('.').unwrap_or(&unicode).to_owned();
    check_length(PART, &unicode)?;
    for label in unicode.split('.') {
        if label.is_empty() || label.len() > LABEL_BYTES_MAX && label.is_ascii() {
            return Err(JidError::HostName);
        }
        if let Some(character) =
            label.chars().find(|c| c.is_ascii() && !matches!(c, 'a'..='z' | '0'..='9' | '-' | '_'))
        {
            return Err(JidError::Forbidden { part: PART, character });
        }
        if label.starts_with("xn--") {
            return Err(JidError::HostName);
        }
    }
    Ok(Cow::Owned(unicode))
}

fn normalise_ipv6(domain: &str) -> Result<Cow<'_, str>, JidError> {
    let address = domain
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .and_then(|inner| inner.parse::<Ipv6Addr>().ok())
        .ok_or(JidError::Ipv6)?;
    let shortest = format!("[{address}]");
    Ok(if shortest == domain { Cow::Borrowed(domain) } else { Cow::Owned(shortest) })
}

fn check_length(part: JidPart, text: &str) -> Result<(), JidError> {
    match text.len() {
        0 => Err(JidError::Empty(part)),
        1..=PART_BYTES_MAX => Ok(()),
        bytes => Err(JidError::TooLong { part, bytes }),
    }
}

/// Applies a PRECIS profile until its output no longer changes (RFC 8264 §7).
#[cold]
fn settle<'a>(
    part: JidPart,
    text: &'a str,
    enforce: impl for<'t> Fn(&'t str) -> Result<Cow<'t, str>, PrecisError>,
) -> Result<Cow<'a, str>, JidError> {
    let mut settled = Cow::Borrowed(text);
    for _ in 0..PRECIS_ROUNDS_MAX {
        let next = enforce(&settled).map_err(|error| precis_error(part, &error))?;
        if next == settled {
            check_length(part, &settled)?;
            return Ok(settled);
        }
        settled = Cow::Owned(next.into_owned());
    }
    Err(JidError::Combination(part))
}

fn precis_error(part: JidPart, error: &PrecisError) -> JidError {
    match error {
        PrecisError::BadCodepoint(info) => match char::from_u32(info.cp) {
            Some(character) => JidError::Forbidden { part, character },
            None => JidError::Combination(part),
        },
        _ => JidError::Combination(part),
    }
}
