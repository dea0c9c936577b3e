//! Stream headers and features that the server sends (RFC 6120 §4.2, §4.3).

use crate::proto::sasl::{ChannelBindings, NS_SASL, Offer};
use crate::proto::sm::element;
use crate::stream::machine::NegotiationEnv;
use crate::xml::writer;

/// Namespace of STARTTLS (RFC 6120 §5.4).
pub const NS_STARTTLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";

/// Namespace of resource binding (RFC 6120 §7.4).
pub const NS_BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";

/// Closes the server's half of a stream.
pub const STREAM_CLOSE: &[u8] = b"</stream:stream>";

/// Writes the server's stream header. `to` is what the client said it is, when it did.
pub fn write_header(domain: &str, id: &str, to: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
          xmlns:stream='http://etherx.jabber.org/streams' version='1.0' xml:lang='en'",
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
        text(out, &["<starttls xmlns='", NS_STARTTLS, "'>"]);
        if !offer.allow_plaintext {
            out.extend_from_slice(b"<required/>");
        }
        out.extend_from_slice(b"</starttls>");
    }
    if offer.mechanisms().next().is_some() {
        text(out, &["<mechanisms xmlns='", NS_SASL, "'>"]);
        for mechanism in offer.mechanisms() {
            text(out, &["<mechanism>", mechanism.name(), "</mechanism>"]);
        }
        out.extend_from_slice(b"</mechanisms>");
        if !bindings.is_empty() {
            // XEP-0440: which channel bindings a -PLUS mechanism may use.
            out.extend_from_slice(b"<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>");
            for binding in bindings.types() {
                text(out, &["<channel-binding type='", binding.name(), "'/>"]);
            }
            out.extend_from_slice(b"</sasl-channel-binding>");
        }
        if registration {
            out.extend_from_slice(b"<register xmlns='http://jabber.org/features/iq-register'/>");
        }
    }
    out.extend_from_slice(b"</stream:features>");
}

/// What a client may do after it has authenticated.
pub fn write_after_login(negotiation_env: &NegotiationEnv<'_>, out: &mut Vec<u8>) {
    text(out, &["<stream:features><bind xmlns='", NS_BIND, "'/>"]);
    out.extend_from_slice(
        b"<session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>\
          <sub xmlns='urn:xmpp:features:pre-approval'/>\
          <ver xmlns='urn:xmpp:features:rosterver'/>\
          <csi xmlns='urn:xmpp:csi:0'/>",
    );
    element::write_feature(out);
    (negotiation_env.capabilities)(out);
    out.extend_from_slice(b"</stream:features>");
}

fn text(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}
