//! Addresses that are configured twice: the second one could not be bound, so the configuration cannot be used.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use super::Config;

impl Config {
    /// All addresses that are listened on, with their keys.
    pub fn addresses(&self) -> [(&'static str, &[SocketAddr]); 4] {
        [
            ("listen", self.listen.as_slice()),
            ("listen_tls", self.listen_tls.as_slice()),
            ("http.listen", self.http.listen.as_slice()),
            ("registration.listen", self.registration.listen.as_slice()),
        ]
    }
}

/// Two entries that ask for one port.
///
/// # Errors
/// Which ones, and what to do.
pub(super) fn check(config: &Config) -> Result<(), String> {
    let lists = config.addresses();
    let entries: Vec<(&str, SocketAddr)> =
        lists.iter().flat_map(|(key, list)| list.iter().map(move |&address| (*key, address))).collect();
    // Asked of the system only where it matters.
    let any_v6 = entries.iter().any(|(_, address)| address.is_ipv6() && address.ip().is_unspecified());
    clash(&entries, any_v6 && v6_takes_v4())
}

/// Whether a socket that listens on `[::]` takes IPv4 connections, too: what this system does unless it is told
/// otherwise (`net.ipv6.bindv6only` on Linux).
fn v6_takes_v4() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, None).and_then(|socket| socket.only_v6()).is_ok_and(|only| !only)
}

fn clash(entries: &[(&str, SocketAddr)], v6_takes_v4: bool) -> Result<(), String> {
    for (at, &(key, address)) in entries.iter().enumerate() {
        let earlier = entries[..at].iter().find(|(_, earlier)| overlap(*earlier, address, v6_takes_v4));
        let Some(&(earlier_key, earlier)) = earlier else { continue };
        let wide = [earlier, address].into_iter().find(|one| one.ip().is_unspecified());
        let reason = match wide {
            Some(wide) if earlier != address => {
                format!("{wide} covers it on every address; keep one of the two")
            }
            _ => "a port can be listened on once; remove one, or give it another port".to_owned(),
        };
        return Err(format!("{key} has {address}, but {earlier_key} has {earlier}: {reason}"));
    }
    Ok(())
}

/// Whether a socket that listens on one of them leaves no room for the other.
fn overlap(one: SocketAddr, other: SocketAddr, v6_takes_v4: bool) -> bool {
    // The system chooses another port for each 0.
    if one.port() != other.port() || one.port() == 0 {
        return false;
    }
    let scope = |address: SocketAddr| match address {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    // An IPv4-mapped address is the IPv4 one.
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    let covers = |wide: IpAddr, narrow: IpAddr| match (wide, narrow) {
        (IpAddr::V4(wide), IpAddr::V4(_)) => wide == Ipv4Addr::UNSPECIFIED,
        (IpAddr::V6(wide), IpAddr::V6(_)) => wide.is_unspecified(),
        (IpAddr::V6(wide), IpAddr::V4(_)) => v6_takes_v4 && wide.is_unspecified(),
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
    };
    (a == b && scope(one) == scope(other)) || covers(a, b) || covers(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_configured_twice_is_found_in_every_disguise() {
        let table = [
            ("127.0.0.1:5222", "127.0.0.1:5222", true),
            ("127.0.0.1:5222", "127.0.0.1:5223", false),
            ("127.0.0.1:5222", "127.0.0.2:5222", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:0", "[::]:0", false),
            ("0.0.0.0:5222", "127.0.0.1:5222", true),
            ("[::]:5222", "0.0.0.0:5222", true),
            ("[::]:5222", "127.0.0.1:5222", true),
            ("[::]:5222", "[::1]:5222", true),
            ("[::1]:5222", "127.0.0.1:5222", false),
            ("[::1]:5222", "0.0.0.0:5222", false),
            ("[::ffff:127.0.0.1]:5222", "127.0.0.1:5222", true),
            ("[::ffff:127.0.0.1]:5222", "0.0.0.0:5222", true),
            ("[fe80::1%2]:5222", "[fe80::1%2]:5222", true),
            ("[fe80::1%2]:5222", "[fe80::1%3]:5222", false),
        ];
        for (one, other, clashes) in table {
            let (a, b) = (one.parse().unwrap(), other.parse().unwrap());
            for pair in [[("listen", a), ("listen_tls", b)], [("listen_tls", b), ("registration.listen", a)]]
            {
                assert_eq!(clash(&pair, true).is_err(), clashes, "{one} {other}");
            }
        }
        // Where `[::]` is IPv6 alone.
        let pair =
            |one: &str, other: &str| [("listen", one.parse().unwrap()), ("listen", other.parse().unwrap())];
        assert!(clash(&pair("[::]:5222", "0.0.0.0:5222"), false).is_ok());
        assert!(clash(&pair("[::]:5222", "[::1]:5222"), false).is_err());
    }

    #[test]
    fn the_text_names_both_and_says_what_to_do() {
        let error = |one: &str, other: &str| {
            let entries = [("listen", one.parse().unwrap()), ("registration.listen", other.parse().unwrap())];
            clash(&entries, true).unwrap_err()
        };
        assert_eq!(
            error("127.0.0.1:5222", "127.0.0.1:5222"),
            "registration.listen has 127.0.0.1:5222, but listen has 127.0.0.1:5222: a port can be listened on once; \
             remove one, or give it another port"
        );
        assert!(error("[::]:5222", "127.0.0.1:5222").contains("[::]:5222 covers it on every address"));
    }
}
