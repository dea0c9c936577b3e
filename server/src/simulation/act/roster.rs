//! Rosters and subscriptions.

use whimbrel_storage::directory::Subscription;

use crate::simulation::actions::Action;
use crate::simulation::client::Wanted;
use crate::simulation::world::{World, bare, local};

/// See [`Action`].
pub(super) const ACTIONS: &[Action<World>] = &[
    Action { weight: 95, run: World::ask_for_subscription },
    Action { weight: 30, run: World::set_roster },
    Action { weight: 10, run: World::fetch_roster },
];

impl World {
    pub(in crate::simulation) fn fetch_roster(&mut self, index: usize) {
        self.ask(index, "get", None, "<query xmlns='jabber:iq:roster'/>", Wanted::Roster);
    }

    fn ask_for_subscription(&mut self, index: usize) {
        let types = ["subscribe", "subscribe", "subscribed", "subscribed", "unsubscribe", "unsubscribed"];
        let to = self.neighbour(index);
        let typ = self.random.pick(&types).copied().expect("there are some");
        self.subscription(index, to, typ);
    }

    fn set_roster(&mut self, index: usize) {
        let neighbour = self.neighbour(index);
        let item = if self.random.permille(200) {
            self.oracle.withdraws(self.clients[index].user, neighbour);
            format!("<item jid='{}' subscription='remove'/>", bare(neighbour))
        } else {
            format!("<item jid='{}' name='n{}'><group>g</group></item>", bare(neighbour), self.step)
        };
        let query = format!("<query xmlns='jabber:iq:roster'>{item}</query>");
        self.ask(index, "set", None, &query, Wanted::Anything);
    }

    /// Sends a subscription stanza.
    pub(in crate::simulation) fn subscription(&mut self, index: usize, to: usize, typ: &str) {
        let user = self.clients[index].user;
        if typ == "subscribe" {
            // Asking again for what one has, or has asked for, is where RFC 6121 lets the two sides part: the
            // request may cross the contact's `unsubscribed`.
            let item = self.shared.directory.roster_item(&local(user), &bare(to));
            let fresh = matches!(item, Ok(None))
                || matches!(item, Ok(Some(item)) if !item.ask && matches!(item.subscription, Subscription::None | Subscription::From));
            self.oracle.asks(user, to, fresh);
        }
        if typ == "unsubscribe" {
            self.oracle.withdraws(user, to);
        }
        let Some(live) = &self.clients[index].live else { return };
        // What the client has sent before, for the order at the other end.
        let id = format!("o{}-{}-{}", live.id, self.oracle.messages_len(), self.counter);
        self.clients[index].say(&format!("<presence type='{typ}' to='{}' id='{id}'/>", bare(to)));
    }
}
