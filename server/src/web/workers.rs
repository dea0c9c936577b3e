//! Where clients of the HTTP server go: each worker has its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::memory::Pressure;
use crate::shared::Shared;
use crate::worker::command::CommandQueue;
use crate::worker::newcomers::Newcomer;

/// The workers' queues for newcomers; clones are the same.
#[derive(Clone)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    commands: Arc<[Arc<CommandQueue>]>,
    /// Whose turn it is.
    next: Arc<AtomicUsize>,
}

impl Workers {
    pub(super) fn new(shared: &Arc<Shared>, commands: &[Arc<CommandQueue>]) -> Workers {
        Workers { shared: shared.clone(), commands: commands.into(), next: Arc::default() }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The worker of the next connection. `None`: it has too many, or there is no memory.
    pub(super) fn choose(&self) -> Option<usize> {
        let worker = self.next.fetch_add(1, Ordering::Relaxed) % self.commands.len();
        let has_memory = self.shared.memory.pressure() < Pressure::Short;
        (has_memory && self.commands[worker].has_room_for_newcomer()).then_some(worker)
    }

    /// The connection goes to this worker. `false`: there was no room after all, and it is closed.
    pub(super) fn hand_over(&self, worker: usize, newcomer: Newcomer) -> bool {
        self.commands[worker].hand_over(Box::new(newcomer))
    }
}
