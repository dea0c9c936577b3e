//! The `[turn]` table of the configuration: servers that carry calls past firewalls.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Services that the configuration may name at most.
const SERVICES_MAX: usize = 16;

/// Bytes of a host name at most (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 255;

/// STUN and TURN servers that clients are told of (XEP-0215).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TurnConfig {
    /// Them, as URIs (RFC 7064, RFC 7065). Empty: clients are told of none.
    pub services: Vec<String>,
    /// A file with the secret that is shared with the TURN servers. Only its owner may read it.
    pub secret_file: PathBuf,
    /// Seconds for which a credential is good.
    pub seconds: u32,
}

impl Default for TurnConfig {
    fn default() -> Self {
        TurnConfig { services: Vec::new(), secret_file: PathBuf::new(), seconds: 86_400 }
    }
}

impl TurnConfig {
    /// Whether clients are told of anything.
    pub fn is_on(&self) -> bool {
        !self.services.is_empty()
    }

    /// The services, those that cannot be read left out.
    pub fn parsed(&self) -> impl Iterator<Item = ExternalService> {
        self.services.iter().filter_map(|uri| ExternalService::parse(uri))
    }

    /// Checks what types cannot; the text says what is wrong and what to do.
    ///
    /// # Errors
    /// The text.
    pub fn check(&self) -> Result<(), String> {
        if self.services.len() > SERVICES_MAX {
            return Err(format!("turn.services has {}; at most {SERVICES_MAX}", self.services.len()));
        }
        for uri in &self.services {
            if ExternalService::parse(uri).is_none() {
                return Err(format!(
                    "turn.services has `{uri}`; write stun:turn.example.org:3478, \
                     turn:turn.example.org:3478?transport=udp, or turns:turn.example.org:5349?transport=tcp"
                ));
            }
        }
        if self.secret_file.as_os_str().is_empty() && self.parsed().any(|service| service.is_restricted()) {
            return Err(
                "turn.secret_file is empty, but turn.services has TURN servers, which ask for credentials; \
                        name a file with what static-auth-secret is in the configuration of coturn"
                    .into(),
            );
        }
        if !(60..=2_678_400).contains(&self.seconds) {
            return Err(format!("turn.seconds is {}; use 60 to 2678400", self.seconds));
        }
        Ok(())
    }
}

/// What kind a service is, as XEP-0215 and the URIs name it.
const KINDS: [(&str, u16, &str); 4] =
    [("stun", 3478, "udp"), ("stuns", 5349, "tcp"), ("turn", 3478, "udp"), ("turns", 5349, "tcp")];

/// A STUN or TURN server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalService {
    /// `stun`, `stuns`, `turn`, or `turns`.
    pub kind: &'static str,
    /// Its name or address; an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `udp` or `tcp`; those that speak TLS over `udp` speak DTLS.
    pub transport: &'static str,
}

impl ExternalService {
    /// Reads a URI like `turn:turn.example.org:3478?transport=udp`; port and transport may be left out.
    pub fn parse(uri: &str) -> Option<ExternalService> {
        let (scheme, rest) = uri.split_once(':')?;
        let &(kind, port, transport) = KINDS.iter().find(|(kind, ..)| *kind == scheme)?;
        let (address, transport) = match rest.split_once("?transport=") {
            None => (rest, transport),
            Some((address, "udp")) => (address, "udp"),
            Some((address, "tcp")) => (address, "tcp"),
            Some(_) => return None,
        };
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if behind.is_empty() { port } else { port_of(behind.strip_prefix(':')?)? })
            }
            None => match address.split_once(':') {
                None => (address, port),
                Some((host, port)) => (host, port_of(port)?),
            },
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
        let is_host = !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.bytes().all(is_name);
        is_host.then(|| ExternalService { kind, host: host.to_owned(), port, transport })
    }

    /// Whether it asks for a credential: a TURN server would carry anybody's bytes otherwise.
    pub fn is_restricted(&self) -> bool {
        self.kind.starts_with("turn")
    }
}

fn port_of(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_say_kind_host_port_and_transport() {
        let table = [
            ("stun:turn.example.org", Some(("stun", "turn.example.org", 3478, "udp"))),
            ("turn:192.0.2.1:80?transport=tcp", Some(("turn", "192.0.2.1", 80, "tcp"))),
            ("turns:[2001:db8::1]:443", Some(("turns", "2001:db8::1", 443, "tcp"))),
            ("turn:[2001:db8::1]?transport=udp", Some(("turn", "2001:db8::1", 3478, "udp"))),
            ("stuns:a", Some(("stuns", "a", 5349, "tcp"))),
            ("turn:", None),
            ("turn.example.org", None),
            ("http://turn.example.org", None),
            ("turn:a:0", None),
            ("turn:a:65536", None),
            ("turn:a:b:1", None),
            ("turn:[a]:1", None),
            ("turn:[::1]1", None),
            ("turn:a?transport=sctp", None),
            ("turn:a b", None),
        ];
        for (uri, expected) in table {
            let found = ExternalService::parse(uri);
            let found = found.as_ref().map(|s| (s.kind, s.host.as_str(), s.port, s.transport));
            assert_eq!(found, expected, "{uri}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        assert_eq!(TurnConfig::default().check(), Ok(()));
        let turn = |services: &[&str], secret: &str, seconds| TurnConfig {
            services: services.iter().map(ToString::to_string).collect(),
            secret_file: secret.into(),
            seconds,
        };
        assert_eq!(turn(&["stun:a"], "", 60).check(), Ok(()));
        assert_eq!(turn(&["stun:a", "turn:a"], "/secret", 86_400).check(), Ok(()));
        for (config, expected) in [
            (turn(&["turn:a"], "", 600), "turn.secret_file is empty"),
            (turn(&["turn://a"], "/secret", 600), "turn.services has `turn://a`"),
            (turn(&["stun:a"], "", 59), "turn.seconds is 59"),
            (turn(&["stun:a"; 17], "", 600), "turn.services has 17"),
        ] {
            let error = config.check().expect_err(expected);
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
