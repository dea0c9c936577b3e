//! First phase: what is to be started, decided before anything is bound, opened or spawned.

use std::sync::Arc;
use std::time::Instant;

use crate::config::Config;
use crate::running::error::BootError;
use crate::runtime::platform;
use crate::takeover::Takeover;

/// What is to be started.
pub(super) struct Plan {
    pub(super) config: Arc<Config>,
    /// Worker threads.
    pub(super) workers: usize,
    /// When this program began to boot.
    pub(super) begun: Instant,
    /// When the server's clock began: before that, where another program is taken over from.
    pub(super) started: Instant,
}

impl Plan {
    /// Plans a start, or the taking over of what another program has left.
    pub(super) fn make(config: Config, takeover: Option<&Takeover>) -> Result<Plan, BootError> {
        let begun = Instant::now();
        let started = match takeover {
            None => begun,
            Some(takeover) => {
                takeover.program.check(&config).map_err(BootError::Takeover)?;
                for kind in takeover.state.left_out() {
                    tracing::warn!("the program before has left `{kind}`, which this one does not know");
                }
                takeover.clock_start().map_err(BootError::Takeover)?
            }
        };
        let workers = match config.workers {
            0 => platform::available_cores().len().max(1),
            n => n as usize,
        };
        if let Err(error) = platform::raise_descriptor_limit() {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
        Ok(Plan { config: Arc::new(config), workers, begun, started })
    }
}
