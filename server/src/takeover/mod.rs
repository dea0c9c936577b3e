//! What a new program takes over from the one before, and what it says when everything is there.

#[expect(unsafe_code, reason = "a way back that a signal handler reads")]
pub mod guard;
pub mod launch;
pub mod rehearse;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::config::Config;
use crate::control::{Answer, ControlRefusal, Problem};
use crate::runtime::platform;
use crate::saved::file::{self, StateFile};
use crate::saved::state::{ServerState, Serves, Tally};
use guard::Guard;
use launch::Launch;
use rehearse::{Contents, Mapped, server_of};

/// Descriptors above this are not looked for.
const DESCRIPTORS_MAX: u64 = 1 << 26;

/// The descriptors that this process has from before it became this program. Each is given away once.
#[derive(Debug)]
pub struct InheritedDescriptors {
    taken: Vec<AtomicU64>,
}

impl InheritedDescriptors {
    fn new() -> InheritedDescriptors {
        let most = platform::descriptor_limits().map_or(DESCRIPTORS_MAX, |limits| limits.hard);
        let words = most.min(DESCRIPTORS_MAX).div_ceil(64) as usize;
        InheritedDescriptors { taken: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Takes a descriptor over.
    ///
    /// # Errors
    /// It is not one that came along, or somebody has taken it already.
    pub fn take(&self, descriptor: u32) -> Result<OwnedFd, String> {
        let (word, bit) = ((descriptor / 64) as usize, 1u64 << (descriptor % 64));
        let word =
            self.taken.get(word).ok_or_else(|| format!("descriptor {descriptor} is beyond all limits"))?;
        if word.fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            return Err(format!("descriptor {descriptor} is in the state twice"));
        }
        let number = RawFd::try_from(descriptor).map_err(|_| "a descriptor is beyond all numbers")?;
        // What this program has opened itself is closed by an exec; what came along was not.
        if !platform::is_inherited(number) {
            return Err(format!("descriptor {descriptor} did not come along"));
        }
        // SAFETY: it is open, it is none of those that this program has opened, and it is given away once.
        #[expect(unsafe_code, reason = "a descriptor of the program before")]
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }

    /// As [`InheritedDescriptors::take`]: a copy, so that the original stays until everything is there.
    fn copy(&self, descriptor: u32, originals: &mut Vec<OwnedFd>) -> Result<OwnedFd, String> {
        let original = self.take(descriptor)?;
        let copy = original.try_clone();
        originals.push(original);
        copy.map_err(|error| format!("cannot copy descriptor {descriptor}: {error}"))
    }
}

/// Everything that the old program has left.
#[derive(Debug)]
pub struct Takeover {
    /// The server as it was.
    pub server: ServerState,
    /// The whole state.
    pub state: Arc<Mapped>,
    /// Sessions in it.
    pub sessions: u64,
    /// The descriptors that came along.
    pub inherited: Arc<InheritedDescriptors>,
    /// Why the new program gave up, when this is the old one again.
    pub fallen_back: Option<String>,
    memory: File,
    /// Descriptors of which copies are in use; closed when everything is there.
    originals: Vec<OwnedFd>,
}

/// The listeners of one kind: for each address its sockets, and the address they are bound to.
pub type Listeners = (Vec<Vec<TcpListener>>, Vec<SocketAddr>);

impl Takeover {
    /// Opens the state that the process has in a descriptor, and guards what follows: from here on errors lead back to
    /// the program before, through [`guard::fall_back_if_armed`].
    ///
    /// # Errors
    /// There is no state in it, or it is of an unknown version or damaged. When there is a way back it has been taken.
    pub fn open(descriptor: u32, launch: &mut Launch) -> Result<(Takeover, Option<Guard>), String> {
        let inherited = Arc::new(InheritedDescriptors::new());
        let memory = File::from(inherited.take(descriptor)?);
        let system = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| format!("cannot {what} the state: {error}")
        };
        let attempt = file::count_attempt(&memory).map_err(system("read"))?;
        if attempt > 1 {
            return Err("neither the new program nor the one before can restore the server".into());
        }
        let mapped = Arc::new(Mapped::new(&memory).map_err(system("map"))?);
        let (server, sessions) = {
            let state = StateFile::read(mapped.bytes()).map_err(|error| error.to_string())?;
            (server_of(&state).map_err(|error| error.to_string())?, state.sessions)
        };
        let mut originals = Vec::new();
        let image = File::from(inherited.copy(server.program_descriptor, &mut originals)?);
        let guard = match attempt {
            0 => {
                let back = launch
                    .predecessor(File::from(take_copy(&originals)?), memory.as_raw_fd())
                    .map_err(|error| error.to_string())?;
                let patience = Duration::from_secs(server.patience_seconds.into());
                let guarded = memory.try_clone().and_then(|memory| guard::arm(memory, back, patience));
                Some(guarded.map_err(|error| format!("cannot guard the restore: {error}"))?)
            }
            _ => {
                // This is the program before: it knows its own file, whatever lies at its path by now.
                launch.image = image;
                launch.path.clone_from(&server.program);
                platform::name_process(c"whimbreld");
                None
            }
        };
        if attempt == 0 {
            launch.path.clone_from(&server.successor);
        }
        let fallen_back = match attempt {
            0 => None,
            _ => Some(file::note(&memory).map_err(system("read"))?),
        };
        launch.tally = server.tally.clone();
        match &fallen_back {
            None => launch.tally.done += 1,
            Some(_) => launch.tally.fallen_back += 1,
        }
        let takeover =
            Takeover { server, state: mapped, sessions, inherited, fallen_back, memory, originals };
        Ok((takeover, guard))
    }

