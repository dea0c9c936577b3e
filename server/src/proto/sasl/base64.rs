//! The text of SASL elements: strict base64 (RFC 6120 §13.9.1).

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::SaslError;

/// Longest message of a client, in bytes after decoding: more than the longest addresses and
/// passwords that are allowed can fill.
pub const MESSAGE_BYTES_MAX: usize = 8192;

/// Longest text of an element: the base64 of [`MESSAGE_BYTES_MAX`] bytes.
const TEXT_BYTES_MAX: usize = MESSAGE_BYTES_MAX.div_ceil(3) * 4;

/// Decodes an element's text. No text and `=` both say nothing (RFC 6120 §6.4.2).
pub(super) fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    match text {
        "" | "=" => Ok(Zeroizing::new(Vec::new())),
        _ if text.len() > TEXT_BYTES_MAX => Err(SaslError::MalformedRequest),
        _ => STANDARD.decode(text).map(Zeroizing::new).map_err(|_| SaslError::IncorrectEncoding),
    }
}

/// Encodes a message or a part of one.
pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
