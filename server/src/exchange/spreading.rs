//! Presence on its way to many users of this worker.
//!
//! To a few it goes at once. To more it goes in parts, each an envelope of the worker to itself, between which others have
//! their turn. Until the last part is read everything else that its account says to users of this worker as presence
//! goes the same way, so that nobody sees an old presence after a newer one; and what its connection sends next waits
//! (RFC 6120 §10.1).

use crate::proto::address::local_of;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Accounts whose presence is spreading.
#[derive(Debug, Default)]
pub struct Spreading {
    /// By localpart: presence of which parts have not been read.
    accounts: HashMap<Box<str>, u32, FixedState>,
}

impl Spreading {
    /// Whether nothing is spreading.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Whether presence of the account of a JID is spreading.
    pub fn concerns(&self, jid: &str) -> bool {
        !self.accounts.is_empty() && self.accounts.contains_key(local_of(jid))
    }

    /// A presence of this JID begins to spread.
    pub fn begin(&mut self, jid: &str) {
        *self.accounts.entry_ref(local_of(jid)).or_insert(0) += 1;
    }

    /// Its last part has been read.
    pub fn end(&mut self, jid: &str) {
        let Some(count) = self.accounts.get_mut(local_of(jid)) else { return };
        *count -= 1;
        if *count == 0 {
            self.accounts.remove(local_of(jid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_concerned_until_the_last_of_its_presences_has_spread() {
        let mut spreading = Spreading::default();
        assert!(!spreading.concerns("juliet@x/1"));
        spreading.begin("juliet@x/1");
        spreading.begin("juliet@x/2");
        spreading.end("juliet@x/1");
        assert!(spreading.concerns("juliet@x/1") && spreading.concerns("juliet@x"));
        assert!(!spreading.concerns("romeo@x/1"));
        spreading.end("juliet@x/2");
        assert!(spreading.is_empty());
    }
}
