//! The course of an upgrade in the program that is to be replaced.
//!
//! Everything that can be refused is refused before anything has stopped. Anything that goes wrong after that, up to the exec,
//! makes the workers go on where they stopped.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::probe::{Asker, common_version};
use super::sample;
use crate::notify;
use crate::running::Server;
use crate::runtime::platform;
use crate::saved::codec::Encoder;
use crate::saved::file::{BlockKind, StateWriter};
use crate::saved::state::ServerState;
use crate::takeover::absolute;
use crate::takeover::launch::Launch;
use crate::takeover::rehearse::Contents;
use crate::worker::command::Command;
use crate::worker::upgrade::{NotParked, Parked, Quiescence, Suspend, Verdict};

/// What an upgrade needs beside the server.
pub struct Order<'a> {
    /// The program; `None`: the one that lies where this one came from.
    pub program: Option<&'a Path>,
    /// The descriptor of the listening control socket.
    pub control: RawFd,
    /// The descriptor of the client that asks; it is answered by the new program.
    pub client: Option<RawFd>,
    /// Is told how far it has come.
    pub tell: &'a dyn Fn(&str),
}

/// How often workers are asked whether they have settled.
const ASK_AGAIN: Duration = Duration::from_micros(500);

/// The file of a program when it was asked.
#[derive(PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    bytes: u64,
}

impl Identity {
    fn of(path: &Path) -> Result<Identity, String> {
        let shown = path.display();
        let found = std::fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("there is no program {shown}; name it with --binary"),
            _ => format!("cannot look at {shown}: {error}"),
        })?;
        if !found.is_file() {
            return Err(format!("{shown} is no file; name the program whimbreld with --binary"));
        }
        if found.permissions().mode() & 0o111 == 0 {
            return Err(format!("{shown} is not executable; make it so: chmod +x {shown}"));
        }
        Ok(Identity {
            device: found.dev(),
            inode: found.ino(),
            modified: (found.mtime(), found.mtime_nsec()),
            bytes: found.len(),
        })
    }
}

/// Phases and how long each took.
struct Phases {
    since: Instant,
    list: Vec<(String, u64)>,
}

impl Phases {
    fn end(&mut self, name: &str) {
        let us = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.list.push((name.to_owned(), us));
        self.since = Instant::now();
    }
}

impl Server {
    /// Upgrades the server: returns only when that does not happen, with the reason. Then everything goes on.
    pub fn upgrade(&self, order: &Order<'_>) -> String {
        let Some(launch) = &self.launch else {
            return "this server is part of another program and cannot become a new one".into();
        };
        if self.upgrading.swap(true, Ordering::AcqRel) {
            return "an upgrade is under way already".into();
        }
        let result = self.try_upgrade(launch, order);
        self.upgrading.store(false, Ordering::Release);
        match result {
            Ok(never) => match never {},
            Err(text) => {
                tracing::warn!("not upgraded, everything goes on: {text}");
                notify::ready("not upgraded, serves on");
                text
            }
        }
    }

