//! The `[http]` table of the configuration: what clients in browsers need.

mod bosh;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::http::cors::Origins;
use crate::http::network::Network;

/// The HTTP server for clients: WebSocket (RFC 7395) and how to find it (XEP-0156).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Its addresses. Empty: there is none.
    pub listen: Vec<SocketAddr>,
    /// Whether it speaks TLS, with the server's certificate.
    pub tls: bool,
    /// Proxies that are believed when they say whom they speak for and how: addresses, or networks like `10.0.0.0/8`.
    pub trusted_proxies: Vec<String>,
    /// Origins of pages that may open a WebSocket and read files, as browsers write them; `*` alone: all.
    pub allowed_origins: Vec<String>,
    /// The URL of the WebSocket as clients reach it. Empty: as the request for host-meta came.
    pub websocket_url: String,
    /// Where clients are sent when the server stops (`see-other-uri`). Empty: nowhere.
    pub see_other_uri: String,
    /// WebSocket handshakes under way at a time.
    pub websocket_handshakes: u32,
    /// Requests for host-meta under way at a time.
    pub discovery_requests: u32,
    /// Connections of one address (IPv6: one /64) that are no WebSocket yet; by a trusted proxy, requests at a time that it
    /// speaks for.
    pub connections_per_address: u32,
    /// Requests of one address (IPv6: one /64) in a minute, WebSocket handshakes among them.
    pub requests_per_minute: u32,
    /// Seconds for TLS, for the head of a request, and for taking something of the answer, each.
    pub seconds: u32,
    /// Seconds for which a connection may wait between two requests.
    pub idle_seconds: u32,
    /// The URL of BOSH (XEP-0124) as clients reach it. Empty: as the request for host-meta came.
    pub bosh_url: String,
    /// Where clients of BOSH are sent when the server stops. Empty: nowhere.
    pub bosh_see_other_uri: String,
    /// Sessions of BOSH. 0: it is not spoken.
    pub bosh_sessions: u32,
    /// Requests of BOSH under way at a time, those among them that are held.
    pub bosh_requests: u32,
    /// Bytes of one request.
    pub bosh_request_bytes: u32,
    /// Bytes for one client that are read from its worker: those that wait, and those that it may ask for again.
    pub bosh_session_bytes: u32,
    /// MiB that all sessions and requests may hold.
    pub bosh_mib: u32,
    /// Seconds that a request may be held.
    pub bosh_wait_seconds: u32,
    /// Seconds that a client may be away between two requests.
    pub bosh_inactivity_seconds: u32,
    /// Seconds that it may be away when it says so before.
    pub bosh_pause_seconds: u32,
    /// Seconds between two empty requests of a client that does not want to wait.
    pub bosh_polling_seconds: u32,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 5443))],
            tls: true,
            trusted_proxies: Vec::new(),
            allowed_origins: vec!["*".into()],
            websocket_url: String::new(),
            see_other_uri: String::new(),
            websocket_handshakes: 256,
            discovery_requests: 64,
            connections_per_address: 64,
            requests_per_minute: 600,
            seconds: 10,
            idle_seconds: 30,
            bosh_url: String::new(),
            bosh_see_other_uri: String::new(),
            bosh_sessions: 2048,
            bosh_requests: 4096,
            bosh_request_bytes: 320 * 1024,
            bosh_session_bytes: 128 * 1024,
            bosh_mib: 64,
            bosh_wait_seconds: 60,
            bosh_inactivity_seconds: 60,
            bosh_pause_seconds: 120,
            bosh_polling_seconds: 2,
        }
    }
}

impl HttpConfig {
    /// Whether its address is the one that is there without being asked for. When another program has that, the server goes
    /// without: nobody who starts a second server with ports of its own has to know of this one.
    pub fn is_by_default(&self) -> bool {
        self.listen == HttpConfig::default().listen
    }

    /// The networks of [`trusted_proxies`](HttpConfig::trusted_proxies).
    pub fn proxies(&self) -> Vec<Network> {
        self.trusted_proxies.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// The pages that may open a WebSocket.
    pub fn origins(&self) -> Origins {
        Origins::of(&self.allowed_origins)
    }

    /// Puts back what takes effect at a start only, and names what would have changed.
    pub fn keep_fixed(&mut self, old: &HttpConfig) -> Vec<&'static str> {
        let mut changed = Vec::new();
        if self.listen != old.listen {
            changed.push("http.listen");
            self.listen.clone_from(&old.listen);
        }
        if self.tls != old.tls {
            changed.push("http.tls");
            self.tls = old.tls;
        }
        changed
    }

