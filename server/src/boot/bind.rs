//! Second phase: the listening sockets, bound once for each worker and shared out among them, or taken over from the
//! program before.

use std::net::{SocketAddr, TcpListener};

use super::plan::Plan;
use crate::config::Config;
use crate::running::error::{BootError, system};
use crate::running::listeners::{ListenerRecord, Listeners, Serves};
use crate::runtime::platform;
use crate::takeover::Takeover;

/// By address, and for each address by worker.
pub(super) type Sockets = Vec<Vec<TcpListener>>;

/// Sockets and addresses.
pub(super) struct Bound {
    /// STARTTLS.
    pub(super) plain: (Sockets, Vec<SocketAddr>),
    /// Direct TLS.
    pub(super) direct: (Sockets, Vec<SocketAddr>),
    /// HTTP, for registration.
    pub(super) http: Sockets,
    /// HTTP, for clients in browsers.
    pub(super) web: Sockets,
}

impl Bound {
    /// What an upgrade has to know of the sockets.
    pub(super) fn records(&self, config: &Config) -> Vec<ListenerRecord> {
        let kinds = [
            (&self.plain.0, &config.listen, Serves::Streams),
            (&self.direct.0, &config.listen_tls, Serves::StreamsOverTls),
            (&self.http, &config.registration.listen, Serves::Http),
            (&self.web, &config.http.listen, Serves::Web),
        ];
        let mut records = Vec::new();
        for (groups, addresses, serves) in kinds {
            for (group, &address) in groups.iter().zip(addresses) {
                records.extend(group.iter().map(|socket| ListenerRecord::of(socket, address, serves)));
            }
        }
        records
    }
}

/// Ports that have to be there before anything else: those of the program before, and those that another user than the
/// configured one must bind. The process becomes that user before there are files, or it could not use them. `None`:
/// they come last, so that everything else is there when one answers.
pub(super) fn bind_early(plan: &Plan, takeover: Option<&mut Takeover>) -> Result<Option<Bound>, BootError> {
    let config = &plan.config;
    let bound = match takeover {
        Some(takeover) => bind_again(plan, takeover)?,
        None if config.user.is_empty() => return Ok(None),
        None => bind(plan)?,
    };
    if !config.user.is_empty() {
        // Does nothing after an upgrade: the program before was that user already.
        let group = Some(&*config.group).filter(|group| !group.is_empty());
        platform::drop_privileges(&config.user, group).map_err(system("cannot drop privileges"))?;
    }
    Ok(Some(bound))
}

/// Binds everything that the configuration names.
pub(super) fn bind(plan: &Plan) -> Result<Bound, BootError> {
    let (config, workers) = (&plan.config, plan.workers);
    let plain = listeners("listen", &config.listen, workers, config.backlog)?;
    let direct = listeners("listen_tls", &config.listen_tls, workers, config.backlog)?;
    let http = |key: &'static str, addresses: &[SocketAddr]| {
        let one =
            |&address: &SocketAddr| Ok::<_, BootError>(vec![http_listener(key, address, config.backlog)?]);
        addresses.iter().map(one).collect::<Result<Sockets, BootError>>()
    };
    let web = by_default(config, http("http.listen", &config.http.listen))?;
    Ok(Bound { plain, direct, http: http("registration.listen", &config.registration.listen)?, web })
}

/// The address that nobody has asked for may be another's.
fn by_default(config: &Config, bound: Result<Sockets, BootError>) -> Result<Sockets, BootError> {
    match bound {
        Err(error) if config.http.is_by_default() => {
            tracing::warn!("{error}; until then there is no WebSocket");
            Ok(Sockets::new())
        }
        bound => bound,
    }
}

fn http_listener(key: &'static str, address: SocketAddr, backlog: u32) -> Result<TcpListener, BootError> {
    platform::listener(address, backlog).map_err(|source| BootError::Listen { address, key, source })
}

