//! The program under test.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "the tests on disks need Linux"))]

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use whimbrel_server::shared;
use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::{Directory, Options, run_inline};

use crate::PATIENCE;

/// Workers of each server.
const WORKERS: usize = 2;

/// The directory. No server runs.
pub(crate) fn open_directory(data: &Path) -> Directory {
    let options = Options { domain: "localhost".into(), map_bytes_max: 1 << 30, ..Options::default() };
    Directory::open(&data.join("directory"), &options).unwrap()
}

/// Makes accounts, all with the password `secret`. No server runs.
pub(crate) fn create_accounts(data: &Path, names: impl IntoIterator<Item = String>) {
    let directory = open_directory(data);
    for name in names {
        let credentials = Credentials::derive("secret", NonZeroU32::new(1024).unwrap()).unwrap();
        let job = Box::new(move |transaction: &mut whimbrel_storage::directory::WriteTransaction<'_>| {
            transaction.create_account(&name, &credentials)
        });
        assert!(run_inline(&directory, job).unwrap());
    }
}

/// Names, made of `prefix` and a number, that are at home on the worker. No server runs.
pub(crate) fn names_at_home_on(data: &Path, worker: usize, prefix: &str, count: usize) -> Vec<String> {
    let seed = shared::home_seed(&open_directory(data));
    let names = (0..).map(|n| format!("{prefix}{n}"));
    names.filter(|name| shared::home_of(seed, name, WORKERS) == worker).take(count).collect()
}

/// An address that is free now and given once. Not of the usual range of those that the system gives to the near ends of
/// connections: while a server is down, nobody else is to get it.
pub(crate) fn free_address() -> SocketAddr {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + u16::try_from(number % 22_000).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Whether somebody answers at an address. That a connection comes about does not say so: a server that reads its log
/// listens already.
fn answers(address: SocketAddr) -> std::io::Result<bool> {
    let mut socket = TcpStream::connect(address)?;
    if socket.local_addr()? == address {
        return Ok(false);
    }
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(
        socket,
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>"
    )?;
    Ok(socket.read(&mut [0; 64])? > 0)
}

/// A running server; killed when the test is over, however it ends.
pub(crate) struct Server {
    child: Child,
    /// Its configuration: not in the data directory, which may be on a disk in trouble.
    _config: tempfile::NamedTempFile,
}

impl Server {
    /// Starts it and waits until it answers. `config` is added to what all have; `log`: where its log goes.
    pub(crate) fn start(data: &Path, address: SocketAddr, config: &str, log: Option<&Path>) -> Server {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "log_segment_mib = 2\ndirectory_gib_max = 1\npin_workers = false\n{config}").unwrap();
        // The kernel closes the listeners of a ring a moment after the process that was killed is gone.
        crate::wait_until("the address is free", || TcpListener::bind(address).is_ok());
        let log = log.map(|path| OpenOptions::new().append(true).create(true).open(path).unwrap());
        let mut child = Command::new(env!("CARGO_BIN_EXE_whimbreld"))
            .arg("--config")
            .arg(file.path())
            .arg("--data")
            .arg(data)
            .args(["--workers", &WORKERS.to_string(), "--allow-plaintext"])
            .args(["--listen", &address.to_string(), "--listen-tls", "127.0.0.1:0", "--listen-http", "none"])
            .stdout(Stdio::null())
            .stderr(log.map_or_else(Stdio::null, Stdio::from))
            .spawn()
            .unwrap();
        let since = Instant::now();
        while !answers(address).unwrap_or(false) {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server did not start: {status}");
            }
            assert!(since.elapsed() < PATIENCE, "the server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Server { child, _config: file }
    }

    /// As SIGKILL does it.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself; whether it should have shows elsewhere.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Fails when it has ended.
    #[track_caller]
    pub(crate) fn is_alive(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "the server has ended");
    }

    /// Asks it to stop and waits until it has.
    pub(crate) fn stop(&mut self) {
        let sent = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        crate::wait_until("the server stops when it is asked to", || {
            self.child.try_wait().unwrap().is_some()
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
