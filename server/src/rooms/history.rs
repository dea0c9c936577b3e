//! What somebody who enters hears (XEP-0045 §7.2.13 to §7.2.15): what was said before, out of the room's archive, and then what
//! the room is about. The room is busy while its archive is read, so what is said next comes behind it.

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::query::{Order, Page, Query, QueryError};

use crate::env::Env;
use crate::exchange::fanout::Weight;
use crate::occupancy::room::Room;
use crate::proto::delay;
use crate::proto::muc::join::HistoryRequest;
use crate::proto::stanza_id;
use crate::rooms::receive;
use crate::rooms::say::{self, Written};
use crate::rooms::subject;
use crate::stanza::Kind;
use crate::user::actors::{Actors, Effects};
use crate::user::archive::in_room::{self, TakenBack};
use crate::user::archive::upkeep;
use crate::user::jobs::Then;
use crate::user::record;
use whimbrel_storage::directory::rooms::RoomFlags;

/// Texts of history that somebody who enters gets at most, in bytes: a step of an archive.
const BYTES_MAX: usize = whimbrel_storage::archive::query::STEP_BYTES;

/// Gives a seat the history that it wants, and the subject.
pub(super) fn give(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    name: &str,
    (local, resource): (&str, &str),
    request: Option<HistoryRequest>,
) {
    let Some(room) = actors.rooms.room(name) else { return };
    let request = request.unwrap_or_default();
    let is_kept = room.has(RoomFlags::ARCHIVE) && env.config.archive.enabled;
    let wanted = request.stanzas_max.unwrap_or(u32::MAX).min(room.config().history_max);
    if !is_kept || wanted == 0 || request.chars_max == Some(0) {
        return subject::tell(env, fx, room, (local, resource));
    }
    let actor = room.record.actor;
    let query = Query {
        order: Order::Backwards,
        from_ms: request.since_ms.unwrap_or(0),
        not_before: upkeep::oldest(env),
        messages_max: wanted as usize,
        bytes_max: BYTES_MAX,
        ..Query::all(actor, actors.commits.archive().snapshot(actor))
    };
    let reader = (name.to_owned(), local.to_owned(), resource.to_owned());
    let erased = actors.archives.retractions.erased();
    let go_on = Box::new(move |answer: Result<Page, QueryError>| -> Then {
        Box::new(move |actors, env, fx| {
            let (name, local, resource) = &reader;
            actors.rooms.inbox(name).end();
            let seat = (local.as_str(), resource.as_str());
            match answer {
                // Something of it has been taken back meanwhile. Nothing else can be, as long as the room is busy.
                Ok(page) if is_stale(actors, erased, actor, &page) => {
                    give(actors, env, fx, name, seat, Some(request));
                }
                answer => read(actors, env, fx, name, seat, (answer, request.chars_max)),
            }
            receive::go_on(actors, env, fx, name);
        })
    });
    actors.rooms.inbox(name).begin();
    if !fx.jobs.look(query, go_on) {
        // Who enters can ask the archive later.
        env.metrics().refused_archive_queries.add(1);
        actors.rooms.inbox(name).end();
        if let Some(room) = actors.rooms.room(name) {
            subject::tell(env, fx, room, (local, resource));
        }
    }
}

fn is_stale(actors: &Actors, erased: u64, room: ActorId, page: &Page) -> bool {
    let ids = page.messages.iter().map(|found| found.id);
    actors.archives.retractions.has_erased_since(erased, room, ids)
}

/// The archive has been read for a seat.
fn read(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    name: &str,
    seat: (&str, &str),
    (answer, chars_max): (Result<Page, QueryError>, Option<u64>),
) {
    let Some(actor) = actors.rooms.room(name).map(|room| room.record.actor) else { return };
    let taken_back = in_room::taken_back(actors, env, actor);
    let Some(room) = actors.rooms.room(name) else { return };
    match (answer, taken_back) {
        (Ok(page), Some(taken_back)) => give_page(env, fx, room, seat, (&page, &taken_back, chars_max)),
        // Who enters can ask the archive later.
        (Ok(_), None) => {}
        (Err(error), _) => tracing::error!(room = name, %error, "an archive cannot be read"),
    }
    subject::tell(env, fx, room, seat);
}

/// Writes the newest messages that fit, the oldest of them first.
fn give_page(
    env: &Env,
    fx: &mut Effects,
    room: &Room,
    (local, resource): (&str, &str),
    (page, taken_back, chars_max): (&Page, &TakenBack, Option<u64>),
) {
    let jid = env.room_jid(room.name());
    let mut left = chars_max.unwrap_or(u64::MAX);
    let mut fitting = Vec::new();
    for found in &page.messages {
        let text = taken_back.text(page, found);
        let Some(kept) = record::decode(&text).filter(|kept| !subject::is_change(kept.stanza)) else {
            continue;
        };
        let written = Written(kept.stanza.to_vec()).with(|out| {
            let id = env.shared.archive_ids.seal(found.id.0);
            stanza_id::write(&jid, std::str::from_utf8(&id).expect("base32 is ASCII"), out);
            delay::write(&jid, found.time_ms, out);
        });
        let chars = written.0.iter().filter(|byte| (**byte as i8) >= -0x40).count() as u64;
        if chars > left {
            break;
        }
        left -= chars;
        fitting.push(written);
    }
    for written in fitting.iter().rev() {
        let cast = written.cast(Kind::Message, Weight::Message, &jid);
        say::to_seats(env, fx, &cast, (local, &[resource]));
    }
}
