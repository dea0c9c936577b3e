//! Stanzas for seats: from the room, or from an occupant of it.

use crate::env::Env;
use crate::exchange::fanout::{Cast, Targets, Weight};
use crate::occupancy::occupants::Occupant;
use crate::occupancy::room::Room;
use crate::stanza::{Delivery, Kind};
use crate::user::actors::Effects;
use crate::xml::writer;

/// Appends ` name="value"`, as stanzas are stamped.
pub(super) fn write_attribute(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    writer::escape_attribute(value, out);
    out.push(b'"');
}

/// A stanza of the room that is written, without its recipient's address: that goes behind the name of the element.
#[derive(Clone, Debug, Default)]
pub(super) struct Written(pub(super) Vec<u8>);

impl Written {
    /// Begins a stanza: `<kind from="…"`.
    pub(super) fn begin(kind: Kind, from: &str) -> Written {
        let mut bytes = Vec::with_capacity(512);
        bytes.push(b'<');
        bytes.extend_from_slice(kind.name().as_bytes());
        write_attribute("from", from, &mut bytes);
        Written(bytes)
    }

    /// A client's stanza to the room, from `from` instead: as the sender's home has stamped it. `None`: it was not.
    pub(super) fn passed_on(env: &Env, d: &Delivery<'_>, from: &str) -> Option<Written> {
        let mut stamp = Vec::with_capacity(d.from.len() + d.to_local.len() + 64);
        write_attribute("from", d.from, &mut stamp);
        write_attribute("to", &env.occupant_jid(d.to_local, d.to_resource), &mut stamp);
        let at = memchr::memmem::find(d.bytes, &stamp)?;
        let mut bytes = Vec::with_capacity(d.bytes.len() + 256);
        bytes.extend_from_slice(&d.bytes[..at]);
        write_attribute("from", from, &mut bytes);
        bytes.extend_from_slice(&d.bytes[at + stamp.len()..]);
        Some(Written(bytes))
    }

    /// The same with what `child` writes behind everything that it contains.
    pub(super) fn with(&self, child: impl FnOnce(&mut Vec<u8>)) -> Written {
        let mut bytes = Vec::with_capacity(self.0.len() + 256);
        writer::append_child(&self.0, &mut bytes, child);
        Written(bytes)
    }

    /// The same for one recipient, whole.
    pub(super) fn addressed(&self, to: &str) -> Vec<u8> {
        let (head, tail) = self.parts();
        let mut bytes = Vec::with_capacity(self.0.len() + to.len() + 16);
        bytes.extend_from_slice(head);
        write_attribute("to", to, &mut bytes);
        bytes.extend_from_slice(tail);
        bytes
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let is_end = |b: &u8| matches!(b, b' ' | b'>' | b'/' | b'\t' | b'\r' | b'\n');
        self.0.split_at(self.0.iter().position(is_end).unwrap_or(self.0.len()))
    }

    /// As it goes to seats.
    pub(super) fn cast<'a>(&'a self, kind: Kind, weight: Weight, from: &'a str) -> Cast<'a> {
        Cast::new(kind, weight, from, self.parts())
    }
}

/// Sends a stanza to everybody in the room.
pub(super) fn to_all(env: &Env, fx: &mut Effects, room: &mut Room, cast: &Cast<'_>) {
    if !room.has_lists() {
        fx.work.add_contacts(room.occupants.len());
    }
    match room.lists(env.shared.workers()) {
        Some(lists) => fx.cast(env, cast, lists),
        None => to_those(env, fx, room, cast, |_| true),
    }
}

/// Sends a stanza to the occupants that fit.
pub(super) fn to_those(
    env: &Env,
    fx: &mut Effects,
    room: &Room,
    cast: &Cast<'_>,
    fits: impl Fn(&Occupant) -> bool,
) {
    fx.work.add_contacts(room.occupants.len());
    let mut lists = fx.links.take_lists();
    for (_, occupant) in room.occupants.iter().filter(|(_, occupant)| fits(occupant)) {
        let list = &mut lists[occupant.home()];
        occupant.seats.iter().for_each(|seat| list.push_seat(seat.local(), seat.resource()));
    }
    fx.cast(env, cast, &lists);
    fx.links.put_lists(lists);
}

/// Sends a stanza to seats of one account.
pub(super) fn to_seats<S: AsRef<str>>(
    env: &Env,
    fx: &mut Effects,
    cast: &Cast<'_>,
    (local, seats): (&str, &[S]),
) {
    let mut targets = Targets::default();
    seats.iter().for_each(|seat| targets.push_seat(local, seat.as_ref()));
    fx.cast_to_worker(env, &cast.to(&targets), env.home_of(local));
}
