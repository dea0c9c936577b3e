//! Endpoints of subscriptions. They come from clients, so a request to one is a request to wherever a client likes: only
//! hosts of the operator's list are accepted, and of those only public addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hyper::Uri;
use p256_point::is_on_curve;

use crate::es256::POINT_BYTES;
use crate::key::KeyError;

/// Bytes of an endpoint at most; real ones have up to 800.
pub const ENDPOINT_BYTES_MAX: usize = 2_048;

/// URL-safe Base64, padded or not: browsers write it without, some libraries with.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The push services to which requests may go.
#[derive(Clone, Debug)]
pub struct Hosts(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// Lower case; of `*.domain` what stands behind the star.
    name: String,
    is_suffix: bool,
    port: u16,
}

/// Where a notification goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Which entry of the list allows it.
    pub(crate) entry: usize,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) path: String,
    /// A client has chosen the host, within the entry's domain.
    pub(crate) is_chosen: bool,
}

impl Endpoint {
    /// The origin (RFC 6454 §6.2), which is what a VAPID token is for.
    pub(crate) fn origin(&self) -> String {
        match self.port {
            443 => format!("https://{}", self.host),
            port => format!("https://{}:{port}", self.host),
        }
    }
}

impl Hosts {
    /// From `host` and `*.domain`, each with `:port` where it is not 443.
    ///
    /// # Errors
    /// The list is empty, or an entry is none of these.
    pub fn new<T: AsRef<str>>(hosts: &[T]) -> Result<Hosts, KeyError> {
        let entries = hosts.iter().map(|host| entry(host.as_ref())).collect::<Result<Vec<_>, _>>()?;
        if entries.is_empty() {
            return Err(KeyError::Address("the list of push services is empty".to_owned()));
        }
        Ok(Hosts(entries))
    }

    /// Whether a subscription's endpoint is acceptable: `https`, without a user, at a host of the list.
    ///
    /// # Errors
    /// It is not; why, for the client that registers it.
    pub fn check(&self, endpoint: &str) -> Result<(), KeyError> {
        self.find(endpoint).map(drop)
    }

    pub(crate) fn find(&self, endpoint: &str) -> Result<Endpoint, KeyError> {
        let bad = |text: &str| KeyError::Address(text.to_owned());
        if endpoint.len() > ENDPOINT_BYTES_MAX {
            return Err(bad("the endpoint is too long"));
        }
        let uri: Uri = endpoint.parse().map_err(|_| bad("the endpoint is no URL"))?;
        if uri.scheme_str() != Some("https") {
            return Err(bad("the endpoint is not at https"));
        }
        let authority = uri.authority().ok_or_else(|| bad("the endpoint has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("the endpoint names a user"));
        }
        let host = authority.host().to_ascii_lowercase();
        let port = match authority.port() {
            None if authority.as_str().len() == host.len() => 443,
            None => return Err(bad("the endpoint's port is none")),
            Some(port) => port.as_u16(),
        };
        let entry = self.0.iter().position(|entry| entry.allows(&host, port));
        let entry = entry.ok_or_else(|| bad("the endpoint is at no push service that is allowed here"))?;
        let is_chosen = self.0[entry].is_suffix;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Endpoint { entry, host, port, path, is_chosen })
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Entry {
    fn allows(&self, host: &str, port: u16) -> bool {
        let same = match host.strip_suffix(&*self.name) {
            Some("") => !self.is_suffix,
            Some(before) => self.is_suffix && before.len() > 1 && before.ends_with('.'),
            None => false,
        };
        same && port == self.port
    }
}

fn entry(text: &str) -> Result<Entry, KeyError> {
    let bad = || KeyError::Address(format!("{text:?} is no push service: host, *.domain, or one with :port"));
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?),
        None => (text, 443),
    };
    let (name, is_suffix) = name.strip_prefix("*.").map_or((name, false), |domain| (domain, true));
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_whole_domain = is_suffix && !name.contains('.');
    match name.len() <= 253 && name.split('.').all(is_label) && !is_whole_domain {
        true => Ok(Entry { name: name.to_ascii_lowercase(), is_suffix, port }),
        false => Err(bad()),
    }
}

/// The keys of a subscription, as a browser tells them: `p256dh` and `auth` in URL-safe Base64.
///
/// # Errors
/// They have another length, or the first is no point of P-256.
pub fn subscription_keys(p256dh: &str, auth: &str) -> Result<([u8; POINT_BYTES], [u8; 16]), KeyError> {
    // Longer text is refused before it is decoded.
    let decode = |text: &str| (text.len() <= 128).then(|| BASE64.decode(text).ok()).flatten();
    let point: [u8; POINT_BYTES] = decode(p256dh)
        .and_then(|bytes| bytes.try_into().ok())
        .filter(|point: &[u8; POINT_BYTES]| is_on_curve(point))
        .ok_or(KeyError::Subscription("p256dh is no uncompressed point of P-256 in URL-safe Base64"))?;
    let auth = decode(auth)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(KeyError::Subscription("auth is not 16 bytes in URL-safe Base64"))?;
    Ok((point, auth))
}

