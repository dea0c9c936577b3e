//! Gathering in a world: now and then everything that rows have, however little, a step at a time between whatever else happens. It
//! draws no chance.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use whimbrel_storage::archive::Tallies;
use whimbrel_storage::archive::gather::{GatherSettings, GatherSource, Gatherer, Space, Stepped};
use whimbrel_storage::archive::readers::Folders;
use whimbrel_storage::directory::Directory;
use whimbrel_storage::log::{journal_folders, retire_sealed, sealed_journals};

/// A world gathers what there is each time that it has done so many steps.
const EACH_STEPS: u64 = 1024;

/// Steps of a world between two of gathering.
const BETWEEN: u64 = 8;

/// There is room for all, and no more than for what is needed.
const SPACE: Space = Space { logs_bytes: 1 << 39, bytes_max: 1 << 40, ..Space::ENDLESS };

/// Whether what archives have in memory is to become rows after so many steps of a world: in the middle between two times.
pub(super) fn writes_rows_at(step: u64) -> bool {
    step % EACH_STEPS == EACH_STEPS / 2
}

/// See the module.
pub(super) struct Gathering {
    gatherer: Gatherer,
    source: GatherSource,
    folders: Arc<Folders>,
    tallies: Arc<Tallies>,
    is_working: bool,
    /// Messages that were gathered by earlier servers of the world.
    before: u64,
}

impl Gathering {
    /// For a server that has just started on the logs in a folder.
    pub(super) fn start(directory: &Directory, tallies: &Arc<Tallies>, log: &Path) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        Gatherer::prepare(log).map_err(|error| text(&error))?;
        let folders = journal_folders(log).map_err(|error| text(&error))?;
        let sealed = sealed_journals(log).map_err(|error| text(&error))?;
        let folders = Arc::new(Folders::new(folders).with_sealed(sealed));
        let settings =
            GatherSettings { file_bytes_max: 256 << 10, file_bytes_min: 0, wait_ms: 0, is_on: true };
        let gatherer = Gatherer::new(directory, tallies, &folders, log, settings);
        let gatherer = gatherer.map_err(|error| text(&error))?;
        let source = GatherSource::new(folders.clone());
        Ok(Self { gatherer, source, folders, tallies: tallies.clone(), is_working: false, before: 0 })
    }

    /// The same world goes on with this one.
    pub(super) fn after(self, before: &Self) -> Self {
        Self { before: before.messages(), ..self }
    }

    /// Messages that were gathered in the world.
    pub(super) fn messages(&self) -> u64 {
        self.before + self.gatherer.metrics().messages.load(Ordering::Relaxed)
    }

    /// Does a step, if one is due after so many steps of the world.
    pub(super) fn tick(&mut self, step: u64, now_ms: u64, log: &Path) -> Result<(), String> {
        if step.is_multiple_of(EACH_STEPS) {
            self.gatherer.list_again(1);
            self.is_working = true;
            let _guard = self.folders.exclusive();
            let needs = |journal, segment| self.tallies.needs(journal, segment);
            retire_sealed(log, &needs).map_err(|error| error.to_string())?;
        }
        if self.is_working && step.is_multiple_of(BETWEEN) {
            let stepped = self.gatherer.step(&mut self.source, now_ms, SPACE);
            self.is_working = stepped.map_err(|error| error.to_string())? == Stepped::Working;
        }
        Ok(())
    }
}
