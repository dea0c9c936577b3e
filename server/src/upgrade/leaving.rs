//! What goes along beside the workers' parts.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::Instant;

use super::run::Order;
use crate::proto::sasl::throttle::Guesses;
use crate::quota::Registrations;
use crate::running::Server;
use crate::running::listeners::Listeners;
use crate::running::socket::{Control, ControlRecord};
use crate::saved::error::WriteError;
use crate::saved::frame::StateWriter;
use crate::shared::{DirectoryLock, EarlierStreams};
use crate::takeover::absolute;
use crate::takeover::clock::ServerClock;
use crate::takeover::launch::Launch;
use crate::takeover::program::{Program, ProgramRecord};
use crate::web::bosh::saved::BoshSessions;
use crate::worker::upgrade::Parked;

/// Phases and how long each took.
pub(super) struct Phases {
    since: Instant,
    list: Vec<(String, u64)>,
}

impl Phases {
    pub(super) fn begin() -> Phases {
        Phases { since: Instant::now(), list: Vec::new() }
    }

    pub(super) fn end(&mut self, name: &str) {
        let us = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.list.push((name.to_owned(), us));
        self.since = Instant::now();
    }
}

/// A server whose workers have written their parts.
pub(super) struct Leaving<'a> {
    pub(super) server: &'a Server,
    pub(super) launch: &'a Launch,
    pub(super) successor: &'a Path,
    pub(super) order: &'a Order<'a>,
    /// The monotonic clock when the workers stopped, nanoseconds.
    pub(super) stopped_at_ns: u64,
    /// All phases so far. The one that writes this is missing: the rehearsal needs what it is to rehearse. It is counted with
    /// the switch.
    pub(super) phases: &'a Phases,
}

impl Leaving<'_> {
    /// Writes a block for each owner that has something of the server as a whole.
    pub(super) fn write(&self, parked: &[Parked], to: &StateWriter) -> Result<(), WriteError> {
        let shared = &self.server.shared;
        let clock = ServerClock::read(self.server.started);
        to.put::<Program>(&self.program(parked))?;
        to.put::<ServerClock>(&clock)?;
        to.put::<Control>(&ControlRecord {
            listener: number(self.order.control),
            client: self.order.client.map(number),
        })?;
        to.put::<DirectoryLock>(&number(shared.directory.lock_descriptor().as_raw_fd()))?;
        to.put_all::<Listeners>(&self.server.listeners)?;
        to.put_all::<EarlierStreams>(&shared.streams_before(clock.ms))?;
        to.put::<Guesses>(&shared.throttle().save())?;
        to.put_all::<BoshSessions>(&self.server.bosh.records())?;
        to.put::<Registrations>(&shared.registrations.save())
    }

    fn program(&self, parked: &[Parked]) -> ProgramRecord {
        let mut closed: BTreeMap<&str, u64> = BTreeMap::new();
        for (reason, count) in parked.iter().flat_map(|parked| &parked.closed) {
            *closed.entry(reason).or_default() += count;
        }
        let config = self.server.config();
        ProgramRecord {
            version: env!("CARGO_PKG_VERSION").into(),
            program: self.launch.path.clone(),
            descriptor: number(self.launch.image.as_raw_fd()),
            successor: self.successor.to_owned(),
            domain: self.server.shared.domain.to_string(),
            data: absolute(&config.data),
            config: toml::to_string(&*config).unwrap_or_default(),
            stopped_at_ns: self.stopped_at_ns,
            patience_seconds: config.limits.upgrade_seconds,
            phases: self.phases.list.clone(),
            closed: closed.into_iter().filter(|(_, n)| *n > 0).map(|(why, n)| (why.into(), n)).collect(),
            tally: self.launch.tally.clone(),
        }
    }
}

fn number(descriptor: RawFd) -> u32 {
    u32::try_from(descriptor).unwrap_or(u32::MAX)
}
