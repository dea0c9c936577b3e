//! The server, by its stats file.

use std::io;
use std::path::{Path, PathBuf};

use whimbrel_stats::{FILE_NAME, ReadError, Reader};

use crate::sample::Sink;

/// What is known of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no stats file.
    Absent,
    /// Its process is there.
    Running {
        /// The process.
        pid: u32,
        /// Unix time in nanoseconds.
        started_unix_ns: u64,
    },
    /// There is a stats file, but its process is gone.
    Ended {
        /// The process that was.
        pid: u32,
    },
}

pub(super) struct Server {
    path: PathBuf,
    reader: Option<Reader>,
    state: State,
    words: Vec<u64>,
}

impl Server {
    pub(super) fn new(data: &Path) -> Server {
        Server { path: data.join(FILE_NAME), reader: None, state: State::Absent, words: Vec::new() }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match self.state {
            State::Running { pid, .. } => Some(pid),
            State::Absent | State::Ended { .. } => None,
        }
    }

    /// Adds the server's figures; nothing when there is no server, which is not an error.
    pub(super) fn collect(&mut self, sink: &mut Sink) -> io::Result<()> {
        // The first look at a file, and after each restart, is at the new one.
        if self.reader.as_ref().is_none_or(Reader::is_replaced) {
            self.reader = None;
            self.state = State::Absent;
            match Reader::open(&self.path) {
                Ok(reader) => self.reader = Some(reader),
                Err(ReadError::System(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(self.at_path(error)),
            }
        }
        let Some(reader) = &self.reader else { return Ok(()) };
        let pid = reader.pid();
        if !is_alive(pid) {
            // Its last values are worth a look (see `wsar report`), but nothing happens any more.
            self.state = State::Ended { pid };
            return Ok(());
        }
        self.state = State::Running { pid, started_unix_ns: reader.started_unix_ns() };
        for group in reader.groups() {
            for instance in 0..group.instances {
                self.words.clear();
                if let Err(error) = reader.read(group, instance, &mut self.words) {
                    return Err(self.at_path(error));
                }
                let name = if group.label.is_empty() { String::new() } else { instance.to_string() };
                for metric in &group.metrics {
                    let words = &self.words[metric.word..metric.word + metric.kind.words()];
                    let what = (&*metric.name, metric.kind, &*metric.unit, &*metric.help);
                    sink.words(what, &group.label, &name, words);
                }
            }
        }
        Ok(())
    }

    fn at_path(&self, error: ReadError) -> io::Error {
        io::Error::other(format!("{}: {error}", self.path.display()))
    }
}

fn is_alive(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    if pid <= 0 {
        return false;
    }
    // SAFETY: signal 0 is sent to nobody; the call only looks whether the process is there.
    let there = unsafe { libc::kill(pid, 0) } == 0;
    there || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}
