//! Why a connection is closed (RFC 6455 §7.4).

/// A status code.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Code(pub u16);

impl Code {
    /// The purpose is fulfilled.
    pub const NORMAL: Code = Code(1000);
    /// A frame breaks the protocol.
    pub const PROTOCOL: Code = Code(1002);
    /// A message is of a kind that is not taken: binary.
    pub const UNSUPPORTED: Code = Code(1003);
    /// A text message is no text.
    pub const NO_TEXT: Code = Code(1007);
    /// A message is too long.
    pub const TOO_BIG: Code = Code(1009);
    /// The server has no room; the client may come again.
    pub const TRY_LATER: Code = Code(1013);

    /// Whether a peer may send it (§7.4.1, §7.4.2, and the registry of IANA): the others say something to the peer's own
    /// side, or nothing yet.
    #[must_use]
    pub fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}
