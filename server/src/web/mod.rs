//! What clients in browsers need: WebSocket (RFC 7395) and how to find it (XEP-0156), on the addresses of `http.listen`.
//!
//! ```text
//! browser ─▶ http: TLS, head, limits ─▶ handshake ─▶ 101 ─▶ queue ─▶ worker: frames, stream, as over TCP
//! ```
//! A WebSocket is here until its handshake is answered. Then its socket, with its TLS keys, belongs to a worker, and later to
//! its user's home.
//!
//! | module | what |
//! | --- | --- |
//! | [`websocket`] | the handshake (RFC 6455 §4.2), and the hand-over to a worker |
//! | [`host_meta`] | `/.well-known/host-meta` and its JSON |

pub mod host_meta;
pub mod websocket;

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::http::front::{Event, Host, Settings};
use crate::http::routes::Routes;
use crate::shared::Shared;
use crate::worker::command::CommandQueue;

/// Where WebSocket is spoken.
pub const WEBSOCKET_PATH: &str = "/xmpp-websocket";

/// The routes of all that is served here.
pub fn routes(shared: &Arc<Shared>, commands: &[Arc<CommandQueue>]) -> Vec<Routes> {
    vec![host_meta::routes(shared), websocket::routes(shared, commands)]
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
