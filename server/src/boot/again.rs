//! Booting in the place of another program: what is taken over instead of being opened or bound.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Instant;

use whimbrel_storage::directory::Directory;

use super::files::directory_options;
use super::sockets::{Bound, Sockets, http_listener, more_listeners};
use crate::config::Config;
use crate::running::error::{BootError, system};
use crate::running::socket::ControlSocket;
use crate::runtime::platform;
use crate::saved::state::{ListenerState, Serves};
use crate::takeover::guard::{self, Guard};
use crate::takeover::rehearse::Contents;
use crate::takeover::{Takeover, TakeoverOutcome};
use crate::worker::upgrade::Restored;

/// The listeners that the program before has left, and new ones where there are none.
pub(super) fn bind_again(
    takeover: &mut Takeover,
    config: &Config,
    workers: usize,
) -> Result<Bound, BootError> {
    let mut bind = |addresses: &[SocketAddr], serves: Serves| {
        let made = takeover.listeners(addresses, serves, workers, |address, count| {
            let (mut sockets, _) = more_listeners(address, count, config.backlog)?;
            Ok::<_, BootError>(sockets.pop().unwrap_or_default())
        });
        made.map_err(BootError::Takeover)?
    };
    let plain = bind(&config.listen, Serves::Streams)?;
    let direct = bind(&config.listen_tls, Serves::StreamsOverTls)?;
    let http = takeover.listeners(&config.registration.listen, Serves::Registration, 1, |address, _| {
        Ok::<_, BootError>(vec![http_listener(address)?])
    });
    let (http, _) = http.map_err(BootError::Takeover)??;
    let bound = Bound { plain, direct, http };
    if !config.user.is_empty() {
        // Does nothing: the program before was that user already.
        let group = Some(&*config.group).filter(|group| !group.is_empty());
        platform::drop_privileges(&config.user, group).map_err(system("cannot drop privileges"))?;
    }
    Ok(bound)
}

/// Directory and control socket of the program before, and the lock on the log.
pub(super) fn open_again(
    takeover: &mut Takeover,
    config: &Config,
) -> Result<(Directory, ControlSocket, Option<File>), BootError> {
    let (directory_lock, log_lock) = (takeover.server.directory_lock, takeover.server.log_lock);
    let mut lock = |descriptor| takeover.lock(descriptor).map_err(BootError::Takeover);
    let (directory_lock, log_lock) = (lock(directory_lock)?, lock(log_lock)?);
    let path = config.data.join("directory");
    let directory = Directory::open_held(&path, &directory_options(config), directory_lock)?;
    let control = takeover.control().map_err(BootError::Takeover)?;
    Ok((directory, ControlSocket::held(control, &config.data), Some(log_lock)))
}

/// Waits until all workers have taken over their parts, checks that nothing is missing, and lets them go.
pub(super) fn take_over(
    takeover: &mut Takeover,
    guard: Option<Guard>,
    restored: &mut Receiver<Result<Restored, String>>,
    goes: Vec<SyncSender<()>>,
    begun: Instant,
    driver: &str,
) -> Result<(TakeoverOutcome, Option<UnixStream>), BootError> {
    let failed = |text: String| {
        guard::fall_back_if_armed(&text);
        BootError::Takeover(text)
    };
    let mut contents = Contents::default();
    for _ in 0..goes.len() {
        let one = restored.recv().map_err(|_| failed("a worker has ended".into()))?;
        contents.add(&one.map_err(failed)?.contents);
    }
    if contents.sessions() != takeover.sessions {
        let (found, expected) = (contents.sessions(), takeover.sessions);
        return Err(failed(format!("{found} of {expected} sessions could be restored")));
    }
    let client = takeover.client();
    if let Some(guard) = guard {
        guard.disarm();
    }
    for go in &goes {
        // A worker that has ended shows in `Server::join`.
        let _ = go.send(());
    }
    let outcome = takeover.complete(&contents, begun, driver, goes.len());
    Ok((outcome, client))
}

/// What an upgrade has to know of the listeners.
pub(super) fn listener_states(
    groups: &Sockets,
    addresses: &[SocketAddr],
    serves: Serves,
) -> Vec<ListenerState> {
    let state = |configured: SocketAddr, socket: &TcpListener| ListenerState {
        configured,
        serves,
        descriptor: u32::try_from(socket.as_raw_fd()).expect("an open descriptor is not negative"),
    };
    let of_group = |(group, address): (&Vec<TcpListener>, &SocketAddr)| {
        group.iter().map(|socket| state(*address, socket)).collect::<Vec<_>>()
    };
    groups.iter().zip(addresses).flat_map(of_group).collect()
}
