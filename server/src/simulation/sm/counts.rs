//! What the directory has of streams whose sessions sleep: it is true at any moment, and after a crash it is what their clients hear.

use super::{Managed, USUAL, has_device};
use crate::proto::sm::StreamId;
use crate::simulation::world::local;
use crate::user::counts::{self, Row};
use crate::user::tables::Flags;

/// Steps that a peer may need to log in and go on with its stream.
const STEPS_BACK_MAX: usize = 2000;

impl Managed {
    /// What the directory says was handled of a peer's stream, if it says anything.
    fn count_of(&self, index: usize) -> Option<u32> {
        let stream = self.peers[index].stream.as_deref().and_then(StreamId::parse)?;
        let found = self.world.shared.directory.stream_count(&local(index), stream.0);
        found.expect("the directory of a world can be read").map(|count| count.handled)
    }

    /// A peer whose device is told is away for so long that its session sleeps, or is about to, and the server crashes: before it
    /// comes back, or a moment after, when what the directory has of it is going.
    pub(super) fn crash_while_one_sleeps(&mut self) {
        let able = |index: &usize| self.peers[*index].is_on && has_device(*index);
        let able: Vec<usize> = (0..self.peers.len()).filter(able).collect();
        if able.is_empty() {
            return;
        }
        let index = able[self.world.random.below(able.len())];
        self.reset(index);
        self.world.clients[index].away(self.world.now.after(40_000));
        for _ in 0..self.world.random.between(4, 12) {
            self.world.pass(900);
            self.round();
        }
        let is_away = match self.world.random.permille(700) {
            true => {
                self.world.clients[index].away(self.world.now);
                !self.return_to_stream(index)
            }
            false => true,
        };
        if is_away {
            self.round();
            self.round();
            let outcome = self.check_sleepers();
            self.note(outcome);
        }
        self.crash();
    }

    /// A peer whose session sleeps comes back. `false`: it is away for long again, without having heard that it may go on.
    fn return_to_stream(&mut self, index: usize) -> bool {
        let (mut left, mut cuts) = (self.world.random.below(60), self.world.random.below(4));
        for _ in 0..STEPS_BACK_MAX {
            if cuts > 0 && self.is_going(index) && self.world.random.permille(100) {
                // It has asked to go on, and does not hear the answer.
                cuts -= 1;
                self.reset(index);
                if self.world.random.permille(700) {
                    // The server notices before the removal comes back.
                    self.world.pass(50);
                    (0..self.world.workers.len()).for_each(|worker| self.world.turn(worker));
                }
                let is_away = self.world.random.permille(500);
                self.world.clients[index].away(self.world.now.after(if is_away { 40_000 } else { 0 }));
                if is_away {
                    return false;
                }
            }
            let which = self.world.random.below(USUAL);
            self.go_on(which);
            let outcome = self.check_counts();
            self.note(outcome);
            if self.peers[index].is_on {
                match left.checked_sub(1) {
                    Some(fewer) => left = fewer,
                    None => return true,
                }
            }
        }
        true
    }

    /// Whether what the directory has of a peer is being removed.
    fn is_going(&self, index: usize) -> bool {
        self.world.workers.iter().any(|worker| {
            let users = &worker.core().actors().users;
            users.resources_of(&local(index)).into_iter().any(|key| counts::row(users, key) == Row::Going)
        })
    }

    /// What the directory has, no client can know better: nobody has been told more, nobody has sent less, and of a stream that goes
    /// on there is nothing.
    pub(super) fn check_counts(&mut self) -> Result<(), String> {
        for (index, peer) in self.peers.iter().enumerate() {
            let Some(count) = self.count_of(index) else { continue };
            if peer.is_on || !(peer.told..=peer.sent).contains(&count) {
                let (told, sent) = (peer.told, peer.sent);
                return Err(format!(
                    "the directory has {count} of the stream of peer {index}, told {told}, sent {sent}, on it: {}",
                    peer.is_on
                ));
            }
        }
        Ok(())
    }

    /// All jobs have been done: the directory has the count of each session that sleeps and whose client is not there.
    fn check_sleepers(&mut self) -> Result<(), String> {
        let directory = self.world.shared.directory.clone();
        for index in 0..self.peers.len() {
            for worker in &mut self.world.workers {
                let users = &mut worker.core_mut().actors_mut().users;
                for key in users.resources_of(&local(index)) {
                    let is_going = counts::row(users, key) == Row::Going;
                    let sleeps = users.resource(key).flags.has(Flags::ASLEEP) && !is_going;
                    let Some(sm) = users.sm_mut(key).filter(|_| sleeps) else { continue };
                    let found = directory.stream_count(&local(index), sm.id().0);
                    let found = found.map_err(|error| error.to_string())?.map(|count| count.handled);
                    if found != Some(sm.handled()) {
                        let handled = sm.handled();
                        return Err(format!(
                            "peer {index} sleeps after {handled}, and the directory has {found:?}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// The server has crashed: from now on the clients of sessions that slept are to hear what the directory has.
    pub(super) fn expect_counts(&mut self) {
        for index in 0..self.peers.len() {
            self.peers[index].count = self.count_of(index);
        }
    }

    /// A peer cannot resume its stream and hears this `h`.
    pub(super) fn check_count(&mut self, index: usize, h: Option<&str>) -> Result<(), String> {
        let Some(count) = self.peers[index].count.take() else { return Ok(()) };
        self.tally.told_after_sleep += 1;
        match h.and_then(|h| h.parse().ok()) == Some(count) {
            true => Ok(()),
            false => {
                Err(format!("peer {index} slept when the server crashed, after {count}, and hears {h:?}"))
            }
        }
    }
}
