//! What a new program takes over from the one before, and what it says when everything is there.
//!
//! | module | what |
//! | --- | --- |
//! | [`guard`] | the way back while the new program restores |
//! | [`inherited`] | the descriptors that came along, each given away once |
//! | [`kept`] | what a server that was told to stop has left in a file |
//! | [`launch`] | what the program knows of itself: its file, its arguments |
//! | [`mapped`] | the state file in memory |
//! | [`outcome`] | what came of it, as the operator is told |
//! | [`program`], [`clock`] | blocks of the state: the program that wrote it; the server's clock |

pub mod clock;
#[expect(unsafe_code, reason = "a way back that a signal handler reads")]
pub mod guard;
pub mod inherited;
pub mod kept;
pub mod launch;
pub mod mapped;
pub mod outcome;
pub mod program;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::runtime::platform;
use crate::saved::attempt;
use crate::saved::counts::Counts;
use crate::saved::state::State;
use crate::saved::{Owner, Row};
use clock::ServerClock;
use guard::Guard;
use inherited::InheritedDescriptors;
use launch::{Launch, Tally};
use mapped::Mapped;
pub use outcome::TakeoverOutcome;
use program::{Program, ProgramRecord};

/// Everything that the old program has left.
#[derive(Debug)]
pub struct Takeover {
    /// The program that wrote it.
    pub program: ProgramRecord,
    /// The whole state.
    pub state: Arc<State<Mapped>>,
    /// The descriptors that came along.
    pub inherited: Arc<InheritedDescriptors>,
    /// Why the new program gave up, when this is the old one again.
    pub fallen_back: Option<String>,
    memory: File,
    /// Descriptors of which copies are in use; closed when everything is there.
    originals: Vec<OwnedFd>,
}

impl Takeover {
    /// Opens the state that the process has in a descriptor, and guards what follows: from here on errors lead back to
    /// the program before, through [`guard::fall_back_if_armed`]. `kinds` are the blocks that this program knows.
    ///
    /// # Errors
    /// There is no state in it, or it has something that this program does not know, or it is damaged. When there is a
    /// way back it has been taken.
    pub fn open(
        descriptor: u32,
        launch: &mut Launch,
        kinds: &[Row],
    ) -> Result<(Takeover, Option<Guard>), String> {
        let inherited = Arc::new(InheritedDescriptors::new());
        let memory = File::from(inherited.take(descriptor)?);
        let system = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| format!("cannot {what} the state: {error}")
        };
        let attempt = attempt::count_attempt(&memory).map_err(system("read"))?;
        if attempt > 1 {
            return Err("neither the new program nor the one before can restore the server".into());
        }
        let mapped = Mapped::new(&memory).map_err(system("map"))?;
        let state = Arc::new(State::read(mapped, kinds).map_err(|error| error.to_string())?);
        let program = state.one::<Program>().map_err(|error| error.to_string())?;
        let mut takeover =
            Takeover { program, state, inherited, fallen_back: None, memory, originals: Vec::new() };
        let image = File::from(takeover.copy(takeover.program.descriptor)?);
        launch.tally = takeover.program.tally.clone();
        if attempt == 0 {
            let guard = takeover.guard(launch)?;
            launch.path.clone_from(&takeover.program.successor);
            launch.tally.done += 1;
            return Ok((takeover, Some(guard)));
        }
        // This is the program before: it knows its own file, whatever lies at its path by now.
        launch.image = image;
        launch.path.clone_from(&takeover.program.program);
        launch.tally.fallen_back += 1;
        platform::name_process(c"whimbreld");
        takeover.fallen_back = Some(attempt::note(&takeover.memory).map_err(system("read"))?);
        Ok((takeover, None))
    }

    /// Watches over what follows.
    fn guard(&self, launch: &Launch) -> Result<Guard, String> {
        let image = self.originals.first().ok_or("the program before did not leave its file")?;
        let image = image.try_clone().map_err(|error| format!("cannot copy a descriptor: {error}"))?;
        let back = launch.predecessor(File::from(image), self.memory.as_raw_fd());
        let back = back.map_err(|error| error.to_string())?;
        let patience = Duration::from_secs(self.program.patience_seconds.into());
        let guarded = self.memory.try_clone().and_then(|memory| guard::arm(memory, back, patience));
        guarded.map_err(|error| format!("cannot guard the restore: {error}"))
    }

    /// A copy of a descriptor that came along, so that the original stays open until everything is there.
    ///
    /// # Errors
    /// It did not come along.
    pub fn copy(&mut self, descriptor: u32) -> Result<OwnedFd, String> {
        self.inherited.copy(descriptor, &mut self.originals)
    }

    /// The one record of an owner.
    ///
    /// # Errors
    /// It is damaged, or not there once.
    pub fn one<O: Owner>(&self) -> Result<O::Record<'_>, String> {
        self.state.one::<O>().map_err(|error| error.to_string())
    }

    /// When the server's clock began, so that all its times stay what they are.
    ///
    /// # Errors
    /// The state does not tell.
    pub fn clock_start(&self) -> Result<Instant, String> {
        Ok(self.one::<ServerClock>()?.start())
    }

    /// Everything is there: tells what came of it.
    #[must_use]
    pub fn complete(
        &self,
        carried: Counts,
        restored_at: Instant,
        driver: &str,
        workers: usize,
    ) -> TakeoverOutcome {
        let program = &self.program;
        let pause_ns = platform::monotonic_ns().saturating_sub(program.stopped_at_ns);
        let state_bytes = self.memory.metadata().map_or(0, |metadata| metadata.len());
        let mut phases: BTreeMap<String, f64> =
            program.phases.iter().map(|(name, us)| (name.clone(), *us as f64 / 1000.0)).collect();
        phases.insert("restore".into(), restored_at.elapsed().as_secs_f64() * 1000.0);
        TakeoverOutcome {
            from: program.version.clone(),
            successor: program.successor.display().to_string(),
            carried,
            closed: program.closed.clone(),
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

/// A path that does not depend on the working directory.
#[must_use]
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
