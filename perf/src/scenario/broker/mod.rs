//! Clients of message brokers, for `peers`: memory of an idle connection, and messages between pairs in a closed loop.
//!
//! One thread drives all clients, where the XMPP servers have a generator process for each core; so it is the figures by
//! server CPU that compare, not those by the clock.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`mqtt`], [`nats`] | the bytes of each protocol |
//! | [`pairs`] | the loads |

mod mqtt;
mod nats;
mod pairs;

pub(crate) use pairs::{Room, held, talked};

/// What a broker speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// MQTT 3.1.1.
    Mqtt,
    /// The text protocol of NATS.
    Nats,
}

/// What a client hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard<'a> {
    /// Its subscription stands.
    Ready,
    /// A message for it; the broker wants `reply` for it, where that is not empty.
    Message(&'a [u8], Reply),
    /// The broker has taken a message of ours.
    Taken,
    /// Something that needs an answer.
    Asked(Reply),
    /// Something that needs none.
    Nothing,
}

/// A short answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reply {
    bytes: [u8; 8],
    length: usize,
}

impl Reply {
    const NONE: Reply = Reply { bytes: [0; 8], length: 0 };

    /// Of at most 8 bytes.
    fn of(answer: &[u8]) -> Reply {
        let mut bytes = [0; 8];
        bytes[..answer.len()].copy_from_slice(answer);
        Reply { bytes, length: answer.len() }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Speech {
    /// What a client says first: who it is, and that it wants what is sent to its topic.
    fn hello(self, client: u32) -> Vec<u8> {
        match self {
            Speech::Mqtt => mqtt::hello(client),
            Speech::Nats => nats::hello(client),
        }
    }

    /// Writes a message to a client's topic; `number` tells it from the sender's others under way.
    fn send(self, to: u32, number: u16, text: &[u8], out: &mut Vec<u8>) {
        match self {
            Speech::Mqtt => mqtt::publish(to, number, text, out),
            Speech::Nats => nats::publish(to, text, out),
        }
    }

    /// The first thing that has been heard and its bytes; `None` until it is whole.
    ///
    /// # Errors
    /// The broker refuses, or speaks something else.
    fn hear(self, bytes: &[u8]) -> Result<Option<(Heard<'_>, usize)>, String> {
        match self {
            Speech::Mqtt => mqtt::hear(bytes),
            Speech::Nats => nats::hear(bytes),
        }
    }
}