    /// When the server's clock began, so that all its times stay what they are.
    #[must_use]
    pub fn clock_start(&self) -> Instant {
        let since = platform::monotonic_ns().saturating_sub(self.server.clock_at_ns);
        let age = Duration::from_millis(self.server.clock_ms) + Duration::from_nanos(since);
        Instant::now().checked_sub(age).unwrap_or_else(Instant::now)
    }

    /// Whether a configuration can go on with what is here.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, config: &Config) -> Result<(), String> {
        if config.domain != self.server.domain {
            return Err(format!(
                "the configuration's domain is {}, that of the running server {}",
                config.domain, self.server.domain
            ));
        }
        let data = absolute(&config.data);
        if data != self.server.data {
            return Err(format!(
                "the configuration's data directory is {}, that of the running server {}",
                data.display(),
                self.server.data.display()
            ));
        }
        Ok(())
    }

    /// A copy of one of the locks.
    ///
    /// # Errors
    /// It did not come along.
    pub fn lock(&mut self, descriptor: u32) -> Result<File, String> {
        self.inherited.copy(descriptor, &mut self.originals).map(File::from)
    }

    /// The listening control socket.
    ///
    /// # Errors
    /// It did not come along.
    pub fn control(&mut self) -> Result<UnixListener, String> {
        self.inherited.copy(self.server.control_descriptor, &mut self.originals).map(UnixListener::from)
    }

    /// The client who asked for the upgrade, when it could be carried.
    #[must_use]
    pub fn client(&mut self) -> Option<UnixStream> {
        let descriptor = self.server.client_descriptor?;
        self.inherited.copy(descriptor, &mut self.originals).ok().map(UnixStream::from)
    }

    /// The sockets of these addresses that came along; `make` makes those that did not, given the address to bind.
    ///
    /// Sockets of which there are more than `count` are all kept: connections may wait in each.
    ///
    /// # Errors
    /// One did not come along, or cannot be made.
    pub fn listeners<E>(
        &mut self,
        addresses: &[SocketAddr],
        serves: Serves,
        count: usize,
        mut make: impl FnMut(SocketAddr, usize) -> Result<Vec<TcpListener>, E>,
    ) -> Result<Result<Listeners, E>, String> {
        let (mut groups, mut bound) = (Vec::new(), Vec::new());
        for &address in addresses {
            let of_address =
                self.server.listeners.iter().filter(|l| l.serves == serves && l.configured == address);
            let descriptors: Vec<u32> = of_address.map(|listener| listener.descriptor).collect();
            let mut group = Vec::new();
            for descriptor in descriptors {
                group.push(TcpListener::from(self.inherited.copy(descriptor, &mut self.originals)?));
            }
            let actual = match group.first() {
                Some(first) => first.local_addr().map_err(|error| format!("a listener is none: {error}"))?,
                None => address,
            };
            if group.len() < count {
                match make(actual, count - group.len()) {
                    Ok(made) => group.extend(made),
                    Err(error) if group.is_empty() => return Ok(Err(error)),
                    // A port below 1024, after privileges were dropped: the workers that have one serve it.
                    Err(_) => {
                        tracing::warn!(%address, "some workers cannot listen there until the next start");
                    }
                }
            }
            let actual = group.first().and_then(|first| first.local_addr().ok()).unwrap_or(actual);
            groups.push(group);
            bound.push(actual);
        }
        Ok(Ok((groups, bound)))
    }

    /// Everything is there: tells what came of it.
    #[must_use]
    pub fn complete(
        &self,
        contents: &Contents,
        restored_at: Instant,
        driver: &str,
        workers: usize,
    ) -> TakeoverOutcome {
        let pause_ns = platform::monotonic_ns().saturating_sub(self.server.stopped_at_ns);
        let state_bytes = self.memory.metadata().map_or(0, |metadata| metadata.len());
        let mut phases: BTreeMap<String, f64> =
            self.server.phases.iter().map(|(name, us)| (name.clone(), *us as f64 / 1000.0)).collect();
        phases.insert("restore".into(), restored_at.elapsed().as_secs_f64() * 1000.0);
        TakeoverOutcome {
            from: self.server.version.clone(),
            successor: self.server.successor.display().to_string(),
            contents: contents.clone(),
            closed: self.server.closed.clone(),
            pause: Duration::from_nanos(pause_ns),
            phases,
            state_bytes,
            driver: driver.to_owned(),
            workers,
            tally: Tally::default(),
            fallen_back: self.fallen_back.clone(),
        }
    }
}

