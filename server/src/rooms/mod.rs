//! What rooms do (XEP-0045): each is an actor of its home worker.
//!
//! ```text
//! occupant's home ─► room's home ─► may it? ─► room's archive ─► one envelope a worker: the stanza once, a list of seats
//!                        │                                                   │
//!                        └─ busy: waits at the door                          └─► occupants' homes ─► their clients
//! ```
//! A room does one thing after the other. While it writes to the directory or reads its archive, all that comes for it waits in
//! its inbox; so there is one order of everything, the same for all who listen.
//!
//! | module | what |
//! | --- | --- |
//! | [`receive`] | from a stanza to the function that knows what to do with it |
//! | [`visit`] | who has sent it, and how it is answered |
//! | [`commit`], [`waits`] | changes that are answered when they are on the disk; when what follows from them elsewhere is |
//! | [`show`] | presence of occupants, as others see it |
//! | [`versions`] | who belongs to it, since a version (XEP-0463) |
//! | [`say`] | stanzas for seats |
//! | [`create`], [`enter`], [`leave`], [`destroy`] | the life of a room, and of a stay in it |
//! | [`history`] | what was said before somebody came |
//! | [`speak`], [`subject`], [`private`] | messages |
//! | [`retract`] | messages are taken back |
//! | [`admin`], [`standing`] | roles and affiliations, and what their change means for those who are there |
//! | [`owner`] | configuration |
//! | [`invite`], [`voice`], [`register`] | invitations, voice requests, registration |
//! | [`links`] | links that make members |
//! | [`request`], [`discover`] | iqs to rooms and to their service |
//! | [`ask`] | iqs of occupants to occupants |
//! | [`membership`] | members who are not there: bookmarks |
//! | [`refresh`] | who belongs to a room has changed without it |
//! | [`recall`] | what was said while a session had no connection |
//! | [`archive`], [`vcard`] | what was said, page by page; the room's picture |
//! | [`operator`] | what `whimbrelctl` asks |
//! | [`restore`] | occupants that come from the program before |

mod admin;
mod archive;
mod ask;
mod commit;
mod create;
mod destroy;
mod discover;
mod enter;
mod history;
mod invite;
mod leave;
mod links;
mod membership;
pub mod operator;
mod owner;
mod private;
mod push;
mod recall;
mod receive;
mod refresh;
mod register;
mod request;
mod restore;
mod retract;
mod say;
mod show;
mod speak;
mod standing;
mod subject;
mod vcard;
mod versions;
mod visit;
mod voice;
mod waits;

pub use discover::ask_service;
pub use receive::receive;
pub use restore::restore;