    fn try_upgrade(&self, launch: &Launch, order: &Order<'_>) -> Result<Infallible, String> {
        if self.is_draining() {
            return Err("the server is stopping".into());
        }
        let path = order.program.unwrap_or(&launch.path);
        let path = absolute(path);
        let identity = Identity::of(&path)?;
        let patience = Duration::from_secs(self.config().limits.upgrade_seconds.into());
        (order.tell)(&format!("asking {}", path.display()));
        let asker = Asker { launch, path: &path, patience };
        let version = self.ask(&asker)?;
        if Identity::of(&path)? != identity {
            return Err(format!("{} was replaced while it was asked; try again", path.display()));
        }
        let most = platform::descriptor_limits().map_or(1 << 20, |limits| limits.soft.min(1 << 26));
        let marked = self.shared.directory.close_on_exec(RawFd::try_from(most).unwrap_or(RawFd::MAX));
        marked.map_err(|error| error.to_string())?;
        let _services = ServicesPaused::new(self, order, patience)?;
        let (connections, _) = self.shared.admission.counts();
        (order.tell)(&format!("handing over {connections} connections"));
        notify::reloading("becoming another program");
        let mut phases = Phases { since: Instant::now(), list: Vec::new() };
        let stopped_at_ns = platform::monotonic_ns();
        let stopped = Stopped::new(self)?;
        let deadline = Instant::now() + patience;
        let (state, parked) = loop {
            stopped.settle(deadline, patience)?;
            phases.end("settle");
            let state = Arc::new(StateWriter::new(platform::memory_file().map_err(no_memory)?));
            if let Some(parked) = stopped.suspend(&state, deadline)? {
                phases.end("save");
                break (state, parked);
            }
        };
        let contents = parked.contents();
        let memory = state.file();
        let server = self.state_of(launch, &path, order, &parked.list, stopped_at_ns, phases.list.clone());
        // Its own phase is missing there: the rehearsal needs what it is to rehearse. It is counted with the switch.
        let mut encoder = Encoder::default();
        server.write(&mut encoder);
        state.block(BlockKind::Server, 0, 1, encoder.bytes()).map_err(no_memory)?;
        state.finish(version).map_err(no_memory)?;
        let found = asker.rehearse(memory)?;
        if found != contents {
            return Err(format!(
                "{} does not find in the state what was written: {} sessions of {}",
                path.display(),
                found.sessions(),
                contents.sessions()
            ));
        }
        if self.is_draining() {
            return Err("the server was told to stop meanwhile".into());
        }
        parked.keep_open(patience)?;
        self.become_it(launch, &path, memory, &server)
    }

    /// Asks the new program what it can, and has it read a sample. Returns the version of the state to write.
    fn ask(&self, asker: &Asker<'_>) -> Result<u32, String> {
        let path = asker.path.display();
        let probed = asker.probe()?;
        let Some(version) = common_version(probed.states) else {
            let [oldest, newest] = probed.states;
            return Err(format!(
                "{path} (version {}) reads versions {oldest} to {newest} of the state, this server writes versions {} \
                 to {}; upgrade to a version between the two first, or restart",
                probed.whimbreld,
                super::STATE_VERSION_OLDEST,
                super::STATE_VERSION_NEWEST,
            ));
        };
        if *probed.domain != *self.shared.domain {
            return Err(format!(
                "the configuration now says domain {}, and {} is served: that needs a restart",
                probed.domain, self.shared.domain
            ));
        }
        let data = absolute(&self.config().data);
        if probed.data != data {
            return Err(format!(
                "the configuration now says data directory {}, and {} is in use: that needs a restart",
                probed.data.display(),
                data.display()
            ));
        }
        let file = platform::memory_file().map_err(no_memory)?;
        let written = file.try_clone().and_then(|copy| sample::write(copy, version)).map_err(no_memory)?;
        let found = asker.rehearse(&file)?;
        if found != written {
            return Err(format!(
                "{path} reads a state wrongly: it finds {found:?}, and {written:?} is in it"
            ));
        }
        Ok(version)
    }

    fn state_of(
        &self,
        launch: &Launch,
        successor: &Path,
        order: &Order<'_>,
        parked: &[Parked],
        stopped_at_ns: u64,
        phases: Vec<(String, u64)>,
    ) -> ServerState {
        let mut closed: BTreeMap<&str, u64> = BTreeMap::new();
        for (reason, count) in parked.iter().flat_map(|parked| &parked.closed) {
            *closed.entry(reason).or_default() += count;
        }
        let number = |descriptor: RawFd| u32::try_from(descriptor).unwrap_or(u32::MAX);
        let clock_at_ns = platform::monotonic_ns();
        let clock_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut guesses = Encoder::default();
        self.shared.throttle().save(&mut guesses);
        ServerState {
            version: env!("CARGO_PKG_VERSION").into(),
            program: launch.path.clone(),
            successor: successor.to_owned(),
            domain: self.shared.domain.to_string(),
            data: absolute(&self.config().data),
            config: toml::to_string(&*self.config()).unwrap_or_default(),
            clock_ms,
            clock_at_ns,
            stopped_at_ns,
            program_descriptor: number(launch.image.as_raw_fd()),
            control_descriptor: number(order.control),
            client_descriptor: order.client.map(number),
            directory_lock: number(self.shared.directory.lock_descriptor().as_raw_fd()),
            log_lock: number(parked.iter().find_map(|parked| parked.log_lock).unwrap_or(-1)),
            listeners: self.listeners.clone(),
            logs: parked.iter().map(|parked| parked.log).collect(),
            patience_seconds: self.config().limits.upgrade_seconds,
            phases,
            closed: closed.into_iter().filter(|(_, n)| *n > 0).map(|(why, n)| (why.into(), n)).collect(),
            streams: self.shared.streams_before(clock_ms),
            tally: launch.tally.clone(),
            guesses: guesses.bytes().to_vec(),
        }
    }

