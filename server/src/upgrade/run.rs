//! The course of an upgrade in the program that is to be replaced.
//!
//! Everything that can be refused is refused before anything has stopped. Anything that goes wrong after that, up to the exec,
//! makes the workers go on where they stopped.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::identity::Identity;
use super::leaving::{Leaving, Phases};
use super::probe::{Asker, Probed};
use super::rehearse::write_samples;
use super::stopped::{ServicesPaused, Stopped};
use super::{KINDS, STATE_VERSION_NEWEST, STATE_VERSION_OLDEST};
use crate::notify;
use crate::running::Server;
use crate::runtime::platform;
use crate::saved::error::WriteError;
use crate::saved::frame::StateWriter;
use crate::saved::kind::Versions;
use crate::takeover::absolute;
use crate::takeover::launch::Launch;

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
        let versions = self.ask(&asker)?;
        if Identity::of(&path)? != identity {
            return Err(format!("{} was replaced while it was asked; try again", path.display()));
        }
        let most = platform::descriptor_limits().map_or(1 << 20, |limits| limits.soft.min(1 << 26));
        let marked = self.shared.directory.close_on_exec(RawFd::try_from(most).unwrap_or(RawFd::MAX));
        marked.map_err(|error| error.to_string())?;
        let _services = ServicesPaused::new(self, order, patience)?;
        // What it has under way is begun anew by the next program.
        let _gathering = self.gathering.as_ref().map(|gathering| gathering.pause());
        let (connections, _) = self.shared.admission.counts();
        (order.tell)(&format!("handing over {connections} connections"));
        notify::reloading("becoming another program");
        let mut phases = Phases::begin();
        let stopped_at_ns = platform::monotonic_ns();
        let stopped = Stopped::new(self)?;
        let deadline = Instant::now() + patience;
        let (state, parked) = loop {
            stopped.settle(deadline, patience)?;
            phases.end("settle");
            let file = platform::memory_file().map_err(no_memory)?;
            let state = Arc::new(StateWriter::new(file, versions.clone()));
            if let Some(parked) = stopped.suspend(&state, deadline)? {
                phases.end("save");
                break (state, parked);
            }
        };
        let leaving =
            Leaving { server: self, launch, successor: &path, order, stopped_at_ns, phases: &phases };
        leaving.write(&parked.list, &state).map_err(|error| error.to_string())?;
        state.finish().map_err(|error| error.to_string())?;
        compare(&asker, &state)?;
        if self.is_draining() {
            return Err("the server was told to stop meanwhile".into());
        }
        parked.keep_open(patience)?;
        become_it(launch, &path, &state)
    }

    /// Asks the new program what it can, and has it read examples. Returns the versions of the blocks to write.
    fn ask(&self, asker: &Asker<'_>) -> Result<Versions, String> {
        let path = asker.path.display();
        let probed = asker.probe()?;
        self.check(&probed, asker.path)?;
        let versions = Versions::common(KINDS, &probed.kinds);
        for kind in versions.missing(KINDS).filter(|kind| kind.is_droppable) {
            tracing::warn!("{path} does not know `{}` of the state: it is left out", kind.name);
        }
        let file = platform::memory_file().map_err(no_memory)?;
        let samples = StateWriter::new(file, versions.clone());
        write_samples(&samples, KINDS).map_err(|error| error.to_string())?;
        compare(asker, &samples)?;
        Ok(versions)
    }

    /// Whether what a program says of itself fits this server.
    fn check(&self, probed: &Probed, path: &Path) -> Result<(), String> {
        let [oldest, newest] = probed.states;
        if oldest > STATE_VERSION_NEWEST || newest < STATE_VERSION_NEWEST {
            return Err(format!(
                "{} (version {}) reads versions {oldest} to {newest} of the state, this server writes versions \
                 {STATE_VERSION_OLDEST} to {STATE_VERSION_NEWEST}; upgrade to a version between the two first, or \
                 restart",
                path.display(),
                probed.whimbreld,
            ));
        }
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
        Ok(())
    }
}

/// Has the new program read a state, and compares what it finds with what was written.
fn compare(asker: &Asker<'_>, state: &StateWriter) -> Result<(), String> {
    let (found, written) = (asker.rehearse(state.file())?, state.counts());
    match found.difference(&written) {
        None => Ok(()),
        Some((name, found, written)) => Err(format!(
            "{} does not find in the state what was written: `{name}` {found} times, and it is there {written} times",
            asker.path.display()
        )),
    }
}

/// The step itself.
fn become_it(launch: &Launch, path: &Path, state: &StateWriter) -> Result<Infallible, String> {
    let memory = state.file().as_raw_fd();
    let mut kept: Vec<RawFd> =
        state.descriptors().into_iter().filter_map(|descriptor| RawFd::try_from(descriptor).ok()).collect();
    kept.push(memory);
    let program = launch.successor(path, memory).map_err(|error| error.to_string())?;
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

fn no_memory(error: io::Error) -> String {
    WriteError::from(error).to_string()
}
