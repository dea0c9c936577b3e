//! Occupants of rooms, as they go to another program. Everything else of a room is in the directory.

use crate::occupancy::occupants::{Audience, Occupant};
use crate::occupancy::room::Room;
use crate::proto::muc::{Affiliation, Role};
use crate::saved::Owner;
use crate::saved::codec::{Decoder, Encoder, bits};
use crate::saved::error::StateError;
use crate::saved::kind::Kind;

/// An occupant of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OccupantRecord<'a> {
    /// The room's name.
    pub room: &'a str,
    /// The room waits for its owner to configure it.
    pub is_locked: bool,
    /// Its nick.
    pub nick: &'a str,
    /// Localpart of its account.
    pub local: &'a str,
    /// Number of its account.
    pub account: u64,
    /// What it is to the room.
    pub affiliation: Affiliation,
    /// What it may do in it.
    pub role: Role,
    /// Everybody has been shown its presence.
    pub is_shown: bool,
    /// Resources with which it listens.
    pub seats: Vec<&'a str>,
    /// What its presence says.
    pub presence: &'a [u8],
    /// What an operator says of it.
    pub hats: &'a [u8],
}

impl<'a> OccupantRecord<'a> {
    /// That of an occupant.
    pub fn of(room: &'a Room, occupant: &'a Occupant) -> OccupantRecord<'a> {
        OccupantRecord {
            room: room.name(),
            is_locked: room.is_locked,
            nick: &occupant.nick,
            local: occupant.local(),
            account: occupant.account().raw(),
            affiliation: occupant.affiliation(),
            role: occupant.role(),
            is_shown: occupant.seen_by() == Audience::Everybody,
            seats: occupant.seats.iter().map(|seat| seat.resource()).collect(),
            presence: occupant.payload.presence(),
            hats: occupant.payload.hats(),
        }
    }
}

/// Owns who is in which room. Without it clients would believe to be in rooms that know nothing of them.
pub struct Occupancy;

const IS_LOCKED: u8 = 1;
const IS_SHOWN: u8 = 2;

impl Owner for Occupancy {
    const KIND: Kind = Kind::required("occupants");
    type Record<'a> = OccupantRecord<'a>;

    fn write(record: &OccupantRecord<'_>, to: &mut Encoder) {
        to.text(record.room);
        to.byte(bits([(record.is_locked, IS_LOCKED), (record.is_shown, IS_SHOWN)]));
        to.text(record.nick);
        to.text(record.local);
        to.number(record.account);
        to.byte(record.affiliation as u8);
        to.byte(record.role as u8);
        to.count(record.seats.len());
        record.seats.iter().for_each(|seat| to.text(seat));
        to.bytes_of(record.presence);
        to.bytes_of(record.hats);
    }

    fn read<'a>(from: &mut Decoder<'a>) -> Result<OccupantRecord<'a>, StateError> {
        let room = from.text()?;
        let flags = from.byte()?;
        if flags & !(IS_LOCKED | IS_SHOWN) != 0 {
            return Err(StateError::Damaged("an occupant with unknown flags"));
        }
        let (nick, local, account) = (from.text()?, from.text()?, from.number()?);
        let affiliation = usize::from(from.byte()?);
        let affiliation = Affiliation::ALL.get(affiliation).copied();
        let role = Role::ALL.get(usize::from(from.byte()?)).copied();
        let (Some(affiliation), Some(role)) = (affiliation, role) else {
            return Err(StateError::Damaged("an occupant that is nothing known"));
        };
        let mut seats = Vec::new();
        for _ in 0..from.count()? {
            seats.push(from.text()?);
        }
        if seats.is_empty() {
            return Err(StateError::Damaged("an occupant without a seat"));
        }
        let (presence, hats) = (from.bytes()?, from.bytes()?);
        Ok(OccupantRecord {
            room,
            is_locked: flags & IS_LOCKED != 0,
            nick,
            local,
            account,
            affiliation,
            role,
            is_shown: flags & IS_SHOWN != 0,
            seats,
            presence,
            hats,
        })
    }

    fn samples() -> Vec<OccupantRecord<'static>> {
        let plain = OccupantRecord {
            room: "hall",
            is_locked: false,
            nick: "romeo",
            local: "romeo",
            account: 1 << 56 | 1 << 28,
            affiliation: Affiliation::None,
            role: Role::Participant,
            is_shown: true,
            seats: vec!["orchard"],
            presence: b"",
            hats: b"",
        };
        let owner = OccupantRecord {
            room: "b\u{e9}",
            is_locked: true,
            nick: "the owner",
            affiliation: Affiliation::Owner,
            role: Role::Moderator,
            is_shown: false,
            seats: vec!["1", "2"],
            presence: b"<show>away</show>",
            hats: b"<hats/>",
            ..plain.clone()
        };
        vec![plain, owner]
    }
}