fn take_copy(originals: &[OwnedFd]) -> Result<OwnedFd, String> {
    let first = originals.first().ok_or("the program before did not leave its file")?;
    first.try_clone().map_err(|error| format!("cannot copy a descriptor: {error}"))
}

/// A path that does not depend on the working directory.
#[must_use]
pub fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What came of an upgrade.
#[derive(Clone, Debug)]
pub struct TakeoverOutcome {
    /// Version of the program before.
    pub from: String,
    /// The program that was to take over.
    pub successor: String,
    /// What was carried.
    pub contents: Contents,
    /// What was closed, by reason.
    pub closed: Vec<(String, u64)>,
    /// From the last read of the old program to the first of this one.
    pub pause: Duration,
    /// Milliseconds of each phase.
    pub phases: BTreeMap<String, f64>,
    /// Bytes of the state.
    pub state_bytes: u64,
    /// The driver now.
    pub driver: String,
    /// The workers now.
    pub workers: usize,
    /// Upgrades so far, this one included.
    pub tally: Tally,
    /// Why the new program gave up, when this is the old one again.
    pub fallen_back: Option<String>,
}

impl TakeoverOutcome {
    /// Connections that were closed.
    #[must_use]
    pub fn closed_count(&self) -> u64 {
        self.closed.iter().map(|(_, count)| count).sum()
    }

    /// Milliseconds for which nobody read from any connection.
    #[must_use]
    pub fn pause_ms(&self) -> f64 {
        self.pause.as_secs_f64() * 1000.0
    }

    /// What the operator who asked for it is told.
    pub fn answer(&self) -> Answer {
        let version = env!("CARGO_PKG_VERSION");
        if let Some(reason) = &self.fallen_back {
            return Err(Problem::new(
                ControlRefusal::Failed,
                format!(
                    "{} could not take over: {reason}. Version {version} goes on with all sessions; nobody was \
                     disconnected, and nothing was read for {:.0} ms",
                    self.successor,
                    self.pause_ms()
                ),
            ));
        }
        let closed: serde_json::Map<String, Value> =
            self.closed.iter().map(|(reason, count)| (reason.clone(), json!(count))).collect();
        let sessions = self.contents.sessions();
        Ok(json!({
            "upgraded": true,
            "pid": std::process::id(),
            "program": self.successor,
            "from": self.from,
            "to": version,
            "sessions": self.contents.bound,
            "waiting": self.contents.waiting,
            "negotiating": self.contents.negotiating,
            "tls": self.contents.tls,
            "closed": closed,
            "pause_ms": round(self.pause_ms()),
            "phases_ms": self.phases.iter().map(|(name, ms)| (name.clone(), json!(round(*ms)))).collect::<serde_json::Map<_, _>>(),
            "state_bytes": self.state_bytes,
            "state_bytes_per_session": self.state_bytes.checked_div(sessions).unwrap_or(0),
            "driver": self.driver,
            "workers": self.workers,
        }))
    }

    /// One line for the log.
    #[must_use]
    pub fn line(&self) -> String {
        let Contents { bound, waiting, negotiating, .. } = self.contents;
        let (version, pause_ms) = (env!("CARGO_PKG_VERSION"), self.pause_ms());
        match &self.fallen_back {
            None => format!(
                "upgraded from {} to {version} ({}): {bound} sessions carried, {waiting} waiting to be resumed, \
                 {negotiating} logging in, {} closed, pause {pause_ms:.1} ms",
                self.from,
                self.successor,
                self.closed_count(),
            ),
            Some(reason) => format!(
                "{} could not take over: {reason}; version {version} goes on with {bound} sessions, pause {pause_ms:.1} ms",
                self.successor,
            ),
        }
    }
}

fn round(ms: f64) -> f64 {
    (ms * 100.0).round() / 100.0
}
