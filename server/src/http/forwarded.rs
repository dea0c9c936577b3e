//! The client that a trusted proxy speaks for: `Forwarded` (RFC 7239), or else `X-Forwarded-For` and `X-Forwarded-Proto`.
//!
//! The last address of the list is the one that the proxy itself has seen; what stands before it came from the client
//! and can be made up. So a chain of several proxies of one's own is not looked through: the first of them must
//! replace the header, or the last one is what counts.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

/// The client's address; the proxy's own when the header is missing or makes no sense.
pub fn client(headers: &HeaderMap, proxy: IpAddr) -> IpAddr {
    let last = |name: &str| headers.get_all(name).iter().next_back().and_then(|value| value.to_str().ok());
    let found = match last("forwarded") {
        Some(value) => value.rsplit(',').next().and_then(of_forwarded),
        None => last("x-forwarded-for").and_then(|value| value.rsplit(',').next()).and_then(address),
    };
    found.unwrap_or(proxy).to_canonical()
}

/// Whether the client speaks HTTPS with the proxy; `None` when the proxy does not say.
pub fn is_https(headers: &HeaderMap) -> Option<bool> {
    let last = |name: &str| {
        let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
        Some(value.rsplit(',').next().unwrap_or_default().trim().to_owned())
    };
    let scheme = match last("forwarded") {
        Some(element) => parameter(&element, "proto").map(str::to_owned),
        None => last("x-forwarded-proto"),
    };
    scheme.map(|scheme| scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss"))
}

/// `for="[2001:db8::1]:4711";proto=https`
fn of_forwarded(element: &str) -> Option<IpAddr> {
    parameter(element, "for").and_then(address)
}

fn parameter<'a>(element: &'a str, wanted: &str) -> Option<&'a str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))?.1;
    Some(value.trim().trim_matches('"'))
}

/// An address, with or without a port, an IPv6 one with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields of a head.
    type Fields = &'static [(&'static str, &'static str)];

    #[test]
    fn the_last_word_of_the_proxy_on_the_scheme_counts() {
        let table: [(Fields, Option<bool>); 8] = [
            (&[], None),
            (&[("x-forwarded-proto", "https")], Some(true)),
            (&[("x-forwarded-proto", "HTTPS")], Some(true)),
            (&[("x-forwarded-proto", "wss")], Some(true)),
            (&[("x-forwarded-proto", "https, http")], Some(false)),
            (&[("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")], Some(false)),
            (&[("forwarded", "for=192.0.2.43;proto=https"), ("x-forwarded-proto", "http")], Some(true)),
            (&[("forwarded", "for=192.0.2.43"), ("x-forwarded-proto", "https")], None),
        ];
        for (headers, expected) in table {
            let mut map = HeaderMap::new();
            for &(name, value) in headers {
                map.append(axum::http::HeaderName::from_static(name), value.parse().unwrap());
            }
            assert_eq!(is_https(&map), expected, "{headers:?}");
        }
    }

    #[test]
    fn the_last_address_of_the_proxys_header_counts() {
        let table: [(&[(&str, &str)], &str); 12] = [
            (&[], "127.0.0.1"),
            (&[("x-forwarded-for", "192.0.2.1")], "192.0.2.1"),
            (&[("x-forwarded-for", "6.6.6.6, 192.0.2.1")], "192.0.2.1"),
            (&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.1")], "192.0.2.1"),
            (&[("x-forwarded-for", "192.0.2.1:4711")], "192.0.2.1"),
            (&[("x-forwarded-for", "2001:db8::1")], "2001:db8::1"),
            (&[("x-forwarded-for", "::ffff:192.0.2.1")], "192.0.2.1"),
            (&[("x-forwarded-for", "nonsense")], "127.0.0.1"),
            (&[("forwarded", "for=192.0.2.43;proto=http")], "192.0.2.43"),
            (&[("forwarded", "for=6.6.6.6, For=\"[2001:db8:cafe::17]:4711\"")], "2001:db8:cafe::17"),
            (&[("forwarded", "for=unknown")], "127.0.0.1"),
            (&[("forwarded", "for=192.0.2.43"), ("x-forwarded-for", "6.6.6.6")], "192.0.2.43"),
        ];
        for (headers, expected) in table {
            let mut map = HeaderMap::new();
            for &(name, value) in headers {
                let name = axum::http::HeaderName::from_static(name);
                map.append(name, value.parse().unwrap());
            }
            let found = client(&map, "127.0.0.1".parse().unwrap());
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{headers:?}");
        }
    }
}
