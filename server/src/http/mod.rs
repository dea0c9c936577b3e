//! The front for everything that speaks HTTP: one server, on a thread of its own, which knows no feature. A feature
//! registers [`routes::Routes`]: paths with their methods and handlers, and its share of the connections.
//!
//! ```text
//! listener ─▶ place ─▶ TLS ─▶ door: a head, whole and in time ─▶ pace ─▶ share of the feature ─▶ handler ─▶ answer
//! ```
//! HTTP/1.1 only. One task a connection. Places and door are those of the crate `server/http`. The listeners have an owner
//! ([`front::Host`]), whose configuration keys and metrics are theirs: today registration by phone number.
//!
//! | module | what |
//! | --- | --- |
//! | [`front`] | the server: start, drain, end |
//! | [`connection`] | one connection, from its place to its end |
//! | [`routes`] | what a feature registers |
//! | [`request`] | what a handler is told of a request, and its body |
//! | [`problem`] | errors as problem details (RFC 9457) |
//! | [`forwarded`], [`network`] | the client that a trusted proxy speaks for; the networks of proxies |
//! | [`pace`] | requests of an address |
//!
//! # Where further features go
//!
//! | feature | where |
//! | --- | --- |
//! | uploads (XEP-0363) | routes of their own, whose handlers read the body as a stream instead of by [`request::json`], and call [`request::Caller::begin`] before it, so that a drain waits for transfers |
//! | BOSH (XEP-0124) | routes with a large share: a request that waits for stanzas keeps its place, and is answered by its feature before a drain begins. Its sessions live beside the front and reach a worker over a socket pair |
//! | host-meta, OpenAPI | routes without a body, in a share of their own |
//! | CORS | a layer on the routes of the features that browsers use (host-meta, BOSH, uploads), in [`routes`]; none needs it yet |
//! | WebSocket (RFC 7395) | a route that answers 101; [`connection`] then serves with hyper's upgrades, and what hyper gives back is the door with the stream and its TLS secrets inside, which go to a worker as a connection goes to its user's home. The place is free again at that moment |
//!
//! A further set of addresses, with its own keys, is one more server: [`front::HttpServer::start`] takes any routes.

pub mod connection;
pub mod forwarded;
pub mod front;
pub mod network;
pub mod pace;
pub mod problem;
pub mod request;
pub mod routes;
