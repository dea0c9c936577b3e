//! The syntax of SCRAM's client messages (RFC 5802 §7), read strictly.

use std::borrow::Cow;

use super::{Failure, SaslError};

/// Longest nonce of a client, in characters.
const NONCE_CHARS_MAX: usize = 256;

const MALFORMED: Failure = Failure::new(SaslError::MalformedRequest, "other-error");
const EXTENSION: Failure = Failure::new(SaslError::MalformedRequest, "extensions-not-supported");
const USERNAME: Failure = Failure::new(SaslError::MalformedRequest, "invalid-username-encoding");

/// What a client says about channel binding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BindingFlag<'a> {
    /// `n`: the client cannot.
    Unsupported,
    /// `y`: the client can and thinks that the server cannot.
    NotOffered,
    /// `p=`: the client uses this type.
    Used(&'a str),
}

/// `client-first-message`.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ClientFirst<'a> {
    /// The whole `gs2-header` with its final comma.
    pub(super) gs2_header: &'a str,
    pub(super) binding: BindingFlag<'a>,
    pub(super) authzid: Option<Cow<'a, str>>,
    /// `client-first-message-bare`.
    pub(super) bare: &'a str,
    pub(super) username: Cow<'a, str>,
    pub(super) nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, Failure> {
        let message = std::str::from_utf8(message).map_err(|_| MALFORMED)?;
        let (flag, rest) = message.split_once(',').ok_or(MALFORMED)?;
        let binding = match flag {
            "n" => BindingFlag::Unsupported,
            "y" => BindingFlag::NotOffered,
            _ => match flag.strip_prefix("p=") {
                Some(name) if is_binding_name(name) => BindingFlag::Used(name),
                _ => return Err(MALFORMED),
            },
        };
        let (authzid, bare) = rest.split_once(',').ok_or(MALFORMED)?;
        let authzid = match authzid {
            "" => None,
            _ => Some(saslname(authzid.strip_prefix("a=").ok_or(MALFORMED)?)?),
        };
        let gs2_header = &message[..message.len() - bare.len()];

        let mut attributes = bare.split(',');
        let username = attributes.next().ok_or(MALFORMED)?;
        if username.starts_with("m=") {
            return Err(EXTENSION);
        }
        let username = saslname(username.strip_prefix("n=").ok_or(MALFORMED)?)?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r=")).ok_or(MALFORMED)?;
        if nonce.len() > NONCE_CHARS_MAX || !is_printable(nonce) {
            return Err(MALFORMED);
        }
        attributes.try_for_each(check_extension)?;
        Ok(Self { gs2_header, binding, authzid, bare, username, nonce })
    }
}

/// `client-final-message`. The values are still text: what they must be depends on the exchange.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ClientFinal<'a> {
    /// `client-final-message-without-proof`.
    pub(super) without_proof: &'a str,
    /// Base64 of the gs2 header and the binding data.
    pub(super) binding: &'a str,
    pub(super) nonce: &'a str,
    /// Base64 of the ClientProof.
    pub(super) proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, Failure> {
        let message = std::str::from_utf8(message).map_err(|_| MALFORMED)?;
        let (without_proof, proof) = message.rsplit_once(',').ok_or(MALFORMED)?;
        let proof = proof.strip_prefix("p=").ok_or(MALFORMED)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().ok_or(MALFORMED)?;
        if binding.starts_with("m=") {
            return Err(EXTENSION);
        }
        let binding = binding.strip_prefix("c=").ok_or(MALFORMED)?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r=")).ok_or(MALFORMED)?;
        attributes.try_for_each(check_extension)?;
        Ok(Self { without_proof, binding, nonce, proof })
    }
}

/// `attr-val` of an optional extension, which is ignored. `m=` demands to be understood, and the
/// letters that have a meaning here are out of their order.
fn check_extension(attribute: &str) -> Result<(), Failure> {
    match attribute.as_bytes() {
        [b'm', b'=', ..] => Err(EXTENSION),
        [b'a' | b'c' | b'e' | b'i' | b'n' | b'p' | b'r' | b's' | b'v', ..] => Err(MALFORMED),
        [letter, b'=', _, ..] if letter.is_ascii_alphabetic() && !attribute.contains('\0') => Ok(()),
        _ => Err(MALFORMED),
    }
}

/// `cb-name`.
fn is_binding_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}

/// `printable`, at least one.
fn is_printable(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| matches!(byte, 0x21..=0x2b | 0x2d..=0x7e))
}

/// Decodes `saslname`: `=2C` is a comma and `=3D` an equals sign; no other `=` may occur.
fn saslname(text: &str) -> Result<Cow<'_, str>, Failure> {
    if text.is_empty() || text.contains('\0') {
        return Err(USERNAME);
    }
    if !text.contains('=') {
        return Ok(Cow::Borrowed(text));
    }
    let mut pieces = text.split('=');
    let mut name = String::with_capacity(text.len());
    name.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (character, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(USERNAME),
        };
        name.push(character);
        name.push_str(rest);
    }
    Ok(Cow::Owned(name))
}
