//! Who has blocked whom, and whose subscriptions may differ at their two ends.

use super::Oracle;

impl Oracle {
    pub(in crate::simulation) fn block(&mut self, a: usize, b: usize) {
        self.blocked.insert((a.min(b), a.max(b)));
    }

    pub(in crate::simulation) fn ever_blocked(&self, a: usize, b: usize) -> bool {
        self.blocked.contains(&(a.min(b), a.max(b)))
    }

    /// Somebody asks to lift a block.
    pub(in crate::simulation) fn unblock_asked(&mut self, step: u64, user: usize, other: usize) {
        self.blocks.remove(&(user, other));
        let (last, open) = self.unblocks.entry((user, other)).or_default();
        (*last, *open) = (step, *open + 1);
    }

    /// A request to lift a block is answered. One that never is leaves it open for good what the list says.
    pub(in crate::simulation) fn unblock_answered(&mut self, user: usize, other: usize) {
        if let Some((_, open)) = self.unblocks.get_mut(&(user, other)) {
            *open = open.saturating_sub(1);
        }
    }

    /// Whether a request to lift a block has no answer yet.
    pub(in crate::simulation) fn is_unblocking(&self, user: usize, other: usize) -> bool {
        self.unblocks.get(&(user, other)).is_some_and(|(_, open)| *open > 0)
    }

    /// A block that was asked for in step `asked`, when no request to lift it was open, is confirmed.
    pub(in crate::simulation) fn block_confirmed(
        &mut self,
        user: usize,
        other: usize,
        step: u64,
        asked: u64,
    ) {
        let lifted =
            self.unblocks.get(&(user, other)).is_some_and(|(last, open)| *last >= asked || *open > 0);
        if !lifted {
            self.blocks.entry((user, other)).or_insert(step);
        }
    }

    /// Whether what one of the two sent the other in this step was stopped for sure.
    pub(in crate::simulation) fn is_blocked_since(&self, a: usize, b: usize, sent: u64) -> bool {
        let before = |pair| self.blocks.get(&pair).is_some_and(|since| *since < sent);
        a != b && (before((a, b)) || before((b, a)))
    }

    /// A user asks for another's presence; `fresh`: the user neither has it nor has asked.
    pub(in crate::simulation) fn asks(&mut self, user: usize, contact: usize, fresh: bool) {
        self.asked.entry((user, contact)).and_modify(|again| *again = true).or_insert(!fresh);
    }

    /// A user ends the subscription to another's presence.
    pub(in crate::simulation) fn withdraws(&mut self, user: usize, contact: usize) {
        self.withdrawn.insert((user, contact));
    }

    /// Whether what a user's roster says of the subscription to another's presence, `to`, and what the other's says of
    /// it, `from`, may differ for good. RFC 6121 lets them, since a `subscribed` does not say what it answers:
    ///
    /// - A `subscribe` that is repeated may cross the contact's `unsubscribed`; what then grants it changes nothing for
    ///   a user who no longer asks (A.3.3). The user has `none`, the contact `from`.
    /// - A `subscribe` that finds the user subscribed is answered with `subscribed` in the contact's name (§3.1.3). If
    ///   the user has meanwhile sent `unsubscribe` and then `subscribe`, that answer, on its way since before, seems
    ///   to grant the new request. The user has `to`, and the contact `none`, being asked, until the contact answers.
    pub(in crate::simulation) fn may_differ(
        &self,
        user: usize,
        contact: usize,
        to: bool,
        from: bool,
    ) -> bool {
        let pair = (user, contact);
        let again = self.asked.get(&pair).copied().unwrap_or(false);
        match (to, from) {
            (false, true) => again,
            (true, false) => again && self.withdrawn.contains(&pair),
            _ => false,
        }
    }
}
