//! What clients do that is odd or wrong, and how they stop to read.

use crate::simulation::actions::Action;
use crate::simulation::world::World;

/// Input for which a server ends the stream.
pub(in crate::simulation) const RUBBISH: [&str; 12] = [
    "<message><unclosed></message>",
    "<!-- a comment -->",
    "<!DOCTYPE x>",
    "<message to='&nbsp;'/>",
    "no markup",
    "<x:y/>",
    "<message from='u0@sim.example/elsewhere'/>",
    "<unheard-of xmlns='urn:example'/>",
    "<iq xmlns='urn:example' type='get' id='1'/>",
    "</stream:message>",
    "<message a='1' a='2'/>",
    "\u{1}",
];

/// Input that is answered with an error, or with nothing, and changes nothing.
const ODDITIES: [&str; 10] = [
    "<message to='@@@' id='odd'/>",
    "<message to='romeo@elsewhere.example' id='odd' type='chat'><body>x</body></message>",
    "<message to='sim.example' id='odd'/>",
    "<message to='nobody@sim.example' id='odd' type='chat'><body>x</body></message>",
    "<presence to='nobody@sim.example' type='subscribe'/>",
    "<presence type='strange'/>",
    "<presence><priority>1000</priority></presence>",
    "<iq type='get'/>",
    "<message to='u0@sim.example' type='headline'><subject>x</subject></message>",
    "   \n ",
];

/// See [`Action`].
pub(super) const ACTIONS: &[Action<World>] = &[
    Action { weight: 20, run: World::say_something_odd },
    Action { weight: 8, run: World::stop_listening },
    Action { weight: 27, run: World::listen_again },
    Action { weight: 25, run: World::grow_tired },
];

impl World {
    fn say_something_odd(&mut self, index: usize) {
        let oddity = self.random.pick(&ODDITIES).copied().expect("there are some");
        self.clients[index].say(oddity);
    }

    fn stop_listening(&mut self, index: usize) {
        let client = &mut self.clients[index];
        (client.deaf, client.was_deaf) = (true, true);
    }

    fn listen_again(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if std::mem::take(&mut client.deaf)
            && let Some(link) = client.link
        {
            self.network.remind(client.number, link);
        }
    }

    fn say_rubbish(&mut self, index: usize) {
        let rubbish = self.random.pick(&RUBBISH).copied().expect("there is some");
        self.clients[index].say(rubbish);
        self.part(index, false);
    }

    /// Leaves, or makes the server end the stream.
    fn grow_tired(&mut self, index: usize) {
        match self.random.below(10) {
            0 | 1 => self.say_rubbish(index),
            2..6 => self.leave_somehow(index),
            _ => {}
        }
    }
}
