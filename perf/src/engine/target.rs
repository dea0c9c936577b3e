//! The server under test, and the addresses that the sessions come from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::engine::sasl::Sasl;

/// Sessions from one source address to one port of the server, at most; below the 28,232 ephemeral ports that Linux
/// has unless told otherwise (`ip_local_port_range`).
pub(crate) const SESSIONS_PER_ROUTE_MAX: u64 = 25_000;

/// When TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TlsStart {
    /// After `<starttls/>` (RFC 6120 §5).
    StartTls,
    /// With the connection (XEP-0368).
    Direct,
}

/// What carries the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub(crate) enum Transport {
    /// TCP (RFC 6120)
    #[default]
    Tcp,
    /// WebSocket (RFC 7395), with --tls direct as `wss`
    #[value(name = "websocket")]
    WebSocket,
}

impl Transport {
    /// Its name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "TCP",
            Transport::WebSocket => "WebSocket",
        }
    }
}

/// The path of a WebSocket that servers come with.
pub(crate) const WEBSOCKET_PATH: &str = "/xmpp-websocket";

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Protocol {
    /// XMPP.
    Xmpp,
    /// One greeting instead of a login, then messages: the router of `floor`.
    Floor,
}

/// Everything a worker has to know of the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Target {
    /// Where it listens.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where the sessions come from; empty: as the kernel chooses.
    pub(crate) sources: Vec<IpAddr>,
    /// Its XMPP domain.
    pub(crate) domain: String,
    /// What carries the stream.
    pub(crate) transport: Transport,
    /// The path of the WebSocket, where that is one.
    pub(crate) path: String,
    /// TLS.
    pub(crate) tls: Option<TlsStart>,
    /// The SASL mechanism.
    pub(crate) sasl: Sasl,
    /// The passwords' seed.
    pub(crate) seed: String,
    /// Every account has the same password.
    pub(crate) one_password: bool,
    /// The file of SCRAM keys.
    pub(crate) keys: Option<PathBuf>,
    /// Sessions of one account, each with a resource of its own.
    pub(crate) sessions_per_account: u64,
    /// The first account.
    pub(crate) first_account: u64,
    /// Ask for stream management where it is offered.
    pub(crate) stream_management: bool,
    /// What messages tell the server about keeping them (XEP-0334).
    pub(crate) hint: Hint,
    /// Send what needs no answer without waiting for one.
    pub(crate) pipeline: bool,
    /// What is spoken.
    pub(crate) protocol: Protocol,
}

/// What a message tells the server about keeping it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Hint {
    /// Nothing.
    None,
    /// It is to be kept until its recipient has it. As long as [`Hint::Forget`].
    Keep,
    /// It is not to be kept.
    Forget,
    /// It is to be archived. As long as [`Hint::Unarchived`].
    Archived,
    /// It may be kept until its recipient has it, and is not to be archived.
    Unarchived,
}

impl Hint {
    /// The element.
    pub(crate) const fn element(self) -> &'static [u8] {
        match self {
            Hint::None => b"",
            Hint::Keep => b"<store    xmlns='urn:xmpp:hints'/>",
            Hint::Forget => b"<no-store xmlns='urn:xmpp:hints'/>",
            Hint::Archived => b"<store              xmlns='urn:xmpp:hints'/>",
            Hint::Unarchived => b"<no-permanent-store xmlns='urn:xmpp:hints'/>",
        }
    }
}

// So that both of a pair cost the same but for what is kept.
const _: () = assert!(Hint::Keep.element().len() == Hint::Forget.element().len());
const _: () = assert!(Hint::Archived.element().len() == Hint::Unarchived.element().len());

impl Target {
    /// The account of a session.
    pub(crate) fn account(&self, session: u64) -> u64 {
        self.first_account + session / self.sessions_per_account
    }

    /// The resource of a session.
    pub(crate) fn resource(&self, session: u64) -> u64 {
        session % self.sessions_per_account
    }

    /// Where a session goes and where it comes from. Sessions are spread evenly over all pairs.
    pub(crate) fn route(&self, session: u64) -> (SocketAddr, Option<IpAddr>) {
        let ports = self.addresses.len() as u64;
        let address = self.addresses[(session % ports) as usize];
        let sources = self.sources.len() as u64;
        let source = (sources > 0).then(|| self.sources[(session / ports % sources) as usize]);
        (address, source)
    }
}

/// The addresses in 127.0.0.0/8 that so many sessions to so many ports need. Elsewhere than on Linux only 127.0.0.1
/// is there unless it has been configured, so none are chosen.
pub(crate) fn loopback_sources(sessions: u64, ports: u64) -> Vec<IpAddr> {
    if !cfg!(target_os = "linux") {
        return Vec::new();
    }
    let routes = sessions.div_ceil(SESSIONS_PER_ROUTE_MAX * ports.max(1)).max(1);
    // A few more than needed: servers limit sessions by address too, and the kernel finds free ports faster.
    let count = (routes * 3).min(60_000) as u32;
    (0..count)
        .map(|n| Ipv4Addr::from((127 << 24) | (1 << 16) | ((n / 250) << 8) | (n % 250 + 1)).into())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_sessions_have_routes_enough() {
        let sources = loopback_sources(1_000_000, 2);
        assert!(sources.len() as u64 * 2 * SESSIONS_PER_ROUTE_MAX >= 1_000_000);
        assert!(sources.iter().all(IpAddr::is_loopback));
        let mut distinct = sources.clone();
        distinct.dedup();
        assert_eq!(distinct.len(), sources.len());
    }
}
