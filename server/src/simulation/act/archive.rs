//! Reading one's archive (XEP-0313), page by page, beside everything else.

use crate::proto::ns;
use crate::simulation::act::OUT_BYTES_MAX;
use crate::simulation::actions::Action;
use crate::simulation::client::{Reading, Wanted};
use crate::simulation::world::World;

/// See [`Action`].
pub(super) const ACTIONS: &[Action<World>] = &[Action { weight: 12, run: World::read_archive }];

/// Messages of a page at most.
const PAGE_MAX: usize = 30;

impl World {
    /// Begins to read its archive, or goes on where it is.
    fn read_archive(&mut self, index: usize) {
        let max = self.random.between(1, PAGE_MAX);
        let client = &self.clients[index];
        let Some(live) = &client.live else { return };
        if live.wanted.values().any(|(wanted, _)| *wanted == Wanted::Page) || client.unsent() > OUT_BYTES_MAX
        {
            return;
        }
        if live.reading.is_none() {
            let exchanged = self.oracle.exchanged();
            let all = (0..).zip(&exchanged).filter(|(_, message)| message.must_be_with(client.user));
            let reading = Reading { must: all.map(|(n, _)| n).collect(), ..Reading::default() };
            if let Some(live) = &mut self.clients[index].live {
                live.reading = Some(reading);
            }
        }
        self.ask_for_page(index, max);
    }

    fn ask_for_page(&mut self, index: usize, max: usize) {
        let step = self.step;
        let reading = self.clients[index].live.as_mut().and_then(|live| live.reading.as_mut());
        let Some(reading) = reading else { return };
        (reading.max, reading.asked) = (max, step);
        reading.page.clear();
        let after = match reading.found.last() {
            Some((id, _)) => {
                let id = self.shared.archive_ids.seal(*id);
                format!("<after>{}</after>", String::from_utf8_lossy(&id))
            }
            None => String::new(),
        };
        let set = format!("<set xmlns='{}'><max>{max}</max>{after}</set>", ns::RSM);
        let query = format!("<query xmlns='{}' queryid='{step}'>{set}</query>", ns::ARCHIVE);
        self.ask(index, "set", None, &query, Wanted::Page);
    }
}
