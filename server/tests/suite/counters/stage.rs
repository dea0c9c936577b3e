//! What a step sees: the figures of a server, and which of them have moved.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use whimbrel_server::config::Config;
use whimbrel_server::http::metrics::{UploadMetrics, WebMetrics};
use whimbrel_server::metrics::WorkerMetrics;
use whimbrel_server::phone::metrics::RegistrationMetrics;
use whimbrel_server::push::metrics::PushMetrics;
use whimbrel_server::stats::{QueueMetrics, ServerMetrics};
use whimbrel_stats::{Block, Description, Kind};

use crate::support::TestServer;

/// How long a metric may take to move: far longer than it takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

/// A small action and the metrics that it moves.
pub(super) struct Step<T: ?Sized> {
    /// What happens.
    pub(super) what: &'static str,
    /// With what configuration.
    pub(super) configure: fn(&mut Config),
    /// Makes it happen.
    pub(super) act: fn(&mut Stage<'_>, &T),
    /// What moves by it.
    pub(super) moves: &'static [&'static str],
}

/// The figures of a server by name, and what has moved since the step began.
pub(super) struct Stage<'a> {
    server: &'a TestServer,
    before: BTreeMap<&'static str, u64>,
    moved: BTreeSet<&'static str>,
}

fn add(into: &mut BTreeMap<&'static str, u64>, table: &'static [Description], values: &[u64]) {
    for (metric, value) in table.iter().zip(values) {
        let sum = into.entry(metric.name).or_default();
        *sum = if metric.kind == Kind::HighWater { (*sum).max(*value) } else { sum.wrapping_add(*value) };
    }
}

/// Every figure of a server now.
fn figures(server: &TestServer) -> BTreeMap<&'static str, u64> {
    let stats = &server.server.shared.stats;
    let mut all = BTreeMap::new();
    stats.workers.iter().for_each(|block| add(&mut all, WorkerMetrics::DESCRIPTIONS, &block.values()));
    stats.queues.iter().for_each(|block| add(&mut all, QueueMetrics::DESCRIPTIONS, &block.values()));
    stats.server.iter().for_each(|block| add(&mut all, ServerMetrics::DESCRIPTIONS, &block.values()));
    stats
        .registration
        .iter()
        .for_each(|block| add(&mut all, RegistrationMetrics::DESCRIPTIONS, &block.values()));
    stats.push.iter().for_each(|block| add(&mut all, PushMetrics::DESCRIPTIONS, &block.values()));
    stats.upload.iter().for_each(|block| add(&mut all, UploadMetrics::DESCRIPTIONS, &block.values()));
    stats.http.iter().for_each(|block| add(&mut all, WebMetrics::DESCRIPTIONS, &block.values()));
    all
}

impl<'a> Stage<'a> {
    /// Takes the figures of a server as those from which to move.
    pub(super) fn of(server: &'a TestServer) -> Stage<'a> {
        Stage { server, before: figures(server), moved: BTreeSet::new() }
    }

    /// From here on everything that is not zero has moved: for what the start of a server moves.
    pub(super) fn count_from_zero(&mut self) {
        self.before.values_mut().for_each(|value| *value = 0);
    }

    /// Looks at everything; what a step moves there and back is to be looked at while it is there.
    pub(super) fn look(&mut self) {
        for (name, value) in figures(self.server) {
            if self.before.get(name).copied().unwrap_or(0) != value {
                self.moved.insert(name);
            }
        }
    }

    /// Whether a metric has moved by now.
    pub(super) fn has_moved(&mut self, name: &str) -> bool {
        self.look();
        self.moved.contains(name)
    }

    /// Waits until a metric has moved.
    pub(super) fn until(&mut self, name: &str) {
        self.until_with(name, || {});
    }

    /// Does something again and again until a metric has moved.
    pub(super) fn until_with(&mut self, name: &str, mut again: impl FnMut()) {
        let end = Instant::now() + PATIENCE;
        while !self.has_moved(name) {
            assert!(
                Instant::now() < end,
                "{name} does not move, and is {:?}: either it is blind, or what this step does no longer causes it",
                figures(self.server).get(name)
            );
            again();
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Runs steps, each against a server of its own that `with` starts; all of them, also when one fails.
pub(super) fn run<T: ?Sized>(steps: &[Step<T>], with: impl Fn(&Step<T>, &dyn Fn(&TestServer, &T))) {
    let mut failed = Vec::new();
    for step in steps {
        eprintln!("step: {}", step.what);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            with(step, &|server, about| {
                let mut stage = Stage::of(server);
                (step.act)(&mut stage, about);
                for name in step.moves {
                    stage.until(name);
                }
            });
        }));
        if outcome.is_err() {
            failed.push(step.what);
        }
    }
    assert!(failed.is_empty(), "these steps fail, for the reasons above: {failed:?}");
}
