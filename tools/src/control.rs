//! The client side of the control socket. The protocol is described in docs/control.md.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::problem::Problem;

/// The version of the protocol that this tool speaks.
const VERSION: u64 = 1;

/// Name of the socket in the data directory.
const SOCKET_NAME: &str = "control.sock";

/// How long an answer may take; the server gives up earlier.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);

/// Bytes of one answer at most.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A conversation with a running server.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

#[derive(Deserialize)]
struct Reply {
    v: u64,
    ok: bool,
    #[serde(default)]
    result: Value,
    error: Option<Refused>,
}

/// What comes before the reply to a request that takes its time.
#[derive(Deserialize)]
struct Told {
    progress: String,
}

#[derive(Deserialize)]
struct Refused {
    kind: String,
    message: String,
}

impl Client {
    /// Connects to the server of a data directory; `None` when none runs there.
    pub(crate) fn connect(data: &Path) -> Result<Option<Client>, Problem> {
        let path = data.join(SOCKET_NAME);
        let failed = |error: io::Error| {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => "; run this as the user of the server or as root",
                _ => "",
            };
            Problem::new(format!("cannot talk to the server on {}: {error}{remedy}", path.display()))
        };
        let stream = match UnixStream::connect(&path) {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => return Ok(None),
                _ => return Err(failed(error)),
            },
        };
        stream.set_read_timeout(Some(ANSWER_WAIT_MAX)).map_err(failed)?;
        stream.set_write_timeout(Some(ANSWER_WAIT_MAX)).map_err(failed)?;
        Ok(Some(Client { stream: BufReader::new(stream), path }))
    }

    /// Connects to the server of a data directory, which must run.
    pub(crate) fn to_running(data: &Path) -> Result<Client, Problem> {
        Client::connect(data)?.ok_or_else(|| {
            let whole = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
            let text = format!(
                "no server runs in {}; start whimbreld, or name its data directory with --data",
                whole.display()
            );
            Problem::of_kind("not-running", text)
        })
    }

    /// Waits so long for answers from now on.
    pub(crate) fn wait_so_long(&mut self, wait: Duration) -> Result<(), Problem> {
        let set = self.stream.get_ref().set_read_timeout(Some(wait));
        set.map_err(|error| Problem::new(format!("cannot talk to the server: {error}")))
    }

    /// Asks for something. `body` is an object without the version.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, request: &str, body: Value) -> Result<T, Problem> {
        self.ask_with(request, body, &mut |_| ())
    }

    /// As [`Client::ask`], for a request whose progress the server tells.
    pub(crate) fn ask_with<T: DeserializeOwned>(
        &mut self,
        request: &str,
        body: Value,
        progress: &mut dyn FnMut(&str),
    ) -> Result<T, Problem> {
        let mut body = body;
        body["v"] = json!(VERSION);
        body["request"] = json!(request);
        let mut line = body.to_string();
        line.push('\n');
        let lost = |path: &Path, error: &dyn std::fmt::Display| {
            Problem::of_kind("lost", format!("the server on {} does not answer: {error}", path.display()))
        };
        // A server that is too busy answers before it has read anything; its words are worth more than the error.
        let sent = self.stream.get_mut().write_all(line.as_bytes());
        let mut sent = Some(sent);
        let answer = loop {
            let mut answer = Vec::new();
            let read = (&mut self.stream).take(ANSWER_BYTES_MAX).read_until(b'\n', &mut answer);
            if answer.last() != Some(&b'\n') {
                return Err(match sent.take().unwrap_or(Ok(())).and(read.map(|_| ())) {
                    Err(error) => lost(&self.path, &error),
                    Ok(()) => lost(&self.path, &"it closed the connection"),
                });
            }
            match serde_json::from_slice::<Told>(&answer) {
                Ok(Told { progress: text }) => progress(&text),
                Err(_) => break answer,
            }
        };
        let strange = |what: &dyn std::fmt::Display| {
            Problem::new(format!(
                "the server on {} gives a strange answer ({what}); use the whimbrelctl that came with it",
                self.path.display()
            ))
        };
        let reply: Reply = serde_json::from_slice(&answer).map_err(|error| strange(&error))?;
        if reply.v != VERSION {
            return Err(strange(&format!("protocol version {}", reply.v)));
        }
        match (reply.ok, reply.error) {
            (true, _) => serde_json::from_value(reply.result).map_err(|error| strange(&error)),
            (false, Some(error)) => Err(Problem { kind: error.kind, message: error.message }),
            (false, None) => Err(strange(&"a refusal without a reason")),
        }
    }

    /// Waits until the server closes the connection, which it does when its process ends. `false` when it still
    /// runs after `wait`.
    pub(crate) fn wait_for_end(mut self, wait: Duration) -> bool {
        if self.stream.get_ref().set_read_timeout(Some(wait)).is_err() {
            return false;
        }
        let mut byte = [0];
        !matches!(self.stream.read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
