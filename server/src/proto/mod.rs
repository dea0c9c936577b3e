//! The protocol without a server: what stanzas, errors, addresses, SASL and stream management are. Nothing here knows a
//! session or a user.
//!
//! | module | what |
//! | --- | --- |
//! | [`address`] | where a stanza goes, and the parts of addresses |
//! | [`archive`] | message archives: queries, pages, ids, preferences |
//! | [`avatar`], [`bookmarks`] | avatars and bookmarks, each in the forms that they have
//! | [`caps`] | what a client says that it can do, and what it wants to hear of |
//! | [`commands`] | ad-hoc commands |
//! | [`delay`] | how long a stanza has waited |
//! | [`errors`] | stanza and stream errors |
//! | [`forms`] | data forms: what was filled in, and what is to be |
//! | [`muc`] | rooms: requests, forms, rules, what a room says |
//! | [`ns`] | every namespace, once |
//! | [`pubsub`] | publish-subscribe: requests, forms, errors, events |
//! | [`push`] | what a client says of a device that push services know |
//! | [`reply`] | the beginnings of stanzas that the server writes |
//! | [`rsm`] | pages of long lists |
//! | [`sasl`] | authentication: mechanisms, exchanges, what slows down guessing |
//! | [`sm`] | stream management: queues, counts, elements |
//! | [`stanza_id`] | ids that the server gives to stanzas, and forged ones |
//! | [`traits`] | how a message is to be treated, by what is in it |

pub mod address;
pub mod archive;
pub mod avatar;
pub mod bookmarks;
pub mod caps;
pub mod commands;
pub mod delay;
pub mod errors;
pub mod forms;
pub mod letters;
pub mod muc;
pub mod ns;
pub mod pubsub;
pub mod push;
pub mod reply;
pub mod rsm;
pub mod sasl;
pub mod sm;
pub mod stanza_id;
pub mod traits;
