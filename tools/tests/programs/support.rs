//! Starting the programs, and the smallest client that can log in.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::Value;

use crate::built::built;

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn whimbrelctl() -> PathBuf {
    env!("CARGO_BIN_EXE_whimbrelctl").into()
}

/// The server's program, built beside `whimbrelctl`.
pub(crate) fn whimbreld() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built(&whimbrelctl(), "whimbreld"))
}

/// A folder of one test: the data directory is `data` in it.
pub(crate) struct Place(pub(crate) tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Place {
        Place(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("the folder is ours");
        std::fs::write(&path, text).expect("the folder is ours");
        path
    }

    /// Runs whimbrelctl.
    pub(crate) fn ctl(&self, args: &[&str]) -> Done {
        self.ctl_with(args, "")
    }

    /// Runs whimbrelctl with something on standard input.
    pub(crate) fn ctl_with(&self, args: &[&str], input: &str) -> Done {
        let mut command = Command::new(whimbrelctl());
        command.arg("--data").arg(self.data()).args(args);
        Done::of(command, input)
    }

    /// Runs whimbrelctl, which must succeed, and reads its JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let done = self.ctl(&[args, &["--json"]].concat());
        assert!(done.code == 0, "{args:?}: {done:?}");
        serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{args:?}: {error}: {done:?}"))
    }

    /// Where the running server listens for STARTTLS connections.
    pub(crate) fn address(&self) -> String {
        self.json(&["status"])["listen"][0].as_str().expect("an address").to_owned()
    }

    /// Starts the server on free ports and waits until it serves.
    pub(crate) fn server(&self, args: &[&str]) -> Server {
        let ports = [
            "--listen",
            "127.0.0.1:0",
            "--listen-tls",
            "127.0.0.1:0",
            "--listen-http",
            "none",
            "--workers",
            "2",
        ];
        let mut command = Command::new(whimbreld());
        command.arg("--data").arg(self.data()).args(ports).args(args);
        Server::start(command)
    }

    /// Runs `whimbreld --check` on free ports.
    pub(crate) fn check(&self, args: &[&str]) -> Done {
        let ports =
            ["--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--listen-http", "none", "--check"];
        self.no_server(&[&ports, args].concat())
    }

    /// Runs the server, which must not start.
    pub(crate) fn no_server(&self, args: &[&str]) -> Done {
        let mut command = Command::new(whimbreld());
        command.arg("--data").arg(self.data()).args(args);
        Done::of(command, "")
    }
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn of(mut command: Command, input: &str) -> Done {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A program that does not read its input closes the pipe.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
        Done {
            code: status.code().unwrap_or(-1),
            out: String::from_utf8(stdout).expect("UTF-8"),
            err: String::from_utf8(stderr).expect("UTF-8"),
        }
    }

    /// It failed with this code and one line on standard error that holds these texts.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(code == 2 || self.err.trim_end().lines().count() == 1, "not one line: {self:?}");
        for text in texts {
            assert!(self.err.contains(text), "`{text}` is not said: {self:?}");
        }
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    log: Receiver<String>,
    pub(crate) seen: Vec<String>,
    data: Option<PathBuf>,
}

