//! The client's side of TLS: rustls, which trusts the test server's certificate and nothing else.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A TLS connection over a socket.
pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Begins TLS on a socket; the handshake happens with the first bytes.
pub(crate) fn begin(socket: TcpStream, certificate: &Path) -> TlsStream {
    begin_as(socket, certificate, b"xmpp-client")
}

/// As [`begin`], for a protocol by its name in ALPN.
pub(crate) fn begin_as(socket: TcpStream, certificate: &Path, protocol: &[u8]) -> TlsStream {
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(certificate).expect("the server keeps its certificate here")
    {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket)
}

/// The channel binding `tls-exporter` (RFC 9266) of an established connection.
pub(crate) fn exporter(tls: &TlsStream) -> Vec<u8> {
    tls.conn.export_keying_material(vec![0; 32], b"EXPORTER-Channel-Binding", Some(b"")).unwrap()
}

/// The channel binding `tls-server-end-point` (RFC 5929) for a certificate signed with SHA-256.
pub(crate) fn server_end_point(tls: &TlsStream) -> Vec<u8> {
    let certificate = &tls.conn.peer_certificates().expect("the handshake is over")[0];
    ring::digest::digest(&ring::digest::SHA256, certificate).as_ref().to_vec()
}