    /// Checks what types cannot; the text says what is wrong and what to do.
    ///
    /// # Errors
    /// The text.
    pub fn check(&self) -> Result<(), String> {
        let wrong = |key: &str, text: &str| Err(format!("http.{key} {text}"));
        for proxy in &self.trusted_proxies {
            if proxy.parse::<Network>().is_err() {
                let text = format!("has `{proxy}`; write an address, or a network like 10.0.0.0/8");
                return wrong("trusted_proxies", &text);
            }
        }
        if self.allowed_origins.len() > 1 && self.allowed_origins.iter().any(|origin| origin == "*") {
            return wrong("allowed_origins", "has `*` beside others; write `*` alone, or leave it out");
        }
        for origin in self.allowed_origins.iter().filter(|origin| *origin != "*") {
            if !is_origin(origin) {
                let text =
                    format!("has `{origin}`; write origins like https://chat.example.org, without a path");
                return wrong("allowed_origins", &text);
            }
        }
        for (key, url) in [("websocket_url", &self.websocket_url), ("see_other_uri", &self.see_other_uri)] {
            if !url.is_empty() && !is_websocket_url(url) {
                let text = format!("is `{url}`; write a URL like wss://chat.example.org/xmpp-websocket");
                return wrong(key, &text);
            }
        }
        for (key, value) in [
            ("websocket_handshakes", self.websocket_handshakes),
            ("discovery_requests", self.discovery_requests),
            ("connections_per_address", self.connections_per_address),
            ("requests_per_minute", self.requests_per_minute),
            ("bosh_requests", self.bosh_requests),
            ("bosh_mib", self.bosh_mib),
        ] {
            if value == 0 {
                return wrong(key, "is 0; set it to at least 1");
            }
        }
        for (key, value, most) in [("seconds", self.seconds, 60), ("idle_seconds", self.idle_seconds, 300)] {
            if !(1..=most).contains(&value) {
                return wrong(key, &format!("is {value}; use 1 to {most}"));
            }
        }
        self.check_bosh()?;
        if !self.tls && self.listen.iter().any(|address| !address.ip().to_canonical().is_loopback()) {
            let text = "is false, but http.listen has an address that is not loopback: passwords and messages would \
                        cross the network in the clear; let a proxy speak TLS and connect to 127.0.0.1";
            return wrong("tls", text);
        }
        Ok(())
    }
}

/// `https://chat.example.org:8443`: what browsers send in `Origin` (RFC 6454 §6.2).
fn is_origin(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, authority)| {
        let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        !scheme.is_empty() && is_scheme && is_authority(authority)
    })
}

fn is_websocket_url(text: &str) -> bool {
    let rest = ["wss://", "ws://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let no_other = |byte: u8| byte.is_ascii_graphic() && !b"\"'<>".contains(&byte);
    rest.is_some_and(|rest| {
        is_authority(rest.split(['/', '?']).next().unwrap_or_default()) && text.bytes().all(no_other)
    })
}

fn is_authority(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_named() {
        assert_eq!(HttpConfig::default().check(), Ok(()));
        type Change = fn(&mut HttpConfig);
        let table: [(&str, Change); 12] = [
            ("trusted_proxies has `proxy`", |c| c.trusted_proxies = vec!["proxy".into()]),
            ("allowed_origins has `*` beside", |c| {
                c.allowed_origins = vec!["*".into(), "https://a.example".into()];
            }),
            ("allowed_origins has `a.example`", |c| c.allowed_origins = vec!["a.example".into()]),
            ("without a path", |c| c.allowed_origins = vec!["https://a.example/".into()]),
            ("websocket_url is `https://a.example`", |c| c.websocket_url = "https://a.example".into()),
            ("websocket_url", |c| c.websocket_url = "wss:///path".into()),
            ("websocket_url", |c| c.websocket_url = "wss://a.example/'".into()),
            ("see_other_uri", |c| c.see_other_uri = "a.example".into()),
            ("websocket_handshakes is 0", |c| c.websocket_handshakes = 0),
            ("seconds is 61", |c| c.seconds = 61),
            ("idle_seconds is 0", |c| c.idle_seconds = 0),
            ("in the clear", |c| {
                c.tls = false;
                c.listen = vec!["0.0.0.0:80".parse().unwrap()];
            }),
        ];
        for (expected, change) in table {
            let mut config = HttpConfig::default();
            change(&mut config);
            let error = config.check().expect_err(expected);
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let good = HttpConfig {
            tls: false,
            allowed_origins: vec!["https://chat.example.org:8443".into(), "app://converse".into()],
            websocket_url: "wss://chat.example.org/xmpp-websocket?x=1".into(),
            see_other_uri: "ws://[2001:db8::1]:5280/ws".into(),
            ..HttpConfig::default()
        };
        assert_eq!(good.check(), Ok(()));
    }
}
