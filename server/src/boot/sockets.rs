//! The listening sockets: bound once for each worker, and shared out among them.

use std::net::{SocketAddr, TcpListener};

use crate::config::Config;
use crate::running::error::{BootError, system};
use crate::runtime::platform;

/// By address, and for each address by worker.
pub(super) type Sockets = Vec<Vec<TcpListener>>;

/// Sockets and addresses.
pub(super) struct Bound {
    /// STARTTLS.
    pub(super) plain: (Sockets, Vec<SocketAddr>),
    /// Direct TLS.
    pub(super) direct: (Sockets, Vec<SocketAddr>),
    /// The HTTP API of registration.
    pub(super) http: Sockets,
}

/// Binds everything that the configuration names.
pub(super) fn bind(config: &Config, workers: usize) -> Result<Bound, BootError> {
    let plain = listeners(&config.listen, workers, config.backlog)?;
    let direct = listeners(&config.listen_tls, workers, config.backlog)?;
    let http =
        config.registration.listen.iter().map(|&address| Ok::<_, BootError>(vec![http_listener(address)?]));
    Ok(Bound { plain, direct, http: http.collect::<Result<_, _>>()? })
}

/// Binds an address of the HTTP API.
pub(super) fn http_listener(address: SocketAddr) -> Result<TcpListener, BootError> {
    TcpListener::bind(address).map_err(|source| BootError::Listen { address, source })
}

/// As [`bind`], and becomes another user.
pub(super) fn bind_as_root(config: &Config, workers: usize) -> Result<Bound, BootError> {
    let bound = bind(config, workers)?;
    platform::drop_privileges(&config.user, Some(&*config.group).filter(|group| !group.is_empty()))
        .map_err(system("cannot drop privileges"))?;
    Ok(bound)
}

/// Binds each address once for every worker. Port 0 is chosen once and then shared.
fn listeners(
    addresses: &[SocketAddr],
    workers: usize,
    backlog: u32,
) -> Result<(Sockets, Vec<SocketAddr>), BootError> {
    let mut sockets = Vec::new();
    let mut bound = Vec::new();
    for &address in addresses {
        let failed = |source| BootError::Listen { address, source };
        // Without SO_REUSEPORT first: another server's shared port must not be joined in silence.
        drop(TcpListener::bind(address).map_err(failed)?);
        let (group, actual) = more_listeners(address, workers, backlog)?;
        sockets.extend(group);
        bound.push(actual);
    }
    Ok((sockets, bound))
}

/// Binds an address so often, whoever of this server has it already.
pub(super) fn more_listeners(
    address: SocketAddr,
    count: usize,
    backlog: u32,
) -> Result<(Sockets, SocketAddr), BootError> {
    let failed = |source| BootError::Listen { address, source };
    let first = platform::reuseport_listener(address, backlog).map_err(failed)?;
    let actual = first.local_addr().map_err(failed)?;
    let mut group = vec![first];
    for _ in 1..count {
        group.push(platform::reuseport_listener(actual, backlog).map_err(failed)?);
    }
    Ok((vec![group], actual))
}

/// From sockets by address to sockets by worker. Sockets of which there are more than workers, after an upgrade to
/// fewer workers, are shared out as well: connections may wait in each.
pub(super) fn split(
    plain: Sockets,
    direct: Sockets,
    workers: usize,
) -> Vec<(Vec<TcpListener>, Vec<TcpListener>)> {
    let mut out: Vec<(Vec<TcpListener>, Vec<TcpListener>)> =
        (0..workers).map(|_| Default::default()).collect();
    for group in plain {
        for (at, socket) in group.into_iter().enumerate() {
            out[at % workers].0.push(socket);
        }
    }
    for group in direct {
        for (at, socket) in group.into_iter().enumerate() {
            out[at % workers].1.push(socket);
        }
    }
    out
}
