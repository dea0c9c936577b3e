//! What the operator does meanwhile: other limits, and the end of the server.

use std::sync::Arc;

use super::Failure;
use super::client::Stage;
use super::world::{REST_ROUNDS_MAX, World};
use crate::config::Config;
use crate::limits::Limits;
use crate::runtime::driver::Driver;
use crate::worker::command::Command;

impl World {
    fn command(&mut self, worker: usize, command: Command) {
        if !self.commands[worker].give(command) {
            self.fail(format!("worker {worker} takes no command"));
        }
    }

    /// Reloads the configuration with other limits.
    pub(super) fn reload(&mut self) {
        let before = &self.config.limits;
        let limits = Limits {
            output_backlog_bytes: self.random.between(20_000, 80_000) as u32,
            held_bytes: self.random.between(500, 50_000) as u32,
            inactive_bytes: self.random.between(200, 8_000) as u32,
            directed_presence: self.random.between(1, 5) as u32,
            resources_per_user: self.random.between(1, 10) as u32,
            ..before.clone()
        };
        // Workers obey one after another, so the larger of two limits may hold for a while.
        let backlog = before.output_backlog_bytes.max(limits.output_backlog_bytes);
        let held = before.held_bytes.max(limits.held_bytes);
        self.settings.output_backlog_bytes = self.settings.output_backlog_bytes.max(backlog);
        self.settings.held_bytes = self.settings.held_bytes.max(held);
        let config = Arc::new(Config { limits, ..(*self.config).clone() });
        self.config = config.clone();
        for worker in 0..self.workers.len() {
            self.command(worker, Command::Reconfigure(config.clone()));
        }
        self.report.reloads += 1;
    }

    /// The server stops in the middle of everything: it takes no new logins, then ends every stream with
    /// `system-shutdown`, and nothing is left.
    pub(super) fn server_stops(&mut self) -> Result<(), Failure> {
        self.stopping = true;
        for worker in 0..self.workers.len() {
            self.workers[worker].driver_mut().stop_accepting();
            self.command(worker, Command::Drain { close: false, is_kept: false });
        }
        for _ in 0..self.random.below(300) {
            self.one_step();
            self.stop_at_failure()?;
        }
        // From here on nobody starts anything, so that what each one hears last can be told.
        self.calm = true;
        self.calm_clients();
        for worker in 0..self.workers.len() {
            self.command(worker, Command::Drain { close: true, is_kept: false });
        }
        self.leaving = Some(vec![false; self.workers.len()]);
        for _ in 0..REST_ROUNDS_MAX {
            self.round();
            self.stop_at_failure()?;
            let connections: usize = self.workers.iter_mut().map(|w| w.driver_mut().connections()).sum();
            let all_have = (0..self.workers.len()).all(|worker| self.has_left(worker));
            if all_have && connections == 0 && self.is_at_rest() {
                break;
            }
            self.pass(10);
        }
        if let Some(worker) = (0..self.workers.len()).find(|worker| !self.has_left(*worker)) {
            self.fail(format!("worker {worker} does not end"));
        }
        self.leaving = None;
        if let Some(worker) = self.workers.iter().position(|worker| !worker.core().effects().links.is_idle())
        {
            self.fail(format!("something was on its way to or from worker {worker} when all had left"));
        }
        self.note_closed();
        for index in 0..self.clients.len() {
            let stage = self.clients[index].stage;
            if matches!(stage, Stage::Online | Stage::Binding) {
                self.fail(format!("client {index}, {stage:?}, has not heard of the server's end"));
            }
        }
        self.report.stops += 1;
        self.stop_at_failure()
    }

    pub(super) fn has_left(&self, worker: usize) -> bool {
        self.leaving.as_ref().is_some_and(|left| left[worker])
    }

    pub(super) fn leave(&mut self, worker: usize) {
        if let Some(left) = &mut self.leaving {
            left[worker] = true;
        }
    }
}
