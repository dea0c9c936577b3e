//! Which clients of this worker cause most (see [`crate::busiest`]).

use crate::busiest::WINDOW_SECONDS;
use crate::runtime::driver::ConnId;
use crate::session::{Holds, SessionPhase};
use crate::worker::core::Core;

impl Core {
    /// As [`Core::frames`], and notes whose turn it was.
    pub(super) fn frames_of<'b>(
        &mut self,
        conn: ConnId,
        bytes: &'b [u8],
        until: u64,
    ) -> (&'b [u8], Option<Holds>) {
        let before = self.env.metrics().messages_in.get();
        let (rest, reason) = self.frames(conn, bytes, until);
        let messages = self.env.metrics().messages_in.get() - before;
        if let Some(counted) = self.traffic.sample(messages, (bytes.len() - rest.len()) as u64) {
            self.note_turn(conn, counted);
        }
        (rest, reason)
    }

    /// Counts messages and bytes for the account and the address of a connection.
    fn note_turn(&mut self, conn: ConnId, (messages, bytes): (u64, u64)) {
        let Some(session) = self.sessions.get(conn) else { return };
        for (pair, weight) in [(&mut self.traffic.messages, messages), (&mut self.traffic.bytes, bytes)] {
            if weight == 0 {
                continue;
            }
            pair.add_address(session.peer, weight);
            if let SessionPhase::Bound(key) = session.phase {
                let account = self.actors.users.account_of(key);
                pair.accounts
                    .add(account.raw(), weight, |name| self.actors.users.write_bare(&self.env, key, name));
            }
        }
    }

    /// Once a second: tells of a window that is over.
    pub(super) fn tell_busiest(&mut self) {
        let now = self.seconds();
        if now.saturating_sub(self.window_begun) >= WINDOW_SECONDS {
            self.window_begun = now;
            self.env.shared.busiest.publish_window(self.env.worker, &mut self.traffic);
        }
    }
}
