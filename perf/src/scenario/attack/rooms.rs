//! Floods of rooms (XEP-0045): all flooders are in one room, which the first of them makes whenever they come.

use std::time::{Duration, Instant};

use super::kinds::{FIRST_FLOODER, Place};
use crate::scenario::client::Client;
use crate::scenario::group::wire::{self, Heard};
use crate::scenario::poll;

/// Occupants of the room.
pub(super) const OCCUPANTS: u32 = 100;

/// How long one may take to enter: a flood before may have left it much to read.
const ENTER_MAX: Duration = Duration::from_secs(120);

/// How long to wait for the socket before looking at the time.
const WAIT_MAX: Duration = Duration::from_millis(5);

fn room(place: &Place) -> String {
    wire::room(&place.domain, "flood")
}

/// Lets a flooder into the room; the first one makes it.
///
/// # Errors
/// It may not enter, its session has ended, or it takes too long.
pub(super) fn enter(client: &mut Client, place: &Place, buffer: &mut [u8]) -> Result<(), String> {
    let is_first = place.account == FIRST_FLOODER;
    client.push(&wire::join(&room(place), place.account));
    if is_first {
        client.push(&wire::open(&room(place)));
    }
    let wanted = if is_first { Heard::Opened } else { Heard::Entered };
    let (began, mut is_done, mut is_refused) = (Instant::now(), false, false);
    while !is_done {
        client.flush();
        client.receive(buffer, |element| {
            let heard = wire::heard(element);
            is_done |= heard == wanted;
            is_refused |= heard == Heard::Refused;
        });
        if is_refused || client.ended.is_some() || began.elapsed() > ENTER_MAX {
            return Err(format!("flooder {} does not get into the room", place.account - FIRST_FLOODER));
        }
        poll::wait(&[client.interest(true)], WAIT_MAX).map_err(|error| format!("cannot wait: {error}"))?;
    }
    Ok(())
}

/// Says something to everybody.
pub(super) fn say(place: &Place, n: u64, out: &mut String) {
    out.push_str(&wire::message(&room(place), (n % u64::from(u32::MAX)) as u32, 40));
}

/// Leaves, and enters again. The first one stays, so that the room does, and says something.
pub(super) fn come_and_go(place: &Place, n: u64, out: &mut String) {
    match n % 2 {
        _ if place.account == FIRST_FLOODER => say(place, n, out),
        0 => out.push_str(&wire::leave(&room(place), place.account)),
        _ => out.push_str(&wire::join(&room(place), place.account)),
    }
}
