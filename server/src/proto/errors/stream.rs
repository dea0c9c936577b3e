//! Stream errors: they end the stream.

use super::{conditions, push, push_text_element};
use crate::proto::ns;

conditions! {
    /// Why a stream is ended (RFC 6120 §4.9.3).
    StreamCondition {
        /// XML that cannot be processed (§4.9.3.1).
        BadFormat = "bad-format",
        /// A namespace prefix that is missing or unknown (§4.9.3.2).
        BadNamespacePrefix = "bad-namespace-prefix",
        /// A newer stream took this one's place (§4.9.3.3).
        Conflict = "conflict",
        /// The peer stopped answering or reading (§4.9.3.4).
        ConnectionTimeout = "connection-timeout",
        /// The domain is no longer served (§4.9.3.5).
        HostGone = "host-gone",
        /// The domain is not served (§4.9.3.6).
        HostUnknown = "host-unknown",
        /// `to` or `from` is missing or wrong between servers (§4.9.3.7).
        ImproperAddressing = "improper-addressing",
        /// The server failed (§4.9.3.8).
        InternalServerError = "internal-server-error",
        /// A `from` that is not the peer's (§4.9.3.9).
        InvalidFrom = "invalid-from",
        /// A wrong namespace of stream or content (§4.9.3.10).
        InvalidNamespace = "invalid-namespace",
        /// XML that its schema does not allow (§4.9.3.11).
        InvalidXml = "invalid-xml",
        /// Something that needs authentication first (§4.9.3.12).
        NotAuthorized = "not-authorized",
        /// XML that is not well-formed (§4.9.3.13).
        NotWellFormed = "not-well-formed",
        /// A limit or a rule of this server (§4.9.3.14).
        PolicyViolation = "policy-violation",
        /// A server needed for the stream cannot be reached (§4.9.3.15).
        RemoteConnectionFailed = "remote-connection-failed",
        /// Something was done to the stream that makes a new one necessary (§4.9.3.16).
        Reset = "reset",
        /// The server has no room (§4.9.3.17).
        ResourceConstraint = "resource-constraint",
        /// XML that XMPP forbids: comments, DTDs, processing instructions (§4.9.3.18).
        RestrictedXml = "restricted-xml",
        /// Another host serves the domain; written with [`StreamCondition::write_see_other_host`]
        /// (§4.9.3.19).
        SeeOtherHost = "see-other-host",
        /// The server stops (§4.9.3.20).
        SystemShutdown = "system-shutdown",
        /// Something that has no condition of its own (§4.9.3.21).
        UndefinedCondition = "undefined-condition",
        /// An encoding other than UTF-8 (§4.9.3.22).
        UnsupportedEncoding = "unsupported-encoding",
        /// A mandatory feature the peer cannot offer (§4.9.3.23).
        UnsupportedFeature = "unsupported-feature",
        /// A first-level element that is no stanza (§4.9.3.24).
        UnsupportedStanzaType = "unsupported-stanza-type",
        /// A version of XMPP that is not 1.x (§4.9.3.25).
        UnsupportedVersion = "unsupported-version",
    }
}

impl StreamCondition {
    /// Appends `<stream:error>…</stream:error>`, with `text` if there is any to tell a human. The
    /// caller closes the stream.
    pub fn write(self, text: Option<&str>, out: &mut Vec<u8>) {
        self.write_with(text, None, out);
    }

    /// Appends a `see-other-host` error; `host` is `name`, `name:port` or `[IPv6]:port`.
    pub fn write_see_other_host(host: &str, out: &mut Vec<u8>) {
        Self::SeeOtherHost.write_with(None, Some(host), out);
    }

    /// As [`StreamCondition::write`], with an application-specific condition (RFC 6120 §4.9.4).
    pub fn write_with_application(self, application: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
        push(out, &["<stream:error><", self.name(), " xmlns='", ns::STREAM_ERRORS, "'/>"]);
        application(out);
        push(out, &["</stream:error>"]);
    }

    fn write_with(self, text: Option<&str>, content: Option<&str>, out: &mut Vec<u8>) {
        let name = self.name();
        push(out, &["<stream:error><", name, " xmlns='", ns::STREAM_ERRORS, "'"]);
        match content {
            Some(content) => {
                push(out, &[">"]);
                super::push_text(out, content);
                push(out, &["</", name, ">"]);
            }
            None => push(out, &["/>"]),
        }
        if let Some(text) = text {
            push_text_element(out, ns::STREAM_ERRORS, text);
        }
        push(out, &["</stream:error>"]);
    }
}
