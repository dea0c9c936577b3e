//! Messages between users.

use crate::proto::ns;
use crate::simulation::actions::Action;
use crate::simulation::oracle;
use crate::simulation::world::{World, bare, full};
use crate::xml::writer;

/// See [`Action`].
pub(super) const ACTIONS: &[Action<World>] =
    &[Action { weight: 480, run: World::message }, Action { weight: 20, run: World::retract }];

impl World {
    pub(in crate::simulation) fn message(&mut self, index: usize) {
        let to_user = if self.random.permille(850) {
            self.neighbour(index)
        } else {
            self.random.below(self.settings.users)
        };
        let resource = self.random.permille(400).then(|| format!("r{}", self.random.below(3)));
        let client = &mut self.clients[index];
        let Some(live) = &client.live else { return };
        let n = self.oracle.sent(self.step, live.id, to_user, resource.as_deref());
        let to = resource.map_or_else(|| bare(to_user), |resource| full(to_user, &resource));
        let mut text = Vec::new();
        writer::escape_text(&oracle::body(n), &mut text);
        let text = String::from_utf8(text).expect("escaping keeps UTF-8");
        // The id comes back in an error, and in nothing else.
        client.say(&format!("<message type='chat' id='m{n}' to='{to}'><body>{text}</body></message>"));
    }

    /// Takes back one of the newest messages, with a text for those who do not know that.
    fn retract(&mut self, index: usize) {
        let Some(live) = self.clients[index].live.as_ref().map(|live| live.id) else { return };
        let back = self.random.below(3);
        let Some((target, to_user)) = self.oracle.retractable(live, back) else { return };
        let n = self.oracle.sent(self.step, live, to_user, None);
        self.oracle.retracts(n, target);
        let mut text = Vec::new();
        writer::escape_text(&oracle::body(n), &mut text);
        let text = String::from_utf8(text).expect("escaping keeps UTF-8");
        let (to, retract) = (bare(to_user), format!("<retract xmlns='{}' id='m{target}'/>", ns::RETRACTION));
        self.clients[index]
            .say(&format!("<message type='chat' id='m{n}' to='{to}'>{retract}<body>{text}</body></message>"));
    }
}
