//! From what a client sends to where it goes.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`inbound`] | what a client sends: checked, stamped, sent on its way |
//! | [`address`] | the destination of a stanza, decided once |
//! | [`dispatch`] | to a user of this worker, by the rules for its kind |
//! | [`answer`] | errors, and other stanzas that the server makes |

pub mod address;
pub mod answer;
pub mod dispatch;
pub mod inbound;
