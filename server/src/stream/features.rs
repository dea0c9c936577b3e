//! The stream features that the server offers (RFC 6120 §4.3).

use crate::proto::ns;
use crate::proto::sasl::{ChannelBindings, Offer};
use crate::proto::sm::element;
use crate::stream::machine::NegotiationEnv;

/// Lets the client begin TLS (RFC 6120 §5.4.2.3).
pub fn write_proceed(out: &mut Vec<u8>) {
    text(out, &["<proceed xmlns='", ns::STARTTLS, "'/>"]);
}

/// What a client may do before it has authenticated.
pub fn write_before_login(
    offer: Offer,
    starttls_possible: bool,
    registration: bool,
    bindings: &ChannelBindings,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"<stream:features>");
    if starttls_possible {
        text(out, &["<starttls xmlns='", ns::STARTTLS, "'>"]);
        if !offer.allow_plaintext {
            out.extend_from_slice(b"<required/>");
        }
        out.extend_from_slice(b"</starttls>");
    }
    if offer.mechanisms().next().is_some() {
        text(out, &["<mechanisms xmlns='", ns::SASL, "'>"]);
        for mechanism in offer.mechanisms() {
            text(out, &["<mechanism>", mechanism.name(), "</mechanism>"]);
        }
        out.extend_from_slice(b"</mechanisms>");
        if !bindings.is_empty() {
            // XEP-0440: which channel bindings a -PLUS mechanism may use.
            text(out, &["<sasl-channel-binding xmlns='", ns::CHANNEL_BINDING, "'>"]);
            for binding in bindings.types() {
                text(out, &["<channel-binding type='", binding.name(), "'/>"]);
            }
            out.extend_from_slice(b"</sasl-channel-binding>");
        }
        if registration {
            text(out, &["<register xmlns='", ns::REGISTER_FEATURE, "'/>"]);
        }
    }
    out.extend_from_slice(b"</stream:features>");
}

/// What a client may do after it has authenticated.
pub fn write_after_login(at: &NegotiationEnv<'_>, out: &mut Vec<u8>) {
    text(out, &["<stream:features><bind xmlns='", ns::BIND, "'/>"]);
    text(out, &["<session xmlns='", ns::SESSION, "'><optional/></session>"]);
    for (name, namespace) in [("sub", ns::PRE_APPROVAL), ("ver", ns::ROSTER_VERSIONS), ("csi", ns::CSI)] {
        text(out, &["<", name, " xmlns='", namespace, "'/>"]);
    }
    element::write_feature(out);
    text(out, &[at.capabilities]);
    out.extend_from_slice(b"</stream:features>");
}

fn text(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}
