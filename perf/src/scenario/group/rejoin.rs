//! Leaving a full room and entering it again; coming back to many rooms at once.

use std::time::Instant;

use super::crowd::Crowd;
use super::wire;
use crate::engine::counters::Latencies;

/// Each occupant after the other enters.
///
/// # Errors
/// As [`Crowd::until`].
pub(super) fn enter(crowd: &mut Crowd<'_>, room: &str) -> Result<(), String> {
    for occupant in 0..crowd.occupants() {
        crowd.push(occupant, &wire::join(room, occupant as u64));
        crowd.until(|crowd| crowd.inside[occupant], |_| {})?;
        if occupant == 0 {
            let before = crowd.opened;
            crowd.push(occupant, &wire::open(room));
            crowd.until(|crowd| crowd.opened > before, |_| {})?;
        }
    }
    Ok(())
}

/// So many occupants leave and enter again, one after the other; the time of each entry.
///
/// # Errors
/// As [`Crowd::until`].
pub(super) fn rejoin(crowd: &mut Crowd<'_>, room: &str, times: u32) -> Result<Latencies, String> {
    let mut latencies = Latencies::default();
    for time in 0..times as usize {
        // Not the first one, which owns the room.
        let occupant = 1 + time % (crowd.occupants() - 1).max(1);
        crowd.push(occupant, &wire::leave(room, occupant as u64));
        crowd.until(|crowd| !crowd.inside[occupant], |_| {})?;
        let began = Instant::now();
        crowd.push(occupant, &wire::join(room, occupant as u64));
        crowd.until(|crowd| crowd.inside[occupant], |_| {})?;
        latencies.record(began.elapsed().as_nanos() as u64);
    }
    Ok(latencies)
}

/// A client enters all of these rooms at once, and waits until it is in all of them.
///
/// # Errors
/// As [`Crowd::until`].
pub(super) fn enter_all(crowd: &mut Crowd<'_>, client: usize, rooms: &[String]) -> Result<(), String> {
    for room in rooms {
        crowd.push(client, &wire::join(room, client as u64));
    }
    let wanted = rooms.len() as u32;
    crowd.until(|crowd| crowd.entered[client] >= wanted, |_| {})
}
