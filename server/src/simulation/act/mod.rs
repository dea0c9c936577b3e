//! What clients do of their own accord: all of it allowed by the protocol or by the nature of networks, or neither.
//!
//! Each feature has a file with its rows; to add one, write the file and name it in [`ACTIONS`].

mod archive;
mod blocking;
mod carbons;
mod inactive;
mod message;
mod nodes;
mod presence;
mod push;
mod requests;
mod rooms;
mod roster;
mod storage;
mod trouble;

pub(super) use trouble::RUBBISH;

use super::actions::{self, Action};
use super::client::{Stage, Wanted};
use super::come::HEADER;
use super::world::World;

/// A client with more than this to send does nothing new, in bytes.
const OUT_BYTES_MAX: usize = 20_000;

/// Users a client deals with: those whose numbers are at most this far from its own. Few enough that subscriptions
/// come about.
const NEIGHBOURS: usize = 3;

/// What a client that is bound does.
const ACTIONS: &[&[Action<World>]] = &[
    archive::ACTIONS,
    message::ACTIONS,
    nodes::ACTIONS,
    presence::ACTIONS,
    push::ACTIONS,
    roster::ACTIONS,
    rooms::ACTIONS,
    storage::ACTIONS,
    blocking::ACTIONS,
    carbons::ACTIONS,
    inactive::ACTIONS,
    requests::ACTIONS,
    trouble::ACTIONS,
];

impl World {
    /// A client does something.
    pub(super) fn act(&mut self, index: usize) {
        let client = &self.clients[index];
        match client.stage {
            Stage::Away => {
                if client.back_at <= self.now {
                    self.connect(index);
                }
            }
            Stage::Online => self.act_online(index),
            Stage::Silent => match self.random.below(30) {
                0 => self.leave_somehow(index),
                1 => self.clients[index].say(HEADER),
                _ => {}
            },
            Stage::Greeted | Stage::Authenticating | Stage::Restarted | Stage::Binding => {
                // Impatience.
                if self.random.permille(3) {
                    self.leave_somehow(index);
                }
            }
            Stage::Leaving | Stage::Ghost => {}
        }
        self.flush(index);
    }

    fn act_online(&mut self, index: usize) {
        if self.clients[index].unsent() <= OUT_BYTES_MAX {
            let action = actions::draw(ACTIONS, &mut self.random);
            (action.run)(self, index);
        }
    }

    fn neighbour(&mut self, index: usize) -> usize {
        let users = self.settings.users;
        let offset = self.random.below(2 * NEIGHBOURS + 1);
        (self.clients[index].user + users + offset - NEIGHBOURS.min(users)) % users
    }

    /// Sends a request and remembers that an answer is owed.
    pub(super) fn ask(&mut self, index: usize, typ: &str, to: Option<&str>, query: &str, wanted: Wanted) {
        self.counter += 1;
        let id = format!("q{}", self.counter);
        let client = &mut self.clients[index];
        let Some(live) = &mut client.live else { return };
        live.wanted.insert(id.clone(), (wanted, self.step));
        let to = to.map(|to| format!(" to='{to}'")).unwrap_or_default();
        client.say(&format!("<iq type='{typ}' id='{id}'{to}>{query}</iq>"));
    }
}
