//! The front for everything that speaks HTTP: one server, on a thread of its own, which knows no feature. A feature
//! registers [`routes::Routes`]: paths with their methods and handlers, and its share of the connections.
//!
//! ```text
//! listener ─▶ place ─▶ TLS ─▶ door: a head, whole and in time ─▶ pace ─▶ share of the feature ─▶ handler ─▶ answer
//! ```
//! HTTP/1.1 only. One task a connection. Places and door are those of the crate `server/http`. The listeners have an owner
//! ([`front::Host`]), whose configuration keys and metrics are theirs. There are two sets of them, each a server with a thread
//! of its own: those of registration by phone number (`registration.listen`), which an operator may have in another network,
//! and those of clients in browsers (`http.listen`, [`web`](crate::web)).
//!
//! | module | what |
//! | --- | --- |
//! | [`front`] | the server: start, drain, end |
//! | [`connection`] | one connection, from its place to its end |
//! | [`routes`] | what a feature registers |
//! | [`request`] | what a handler is told of a request, and its body |
//! | [`stream`] | the bytes of a connection, with or without TLS |
//! | [`switch`](self) | connections that speak another protocol behind an answer |
//! | [`metrics`] | those of the server for clients in browsers |
//! | [`cors`] | which pages of the web may use a path |
//! | [`problem`] | errors as problem details (RFC 9457) |
//! | [`forwarded`], [`network`] | the client that a trusted proxy speaks for; the networks of proxies |
//! | [`pace`] | requests of an address |
//!
//! # Where further features go
//!
//! | feature | where |
//! | --- | --- |
//! | uploads (XEP-0363) | routes of their own, whose handlers read the body as a stream instead of by [`request::json`], and call [`request::Caller::begin`] before it, so that a drain waits for transfers |
//! | requests that are held (BOSH) | [`routes::Routes::ends_itself`]: the feature waits for its answers itself when the server stops, and [`routes::Routes::beside`] begins its tasks |
//! | pages of the web | [`routes::Routes::at_for_pages`], for what browsers may use across origins |
//! | another protocol behind HTTP | [`request::Caller::switch`]: its handler answers 101 and gets the connection, as WebSocket does |
//!
//! A further set of addresses, with its own keys, is one more server: [`front::HttpServer::start`] takes any routes.

pub mod connection;
pub mod cors;
pub mod forwarded;
pub mod front;
pub mod metrics;
pub mod network;
pub mod pace;
pub mod problem;
pub mod request;
pub mod routes;
pub mod stream;
mod switch;
