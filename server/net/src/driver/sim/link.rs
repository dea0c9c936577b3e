//! One connection of the simulated network: its two directions and who holds the server's end.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::driver::{ConnId, ListenerId};
use crate::timer::Millis;

/// A direction of a link.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub(super) enum Way {
    Up,
    Down,
}

/// What travels.
pub(super) enum Piece {
    Bytes(Vec<u8>),
    End,
    Reset,
}

/// What is under way in one direction, and what has arrived and was not read.
pub(super) struct Pipe {
    pub(super) flight: VecDeque<Piece>,
    pub(super) flight_bytes: usize,
    pub(super) arrived: VecDeque<u8>,
    pub(super) window: usize,
    pub(super) due_last: Millis,
    pub(super) ended: bool,
    pub(super) reset: bool,
}

impl Pipe {
    pub(super) fn new(window: usize) -> Pipe {
        Pipe {
            flight: VecDeque::new(),
            flight_bytes: 0,
            arrived: VecDeque::new(),
            window,
            due_last: Millis(0),
            ended: false,
            reset: false,
        }
    }

    pub(super) fn room(&self) -> usize {
        self.window.saturating_sub(self.flight_bytes + self.arrived.len())
    }

    pub(super) fn arrive(&mut self) {
        match self.flight.pop_front() {
            Some(Piece::Bytes(bytes)) => {
                self.flight_bytes -= bytes.len();
                self.arrived.extend(bytes);
            }
            Some(Piece::End) => self.ended = true,
            Some(Piece::Reset) => {
                self.reset = true;
                self.arrived.clear();
            }
            None => {}
        }
    }
}

/// Who holds the server's end of a link.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Holder {
    /// It waits to be accepted, or is between two drivers.
    Nobody,
    /// A connection of a worker's driver.
    Driver(usize, ConnId),
    /// The server has closed it.
    Closed,
}

/// A connection.
pub(super) struct Link {
    pub(super) client: u32,
    pub(super) peer: IpAddr,
    pub(super) listener: ListenerId,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
    pub(super) holder: Holder,
    pub(super) client_gone: bool,
}

impl Link {
    pub(super) fn pipe(&mut self, way: Way) -> &mut Pipe {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}
