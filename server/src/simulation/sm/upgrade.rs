//! Another program in the place of the server, in the middle of everything: connections and seats in rooms go on.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::Managed;
use crate::runtime::driver::Detached;
use crate::runtime::platform;
use crate::saved::frame::StateWriter;
use crate::saved::kind::Versions;
use crate::saved::state::State;
use crate::simulation::machine::{Left, Machine, Start};
use crate::takeover::inherited::InheritedDescriptors;
use crate::takeover::kept::{Ended, EndedAt};
use crate::takeover::mapped::Mapped;
use crate::takeover::outcome::sessions;
use crate::upgrade::KINDS;
use crate::user::commits::Commit;
use crate::worker::command::Command;
use crate::worker::upgrade::{Keep, NotParked, Quiescence, Restoring, Suspend, Verdict};

/// Rounds in which the server must come to rest, or goes on as it is.
const SETTLE_ROUNDS_MAX: usize = 300;

/// How long workers may take to let go of their connections. No time passes meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

impl Managed {
    /// Upgrades the server, unless what is under way does not come to rest.
    pub(super) fn upgrade(&mut self) {
        self.command_all(|| Command::Hold(true));
        if !self.settle() {
            self.tally.upgrades_put_off += 1;
            self.command_all(|| Command::Hold(false));
            return;
        }
        let outcome = self.replace();
        match outcome {
            Ok(()) => self.tally.upgrades += 1,
            Err(what) => self.world.fail(format!("an upgrade: {what}")),
        }
    }

    fn command_all(&mut self, command: impl Fn() -> Command) {
        if self.world.commands.iter().any(|queue| !queue.give(command())) {
            self.world.fail("a worker takes no command");
        }
    }

    /// Lets everything come to rest that is under way in the server: all workers say so twice in a row, and nothing was on its
    /// way between them. Nobody says anything meanwhile. The second time is at the same moment as the first, so that no timer is
    /// due any more that would have to begin something when the workers let go.
    fn settle(&mut self) -> bool {
        let mut before = None;
        for _ in 0..SETTLE_ROUNDS_MAX {
            self.world.step += 1;
            let count = self.world.workers.len();
            let (reply, replies) = sync_channel(count);
            self.command_all(|| Command::Quiescence(reply.clone()));
            for worker in 0..count {
                self.world.turn(worker);
                self.commit(worker);
            }
            while self.world.job() {}
            let told: Vec<Quiescence> = replies.try_iter().collect();
            let sent: u64 = told.iter().map(|one| one.sent).sum();
            let received: u64 = told.iter().map(|one| one.received).sum();
            let is_settled = told.len() == count
                && told.iter().all(|one| one.quiescent)
                && sent == received
                && self.world.workers.iter_mut().all(|worker| !worker.driver_mut().has_work());
            if is_settled && before == Some(sent) {
                return true;
            }
            before = is_settled.then_some(sent);
            if !is_settled {
                self.world.pass(1);
            }
        }
        false
    }

    /// Has all workers write their state and let go of their connections, and another program take both over.
    fn replace(&mut self) -> Result<(), String> {
        let file = platform::memory_file().map_err(|error| error.to_string())?;
        let state = Arc::new(StateWriter::new(file, Versions::own(KINDS)));
        let mut sockets = Vec::new();
        for worker in 0..self.world.workers.len() {
            sockets.extend(self.suspend(worker, &state)?);
        }
        state.finish().map_err(|error| error.to_string())?;
        let given_up = self.given_up();
        self.exec()?;
        self.restore(&state, sockets, given_up)
    }

    /// The workers take over what others have left. `given_up`: the streams that those had given up.
    fn restore(&mut self, state: &StateWriter, sockets: Vec<Detached>, given_up: u64) -> Result<(), String> {
        let mapped = Mapped::new(state.file()).map_err(|error| error.to_string())?;
        let read = Arc::new(State::read(mapped, KINDS).map_err(|error| error.to_string())?);
        let inherited = Arc::new(InheritedDescriptors::simulated(sockets));
        for worker in &mut self.world.workers {
            let (reply, replies) = sync_channel(1);
            let (go, goes) = sync_channel(1);
            go.try_send(()).map_err(|error| error.to_string())?;
            let restoring = Restoring { state: read.clone(), inherited: inherited.clone(), reply, go: goes };
            worker.restore(restoring);
            let restored = replies.try_recv().map_err(|_| "a worker does not say what it has taken over")?;
            self.tally.carried += sessions(&restored?.carried);
        }
        // The next program counts from the beginning.
        for peer in &mut self.peers {
            peer.promise = peer.promise.filter(|promise| promise.given_up == given_up);
            if let Some(promise) = &mut peer.promise {
                promise.given_up = 0;
            }
        }
        Ok(())
    }

