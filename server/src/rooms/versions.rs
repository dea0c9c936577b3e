//! Who belongs to a room, for those who enter: what has changed since they have last heard of it (XEP-0463).
//!
//! | a client says | it gets, before any presence |
//! | --- | --- |
//! | nothing | nothing |
//! | `<mav/>` | the list |
//! | a version that is the newest | nothing: its own presence says so |
//! | a version that the room knows | what has changed since |
//! | any other | the list |
//!
//! The list is that which it may ask for (`muc#admin`): one who may not see bans hears of a member who was banned as of one who has
//! left. A list goes out in messages of so many items, each with the versions between which it leads, in the order of the changes.

use std::collections::VecDeque;

use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::directory::rooms::{AffiliationChanges, AffiliationVersion, RoomsView};

use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::Weight;
use crate::occupancy::room::Room;
use crate::proto::muc::Affiliation;
use crate::proto::muc::admin::{self, ListOf};
use crate::proto::muc::rules::{self, Standing};
use crate::proto::muc::user::{UserItem, write_x};
use crate::proto::muc::versions::{Since, VersionTexts, Versions};
use crate::rooms::say::{self, Written};
use crate::stanza::Kind;
use crate::user::actors::Effects;

/// A room to which more belong, or in which more are banned, tells no versions: its list would be too long for those who enter.
const LISTED_MAX: u64 = 1024;

/// Items of one message.
const ITEMS_MAX: usize = 128;

/// Whether a room tells versions of its list.
pub(super) fn tells(room: &Room) -> bool {
    let counts = &room.record.counts;
    counts.belonging() + u64::from(counts.outcasts) <= LISTED_MAX
}

/// The version of the list, for an occupant that may see it.
pub(super) fn current(room: &Room, own: Standing) -> Option<String> {
    let sees = rules::may_have_list(own, ListOf::Affiliation(Affiliation::Member), room.config());
    (sees && tells(room)).then(|| texts(room).of(room.record.version()))
}

/// The versions before and after the next change of an affiliation that everybody is told.
pub(super) fn of_next_change(room: &mut Room) -> Option<(String, String)> {
    let (since, until) = room.tell_change();
    let texts = texts(room);
    (since != until && tells(room)).then(|| (texts.of(since), texts.of(until)))
}

fn texts(room: &Room) -> VersionTexts {
    VersionTexts::new(&room.record.secret)
}

/// Somebody who belongs to the room, or does no more.
struct Listed {
    jid: String,
    affiliation: Affiliation,
    version: u64,
}

/// Tells a seat who belongs to the room.
pub(super) fn tell(
    env: &Env,
    fx: &mut Effects,
    room: &Room,
    (local, resource): (&str, &str),
    (own, since): (Standing, &Since),
) {
    if !tells(room) {
        return;
    }
    let from = env.room_jid(room.name());
    let sees = |affiliation| rules::may_have_list(own, ListOf::Affiliation(affiliation), room.config());
    if !sees(Affiliation::Member) {
        let mut written = Written::begin(Kind::Message, &from);
        written.0.extend_from_slice(b" type='error'>");
        admin::forbidden().write(&mut written.0);
        written.0.extend_from_slice(b"</message>");
        let cast = written.cast(Kind::Message, Weight::Message, &from);
        return say::to_seats(env, fx, &cast, (local, &[resource]));
    }
    let texts = texts(room);
    let known = match since {
        Since::Nothing => None,
        Since::Version(version) => texts.read(version),
    };
    let found = env.shared.directory.rooms(|rooms| list(rooms, room, known));
    let (is_whole, mut listed) = match found {
        Ok(found) => found,
        Err(error) => return tracing::error!(room = room.name(), %error, "cannot read the directory"),
    };
    fx.work.add(work::LOOK + listed.len() as u64 * work::ITEM);
    if !sees(Affiliation::Outcast) {
        match is_whole {
            true => listed.retain(|one| one.affiliation != Affiliation::Outcast),
            false => {
                listed.iter_mut().for_each(|one| one.affiliation = one.affiliation.max(Affiliation::None));
            }
        }
    }
    if !is_whole && listed.is_empty() {
        return;
    }
    listed.sort_by_key(|one| one.version);
    let mut since = known.filter(|_| !is_whole).map(|version| texts.of(version));
    let mut left = VecDeque::from(listed);
    loop {
        let part = next_part(&mut left);
        let until = match part.last() {
            Some(last) if !left.is_empty() => room.record.version_of(last.version),
            _ => room.record.version(),
        };
        let until = texts.of(until);
        let written = message(&from, &part, &Versions { since: since.as_deref(), until: &until });
        let cast = written.cast(Kind::Message, Weight::Message, &from);
        say::to_seats(env, fx, &cast, (local, &[resource]));
        since = Some(until);
        if left.is_empty() {
            break;
        }
    }
}

/// All of the list, or what has changed of it.
fn list(
    rooms: RoomsView<'_>,
    room: &Room,
    known: Option<AffiliationVersion>,
) -> Result<(bool, Vec<Listed>), DirectoryError> {
    if let Some(known) = known
        && let AffiliationChanges::Since(changed, removed) = rooms.changes_since(&room.record, known)?
    {
        let changed = changed.into_iter().map(|one| Listed {
            jid: one.jid,
            affiliation: one.affiliation,
            version: one.version,
        });
        let removed = removed.into_iter().map(|one| Listed {
            jid: one.jid,
            affiliation: Affiliation::None,
            version: one.version,
        });
        return Ok((false, changed.chain(removed).collect()));
    }
    let mut listed = Vec::new();
    rooms.each_affiliate(room.record.actor, |one| {
        listed.push(Listed { jid: one.jid, affiliation: one.affiliation, version: one.version });
        true
    })?;
    Ok((true, listed))
}

/// So many that one message may have, and those with them that changed at the same version.
fn next_part(left: &mut VecDeque<Listed>) -> Vec<Listed> {
    let mut part: Vec<Listed> = Vec::new();
    while let Some(next) = left.front() {
        if part.len() >= ITEMS_MAX && part.last().is_some_and(|last| last.version != next.version) {
            break;
        }
        part.extend(left.pop_front());
    }
    part
}

fn message(from: &str, listed: &[Listed], versions: &Versions<'_>) -> Written {
    let mut written = Written::begin(Kind::Message, from);
    written.0.push(b'>');
    write_x(&mut written.0, |out| {
        versions.write(out);
        for one in listed {
            UserItem { affiliation: one.affiliation, jid: Some(&one.jid), ..UserItem::default() }.write(out);
        }
    });
    written.0.extend_from_slice(b"</message>");
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_cut_between_versions_alone() {
        let listed = |version: usize| Listed {
            jid: String::new(),
            affiliation: Affiliation::Member,
            version: version as u64,
        };
        let mut left: VecDeque<Listed> = (0..300).map(|n| listed(n.min(ITEMS_MAX) + n / 290)).collect();
        let parts: Vec<usize> = std::iter::from_fn(|| {
            let part = next_part(&mut left);
            (!part.is_empty()).then_some(part.len())
        })
        .collect();
        assert_eq!(parts, [ITEMS_MAX, 290 - ITEMS_MAX, 10]);
        assert!(next_part(&mut VecDeque::new()).is_empty());
    }
}
