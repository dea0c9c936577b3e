//! A name becomes an address, a connection, TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use rustls::ClientConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::key::KeyError;
use crate::settings::Roots;
use crate::webpush::is_public;

/// Addresses of one name that are tried, one after another.
const ADDRESSES_MAX: usize = 4;

/// Where connections go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// Of an address that the operator or the provider's key names, and the path in it.
    pub(crate) fn of(url: &str) -> Result<(Origin, String), KeyError> {
        let bad = || KeyError::Address(format!("{:?} is no address at https", crate::verdict::quote(url)));
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?;
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if uri.scheme_str() != Some("https") || has_user {
            return Err(bad());
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok((Origin { host: host.to_owned(), port: uri.port_u16().unwrap_or(443) }, path))
    }

    /// As the authority of a request.
    pub(crate) fn authority(&self) -> String {
        match self.port {
            443 => self.host.clone(),
            port => format!("{}:{port}", self.host),
        }
    }
}

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Dialer {
    tls: Arc<ClientConfig>,
    within: Duration,
    /// Only to addresses of the Internet.
    public_only: bool,
}

/// What the peer speaks (RFC 7301).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http2,
    Http1,
}

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

impl Dialer {
    /// With the authorities that may vouch for peers; a connection takes `within` at most.
    pub(crate) fn new(roots: &Roots, within: Duration, http1: bool) -> io::Result<Dialer> {
        let mut tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots.0.clone())
            .with_no_client_auth();
        tls.alpn_protocols = vec![HTTP2.to_vec()];
        if http1 {
            tls.alpn_protocols.push(HTTP1.to_vec());
        }
        Ok(Dialer { tls: Arc::new(tls), within, public_only: false })
    }

    /// The same, but only to addresses of the Internet.
    pub(crate) fn public_only(self) -> Dialer {
        Dialer { public_only: true, ..self }
    }

    /// A connection with TLS on it.
    pub(crate) async fn dial(&self, origin: &Origin) -> io::Result<(TlsStream<TcpStream>, Protocol)> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
        timeout(self.within, self.connect(origin)).await.map_err(late)?
    }

    async fn connect(&self, origin: &Origin) -> io::Result<(TlsStream<TcpStream>, Protocol)> {
        let name = ServerName::try_from(origin.host.clone()).map_err(io::Error::other)?;
        let stream = self.connect_any(&self.addresses(origin).await?).await?;
        // A request is one write; nothing is gained by waiting for a second.
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(HTTP2) => Protocol::Http2,
            // Without ALPN a peer speaks what was there before it, where we do as well.
            Some(HTTP1) | None if self.tls.alpn_protocols.len() > 1 => Protocol::Http1,
            _ => return Err(io::Error::other("the peer does not speak HTTP/2")),
        };
        Ok((stream, protocol))
    }

    async fn addresses(&self, origin: &Origin) -> io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((origin.host.as_str(), origin.port)).await?;
        // What a name leads to is checked after it was resolved, and that very address is used.
        let may = |address: &SocketAddr| !self.public_only || is_public(address.ip());
        let addresses: Vec<SocketAddr> = found.filter(may).take(ADDRESSES_MAX).collect();
        match addresses.is_empty() {
            true => Err(io::Error::other("the name leads to no address that requests may go to")),
            false => Ok(addresses),
        }
    }

    async fn connect_any(&self, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            // One address that swallows everything leaves time for the others.
            let share = self.within / addresses.len() as u32;
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }
}
