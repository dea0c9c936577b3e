//! Entity capabilities of the server (XEP-0115): a hash of what disco says about it, in its stream features, so
//! that a client need not ask again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use crate::config::Config;
use crate::proto::ns;
use crate::service::{Identity, SERVICES, Scope, Scopes, Service, table};

/// Names the software; together with the hash it is a disco node.
pub const NODE: &str = "urn:x-whimbrel:server";

/// Announced: the stream features have the server's own capabilities (§7).
pub static SERVICE: Service =
    Service { name: "capabilities", features: &[(ns::CAPS, Scopes::SERVER)], ..Service::NOTHING };

/// The server's capabilities as they stand in its stream features (§6.3). They are those of a configuration: made anew when
/// it is read again.
pub fn stream_feature(config: &Config) -> String {
    // Neither the node nor base64 has anything to escape.
    format!("<c xmlns='{}' hash='sha-1' node='{NODE}' ver='{}'/>", ns::CAPS, verification_of(config))
}

/// Whether a disco node is the one of the server's capabilities (§6.2).
pub fn is_own_node(config: &Config, node: &str) -> bool {
    let hash = node.strip_prefix(NODE).and_then(|rest| rest.strip_prefix('#'));
    hash.is_some_and(|hash| hash == verification_of(config))
}

fn verification_of(config: &Config) -> String {
    let identities = table::identities(SERVICES, config, Scope::Server);
    verification(&identities, &table::features(SERVICES, config, Scope::Server))
}

/// §5.1, without forms: the server has none. Its identities have no language.
fn verification(identities: &[Identity], features: &[&str]) -> String {
    let name = |identity: &Identity| {
        let Identity { category, typ, name } = identity;
        format!("{category}/{typ}//{name}<")
    };
    let mut parts: Vec<String> = identities.iter().map(name).collect();
    parts.sort_unstable();
    let mut features = features.to_vec();
    features.sort_unstable();
    parts.extend(features.into_iter().map(|feature| format!("{feature}<")));
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, parts.concat().as_bytes());
    STANDARD.encode(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_example_in_the_xep() {
        let features = [
            "http://jabber.org/protocol/muc",
            "http://jabber.org/protocol/disco#items",
            "http://jabber.org/protocol/caps",
            "http://jabber.org/protocol/disco#info",
        ];
        let identity = Identity { category: "client", typ: "pc", name: "Exodus 0.9.1" };
        assert_eq!(verification(&[identity], &features), "QgayPKawpkPSDYmwT/WM94uAlu0=");
    }

    #[test]
    fn the_announced_node_is_known() {
        let config = Config::default();
        let feature = crate::xml::Element::parse(stream_feature(&config).as_bytes()).unwrap();
        let attribute = |name| feature.attribute(name).unwrap().to_owned();
        assert!(is_own_node(&config, &format!("{}#{}", attribute("node"), attribute("ver"))));
        assert!(!is_own_node(&config, &attribute("node")));
    }
}