/// Whether an address is one of the Internet's: a request to any other could reach what only this machine sees.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_public_v4(mapped),
            None => is_public_v6(address),
        },
    }
}

/// By IANA's registry of special-purpose addresses.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        // Multicast, reserved, broadcast.
        || a >= 224;
    !is_special
}

/// Global unicast is 2000::/3; what lies in it and is not of the Internet is left out.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    match a {
        // Protocol assignments, Teredo among them; documentation.
        0x2001 => b >= 0x200 && b != 0xdb8,
        // 6to4: any IPv4 address, private ones as well.
        0x2002 => false,
        // Documentation.
        0x3fff => b >= 0x1000,
        _ => (a & 0xe000) == 0x2000,
    }
}

/// Whether a point is one of the curve.
mod p256_point {
    use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
    use ring::rand::SystemRandom;

    /// An agreement with a key that is thrown away: ring checks points nowhere else.
    pub(super) fn is_on_curve(point: &[u8]) -> bool {
        let Ok(key) = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()) else { return false };
        agree_ephemeral(key, &UnparsedPublicKey::new(&ECDH_P256, point), |_| ()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::ProviderConfig;

    #[test]
    fn only_hosts_of_the_list_are_accepted() {
        let hosts = Hosts::new(&["push.example", "*.wns.example", "localhost:4443"]).unwrap();
        let found = |endpoint: &str| hosts.find(endpoint).ok().map(|found| (found.entry, found.path));
        let path = |entry, path: &str| Some((entry, path.to_owned()));
        let table = [
            ("https://push.example/a/b?c=d", path(0, "/a/b?c=d")),
            ("https://PUSH.example:443/a", path(0, "/a")),
            ("https://push.example", path(0, "/")),
            ("https://db5.wns.example/x", path(1, "/x")),
            ("https://a.b.wns.example/x", path(1, "/x")),
            ("https://localhost:4443/x", path(2, "/x")),
            // Another scheme, port or host, and what only looks like one of the list.
            ("http://push.example/a", None),
            ("https://push.example:8443/a", None),
            ("https://push.example:0/a", None),
            ("https://push.example:/a", None),
            ("https://push.example:99999/a", None),
            ("https://push.example./a", None),
            ("https://localhost/x", None),
            ("https://wns.example/x", None),
            ("https://.wns.example/x", None),
            ("https://evilwns.example/x", None),
            ("https://push.example.evil.example/", None),
            ("https://push.example@evil.example/", None),
            ("https://user@push.example/", None),
            ("https://evil.example/push.example", None),
            ("https://evil.example#push.example", None),
            ("https://127.0.0.1/", None),
            ("https://[::1]/", None),
            ("https://2130706433/", None),
            ("https:push.example/", None),
            ("push.example/a", None),
            ("/a", None),
            ("", None),
        ];
        for (endpoint, expected) in table {
            assert_eq!(found(endpoint), expected, "{endpoint}");
        }
        assert!(hosts.check(&format!("https://push.example/{}", "a".repeat(2_048))).is_err());
        let origin = |endpoint: &str| hosts.find(endpoint).unwrap().origin();
        assert_eq!(origin("https://Push.example:443/x"), "https://push.example");
        assert_eq!(origin("https://localhost:4443/x"), "https://localhost:4443");
    }

    #[test]
    fn a_list_of_something_else_is_refused() {
        for list in
            [&["https://push.example"][..], &["*.example"], &["*"], &["push.example:0"], &["a b"], &[""], &[]]
        {
            assert!(Hosts::new(list).is_err(), "{list:?}");
        }
        Hosts::new(&ProviderConfig::WEB_PUSH_HOSTS).expect("the built-in list is one");
    }

    #[test]
    fn addresses_that_only_this_machine_sees_are_not_public() {
        let table = [
            ("8.8.8.8", true),
            ("142.250.1.1", true),
            ("2a00:1450::1", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("172.31.0.1", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("::ffff:10.0.0.1", false),
            ("64:ff9b::a00:1", false),
            ("2002:a00:1::1", false),
            ("2001:db8::1", false),
        ];
        for (address, expected) in table {
            assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn keys_of_a_subscription_are_a_point_and_sixteen_bytes() {
        // RFC 8291 §5.
        let point = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
        let auth = "BTBZMqHH6r4Tts7J_aSIgg";
        assert!(subscription_keys(point, auth).is_ok());
        assert!(subscription_keys(&format!("{point}="), &format!("{auth}==")).is_ok());
        // The last byte is another: no point of the curve.
        let off = format!("{}8", &point[..point.len() - 1]);
        for (point, auth) in
            [(&*off, auth), ("", auth), (auth, auth), (point, ""), (point, point), ("é", auth)]
        {
            assert!(subscription_keys(point, auth).is_err(), "{point} {auth}");
        }
    }
}
