//! A server that has been started, and is ended again.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::peers::Peer;
use crate::peers::postgres::Postmaster;

/// How long a server may take to listen, accounts included.
const START_MAX: Duration = Duration::from_secs(180);

/// How long it may take to end.
const STOP_MAX: Duration = Duration::from_secs(20);

/// A server that runs. It is ended when this is dropped, and after it the database that it uses.
pub(crate) struct Running {
    child: Child,
    database: Option<Postmaster>,
}

impl Running {
    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its process and that of its database; what it costs is what these and their children cost.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.database.iter().map(Postmaster::id).chain([self.child.id()]).collect()
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Starts it.
    ///
    /// # Errors
    /// It does not start; its last words.
    pub(crate) fn start(peer: &Peer) -> Result<Running, String> {
        Running::start_as(peer, (peer.command)())
    }

    /// Starts it by another command than its own.
    ///
    /// # Errors
    /// It does not start; its last words.
    pub(crate) fn start_as(peer: &Peer, mut command: Command) -> Result<Running, String> {
        let database = peer.database.as_ref().map(|cluster| cluster.start()).transpose()?;
        let log_path = peer.folder.join("output.log");
        let log = std::fs::File::create(&log_path)
            .map_err(|error| format!("cannot write {}: {error}", log_path.display()))?;
        let err = log.try_clone().map_err(|error| format!("cannot write {}: {error}", log_path.display()))?;
        if let Some(file) = &peer.ready_file {
            let _ = std::fs::remove_file(file);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(err)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", peer.name))?;
        let mut running = Running { child, database };
        let end = Instant::now() + START_MAX;
        loop {
            let listens = TcpStream::connect(("127.0.0.1", peer.port)).is_ok();
            if listens && peer.ready_file.as_ref().is_none_or(|file| file.exists()) {
                return Ok(running);
            }
            if !running.is_alive() || Instant::now() > end {
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(8).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join(" | ");
                return Err(format!("{} did not start: {tail}", peer.name));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child, libc::SIGTERM, STOP_MAX);
    }
}

/// Asks a child to end, and kills it when it takes longer than `patience`.
#[expect(unsafe_code, reason = "a system call")]
pub(super) fn end(child: &mut Child, signal: i32, patience: Duration) {
    if matches!(child.try_wait(), Ok(None)) {
        // SAFETY: the call takes no pointers, and the process is our child that has not been waited for.
        unsafe { libc::kill(child.id() as libc::pid_t, signal) };
    }
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// A port that nobody listens on now.
pub(super) fn free_port() -> Result<u16, String> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free port: {error}"))
}

/// A program by its usual places.
pub(crate) fn find_program(name: &str, package: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            format!(
                "{name} is not installed: install Debian's package {package}, or leave it out with --servers"
            )
        })
}
