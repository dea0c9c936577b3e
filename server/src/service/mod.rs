//! What the server has built in, one file an extension, registered in one table.
//!
//! A [`Service`] is all that the rest of the server has to know of an extension: the iqs that it answers, what disco says of
//! it, which configuration switches it on, the tables of the directory that it owns, and what it does at the moments of a
//! user's life. Nothing else knows which services there are.
//!
//! | module | what |
//! | --- | --- |
//! | [`table`] | what a service is, and questions about the table of them |
//! | [`request`] | from an iq to the service that answers it |
//! | [`reply`] | from a service to its client |
//! | [`commit`] | replies that wait for the directory |
//! | all others | the extensions |

pub mod archive;
pub mod blocking;
pub mod caps;
pub mod carbons;
pub mod commands;
pub mod commit;
pub mod csi;
pub mod disco;
pub mod external;
pub mod last;
pub mod offline;
pub mod open_account;
pub mod ping;
pub mod presence;
pub mod private;
pub mod pubsub;
pub mod push;
pub mod register;
pub mod reply;
pub mod request;
pub mod rooms;
pub mod roster;
pub mod session;
pub mod table;
pub mod time;
pub mod upload;
pub mod vcard;
pub mod version;

pub use commit::{Begun, Change, Committed};
pub use reply::{Reply, unreadable};
pub use request::{Request, dispatch, dispatch_for_account, dispatch_for_node, place_of};
pub use table::{Answer, Answers, Asks, DiscoNodes, Identity, Scope, Scopes, Service};

/// All services, in the order in which they act at the moments of a user's life: who sees whom comes first.
pub static SERVICES: &[&Service] = &[
    &presence::SERVICE,
    &roster::SERVICE,
    &last::SERVICE,
    &csi::SERVICE,
    &offline::SERVICE,
    &disco::SERVICE,
    &caps::SERVICE,
    &ping::SERVICE,
    &version::SERVICE,
    &time::SERVICE,
    &external::SERVICE,
    &vcard::SERVICE,
    &private::SERVICE,
    &pubsub::SERVICE,
    &pubsub::MAKING,
    &push::SERVICE,
    &upload::SERVICE,
    &archive::SERVICE,
    &carbons::SERVICE,
    &blocking::SERVICE,
    &register::SERVICE,
    &commands::SERVICE,
    &rooms::SERVICE,
    &session::SERVICE,
];
