//! Starting and stopping a server for a test.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use whimbrel_server::boot::Server;
use whimbrel_server::config::{Config, DriverChoice, HttpConfig};
use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::run_inline;

use super::Client;
use super::bosh::Bosh;

/// After which a server that stops is taken for one that never will: hundreds of times what it takes.
const STOP_WAIT: Duration = Duration::from_secs(300);

/// Drivers that the suite runs on. `WHIMBREL_TEST_DRIVER` names a single one.
pub(crate) fn drivers() -> Vec<DriverChoice> {
    match std::env::var("WHIMBREL_TEST_DRIVER").as_deref() {
        Ok("mio") => vec![DriverChoice::Mio],
        Ok("uring") => vec![DriverChoice::Uring],
        Ok(other) => panic!("WHIMBREL_TEST_DRIVER is {other}; it may be mio or uring"),
        Err(_) if cfg!(target_os = "linux") => vec![DriverChoice::Mio, DriverChoice::Uring],
        Err(_) => vec![DriverChoice::Mio],
    }
}

/// Runs a test against a server with the usual test configuration, once on every driver.
pub(crate) fn on_each_driver(test: impl Fn(&TestServer)) {
    on_each_driver_with(|_| {}, test);
}

/// As [`on_each_driver`], with changes to the configuration.
pub(crate) fn on_each_driver_with(configure: impl Fn(&mut Config), test: impl Fn(&TestServer)) {
    for driver in drivers() {
        eprintln!("on driver {driver:?}");
        let server = TestServer::start(driver, &configure);
        test(&server);
    }
}

/// A running server: two workers, ports of its own, plaintext logins allowed, data in a temporary directory.
pub(crate) struct TestServer {
    /// The server.
    pub(crate) server: Server,
    /// Where its data lies; gone when the test is over.
    pub(crate) data: Option<TempDir>,
}

impl TestServer {
    /// Starts one.
    pub(crate) fn start(driver: DriverChoice, configure: impl Fn(&mut Config)) -> TestServer {
        let data = tempfile::tempdir().unwrap();
        let server =
            Server::start(config(driver, &data, configure)).unwrap_or_else(|e| panic!("no server: {e}"));
        TestServer { server, data: Some(data) }
    }

