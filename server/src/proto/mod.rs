//! The protocol without a server: what stanzas, errors, addresses, SASL and stream management are. Nothing here knows a
//! session or a user.
//!
//! | module | what |
//! | --- | --- |
//! | [`address`] | where a stanza goes, and the parts of addresses |
//! | [`errors`] | stanza and stream errors |
//! | [`reply`] | the beginnings of stanzas that the server writes |
//! | [`sasl`] | authentication: mechanisms, exchanges, what slows down guessing |
//! | [`sm`] | stream management: queues, counts, elements |

pub mod address;
pub mod errors;
pub mod reply;
pub mod sasl;
pub mod sm;
