//! From a configuration to a running server: directory, certificate, sockets, threads.
//!
//! ```text
//! main ── signals, control socket (threads of their own)
//!  ├─ worker-0 … worker-N   one per core, pinned; driver + core
//!  ├─ directory             the one writer of accounts and rosters
//!  ├─ crypto-0 …            password hashing
//!  ├─ registration, sms-0 … registration by phone number, where it is on
//!  └─ http, web            the HTTP servers of registration and of clients in browsers, where something listens
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`plan`], [`bind`], [`open`], [`spawn`], [`serve`] | the phases, in order; each does the same in the place of another program (live upgrade) |
//! | [`archives`] | what archives need beside the logs |
//! | [`footprint`] | what is asked before, and taken away again when a start fails |
//! | [`kept`], [`rooms`] | sessions that the server before has left; rooms that end with their last occupant |
//! | [`thread`] | a worker's thread |
//! | [`web`] | the HTTP servers and the features that they serve |

mod archives;
mod bind;
mod footprint;
mod kept;
mod open;
mod plan;
mod rooms;
mod serve;
mod spawn;
mod thread;
mod web;

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use crate::config::Config;
use crate::takeover::Takeover;
use crate::takeover::guard::Guard;
use crate::takeover::launch::Launch;
use crate::watch;

pub(crate) use rooms::forget_temporary;

pub use crate::running::{BootError, Server, WorkerFailed};
pub use footprint::{check_address, check_user, refuse_foreign_files};

use bind::{Bound, bind, bind_early, split};
use footprint::{Footprint, preflight};
use open::{Opened, share};
use plan::Plan;
use spawn::{Beside, Services, WorkerThreads};
use web::HttpSockets;

impl Server {
    /// Starts everything. Returns when all workers accept connections.
    ///
    /// # Errors
    /// What is missing and what to do about it.
    pub fn start(config: Config) -> Result<Server, BootError> {
        Server::launch(config, None, None)
    }

    /// As [`Server::start`], in a program that can be upgraded, and that may itself take over from the one before.
    ///
    /// # Errors
    /// What is missing and what to do about it. Of a takeover: before anything of it is closed, the guard of
    /// [`Takeover::open`] is to be asked for the way back, which this does itself once workers have taken sockets over.
    pub fn launch(
        config: Config,
        launch: Option<Launch>,
        taken: Option<(&mut Takeover, Option<Guard>)>,
    ) -> Result<Server, BootError> {
        config.check()?;
        if taken.is_some() {
            return Server::build(config, launch, taken, None);
        }
        preflight(&config)?;
        let mut footprint = Footprint::before(&config.data);
        let built = Server::build(config, launch, None, Some(&mut footprint));
        if built.is_err() {
            footprint.remove();
        }
        built
    }

    /// `footprint` is told when the directory is open.
    fn build(
        config: Config,
        launch: Option<Launch>,
        taken: Option<(&mut Takeover, Option<Guard>)>,
        footprint: Option<&mut Footprint>,
    ) -> Result<Server, BootError> {
        let (mut takeover, guard) = taken.unzip();
        let plan = Plan::make(config, takeover.as_deref())?;
        let early = bind_early(&plan, takeover.as_deref_mut())?;
        let (opened, acceptor) = Opened::open(&plan, takeover.as_deref_mut(), footprint)?;
        let bound = early.map_or_else(|| bind(&plan), Ok)?;
        let listeners = bound.records(&plan.config);
        let shared = share(&plan, &opened, acceptor, takeover.as_deref())?;
        let Bound { plain: (plain, listening), direct: (direct, listening_tls), http, web } = bound;
        let mut threads = WorkerThreads::start(&plan, &shared, split(plain, direct, plan.workers))?;
        let Opened { directory, control, logs, tallies, gateway, push, kept, .. } = opened;
        let (beside, posts) = Beside::start(&plan, directory, &logs.logs, tallies, &threads.wakers)?;
        let sockets = HttpSockets { registration: http, web };
        let services =
            Services::start(&plan, &shared, &beside, (gateway, push), sockets, takeover.as_deref_mut())?;
        let own = (logs.logs, posts);
        let gathering = beside.archives.as_ref().and_then(|archives| archives.gathering.clone());
        let outcome = match takeover {
            None => {
                match kept {
                    None => serve::begin(&mut threads, &beside, own)?,
                    Some(kept) => serve::begin_with(&mut threads, &beside, own, &kept)?,
                }
                None
            }
            Some(takeover) => {
                let guard = guard.flatten();
                Some(serve::take_over(&plan, &mut threads, &beside, own, takeover, guard)?)
            }
        };
        services.open();
        if let (Some((outcome, _)), Some(launch)) = (&outcome, &launch) {
            watch::upgraded(&shared.stats.server[0], outcome, &launch.tally);
        }
        Ok(Server {
            listeners,
            launch,
            upgrading: AtomicBool::new(false),
            outcome: Mutex::new(outcome),
            kept: Mutex::default(),
            shared,
            writer: beside.writer,
            crypto: beside.crypto,
            commands: beside.commands,
            completions: beside.completions,
            lanes: beside.lanes,
            listening,
            listening_tls,
            registration: services.registration,
            notifier: services.notifier,
            http: services.http,
            web: services.web,
            bosh: services.bosh,
            uploads: services.uploads,
            gathering,
            driver: threads.driver,
            started: plan.started,
            syncer: Mutex::new(beside.syncer),
            _watch: services.watch,
            control: Mutex::new(Some(control)),
            workers: Mutex::new(threads.workers),
        })
    }
}
