//! Message archive management (XEP-0313), as elements: nothing here knows where messages are kept.
//!
//! | module | what |
//! | --- | --- |
//! | [`ids`] | ids of messages as clients see them |
//! | [`query`] | what a client asks for |
//! | [`page`] | what it gets: messages, the end of a page, the bounds of the archive |
//! | [`preferences`] | which messages an account wants to have archived |
//! | [`retraction`] | what a retraction says, and what stands for a retracted message (XEP-0424) |

pub mod ids;
pub mod page;
pub mod preferences;
pub mod query;
pub mod retraction;
