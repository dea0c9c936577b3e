//! BOSH (XEP-0124, XEP-0206): a stream over requests that are answered when there is something to say.
//!
//! ```text
//!  POST ─▶ handler: body ─▶ session ─▶ frames ─▶ socket pair ─▶ worker
//!             ▲                │ ▲                    │
//!             └──── answer ◀───┘ └──── elements ◀─────┘
//! ```
//! Sessions live on the thread of the HTTP server; a request that is held costs no worker anything. One end of a session's
//! socket pair is given to a worker like a WebSocket whose handshake is over, with the client's address and whether its way is
//! protected. So all limits of connections and accounts, `allow_plaintext`, stream management and live upgrades are what they
//! are for other clients. What waits for a client is bounded here, and what finds no room stays with the worker, which knows
//! what to do with a client that does not read.
//!
//! | module | what |
//! | --- | --- |
//! | [`handler`](self) | requests of HTTP |
//! | [`sessions`](self) | all sessions, their sockets, and the task of each |
//! | [`session`] | one session, without sockets, clock and HTTP |
//! | [`body`], [`answer`] | what a client says, and is answered |
//! | [`link`] | frames between a session and its worker |
//! | [`saved`] | sessions that another program goes on with |

pub mod answer;
pub mod body;
mod handler;
pub mod link;
pub mod saved;
mod seat;
mod seats;
pub mod session;
mod sessions;
pub mod terms;

pub(super) use handler::routes;
pub use sessions::Bosh;