    /// The step itself.
    fn become_it(
        &self,
        launch: &Launch,
        path: &Path,
        memory: &File,
        server: &ServerState,
    ) -> Result<Infallible, String> {
        let mut kept: Vec<RawFd> =
            server.listeners.iter().map(|listener| listener.descriptor as RawFd).collect();
        kept.extend(server.client_descriptor.map(|descriptor| descriptor as RawFd));
        kept.extend(
            [server.program_descriptor, server.control_descriptor, server.directory_lock, server.log_lock]
                .map(|descriptor| descriptor as RawFd),
        );
        kept.push(memory.as_raw_fd());
        let program = launch.successor(path, memory.as_raw_fd()).map_err(|error| error.to_string())?;
        let cannot = |error: io::Error| format!("cannot become {}: {error}", path.display());
        let marked = kept.iter().try_for_each(|descriptor| platform::keep_open(*descriptor, true));
        let error = match marked.and_then(|()| platform::hold_signals(true)) {
            Ok(()) => program.exec(),
            Err(error) => error,
        };
        // Still here: everything is put back, and goes on.
        let _ = platform::hold_signals(false);
        for descriptor in kept {
            let _ = platform::keep_open(descriptor, false);
        }
        Err(cannot(error))
    }
}

/// Nothing of registration and of the HTTP server is under way while this lives: no text message is lost or sent twice by
/// the exec, and no answer cut off.
struct ServicesPaused<'a>(&'a Server);

impl<'a> ServicesPaused<'a> {
    fn new(server: &'a Server, order: &Order<'_>, patience: Duration) -> Result<Self, String> {
        let paused = ServicesPaused(server);
        let deadline = Instant::now() + patience;
        let late = |what: &str| {
            let seconds = patience.as_secs();
            format!("{what} after {seconds} seconds (limits.upgrade_seconds); try again")
        };
        if let Some(http) = &server.http {
            http.shut();
        }
        if let Some(registration) = &server.registration {
            (order.tell)("waiting for text messages that are being sent");
            if !registration.pause(deadline) {
                return Err(late("a text message was still being sent"));
            }
        }
        match &server.http {
            Some(http) if !http.wait_until_written(deadline) => {
                Err(late("an answer of the HTTP server was still being written"))
            }
            _ => Ok(paused),
        }
    }
}

impl Drop for ServicesPaused<'_> {
    fn drop(&mut self) {
        if let Some(registration) = &self.0.registration {
            registration.go_on();
        }
        if let Some(http) = self.0.http.as_ref().filter(|_| !self.0.is_draining()) {
            http.open();
        }
    }
}

fn no_memory(error: io::Error) -> String {
    format!("there is no memory for the state: {error}")
}

/// The workers do not read while this lives.
struct Stopped<'a> {
    server: &'a Server,
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        for queue in &self.server.commands {
            // A queue that is full for a moment: nobody else gives commands now, so it empties.
            while !queue.give(Command::Hold(false)) {
                std::thread::sleep(ASK_AGAIN);
            }
        }
    }
}

