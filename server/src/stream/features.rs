//! Stream headers and features that the server sends (RFC 6120 §4.2, §4.3).

use crate::proto::ns;
use crate::proto::sasl::{ChannelBindings, Offer};
use crate::proto::sm::element;
use crate::stream::machine::NegotiationEnv;
use crate::xml::writer;

/// Closes the server's half of a stream.
pub const STREAM_CLOSE: &[u8] = b"</stream:stream>";

/// Writes the server's stream header. `to` is what the client said it is, when it did.
pub fn write_header(domain: &str, id: &str, to: Option<&str>, out: &mut Vec<u8>) {
    text(
        out,
        &[
            "<?xml version='1.0'?><stream:stream xmlns='",
            ns::CLIENT,
            "' xmlns:stream='",
            ns::STREAMS,
            "' version='1.0' xml:lang='en'",
        ],
    );
    let attributes = [("id", Some(id)), ("from", Some(domain)), ("to", to)];
    for (name, value) in attributes {
        let Some(value) = value else { continue };
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"='");
        writer::escape_attribute(value, out);
        out.push(b'\'');
    }
    out.push(b'>');
}

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
