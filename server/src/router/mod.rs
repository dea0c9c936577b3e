//! From what a client sends to where it goes.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`inbound`] | what a client sends: checked, stamped, sent on its way |
//! | [`dispatch`] | to a user of this worker, by the rules for its kind |

pub mod dispatch;
pub mod inbound;