    /// The address for plain connections (and STARTTLS).
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.listening[0]
    }

    /// The address for direct TLS.
    pub(crate) fn tls_address(&self) -> SocketAddr {
        self.server.listening_tls[0]
    }

    /// The address for HTTP; there is one where [`with_http`] has configured it.
    pub(crate) fn http_address(&self) -> SocketAddr {
        self.server.web.as_ref().expect("it listens").listening[0]
    }

    /// A client that has connected over WebSocket, with TLS where that is configured.
    pub(crate) fn websocket(&self) -> Client {
        let certificate = self.certificate();
        let trusted = self.server.config().http.tls.then_some(certificate.as_path());
        Client::connect_websocket(self.http_address(), trusted)
    }

    /// A client that will speak BOSH, with TLS where that is configured, and sends these fields with each request.
    pub(crate) fn bosh(&self, fields: &str) -> Client {
        let certificate = self.certificate();
        let trusted = self.server.config().http.tls.then_some(certificate.as_path());
        Client::over_bosh(Bosh::connect(self.http_address(), trusted, fields))
    }

    /// As [`TestServer::login`], over BOSH.
    pub(crate) fn login_bosh(&self, name: &str, resource: &str) -> Client {
        let mut client = self.bosh("");
        client.log_in(name, &password(name), resource);
        client
    }

    /// As [`TestServer::login`], over WebSocket.
    pub(crate) fn login_web(&self, name: &str, resource: &str) -> Client {
        let mut client = self.websocket();
        client.log_in(name, &password(name), resource);
        client
    }

    /// The server's self-signed certificate.
    pub(crate) fn certificate(&self) -> std::path::PathBuf {
        self.data
            .as_ref()
            .expect("only a stopped server is without")
            .path()
            .join("tls")
            .join("self-signed.pem")
    }

    /// Makes accounts; see [`password`] for their passwords.
    pub(crate) fn accounts(&self, names: &[&str]) {
        for name in names {
            let name = (*name).to_owned();
            let rounds = NonZeroU32::new(4096).unwrap();
            let credentials = Credentials::derive(&password(&name), rounds).unwrap();
            let made = run_inline(
                &self.server.shared.directory,
                Box::new(move |transaction| transaction.create_account(&name, &credentials)),
            );
            assert!(made.unwrap(), "there is such an account already");
        }
    }

    /// A client that has logged in and bound `resource`, and has sent no presence.
    pub(crate) fn login(&self, name: &str, resource: &str) -> Client {
        let mut client = Client::connect(self.address());
        client.log_in(name, &password(name), resource);
        client
    }

    /// As [`TestServer::login`], then initial presence, whose echo is taken.
    pub(crate) fn online(&self, name: &str, resource: &str) -> Client {
        let mut client = self.login(name, resource);
        client.send("<presence/>");
        client.settle();
        client.quiet();
        client
    }

    /// Stops the server, and starts another one on the same data.
    pub(crate) fn restart(self, configure: impl Fn(&mut Config)) -> TestServer {
        self.restart_after(|_| {}, configure)
    }

    /// As [`TestServer::restart`], after something was done to the data in between.
    pub(crate) fn restart_after(
        self,
        between: impl FnOnce(&Path),
        configure: impl Fn(&mut Config),
    ) -> TestServer {
        let driver = self.server.config().driver;
        let data = self.stop();
        between(data.path());
        let server =
            Server::start(config(driver, &data, configure)).unwrap_or_else(|e| panic!("no server: {e}"));
        TestServer { server, data: Some(data) }
    }

    /// As [`TestServer::restart`], as if it had crashed as far as its sessions are concerned: none is kept.
    pub(crate) fn restart_without_keeping(mut self, configure: impl Fn(&mut Config)) -> TestServer {
        let driver = self.server.config().driver;
        self.server.drain(true);
        self.join();
        let data = self.data.take().expect("only a stopped server is without");
        drop(self);
        let server =
            Server::start(config(driver, &data, configure)).unwrap_or_else(|e| panic!("no server: {e}"));
        TestServer { server, data: Some(data) }
    }

    fn stop(mut self) -> TempDir {
        self.end();
        self.data.take().expect("only a stopped server is without")
    }

    fn end(&mut self) {
        self.server.stop();
        self.join();
    }

    fn join(&mut self) {
        // One that never ends would take the time of all tests, and nothing would say which.
        let (ended, has_ended) = mpsc::channel::<()>();
        let test = thread::current().name().unwrap_or("a test").to_owned();
        thread::spawn(move || {
            if has_ended.recv_timeout(STOP_WAIT) == Err(RecvTimeoutError::Timeout) {
                // Not by a macro: what those write the tests' harness keeps to itself.
                let _ = writeln!(io::stderr(), "{test}: the server has not stopped after {STOP_WAIT:?}");
                std::process::exit(1);
            }
        });
        let result = self.server.join();
        drop(ended);
        result.expect("no worker fails");
    }

    /// The sum of a metric over all workers.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let totals = whimbrel_server::metrics::totals(&self.server.shared.metrics);
        totals.into_iter().find(|(description, _)| description.name == name).expect("a metric").1
    }

    /// Waits until a metric is at least so much: a worker counts at the end of an iteration, behind what it answers in it.
    pub(crate) fn await_at_least(&self, name: &str, least: u64) {
        let since = std::time::Instant::now();
        while self.metric(name) < least {
            assert!(since.elapsed() < super::PATIENCE, "{name} is {}, not {least}", self.metric(name));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until a metric has this value.
    pub(crate) fn await_metric(&self, name: &str, wanted: u64) {
        let since = std::time::Instant::now();
        while self.metric(name) != wanted {
            assert!(since.elapsed() < super::PATIENCE, "{name} is {}, not {wanted}", self.metric(name));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// A name that starts with `prefix` and whose home is the given worker.
    pub(crate) fn name_at_home_on(&self, worker: usize, prefix: &str) -> String {
        (0..)
            .map(|n| format!("{prefix}{n}"))
            .find(|name| self.server.shared.home_of(name) == worker)
            .expect("every worker is somebody's home")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if self.data.is_some() {
            self.end();
        }
    }
}

/// Has a server speak HTTP, with TLS or without.
pub(crate) fn with_http(config: &mut Config, tls: bool) {
    config.http.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    config.http.tls = tls;
    config.http.requests_per_minute = 1_000_000;
}

/// The configuration of the test servers.
pub(crate) fn config(driver: DriverChoice, data: &TempDir, configure: impl Fn(&mut Config)) -> Config {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = Config {
        data: data.path().to_owned(),
        listen: vec![loopback],
        listen_tls: vec![loopback],
        http: HttpConfig { listen: Vec::new(), ..HttpConfig::default() },
        workers: 2,
        driver,
        pin_workers: false,
        allow_plaintext: true,
        directory_gib_max: 1,
        log_mib_max: 256,
        log_segment_mib: 2,
        ..Config::default()
    };
    config.limits.drain_seconds = 1;
    configure(&mut config);
    config
}

/// The password of a test account.
pub(crate) fn password(name: &str) -> String {
    format!("secret of {name}")
}
