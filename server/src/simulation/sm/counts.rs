//! What the directory has of streams whose sessions sleep: it is true at any moment, and after a crash it is what their clients hear.

use super::{Managed, USUAL, has_device};
use crate::proto::sm::StreamId;
use crate::simulation::world::local;

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
        if self.world.random.permille(500) {
            self.world.clients[index].away(self.world.now);
            for _ in 0..self.world.random.below(400) {
                let which = self.world.random.below(USUAL);
                self.go_on(which);
            }
        }
        self.crash();
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
