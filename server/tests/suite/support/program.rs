//! The real program in a process of its own, for what cannot be done to the process of the tests.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use whimbrel_server::config::DriverChoice;
use whimbrel_stats::{Kind, Reader};
use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::{Directory, Options, WriteTransaction, run_inline};

use super::{Client, PATIENCE, server_password};

/// Data with accounts, and what the program is to be started with.
pub(crate) struct Start {
    folder: TempDir,
    driver: DriverChoice,
    more: String,
    descriptors: Option<u32>,
    /// What the directory may grow to, and for how long the program may start and stop.
    directory_gib: u64,
    patience: Duration,
}

impl Start {
    /// Makes the accounts.
    pub(crate) fn new(accounts: &[&str]) -> Start {
        let folder = tempfile::tempdir().unwrap();
        let start = Start {
            folder,
            driver: DriverChoice::Mio,
            more: String::new(),
            descriptors: None,
            directory_gib: 1,
            patience: PATIENCE,
        };
        let directory = start.directory();
        for name in accounts {
            let credentials =
                Credentials::derive(&server_password(name), NonZeroU32::new(4096).unwrap()).unwrap();
            let name = (*name).to_owned();
            let make =
                move |transaction: &mut WriteTransaction<'_>| transaction.create_account(&name, &credentials);
            assert!(run_inline(&directory, Box::new(make)).unwrap());
        }
        start
    }

    /// With this driver.
    pub(crate) fn with_driver(self, driver: DriverChoice) -> Start {
        Start { driver, ..self }
    }

    /// With more in its configuration.
    pub(crate) fn with_config(self, more: &str) -> Start {
        Start { more: more.to_owned(), ..self }
    }

    /// With so many file descriptors at most.
    pub(crate) fn with_descriptors(self, most: u32) -> Start {
        Start { descriptors: Some(most), ..self }
    }

    /// With so many accounts that the directory and the program's start and stop need more than is usual.
    pub(crate) fn with_accounts(self, accounts: usize) -> Start {
        let directory_gib = 1 + accounts as u64 / 200_000;
        Start { directory_gib, patience: PATIENCE + Duration::from_millis(accounts as u64), ..self }
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The configuration, once the program has been started.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("whimbrel.toml")
    }

    /// The directory. No server runs.
    pub(crate) fn directory(&self) -> Directory {
        let options = Options {
            domain: "localhost".into(),
            map_bytes_max: self.directory_gib << 30,
            ..Options::default()
        };
        Directory::open(&self.data().join("directory"), &options).unwrap()
    }

    /// Starts the program, and waits until it serves.
    pub(crate) fn run(&self) -> Program {
        let config = self.config();
        let driver = if self.driver == DriverChoice::Uring { "uring" } else { "mio" };
        let text = format!(
            "driver = '{driver}'\nworkers = 2\npin_workers = false\nallow_plaintext = true\n\
             listen = ['127.0.0.1:0']\nlisten_tls = ['127.0.0.1:0']\nlog_segment_mib = 2\n\
             directory_gib_max = {}\n{}",
            self.directory_gib, self.more
        );
        fs::write(&config, text).unwrap();
        let log = self.folder.path().join("log.txt");
        // Both the soft and the hard limit: the program raises what it may.
        let limit = self.descriptors.map_or(String::new(), |most| format!("ulimit -n {most} && "));
        let mut child = Command::new("sh")
            .args(["-c", &format!("{limit}exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_whimbreld")])
            .arg("--data")
            .arg(self.data())
            .arg("--config")
            .arg(&config)
            .args(if self.more.contains("[http]") { &[][..] } else { &["--listen-http", "none"] })
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let since = Instant::now();
        while !fs::read_to_string(&log).unwrap().contains("serves") {
            let ended = child.try_wait().unwrap();
            assert!(
                ended.is_none() && since.elapsed() < self.patience,
                "the program does not serve ({ended:?}): {}",
                fs::read_to_string(&log).unwrap()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        let patience = self.patience;
        let mut program = Program { child, log, data: self.data(), address: ([0; 4], 0).into(), patience };
        let status = program.control(&serde_json::json!({ "request": "status" }));
        program.address = status["result"]["listen"][0].as_str().unwrap().parse().unwrap();
        program
    }
}

/// The running program; killed when the test is over.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
    data: PathBuf,
    address: SocketAddr,
    patience: Duration,
}

impl Program {
    /// The address for plain connections.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client that has logged in and bound a resource.
    pub(crate) fn login(&self, name: &str, resource: &str) -> Client {
        let mut client = Client::connect(self.address);
        client.log_in(name, &server_password(name), resource);
        client
    }

    /// A request over the control socket; its answer.
    pub(crate) fn control(&self, request: &Value) -> Value {
        let mut request = request.clone();
        request["v"] = 1.into();
        let mut socket = UnixStream::connect(self.data.join("control.sock")).unwrap();
        socket.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        socket.write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut lines =
            BufReader::new(socket).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        lines.find(|answer: &Value| answer["progress"].is_null()).expect("an answer")
    }

    /// Its figures as the stats file has them, which takes none of its descriptors: sums, and the highest marks.
    pub(crate) fn figures(&self) -> BTreeMap<String, u64> {
        let reader = Reader::open(&self.data.join(whimbrel_stats::FILE_NAME)).unwrap();
        let mut figures = BTreeMap::new();
        for group in reader.groups() {
            for instance in 0..group.instances {
                let mut words = Vec::new();
                reader.read(group, instance, &mut words).unwrap();
                for metric in &group.metrics {
                    let figure: &mut u64 = figures.entry(metric.name.clone()).or_default();
                    let value = words[metric.word];
                    *figure = if metric.kind == Kind::HighWater {
                        (*figure).max(value)
                    } else {
                        figure.wrapping_add(value)
                    };
                }
            }
        }
        figures
    }

    /// Whether its log has a line with all of these texts.
    pub(crate) fn has_said(&self, texts: &[&str]) -> bool {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines().any(|line| texts.iter().all(|text| line.contains(text)))
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(mut self) {
        assert_eq!(self.control(&serde_json::json!({ "request": "stop" }))["ok"], true);
        let since = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(since.elapsed() < self.patience, "the program does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("the program's last words:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder of the log of one worker.
pub(crate) fn log_folder(data: &Path, worker: usize) -> PathBuf {
    data.join(format!("log/generation-1/{worker}"))
}
