//! Signed tokens, read and checked.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{UnparsedPublicKey, VerificationAlgorithm};
use serde_json::Value;

/// Header and claims of a token whose signature is right.
pub(super) fn verify(
    token: &str,
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
) -> Result<(Value, Value), String> {
    let (signed, signature) = token.rsplit_once('.').ok_or("the token has no signature")?;
    let (header, claims) = signed.split_once('.').ok_or("the token has no claims")?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|error| format!("the token: {error}"));
    UnparsedPublicKey::new(algorithm, key)
        .verify(signed.as_bytes(), &decode(signature)?)
        .map_err(|_| "the signature is wrong")?;
    let parse = |part: &str| {
        serde_json::from_slice::<Value>(&decode(part)?).map_err(|error| format!("the token: {error}"))
    };
    Ok((parse(header)?, parse(claims)?))
}

/// A claim that is a number of seconds.
pub(super) fn seconds(claims: &Value, name: &str) -> Result<u64, String> {
    claims[name].as_u64().ok_or_else(|| format!("the token has no {name}"))
}

/// A claim or a field of the header that must have one value.
pub(super) fn expect(value: &Value, name: &str, expected: &str) -> Result<(), String> {
    match value[name].as_str() {
        Some(text) if text == expected => Ok(()),
        found => Err(format!("{name} is {found:?} in the token, not {expected:?}")),
    }
}
