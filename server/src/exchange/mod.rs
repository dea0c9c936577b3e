//! What workers hand each other, and what one worker hands itself for later.
//!
//! ```text
//! effects ─┬─► batch for this worker's users ─► read after the event
//!          └─► batch for another worker ─► link ─► mailbox ─► read in that worker's iteration
//! ```
//! | module | what it does |
//! | --- | --- |
//! | [`envelope`] | what one of them tells another, packed into batches |
//! | [`fanout`] | one thing for many users of one worker |
//! | [`links`] | a worker's batches to and from the others |
//! | [`membership`] | who belongs to a private group |
//! | [`spreading`] | presence that goes out in parts |

pub mod envelope;
pub mod fanout;
pub mod links;
pub mod membership;
pub mod spreading;
