//! What clients announce that they want to hear of, and what they hear.

use super::NS_DISCO;
use crate::simulation::world::{DOMAIN, World, user_of};
use crate::xml::Element;

/// Nodes of which clients want to hear: those of the clients with the lowest numbers, of all who have them.
const NODES: std::ops::Range<u32> = 0..8;

/// In a presence: the hash (XEP-0115) of what [`info`] says.
pub(in crate::simulation) const CAPS: &str = "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' \
    node='urn:sim' ver='ny5dw6Lh2v0xzwLpQGPzjEzX+ms='/>";

fn info() -> String {
    let features: String = NODES.map(|number| format!("<feature var='s{number}+notify'/>")).collect();
    format!("<identity category='client' type='pc' name='sim'/>{features}")
}

impl World {
    /// The server asks what a client is. One in ten lies, or says nothing.
    pub(super) fn asked_what_it_is(&mut self, index: usize, id: &str) {
        let inside = match self.random.below(20) {
            0 => return,
            1 => "<feature var='everything+notify'/>".to_owned(),
            _ => info(),
        };
        let query = format!("<query xmlns='{NS_DISCO}'>{inside}</query>");
        self.clients[index].say(&format!("<iq type='result' id='{id}' to='{DOMAIN}'>{query}</iq>"));
    }

    /// A client hears of an item. Its owner is the client's own account or a neighbour; it was put there; and of what one
    /// session has put there none comes after a newer one.
    pub(super) fn event_heard(&mut self, index: usize, from: &str, event: &Element, is_last: bool) {
        let Some(items) = event.elements().next() else { return };
        let node = items.attribute("node").unwrap_or_default().to_owned();
        let value = items.elements().next().and_then(|item| item.elements().next());
        let value = value.map(|value| value.content().into_owned()).unwrap_or_default();
        let numbers = value.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let Some((session, number)): Option<(usize, u32)> = numbers else {
            return self
                .fail(format!("client {index} hears of {value:?} in {node}, which nobody has put there"));
        };
        let is_wanted = NODES.map(|number| format!("s{number}")).any(|wanted| wanted == node);
        if user_of(from).is_none() || !is_wanted || number > self.counter {
            return self.fail(format!("client {index} hears from {from} of {node}, which it does not want"));
        }
        self.report.events += 1;
        let Some(live) = &mut self.clients[index].live else { return };
        // The last item may be on its way while a newer one passes it.
        let newest = live.events.entry((format!("{from} {node}"), session)).or_insert(0);
        if number < *newest && !is_last {
            let newest = *newest;
            return self.fail(format!("client {index} hears of {value} in {node} of {from} after {newest}"));
        }
        *newest = (*newest).max(number);
    }
}