    /// The server is told to stop, and leaves its sessions to the next one, which clients reach anew.
    pub(super) fn stop_and_start(&mut self) {
        self.command_all(|| Command::Hold(true));
        if !self.settle() {
            self.tally.upgrades_put_off += 1;
            self.command_all(|| Command::Hold(false));
            return;
        }
        for index in 0..self.peers.len() {
            // As they are owed it by the server that ends.
            self.interrupt(index, false);
        }
        match self.follow() {
            Ok(()) => self.tally.stops += 1,
            Err(what) => self.world.fail(format!("a stop: {what}")),
        }
        for index in 0..self.peers.len() {
            self.cut_off(index);
        }
    }

    /// Has all workers write what can be resumed, and another server begin with that.
    fn follow(&mut self) -> Result<(), String> {
        let state = loop {
            if let Some(state) = self.keep_resumable()? {
                break state;
            }
            // Sessions that cannot be resumed have ended.
            if !self.settle() {
                return Err("the ends of sessions do not come to rest".into());
            }
        };
        let unix_ms = self.world.workers[0].core().env().unix_ms();
        let ended = EndedAt { clock_ms: self.world.now.0, unix_ms };
        state.put::<Ended>(&ended).map_err(|error| error.to_string())?;
        state.finish().map_err(|error| error.to_string())?;
        let given_up = self.given_up();
        self.go();
        self.begin_anew(None)?;
        self.restore(&state, Vec::new(), given_up)
    }

    /// Has all workers write what can be resumed. `None`: they have to come to rest once more.
    fn keep_resumable(&mut self) -> Result<Option<Arc<StateWriter>>, String> {
        let file = platform::memory_file().map_err(|error| error.to_string())?;
        let state = Arc::new(StateWriter::new(file, Versions::own(KINDS)));
        let mut is_settled = true;
        for worker in 0..self.world.workers.len() {
            let (reply, replies) = sync_channel(1);
            if !self.world.commands[worker].give(Command::Keep(Keep { state: state.clone(), reply })) {
                return Err("a worker takes no command".into());
            }
            self.world.turn(worker);
            match replies.try_recv().map_err(|_| format!("worker {worker} does not answer"))? {
                Ok(_) => {}
                Err(NotParked::NotSettled) => is_settled = false,
                Err(NotParked::Failed(text)) => return Err(format!("worker {worker} keeps nothing: {text}")),
            }
        }
        Ok(is_settled.then_some(state))
    }

    /// A worker writes its state; its connections.
    fn suspend(&mut self, worker: usize, state: &Arc<StateWriter>) -> Result<Vec<Detached>, String> {
        let (reply, replies) = sync_channel(1);
        let (verdict, verdicts) = sync_channel(1);
        let (left, leaving) = sync_channel(1);
        verdict.try_send(Verdict::Replaced(left)).map_err(|error| error.to_string())?;
        let deadline = self.world.workers[worker].core().env().clock.instant() + PATIENCE;
        let order = Suspend { state: state.clone(), deadline, reply, verdict: verdicts };
        if !self.world.commands[worker].give(Command::Suspend(order)) {
            return Err("a worker takes no command".into());
        }
        self.world.turn(worker);
        match replies.try_recv() {
            Ok(Ok(_)) => leaving.try_recv().map_err(|_| format!("worker {worker} keeps its connections")),
            Ok(Err(error)) => Err(format!("worker {worker} does not let go: {error:?}")),
            Err(_) => Err(format!("worker {worker} does not answer")),
        }
    }

    /// The program is gone, and the next one runs on the same logs and the same network.
    fn exec(&mut self) -> Result<(), String> {
        let streams = self.world.shared.streams_before(self.world.now.0);
        self.go();
        self.world.network.exec();
        let left = Left { network: self.world.network.clone(), streams };
        self.begin_anew(Some(left))
    }

    /// The server is gone.
    fn go(&mut self) {
        self.count_server();
        self.world.workers.clear();
    }

    /// The next server runs on the same logs.
    fn begin_anew(&mut self, left: Option<Left>) -> Result<(), String> {
        let world = &mut self.world;
        let (words, directory) = (self.words.again(&mut world.random), world.shared.directory.clone());
        let machine = Machine::start(Start {
            settings: &world.settings,
            config: &world.config,
            directory: &directory,
            words,
            now: world.now,
            commit: Commit::ByHand,
            left,
        })?;
        world.run_on(machine);
        self.committed.fill(world.step);
        Ok(())
    }
}
