//! The server as a whole in the state file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::codec::{Decoder, Encoder};
use super::error::StateError;

/// What a listening socket is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Streams, which may begin TLS (STARTTLS).
    Streams,
    /// Streams, over TLS from the first byte.
    StreamsOverTls,
    /// The HTTP API of registration.
    Registration,
}

impl Serves {
    fn code(self) -> u8 {
        match self {
            Serves::Streams => 0,
            Serves::StreamsOverTls => 1,
            Serves::Registration => 2,
        }
    }

    fn from_code(code: u8) -> Result<Serves, StateError> {
        let all = [Serves::Streams, Serves::StreamsOverTls, Serves::Registration];
        let known = all.into_iter().find(|serves| serves.code() == code);
        known.ok_or(StateError::Damaged("a listener for nothing that is known"))
    }
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerState {
    /// The address as it was configured; its port may be 0.
    pub configured: SocketAddr,
    /// What it is for.
    pub serves: Serves,
    /// Its descriptor.
    pub descriptor: u32,
}

/// How upgrades have gone since the process was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Upgrades that took place.
    pub done: u64,
    /// Upgrades that a restore gave up, so that the old program went on.
    pub fallen_back: u64,
}

/// What of the server goes with an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// Version of the program that wrote it.
    pub version: String,
    /// Where that program was started from.
    pub program: PathBuf,
    /// The program that is to take over.
    pub successor: PathBuf,
    /// The domain.
    pub domain: String,
    /// The data directory, absolute.
    pub data: PathBuf,
    /// The configuration in force, for the case that the program that wrote it has to go on: by then its file may say
    /// something else.
    pub config: String,
    /// Milliseconds of the server's clock at `clock_at_ns`.
    pub clock_ms: u64,
    /// The monotonic clock when `clock_ms` was read, nanoseconds.
    pub clock_at_ns: u64,
    /// The monotonic clock when the server began to settle, nanoseconds: from here on nothing was read.
    pub stopped_at_ns: u64,
    /// The open file of the program that wrote it.
    pub program_descriptor: u32,
    /// The listening control socket.
    pub control_descriptor: u32,
    /// The control client that asked for the upgrade and waits for an answer.
    pub client_descriptor: Option<u32>,
    /// The lock on the directory.
    pub directory_lock: u32,
    /// The lock on the log.
    pub log_lock: u32,
    /// Listeners, those of streams each as often as there are workers.
    pub listeners: Vec<ListenerState>,
    /// For each worker, the identity of its log: message numbers are good with the same logs only.
    pub logs: Vec<u64>,
    /// Seconds that a restore may take.
    pub patience_seconds: u32,
    /// How long each phase took in the program that wrote it, microseconds.
    pub phases: Vec<(String, u64)>,
    /// The sessions that were closed, by reason.
    pub closed: Vec<(String, u64)>,
    /// What was safe of the streams of the run before the process was started, while they may still be resumed.
    pub streams: Vec<(u64, u32)>,
    /// Upgrades so far, without this one.
    pub tally: Tally,
    /// Failed logins and known addresses, as the throttle writes them.
    pub guesses: Vec<u8>,
}

impl ServerState {
    /// Writes it.
    pub fn write(&self, to: &mut Encoder) {
        to.bytes_of(self.version.as_bytes());
        for path in [&self.program, &self.successor] {
            put_path(to, path);
        }
        to.bytes_of(self.domain.as_bytes());
        put_path(to, &self.data);
        to.bytes_of(self.config.as_bytes());
        to.number(self.clock_ms);
        to.number(self.clock_at_ns);
        to.number(self.stopped_at_ns);
        to.number(self.program_descriptor);
        to.number(self.control_descriptor);
        to.number(self.client_descriptor.map_or(0, |descriptor| u64::from(descriptor) + 1));
        to.number(self.directory_lock);
        to.number(self.log_lock);
        to.count(self.listeners.len());
        for listener in &self.listeners {
            to.bytes_of(listener.configured.to_string().as_bytes());
            to.byte(listener.serves.code());
            to.number(listener.descriptor);
        }
        to.count(self.logs.len());
        for id in &self.logs {
            to.raw(&id.to_le_bytes());
        }
        to.number(self.patience_seconds);
        for list in [&self.phases, &self.closed] {
            to.count(list.len());
            for (name, number) in list {
                to.bytes_of(name.as_bytes());
                to.number(*number);
            }
        }
        to.count(self.streams.len());
        for (stream, safe) in &self.streams {
            to.raw(&stream.to_le_bytes());
            to.number(*safe);
        }
        to.number(self.tally.done);
        to.number(self.tally.fallen_back);
        to.bytes_of(&self.guesses);
    }

    /// Reads it.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(from: &mut Decoder<'_>) -> Result<ServerState, StateError> {
        let mut state = ServerState {
            version: from.text()?.into(),
            program: path(from)?,
            successor: path(from)?,
            domain: from.text()?.into(),
            data: path(from)?,
            config: from.text()?.into(),
            clock_ms: from.number()?,
            clock_at_ns: from.number()?,
            stopped_at_ns: from.number()?,
            program_descriptor: from.number()?,
            control_descriptor: from.number()?,
            client_descriptor: from.number::<u32>()?.checked_sub(1),
            directory_lock: from.number()?,
            log_lock: from.number()?,
            listeners: Vec::new(),
            logs: Vec::new(),
            patience_seconds: 0,
            phases: Vec::new(),
            closed: Vec::new(),
            streams: Vec::new(),
            tally: Tally::default(),
            guesses: Vec::new(),
        };
        for _ in 0..from.count()? {
            let configured = from.text()?.parse();
            let configured =
                configured.map_err(|_| StateError::Damaged("the address of a listener is none"))?;
            let serves = Serves::from_code(from.byte()?)?;
            state.listeners.push(ListenerState { configured, serves, descriptor: from.number()? });
        }
        for _ in 0..from.count()? {
            state.logs.push(u64::from_le_bytes(*from.array()?));
        }
        state.patience_seconds = from.number()?;
        for list in [&mut state.phases, &mut state.closed] {
            for _ in 0..from.count()? {
                list.push((from.text()?.into(), from.number()?));
            }
        }
        for _ in 0..from.count()? {
            state.streams.push((u64::from_le_bytes(*from.array()?), from.number()?));
        }
        state.tally = Tally { done: from.number()?, fallen_back: from.number()? };
        state.guesses = from.bytes()?.to_vec();
        Ok(state)
    }
}

fn put_path(to: &mut Encoder, path: &Path) {
    use std::os::unix::ffi::OsStrExt;
    to.bytes_of(path.as_os_str().as_bytes());
}

fn path(from: &mut Decoder<'_>) -> Result<PathBuf, StateError> {
    use std::os::unix::ffi::OsStrExt;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(from.bytes()?)))
}
