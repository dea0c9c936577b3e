//! Entity capabilities of the server (XEP-0115): a hash of what disco says about it, in its stream features, so
//! that a client need not ask again.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use crate::service::disco;

/// Namespace of capabilities.
pub const NAMESPACE: &str = "http://jabber.org/protocol/caps";

/// Names the software; together with the hash it is a disco node.
pub const NODE: &str = "urn:x-whimbrel:server";

/// The hash never changes while the server runs.
static VERIFICATION: LazyLock<String> =
    LazyLock::new(|| verification(&[disco::SERVER_IDENTITY], &disco::server_features()));

/// Appends the server's capabilities to its stream features (§6.3).
pub fn stream_feature(out: &mut Vec<u8>) {
    // Neither the node nor base64 has anything to escape.
    for part in ["<c xmlns='", NAMESPACE, "' hash='sha-1' node='", NODE, "' ver='", &VERIFICATION, "'/>"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Whether a disco node is the one of the server's capabilities (§6.2).
pub fn is_own_node(node: &str) -> bool {
    node.strip_prefix(NODE).and_then(|rest| rest.strip_prefix('#')) == Some(VERIFICATION.as_str())
}

/// Category, type and name of an identity; the server's have no language.
pub type Identity = (&'static str, &'static str, &'static str);

/// §5.1, without forms: the server has none.
fn verification(identities: &[Identity], features: &[&str]) -> String {
    let mut parts: Vec<String> =
        identities.iter().map(|(category, typ, name)| format!("{category}/{typ}//{name}<")).collect();
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
        assert_eq!(
            verification(&[("client", "pc", "Exodus 0.9.1")], &features),
            "QgayPKawpkPSDYmwT/WM94uAlu0="
        );
    }

    #[test]
    fn the_announced_node_is_known() {
        let mut feature = Vec::new();
        stream_feature(&mut feature);
        let feature = crate::xml::Element::parse(&feature).unwrap();
        let attribute = |name| feature.attribute(name).unwrap().to_owned();
        assert!(is_own_node(&format!("{}#{}", attribute("node"), attribute("ver"))));
        assert!(!is_own_node(&attribute("node")));
    }
}
