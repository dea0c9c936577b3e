//! The listening socket of the control thread: made before anything else, so that two servers never share a data directory.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::saved::Owner;
use crate::saved::codec::{Decoder, Encoder};
use crate::saved::error::StateError;
use crate::saved::kind::Kind;
use crate::takeover::guard;

/// Name of the socket in the data directory.
pub const SOCKET_NAME: &str = "control.sock";

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Somebody answers on it.
    #[error(
        "another server answers on {0}: it runs in this data directory; stop it (whimbrelctl --data DIR stop) or \
         use another data directory"
    )]
    InUse(PathBuf),
    /// The path does not fit into a socket address.
    #[error(
        "{path} is too long for a Unix socket ({bytes} bytes); use a shorter or a relative data directory"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The system refuses.
    #[error("cannot make the control socket {path}: {source}; the server must own its data directory")]
    System {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The listening control socket. Its file goes when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Makes the socket, mode 0600. Anything that a dead server left behind is removed.
    ///
    /// # Errors
    /// A live server answers there, or the system refuses.
    pub fn bind(data: &Path) -> Result<ControlSocket, ControlError> {
        let path = data.join(SOCKET_NAME);
        let failed = |source| ControlError::System { path: path.clone(), source };
        let address = SockAddr::unix(&path)
            .map_err(|_| ControlError::PathTooLong { path: path.clone(), bytes: path.as_os_str().len() })?;
        match UnixStream::connect(&path) {
            Ok(_) => return Err(ControlError::InUse(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Something that is no socket refuses as well; it is not ours to remove.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && is_socket(&path) => {
                std::fs::remove_file(&path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
        socket.bind(&address).map_err(failed)?;
        // Before it listens nobody can connect, so there is no moment at which others could.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        socket.listen(16).map_err(failed)?;
        Ok(ControlSocket { listener: UnixListener::from(std::os::fd::OwnedFd::from(socket)), path })
    }

    /// The socket of the program before, which listens.
    pub fn held(listener: UnixListener, data: &Path) -> ControlSocket {
        ControlSocket { listener, path: data.join(SOCKET_NAME) }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if guard::is_armed() {
            // The program before goes on with it.
            return;
        }
        // Nothing can be done about a failure, and the next start copes with a socket that is left.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// The control socket as it goes to another program.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ControlRecord {
    /// The descriptor of the listening socket.
    pub listener: u32,
    /// That of the client that asked for the upgrade and waits for an answer.
    pub client: Option<u32>,
}

/// Owns [`ControlRecord`].
pub struct Control;

impl Owner for Control {
    const KIND: Kind = Kind::required("control");
    type Record<'a> = ControlRecord;

    fn write(record: &ControlRecord, to: &mut Encoder) {
        to.number(record.listener);
        to.optional(record.client, |to, client| to.number(client));
    }

    fn read(from: &mut Decoder<'_>) -> Result<ControlRecord, StateError> {
        Ok(ControlRecord { listener: from.number()?, client: from.optional(|from| from.number())? })
    }

    fn samples() -> Vec<ControlRecord> {
        vec![ControlRecord { listener: 4, client: Some(5) }, ControlRecord { listener: 4, client: None }]
    }

    fn descriptors(record: &ControlRecord, keep: &mut Vec<u32>) {
        keep.push(record.listener);
        keep.extend(record.client);
    }
}
