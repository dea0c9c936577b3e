//! What clients in browsers need: WebSocket (RFC 7395), BOSH (XEP-0124) and how to find them (XEP-0156), on the addresses of
//! `http.listen`.
//!
//! ```text
//! browser ─▶ http: TLS, head, limits ─▶ handshake ─▶ 101 ─▶ queue ─▶ worker: frames, stream, as over TCP
//!                        └─▶ request ─▶ session of BOSH ◀─ socket pair ─▶ worker, as if it were a WebSocket
//! ```
//! A WebSocket is here until its handshake is answered. Then its socket, with its TLS keys, belongs to a worker, and later to
//! its user's home. A session of BOSH stays here, and one end of its socket pair goes the same way.
//!
//! | module | what |
//! | --- | --- |
//! | [`websocket`] | the handshake (RFC 6455 §4.2), and the hand-over to a worker |
//! | [`bosh`] | sessions of BOSH |
//! | `workers` | whose turn it is among the workers |
//! | [`host_meta`] | `/.well-known/host-meta` and its JSON |

pub mod bosh;
pub mod host_meta;
pub mod websocket;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::http::front::{Event, Host, Settings};
use crate::http::routes::Routes;
use crate::shared::Shared;
use crate::worker::command::CommandQueue;

use bosh::Bosh;
use workers::Workers;

/// Where WebSocket is spoken.
pub const WEBSOCKET_PATH: &str = "/xmpp-websocket";

/// Where BOSH is spoken.
pub const BOSH_PATH: &str = "/http-bind";

/// The routes of all that is served here.
pub fn routes(shared: &Arc<Shared>, commands: &[Arc<CommandQueue>], bosh: &Arc<Bosh>) -> Vec<Routes> {
    let workers = Workers::new(shared, commands);
    vec![host_meta::routes(shared), websocket::routes(shared, workers), bosh::routes(bosh)]
}

fn config(shared: &Shared) -> Arc<Config> {
    shared.config.read().expect("nothing panics while it holds this lock").clone()
}

/// The owner of the listeners: their keys are those of `[http]`.
pub struct Front(pub Arc<Shared>);

impl Host for Front {
    fn settings(&self) -> Settings {
        let config = config(&self.0);
        let settings = &config.http;
        Settings {
            trusted_proxies: settings.proxies(),
            connections_per_address: settings.connections_per_address as usize,
            requests_per_minute: settings.requests_per_minute,
            wait: Duration::from_secs(settings.seconds.into()),
            idle: Duration::from_secs(settings.idle_seconds.into()),
        }
    }

    fn count(&self, event: Event) {
        let metrics = &self.0.stats.http[0];
        match event {
            Event::Opened => metrics.connections.add(1),
            Event::Closed => metrics.connections.sub(1),
            Event::Request => metrics.requests.add(1),
            Event::Refused => metrics.refused.add(1),
            Event::Displaced(count) => metrics.displaced.add(count),
        }
    }
}
