//! The channel bindings of a connection (RFC 5056), by which an authentication shows that it is on this very TLS
//! connection.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;

/// A type of channel binding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BindingType {
    /// Keying material exported from the connection (RFC 9266).
    TlsExporter,
    /// The hash of the server's certificate (RFC 5929 §4).
    TlsServerEndPoint,
}

impl BindingType {
    /// The registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TlsExporter => "tls-exporter",
            Self::TlsServerEndPoint => "tls-server-end-point",
        }
    }
}

/// The channel bindings of one TLS connection.
#[derive(Clone, Default)]
pub struct ChannelBindings {
    /// `tls-exporter`: 32 bytes of exported keying material.
    pub tls_exporter: Option<[u8; 32]>,
    /// `tls-server-end-point`: the hash of the certificate, shared by all its connections.
    pub tls_server_end_point: Option<Arc<[u8]>>,
}

impl ChannelBindings {
    /// The types there are data for, best first (for XEP-0440).
    pub fn types(&self) -> impl Iterator<Item = BindingType> {
        [BindingType::TlsExporter, BindingType::TlsServerEndPoint]
            .into_iter()
            .filter(|binding| self.data(*binding).is_some())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.types().next().is_none()
    }

    /// The type of that name, if there are data for it.
    pub fn find(&self, name: &str) -> Option<BindingType> {
        self.types().find(|binding| binding.name() == name)
    }

    /// Whether `claimed` are the data of that type; compares in constant time.
    pub fn matches(&self, binding: BindingType, claimed: &[u8]) -> bool {
        self.data(binding).is_some_and(|data| data.ct_eq(claimed).into())
    }

    fn data(&self, binding: BindingType) -> Option<&[u8]> {
        match binding {
            BindingType::TlsExporter => self.tls_exporter.as_ref().map(<[u8; 32]>::as_slice),
            BindingType::TlsServerEndPoint => self.tls_server_end_point.as_deref(),
        }
    }
}

impl fmt::Debug for ChannelBindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.types()).finish()
    }
}