/// The listeners that the program before has left, and new ones where there are none.
fn bind_again(plan: &Plan, takeover: &mut Takeover) -> Result<Bound, BootError> {
    let config = &plan.config;
    let mut left = Left::of(takeover)?;
    let backlog = config.backlog;
    let more = |key: &'static str| {
        move |address: SocketAddr, count: usize| {
            let (mut sockets, _) = more_listeners(key, address, count, backlog)?;
            Ok::<_, BootError>(sockets.pop().unwrap_or_default())
        }
    };
    let plain = left.listeners(&config.listen, Serves::Streams, plan.workers, more("listen"))?;
    let direct =
        left.listeners(&config.listen_tls, Serves::StreamsOverTls, plan.workers, more("listen_tls"))?;
    let one = |key: &'static str| {
        move |address: SocketAddr, _: usize| {
            Ok::<_, BootError>(vec![http_listener(key, address, config.backlog)?])
        }
    };
    let (http, _) =
        left.listeners(&config.registration.listen, Serves::Http, 1, one("registration.listen"))?;
    let web = left.listeners(&config.http.listen, Serves::Web, 1, one("http.listen"));
    let web = by_default(config, web.map(|(sockets, _)| sockets))?;
    Ok(Bound { plain, direct, http, web })
}

/// The listeners that the program before has left.
struct Left<'a> {
    takeover: &'a mut Takeover,
    records: Vec<ListenerRecord>,
}

impl<'a> Left<'a> {
    fn of(takeover: &'a mut Takeover) -> Result<Left<'a>, BootError> {
        let mut records = Vec::new();
        let read = takeover.state.each::<Listeners>(|_, record| {
            records.push(record);
            Ok(())
        });
        read.map_err(|error| BootError::Takeover(error.to_string()))?;
        Ok(Left { takeover, records })
    }

    /// The sockets of these addresses that came along; `make` makes those that did not, given the address to bind and
    /// how many. Sockets of which there are more than `count` are all kept: connections may wait in each.
    fn listeners(
        &mut self,
        addresses: &[SocketAddr],
        serves: Serves,
        count: usize,
        make: impl Fn(SocketAddr, usize) -> Result<Vec<TcpListener>, BootError>,
    ) -> Result<(Sockets, Vec<SocketAddr>), BootError> {
        let (mut groups, mut bound) = (Vec::new(), Vec::new());
        for &address in addresses {
            let mut group = Vec::new();
            for record in self.records.iter().filter(|l| l.serves == serves && l.configured == address) {
                let socket = self.takeover.copy(record.descriptor).map_err(BootError::Takeover)?;
                group.push(TcpListener::from(socket));
            }
            let actual = group.first().map_or(Ok(address), TcpListener::local_addr);
            let actual =
                actual.map_err(|error| BootError::Takeover(format!("a listener is none: {error}")))?;
            if group.len() < count {
                match make(actual, count - group.len()) {
                    Ok(made) => group.extend(made),
                    Err(error) if group.is_empty() => return Err(error),
                    // A port below 1024, after privileges were dropped: the workers that have one serve it.
                    Err(_) => {
                        tracing::warn!(%address, "some workers cannot listen there until the next start");
                    }
                }
            }
            let actual = group.first().and_then(|first| first.local_addr().ok()).unwrap_or(actual);
            groups.push(group);
            bound.push(actual);
        }
        Ok((groups, bound))
    }
}

/// Binds each address once for every worker. Port 0 is chosen once and then shared.
fn listeners(
    key: &'static str,
    addresses: &[SocketAddr],
    workers: usize,
    backlog: u32,
) -> Result<(Sockets, Vec<SocketAddr>), BootError> {
    let mut sockets = Vec::new();
    let mut bound = Vec::new();
    for &address in addresses {
        let failed = |source| BootError::Listen { address, key, source };
        // Without SO_REUSEPORT first: another server's shared port must not be joined in silence.
        drop(TcpListener::bind(address).map_err(failed)?);
        let (group, actual) = more_listeners(key, address, workers, backlog)?;
        sockets.extend(group);
        bound.push(actual);
    }
    Ok((sockets, bound))
}

/// Binds an address so often, whoever of this server has it already.
fn more_listeners(
    key: &'static str,
    address: SocketAddr,
    count: usize,
    backlog: u32,
) -> Result<(Sockets, SocketAddr), BootError> {
    let failed = |source| BootError::Listen { address, key, source };
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
