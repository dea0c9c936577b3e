//! A session's socket, plain or under TLS.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::sync::Arc;

use crate::engine::target::{Target, TlsStart, Transport};
use crate::engine::websocket::WebSocket;
use mio::net::TcpStream;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use socket2::{Domain, Protocol, Socket, Type};

/// Where a socket goes.
pub(crate) struct Link {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    web: Option<Box<WebSocket>>,
}

/// What a read brought.
pub(crate) enum Got {
    /// Bytes.
    More {
        /// So many; with frames around them perhaps none.
        count: usize,
        /// The socket is empty; what comes later is another event.
        last: bool,
    },
    /// Nothing now.
    Nothing,
    /// The server has closed.
    Closed,
}

impl Link {
    /// Begins to connect.
    pub(crate) fn connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<Link> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if let Some(from) = from {
            late_port(&socket)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&to.into()) {
            Err(error)
                if error.raw_os_error() != Some(libc::EINPROGRESS)
                    && error.kind() != io::ErrorKind::WouldBlock =>
            {
                return Err(error);
            }
            _ => {}
        }
        // SAFETY: the descriptor is that of a socket which has just been given up by its owner.
        let socket = unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) };
        Ok(Link { socket, tls: None, web: None })
    }

    /// For registration.
    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Whether the connect has succeeded: `None` while it is under way.
    pub(crate) fn connected(&self) -> Option<io::Result<()>> {
        match self.socket.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Some(Err(error)),
        }
        match self.socket.peer_addr() {
            Ok(_) => Some(Ok(())),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Begins TLS.
    pub(crate) fn start_tls(&mut self, config: &Arc<ClientConfig>, domain: &str) -> Result<(), String> {
        let name = ServerName::try_from(domain.to_owned())
            .map_err(|_| format!("`{domain}` cannot be a TLS server name"))?;
        let mut tls = ClientConnection::new(config.clone(), name)
            .map_err(|error| format!("TLS cannot begin: {error}"))?;
        tls.set_buffer_limit(None);
        self.tls = Some(Box::new(tls));
        Ok(())
    }

    /// Whether TLS is on.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the TLS handshake is under way.
    pub(crate) fn handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Puts a WebSocket on the connection.
    pub(crate) fn start_websocket(&mut self, web: WebSocket) {
        self.web = Some(Box::new(web));
    }

    /// The WebSocket, where there is one: what is written has to be its frames.
    pub(crate) fn websocket(&mut self) -> Option<&mut WebSocket> {
        self.web.as_deref_mut()
    }

    /// Reads XMPP: plain text, without frames.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        if self.web.as_ref().is_some_and(|web| web.has_ended()) {
            return Ok(Got::Closed);
        }
        let got = self.read_plain(buffer)?;
        let (Some(web), Got::More { count, last }) = (&mut self.web, &got) else { return Ok(got) };
        let text = web
            .take(&mut buffer[..*count])
            .map_err(|problem| io::Error::other(format!("the server {problem}")))?;
        // An end behind the text is told by the next call.
        Ok(Got::More { count: text, last: *last && !web.has_ended() })
    }

    /// Reads plain text.
    fn read_plain(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        let Some(tls) = &mut self.tls else {
            let size = buffer.len();
            return Ok(match got(self.socket.read(buffer))? {
                Got::More { count, .. } => Got::More { count, last: count < size },
                other => other,
            });
        };
        loop {
            match tls.reader().read(buffer) {
                Ok(0) => return Ok(Got::Closed),
                Ok(count) => return Ok(Got::More { count, last: false }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Got::Closed),
                Err(error) => return Err(error),
            }
            match got(tls.read_tls(&mut self.socket))? {
                Got::More { .. } => {
                    if let Err(error) = tls.process_new_packets() {
                        return Err(io::Error::other(format!("TLS: {error}")));
                    }
                    // A handshake's answers go at once.
                    while tls.wants_write() {
                        match tls.write_tls(&mut self.socket) {
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                            outcome => outcome?,
                        };
                    }
                }
                other => return Ok(other),
            }
        }
    }

    /// Writes what it can of `bytes`; what is left stays with the caller, or inside TLS.
    ///
    /// Returns how many bytes were taken.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            let mut done = 0;
            while done < bytes.len() {
                match self.socket.write(&bytes[done..]) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => done += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            return Ok(done);
        };
        tls.writer().write_all(bytes)?;
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(bytes.len())
    }
}

fn got(outcome: io::Result<usize>) -> io::Result<Got> {
    match outcome {
        Ok(0) => Ok(Got::Closed),
        Ok(count) => Ok(Got::More { count, last: false }),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(Got::Nothing)
        }
        Err(error) => Err(error),
    }
}

/// Lets the kernel choose the port at the connect, where it knows the other end, so that one port serves many
/// connections.
#[cfg(target_os = "linux")]
fn late_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int, and its address and size are given.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Elsewhere the port is chosen at the bind.
#[cfg(not(target_os = "linux"))]
fn late_port(_: &Socket) -> io::Result<()> {
    Ok(())
}

fn any_config() -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}

/// As [`client_config`], for HTTP.
pub(crate) fn http_config() -> Arc<ClientConfig> {
    let mut config = any_config();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// The TLS configuration of all sessions of a worker: no resumption, so that every login is a full handshake, and no
/// verification of the certificate, which under test is often self-signed.
pub(crate) fn client_config(target: &Target) -> Arc<ClientConfig> {
    let mut config = any_config();
    match (target.transport, target.tls) {
        // RFC 6455 is about this version of HTTP.
        (Transport::WebSocket, _) => config.alpn_protocols = vec![b"http/1.1".to_vec()],
        // XEP-0368 §4.
        (Transport::Tcp, Some(TlsStart::Direct)) => config.alpn_protocols = vec![b"xmpp-client".to_vec()],
        (Transport::Tcp, _) => {}
    }
    Arc::new(config)
}

/// Accepts every certificate; signatures are still checked, since a real client pays for that too.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
