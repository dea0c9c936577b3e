//! Listeners: of one thread, or sharing a port between workers.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::system;

/// A listener on `address`. On `[::]` it takes IPv4 as well. The kernel bounds `backlog` (connections that wait to be
/// accepted) by its own limit. Its connections send without delay (`TCP_NODELAY`), those too that come before anybody
/// accepts.
///
/// # Errors
/// When the address is taken, is not of this machine, or needs privileges.
pub fn listener(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    open(address, backlog, |_| Ok(()))
}

/// As [`listener`], but others of this process (with the same function) may share the address; the kernel spreads new
/// connections over them.
///
/// # Errors
/// When the address is taken by a program that does not share it, is not of this machine, or needs privileges.
pub fn reuseport_listener(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    open(address, backlog, system::share_port)
}

fn open(
    address: SocketAddr,
    backlog: u32,
    prepare: impl Fn(&Socket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    // socket2 makes the descriptor close-on-exec in the same call.
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuse_address(true)?;
    prepare(&socket)?;
    // Connections inherit it on Linux and FreeBSD, which saves a call for each. A connection gets it when the kernel makes it:
    // whoever waits in the backlog while the server starts would be left out by anything later.
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::TcpStream;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn connections_are_spread_over_the_listeners_of_a_port() {
        let first = reuseport_listener("127.0.0.1:0".parse().unwrap(), 256).unwrap();
        let address = first.local_addr().unwrap();
        let second = reuseport_listener(address, 256).unwrap();
        let clients: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut seen = HashSet::new();
        for listener in [&first, &second] {
            listener.set_nonblocking(true).unwrap();
            let mut count = 0;
            while let Ok((_, peer)) = listener.accept() {
                seen.insert(peer);
                count += 1;
            }
            // 64 connections all on one side: one chance in 2^63.
            assert_ne!(count, 0);
        }
        let expected: HashSet<SocketAddr> = clients.iter().map(|c| c.local_addr().unwrap()).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_connection_sends_without_delay_from_the_first_one_on() {
        for open in [listener, reuseport_listener] {
            let listener = open("127.0.0.1:0".parse().unwrap(), 16).unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert!(accepted.nodelay().unwrap());
        }
    }

    #[test]
    fn a_port_of_a_program_that_does_not_share_is_refused() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = reuseport_listener(other.local_addr().unwrap(), 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn the_unspecified_ipv6_address_takes_ipv4_as_well() {
        let Ok(listener) = reuseport_listener("[::]:0".parse().unwrap(), 16) else {
            // A machine without IPv6.
            assert!(TcpListener::bind("[::1]:0").is_err());
            return;
        };
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip().to_canonical(), client.local_addr().unwrap().ip());
    }

    #[test]
    fn a_listener_does_not_pass_on_to_programs_we_start() {
        let listener = reuseport_listener("127.0.0.1:0".parse().unwrap(), 16).unwrap();
        // SAFETY: reads the flags of a descriptor that is open.
        let flags = unsafe { libc::fcntl(listener.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
}
