//! Starting the programs, and the smallest client that can log in.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::built::built;

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

fn wsar_path() -> PathBuf {
    env!("CARGO_BIN_EXE_wsar").into()
}

/// `wsar` for a data directory.
pub(crate) fn wsar(data: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(wsar_path());
    command.arg("--data").arg(data).args(args);
    command
}

/// What `wsar` prints, when it succeeds.
#[track_caller]
pub(crate) fn output(data: &Path, args: &[&str]) -> String {
    let done = wsar(data, args).output().expect("the program runs");
    let err = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{args:?}: {err}");
    String::from_utf8(done.stdout).expect("it prints text")
}

/// A program that is ended with the test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Ends it as an operator does, and waits.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        let deadline = Instant::now() + PATIENCE;
        while self.0.try_wait().expect("it is ours").is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) process: Running,
    address: String,
}

impl Server {
    /// Starts one that allows passwords without TLS, with the account `juliet`.
    pub(crate) fn start(data: &Path) -> Server {
        Server::start_with(data, &[])
    }

    pub(crate) fn start_with(data: &Path, args: &[&str]) -> Server {
        static PROGRAMS: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
        let built = |program| built(&wsar_path(), program);
        let programs = || (built("whimbreld"), built("whimbrelctl"));
        let (server, ctl) = PROGRAMS.get_or_init(programs);
        let mut child = Command::new(server)
            .arg("--data")
            .arg(data)
            .args([
                "--listen",
                "127.0.0.1:0",
                "--listen-tls",
                "127.0.0.1:0",
                "--listen-http",
                "none",
                "--workers",
                "2",
            ])
            .arg("--allow-plaintext")
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let process = Running(child);
        let line = log.by_ref().map_while(Result::ok).find(|line| line.contains("STARTTLS on "));
        let line = line.expect("the server says where it listens");
        std::thread::spawn(move || log.for_each(drop));
        let address = line.split("STARTTLS on ").nth(1).and_then(|rest| rest.split([',', ';']).next());
        let added = Command::new(ctl)
            .arg("--data")
            .arg(data)
            .args(["user", "add", "juliet@localhost", "--password", "secret"])
            .output()
            .expect("the program runs");
        let text = String::from_utf8_lossy(&added.stderr).into_owned();
        assert!(added.status.success() || text.contains("exists"), "{text}");
        Server { process, address: address.expect("an address").to_owned() }
    }
}

/// A client that logs in as `juliet` with PLAIN.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    text: String,
}

impl Client {
    pub(crate) fn login(server: &Server, resource: &str) -> Client {
        let stream = TcpStream::connect(&server.address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut client = Client { stream, text: String::new() };
        let header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
                      to='localhost' version='1.0'>";
        client.say(header);
        client.hear("</stream:features>");
        // NUL juliet NUL secret.
        client.say(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGp1bGlldABzZWNyZXQ=</auth>",
        );
        client.hear("<success");
        client.say(header);
        client.hear("</stream:features>");
        client.say(&format!(
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource>\
             </bind></iq>"
        ));
        client.hear("</jid>");
        client
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("the server reads");
    }

    /// Reads until a text comes, and forgets what was read.
    #[track_caller]
    pub(crate) fn hear(&mut self, expected: &str) {
        let mut buffer = [0; 4096];
        while !self.text.contains(expected) {
            match self.stream.read(&mut buffer) {
                Ok(n) if n > 0 => self.text.push_str(&String::from_utf8_lossy(&buffer[..n])),
                _ => panic!("`{expected}` does not come: {}", self.text),
            }
        }
        self.text.clear();
    }
}
