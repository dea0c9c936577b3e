//! Why a server does not start, in words for an operator.

use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;
use whimbrel_storage::data::DataError;
use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::log::LogError;

use crate::config::ConfigError;
use crate::running::socket::ControlError;
use crate::tls::TlsError;

/// Why the server cannot start.
#[derive(Debug, Error)]
pub enum BootError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The log of messages.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Directory and log do not belong together.
    #[error(transparent)]
    Pair(#[from] DataError),
    /// What waits is to move to another number of logs, and it cannot be told where to.
    #[error(
        "`workers` is {workers} and was {before}, so what waits for an account may move to another log; to which one cannot be told: \
         {source}. The logs are as they were, and nothing moves before all of the directory can be read"
    )]
    Homes {
        /// Logs that there are.
        before: usize,
        /// Workers that there are to be.
        workers: usize,
        /// Why the directory cannot tell.
        source: DirectoryError,
    },
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Registration by phone number.
    #[error("{0}")]
    Registration(String),
    /// Push.
    #[error("{0}")]
    Push(String),
    /// STUN and TURN servers.
    #[error("{0}")]
    Turn(String),
    /// The object store of uploads.
    #[error("{0}")]
    ObjectStore(String),
    /// A socket cannot be bound.
    #[error("cannot listen on {address}: {source}{}", remedy_for_bind(.source, .key))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The key of the configuration that has it.
        key: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The data directory cannot be made.
    #[error(
        "cannot make the data directory {path}: {source}; it must belong to the user who runs the server"
    )]
    Data {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Something else is in the folder that is to be the data directory.
    #[error(
        "{path} has other files in it ({names}) and no data of this server; set `data` to a folder that is empty, or that \
         the server can make"
    )]
    ForeignFiles {
        /// The folder.
        path: PathBuf,
        /// Some of the files.
        names: String,
    },
    /// What the program before has left cannot be taken over.
    #[error("{0}")]
    Takeover(String),
    /// Sessions that the server before has left cannot be taken over. They are there no more at the next start.
    #[error(
        "sessions of before the stop cannot be taken over: {0}. Start again: they end then, and nothing of messages is lost"
    )]
    Kept(String),
    /// A worker has ended before it served.
    #[error(transparent)]
    Worker(#[from] WorkerFailed),
    /// Something else of the system.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// A worker has ended that should not have: the users it is the home of cannot be served any more.
#[derive(Debug, Error)]
#[error("worker {worker} has failed: {reason}")]
pub struct WorkerFailed {
    /// The worker.
    pub worker: usize,
    /// The system's reason, or that it panicked.
    pub reason: String,
}

fn remedy_for_bind(error: &std::io::Error, key: &str) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let without = match key {
                "http.listen" => ", or do without WebSocket (--listen-http none)",
                _ => "",
            };
            format!("; another program uses this port: stop it, or set `{key}` to another port{without}")
        }
        std::io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root: start as root and set `user` to drop privileges".to_owned()
        }
        std::io::ErrorKind::AddrNotAvailable => "; this machine has no such address".to_owned(),
        _ => String::new(),
    }
}

pub(crate) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> BootError {
    move |source| BootError::System { what, source }
}