impl Server {
    pub(crate) fn start(mut command: Command) -> Server {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let data = command.get_args().skip_while(|arg| *arg != "--data").nth(1).map(PathBuf::from);
        let mut child = command.spawn().expect("the program runs");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (lines, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        let mut server = Server { child, log, seen: Vec::new(), data };
        server.wait_for_log("serves");
        server
    }

    /// Waits until a line of the log holds a text.
    #[track_caller]
    pub(crate) fn wait_for_log(&mut self, text: &str) -> String {
        loop {
            let Ok(line) = self.log.recv_timeout(PATIENCE) else {
                panic!("the log does not say `{text}`: {:#?}", self.seen);
            };
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Shows the state of the server of a test that fails.
    fn tell(&mut self) {
        let ended = self.child.try_wait();
        let log: Vec<String> = self.log.try_iter().collect();
        eprintln!("the server's end: {ended:?}; its log: {:#?}{log:#?}", self.seen);
        let Some(data) = &self.data else { return };
        let mut status = Command::new(whimbrelctl());
        status.arg("--data").arg(data).args(["status", "--json"]);
        eprintln!("its status: {}", Done::of(status, "").out);
    }
}

/// A client that logs in with PLAIN and binds; it shows what the server sends.
pub(crate) struct Client {
    stream: TcpStream,
    text: String,
}

impl Client {
    /// Logs in; the server must allow it without TLS. `Err` is what the server said instead.
    pub(crate) fn login(place: &Place, user: &str, password: &str, resource: &str) -> Result<Client, String> {
        Client::login_at(&place.address(), user, password, resource)
    }

    /// As [`Client::login`], at a known address.
    pub(crate) fn login_at(
        address: &str,
        user: &str,
        password: &str,
        resource: &str,
    ) -> Result<Client, String> {
        let mut client = Client::before_binding(address, user, password)?;
        client.try_say(&format!(
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource>\
             </bind></iq>"
        ))?;
        client.try_hear("</jid>")?;
        client.text.clear();
        Ok(client)
    }

    /// Logs in, and stands before binding a resource.
    pub(crate) fn before_binding(address: &str, user: &str, password: &str) -> Result<Client, String> {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut client = Client { stream, text: String::new() };
        let header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
                      to='localhost' version='1.0'>";
        client.try_say(header)?;
        client.try_hear("</stream:features>")?;
        let message = base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0{password}"));
        client.try_say(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{message}</auth>"
        ))?;
        client.try_hear("<success")?;
        client.text.clear();
        client.try_say(header)?;
        client.try_hear("</stream:features>")?;
        client.text.clear();
        Ok(client)
    }

    /// Whether a text has come since the login.
    pub(crate) fn has_heard(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// What has come since the login.
    pub(crate) fn heard(&self) -> &str {
        &self.text
    }

    /// Forgets what has come, so that what comes is found sooner.
    pub(crate) fn forget(&mut self) {
        self.text.clear();
    }

    /// Whether a text has come more than once since the login.
    pub(crate) fn has_heard_twice(&self, text: &str) -> bool {
        self.text.matches(text).count() > 1
    }

    /// Waits for an element and returns the value of one of its attributes.
    #[track_caller]
    pub(crate) fn hear_attribute(&mut self, element: &str, attribute: &str) -> String {
        self.hear(element);
        let start = self.text.find(element).expect("it has just come");
        self.hear(">");
        while !self.text[start..].contains('>') {
            self.hear("\0never");
        }
        let tag = &self.text[start..];
        let tag = &tag[..tag.find('>').expect("it was looked for")];
        let value = tag.split(&format!(" {attribute}=")).nth(1).expect("it has the attribute");
        value[1..].split(&value[..1]).next().expect("it is quoted").to_owned()
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.try_say(text).expect("the server reads");
    }

    fn try_say(&mut self, text: &str) -> Result<(), String> {
        self.stream.write_all(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[track_caller]
    pub(crate) fn hear(&mut self, expected: &str) {
        if let Err(said) = self.try_hear(expected) {
            panic!("`{expected}` does not come: {said}");
        }
    }

    /// Reads until a text comes; `Err` with what came when the server refuses or closes.
    fn try_hear(&mut self, expected: &str) -> Result<(), String> {
        let mut buffer = [0; 4096];
        while !self.text.contains(expected) {
            if self.text.contains("</failure>") {
                return Err(self.text.clone());
            }
            match self.stream.read(&mut buffer) {
                Ok(n) if n > 0 => self.text.push_str(&String::from_utf8_lossy(&buffer[..n])),
                other => return Err(format!("{} ({other:?})", self.text)),
            }
        }
        Ok(())
    }
}
