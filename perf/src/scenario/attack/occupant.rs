//! The occupant: keeps the server's CPU as busy in a calm as the server does in the flood, and gives way to it at once.
//!
//! A machine that is itself a guest is given less of its CPUs when more of them are busy, in stalls of many milliseconds
//! that nobody in it is told of. Without an occupant only the floods would have them, and the server would be blamed.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use crate::scenario::attack::wire::{News, Order, tell};
use crate::scenario::poll;

/// Spinning and sleeping take turns of this length together.
const PERIOD: Duration = Duration::from_millis(4);

/// Runs until the coordinator is gone.
///
/// # Errors
/// The system has no class of processes that give way to all others.
pub(super) fn run(orders: &Receiver<Order>) -> Result<(), String> {
    poll::give_way().map_err(|error| format!("cannot give way to the server: {error}"))?;
    tell(&News::Ready);
    let mut share = 0.0_f64;
    loop {
        match orders.try_recv() {
            Ok(Order::Spin(wanted)) => share = wanted.clamp(0.0, 1.0),
            Ok(_) => {
                share = 0.0;
                tell(&News::Ready);
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        let began = Instant::now();
        while began.elapsed() < PERIOD.mul_f64(share) {
            std::hint::spin_loop();
        }
        std::thread::sleep(PERIOD.saturating_sub(began.elapsed()));
    }
}
