//! XMPP addresses (RFC 7622): `localpart@domainpart/resourcepart`.
//!
//! [`JidRef`] is the borrowed form for the hot path: parsing text that is already normalised
//! ASCII touches every byte once and allocates nothing. [`Jid`] is the owned form, one string
//! and two offsets. Both hold normalised text only, so equality is equality of bytes.
//!
//! | part | rule |
//! |---|---|
//! | localpart | PRECIS UsernameCaseMapped (RFC 8265 §3.3) without ``"&'/:<>@`` |
//! | domainpart | host name as U-labels in lower case, IPv4 address, or bracketed IPv6 address |
//! | resourcepart | PRECIS OpaqueString (RFC 8265 §4.2) |

mod normalise;
mod owned;
mod parse;
#[cfg(test)]
mod tests;

pub use normalise::{normalise_domain, normalise_local, normalise_resource};
pub use owned::Jid;
pub use parse::JidRef;

/// Most bytes each part of an address may have (RFC 7622 §3.2 to §3.4).
///
/// The limit is applied before normalisation, so that no work is spent on longer text, and again
/// after it.
pub const PART_BYTES_MAX: usize = 1023;

/// Which part of an address an error speaks of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JidPart {
    /// What stands before the first `@`.
    Local,
    /// What stands between the first `@` (if any) and the first `/` (if any).
    Domain,
    /// What stands after the first `/`.
    Resource,
}

impl std::fmt::Display for JidPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Local => "localpart",
            Self::Domain => "domainpart",
            Self::Resource => "resourcepart",
        })
    }
}

/// Why a text is not an XMPP address.
///
/// The answer to a stanza that carries such an address is `jid-malformed` (RFC 6120 §8.3.3.8).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JidError {
    /// A part is there (its separator is written, or it is the domain) and has no characters.
    #[error("the {0} is empty")]
    Empty(JidPart),
    /// A part is longer than [`PART_BYTES_MAX`].
    #[error("the {part} has {bytes} bytes; at most {PART_BYTES_MAX} are allowed")]
    TooLong {
        /// The part concerned.
        part: JidPart,
        /// Its length in bytes of UTF-8.
        bytes: usize,
    },
    /// A character that the part's profile excludes.
    #[error("the {part} contains {character:?}, which is not allowed there")]
    Forbidden {
        /// The part concerned.
        part: JidPart,
        /// The first such character.
        character: char,
    },
    /// Characters that are allowed alone and not in this combination (bidirectional rule,
    /// contextual rule, or text that no normal form settles).
    #[error("the {0} mixes characters in a way its profile does not allow")]
    Combination(JidPart),
    /// The domainpart is no host name: an empty or too long label, a hyphen at a label's end, or
    /// an invalid `xn--` label.
    #[error("the domainpart is not a valid host name")]
    HostName,
    /// The domainpart starts with `[` and is no IPv6 address in brackets.
    #[error("the domainpart is not an IPv6 address in brackets")]
    Ipv6,
}
