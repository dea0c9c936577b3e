//! What a room tells the home of an account that belongs to it from now on, or no longer.

use crate::stanza::PendingAck;

/// An account has become a member of a private group, or is one no more.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Membership<'a> {
    /// The account's localpart.
    pub account: &'a str,
    /// The room's address.
    pub room: &'a str,
    /// The room's name for people; empty for none.
    pub name: &'a str,
    /// Localpart of whoever has done it; empty for an operator.
    pub by: &'a str,
    /// It belongs to the room now.
    pub is_granted: bool,
    /// It has been sent an invitation.
    pub is_invited: bool,
    /// The bookmark was written, or taken out, together with the membership.
    pub is_written: bool,
    /// Who waits to hear that what follows at the account's home is durable; `None` where nothing is written there.
    pub pending_ack: Option<PendingAck>,
}
