//! What is decided when the world is quiet: where each message has gone.

use std::collections::BTreeSet;

use super::{Broken, Message, Oracle};

impl Oracle {
    /// Judges every message since the last time. The world must be quiet.
    /// `waiting`: what the logs hold. `copies_skipped`: some copies were not made, because their clients read slowly.
    /// `ignored`: messages of strangers that were not answered, in the world so far.
    pub(in crate::simulation) fn judge(
        &mut self,
        waiting: &BTreeSet<u32>,
        copies_skipped: bool,
        ignored: u64,
    ) -> Result<(), Broken> {
        let may_vanish = |messages: &mut u64| {
            *messages += 1;
            *messages <= ignored
        };
        let mut vanished = self.vanished;
        for n in self.judged..self.messages.len() {
            let message = &self.messages[n];
            if !message.retracted_by.is_empty() {
                // It may have left the mailbox before anybody had it.
                continue;
            }
            if !self.sessions[message.sender].cut {
                // An account is never a stranger to itself.
                let is_stranger = self.sessions[message.sender].user != message.to_user;
                if is_stranger && self.is_nowhere(n as u32, message, waiting) && may_vanish(&mut vanished) {
                    continue;
                }
                self.judge_one(n as u32, message, waiting, copies_skipped).map_err(|what| {
                    let (sender, to) = (&self.sessions[message.sender], message.to_resource.as_deref());
                    format!(
                        "message {n} {what}: sent in step {} by session {} (user {} {}) to user {} {}, \
                         delivered to {:?}, {} errors",
                        message.sent,
                        message.sender,
                        sender.user,
                        sender.resource,
                        message.to_user,
                        to.unwrap_or("(bare)"),
                        message.delivered,
                        message.errors
                    )
                })?;
            }
        }
        self.vanished = vanished;
        self.judged = self.messages.len();
        // One that asked once and is at rest has asked freshly or again; only the latter is remembered.
        self.asked.retain(|_, again| *again);
        Ok(())
    }

    /// Whether nothing is to be seen of a message, although nothing is known to have lost it.
    fn is_nowhere(&self, n: u32, message: &Message, waiting: &BTreeSet<u32>) -> bool {
        let sender = &self.sessions[message.sender];
        sender.ended.is_none()
            && !self.lost_one_since(message.to_user, message.sent)
            && message.delivered.is_empty()
            && message.errors == 0
            && !waiting.contains(&n)
    }

    fn judge_one(
        &self,
        n: u32,
        message: &Message,
        waiting: &BTreeSet<u32>,
        copies_skipped: bool,
    ) -> Result<(), String> {
        let sender = &self.sessions[message.sender];
        let lost_one = self.lost_one_since(message.to_user, message.sent);
        if self.is_nowhere(n, message, waiting) {
            return Err("has vanished".into());
        }
        if self.ever_blocked(sender.user, message.to_user) {
            return Ok(());
        }
        let sure = |since: Option<u64>| since.is_some_and(|since| since < message.sent);
        // What goes to the mailbox, because nobody is there, is not copied, and who takes it out later gets it alone.
        let went_to_mailbox =
            message.was_stored && !self.alive(message.to_user).any(|id| sure(self.sessions[id].available));
        for id in self.alive(message.to_user) {
            let session = &self.sessions[id];
            let to_it = message.to_resource.as_deref() == Some(&*session.resource) && sure(session.bound);
            let bare = message.to_resource.is_none() && sure(session.available);
            if (to_it || bare) && message.errors > 0 {
                return Err(format!("was refused although session {id} could receive it"));
            }
            // Until it is known whether a session will acknowledge, what comes for it may wait in the log (XEP-0160 §2).
            let may_wait = session.available.is_none() && waiting.contains(&n);
            if to_it && !may_wait && message.delivered != [id] && !message.was_read {
                return Err(format!("was not delivered to session {id}"));
            }
            if bare && message.delivered.is_empty() && !lost_one {
                return Err(format!("was not delivered although session {id} was available"));
            }
            let has_it = copies_skipped || session.messages.contains(&n) || session.copies.contains(&n);
            let own = sender.user == message.to_user;
            let was_delivered = !message.delivered.is_empty() && !went_to_mailbox;
            if sure(session.carbons) && was_delivered && !has_it && !own {
                return Err(format!("was not copied to session {id} of the recipient"));
            }
        }
        for id in self.alive(sender.user) {
            let session = &self.sessions[id];
            let has_it = copies_skipped
                || session.messages.contains(&n)
                || session.copies.contains(&n)
                || id == message.sender;
            let own = sender.user == message.to_user;
            if sure(session.carbons) && !has_it && !own {
                return Err(format!("was not copied to session {id} of the sender"));
            }
        }
        Ok(())
    }
}