impl<'a> Stopped<'a> {
    fn new(server: &'a Server) -> Result<Stopped<'a>, String> {
        let stopped = Stopped { server };
        for queue in &server.commands {
            if !queue.give(Command::Hold(true)) {
                return Err("a worker has too many commands waiting; try again".into());
            }
        }
        Ok(stopped)
    }

    /// Waits until nothing is under way between workers and other threads: everybody says so twice in a row, and
    /// nothing was on its way between them.
    fn settle(&self, deadline: Instant, patience: Duration) -> Result<(), String> {
        let mut before = None;
        loop {
            let quiescence = self.quiescence(deadline)?;
            let sent: u64 = quiescence.iter().map(|one| one.sent).sum();
            let received: u64 = quiescence.iter().map(|one| one.received).sum();
            let settled = quiescence.iter().all(|one| one.quiescent) && sent == received;
            if settled && before == Some(sent) {
                return Ok(());
            }
            before = settled.then_some(sent);
            if Instant::now() >= deadline {
                return Err(format!(
                    "what is under way (commits, changes of the directory, password checks) did not come to rest \
                     within {} seconds (limits.upgrade_seconds); try again when there is less load",
                    patience.as_secs()
                ));
            }
            if !settled {
                std::thread::sleep(ASK_AGAIN);
            }
        }
    }

    fn quiescence(&self, deadline: Instant) -> Result<Vec<Quiescence>, String> {
        let commands = &self.server.commands;
        let (reply, replies) = sync_channel(commands.len());
        for queue in commands {
            if !queue.give(Command::Quiescence(reply.clone())) {
                return Err("a worker has too many commands waiting; try again".into());
            }
        }
        collect(&replies, commands.len(), deadline)
    }

    /// Makes all workers let go of their sockets and write their sessions. `None`: something has begun since they had
    /// settled (a timer, a connection that broke), and they are to settle once more.
    fn suspend(&self, state: &Arc<StateWriter>, deadline: Instant) -> Result<Option<AllParked>, String> {
        let commands = &self.server.commands;
        let (reply, replies) = sync_channel(commands.len());
        let mut verdicts = Vec::new();
        for queue in commands {
            let (verdict, verdict_of_worker) = sync_channel(1);
            let park =
                Suspend { state: state.clone(), deadline, reply: reply.clone(), verdict: verdict_of_worker };
            verdicts.push(verdict);
            if !queue.give(Command::Suspend(park)) {
                return Err("a worker has too many commands waiting; try again".into());
            }
        }
        let (mut list, mut failed, mut has_settled) = (Vec::new(), None, true);
        for reply in collect(&replies, commands.len(), deadline)? {
            match reply {
                Ok(parked) => list.push(parked),
                Err(NotParked::NotSettled) => has_settled = false,
                Err(NotParked::Failed(text)) => failed = Some(text),
            }
        }
        if let Some(text) = failed {
            return Err(text);
        }
        let sent: u64 = list.iter().map(|parked| parked.traffic.0).sum();
        let received: u64 = list.iter().map(|parked| parked.traffic.1).sum();
        list.sort_by_key(|parked| parked.worker);
        Ok((has_settled && sent == received).then_some(AllParked { list, verdicts }))
    }
}

fn collect<T>(replies: &Receiver<T>, count: usize, deadline: Instant) -> Result<Vec<T>, String> {
    let mut all = Vec::new();
    for _ in 0..count {
        let left = deadline.saturating_duration_since(Instant::now()).max(ASK_AGAIN);
        let one = replies.recv_timeout(left);
        all.push(one.map_err(|_| "a worker did not answer in time (limits.upgrade_seconds)")?);
    }
    Ok(all)
}

/// All workers have let go; when this is dropped they take everything back.
struct AllParked {
    list: Vec<Parked>,
    verdicts: Vec<SyncSender<Verdict>>,
}

impl AllParked {
    fn contents(&self) -> Contents {
        let mut contents = Contents::default();
        for parked in &self.list {
            contents.add(&parked.contents);
        }
        contents
    }

    /// Has all sockets marked to stay open.
    fn keep_open(&self, patience: Duration) -> Result<(), String> {
        let (done, replies) = sync_channel(self.verdicts.len());
        for verdict in &self.verdicts {
            verdict.send(Verdict::Keep(done.clone())).map_err(|_| "a worker is gone")?;
        }
        let kept = collect(&replies, self.verdicts.len(), Instant::now() + patience)?;
        kept.into_iter().collect()
    }
}
