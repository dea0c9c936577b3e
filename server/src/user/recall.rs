//! What rooms have said to a session without a connection: references into the rooms' archives, and texts again when its client
//! comes back.
//!
//! ```text
//! said, or unacknowledged when the connection was lost ─► kept up to a sixteenth of limits.detached_bytes; beyond: a reference
//! <resume/> ─► each room is asked ─► texts out of its archive, then their end ─► all answered: in their places, the stream goes on
//! ```
//! So a session that is away while much is said costs an entry of the queue for each message, and the text lies where it lies anyway.
//! What was taken back meanwhile does not come. To what an archive does not have there are references into the log
//! ([`spool`]).
//!
//! The client waits for its `<resumed/>` as it does for the disk, and nothing is sent before, so the order is that of the queue.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use whimbrel_storage::log::{PeerHash, Sequence};

use crate::env::Env;
use crate::exchange::fanout::{Cast, Weight};
use crate::keys::{ResourceKey, StreamId};
use crate::proto::address;
use crate::proto::ns;
use crate::proto::sm::Reference;
use crate::proto::traits;
use crate::runtime::driver::ConnId;
use crate::runtime::timer::Millis;
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::actors::{Actors, Effects};
use crate::user::flow::Class;
use crate::user::room;
use crate::user::seats;
use crate::user::spool;
use crate::user::tables::Users;
use crate::xml::{Element, StartTag};

/// Sessions of a worker whose texts are read at once. Others wait: each may need `limits.sm_unacked_bytes` for a moment.
const AT_ONCE_MAX: usize = 64;

/// Questions of a worker that are open at once, and those of one session: each takes a place among `archive.queries`, which are for
/// everybody.
const OPEN_MAX: usize = 64;
const OPEN_OF_SESSION_MAX: usize = 4;

/// Milliseconds until a room that was busy is asked again.
const BUSY_MS: u64 = 100;

/// Messages that a room reads for a question beside those that are wanted, and for each of these: some of a room are said to nobody
/// in it. A client that left the room for long and came back has more between, and enters anew.
const READ_BESIDE: u64 = 1000;
const READ_EACH: u64 = 4;

/// The part of `limits.detached_bytes` up to which a session keeps what rooms have said itself: so one that was away for a moment
/// goes on without asking anybody.
const KEPT_PART: usize = 16;

/// What is asked of a room: messages between two ids, both included.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which question it is.
    pub number: u64,
    /// The oldest message.
    pub first: Sequence,
    /// The newest one.
    pub last: Sequence,
    /// Messages that are read for it at most; with more between the two, the answer is [`AnswerEnd::Failed`].
    pub most: u64,
}

/// How a room's answer ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AnswerEnd {
    /// It has given all that it has.
    All,
    /// There is no such room, or the session may not read there any more.
    NotThere,
    /// It cannot read now, and is to be asked again.
    Busy,
    /// It cannot read.
    Failed,
}

impl Wanted {
    /// As it goes to the room.
    pub fn text(&self) -> String {
        format!("{} {} {} {}", self.number, self.first.0, self.last.0, self.most)
    }

    /// Reads it.
    pub fn read(text: &str) -> Option<Wanted> {
        let mut numbers = text.split(' ').map(|number| number.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        let (number, first, last) = (next()?, Sequence(next()?), Sequence(next()?));
        Some(Wanted { number, first, last, most: next()? })
    }

    /// The end of the answer, as it comes back.
    pub fn end(&self, end: AnswerEnd) -> String {
        let end = match end {
            AnswerEnd::All => "all",
            AnswerEnd::NotThere => "not-there",
            AnswerEnd::Busy => "busy",
            AnswerEnd::Failed => "failed",
        };
        format!("{} {end}", self.number)
    }
}

/// Reads what [`Wanted::end`] wrote: the question's number, and the end.
fn read_end(text: &[u8]) -> Option<(u64, AnswerEnd)> {
    let (number, end) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    let end = match end {
        "all" => AnswerEnd::All,
        "not-there" => AnswerEnd::NotThere,
        "busy" => AnswerEnd::Busy,
        _ => AnswerEnd::Failed,
    };
    Some((number.parse().ok()?, end))
}

/// A message that is read again.
enum Text {
    Missing,
    Here(Box<[u8]>),
    /// It was taken back.
    Gone,
}

/// A room that was asked.
struct Asked {
    room: Box<str>,
    hash: PeerHash,
    wanted: Wanted,
    end: Option<AnswerEnd>,
    since: Millis,
}

/// A message of a room, as sessions refer to it.
type Place = (PeerHash, Sequence);

/// What is read again for one session.
pub struct Recall {
    stream: StreamId,
    asked: Vec<Asked>,
    texts: HashMap<Place, Text, FixedState>,
}

/// Whether a session has the texts of what it refers to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has, or refers to nothing.
    Ready,
    /// They are being read.
    UnderWay,
    /// Some cannot be read, so it cannot go on.
    Lost,
}

impl Recall {
    /// Questions that are not answered.
    fn open(&self) -> usize {
        self.asked.iter().filter(|asked| asked.end.is_none()).count()
    }

    /// The oldest message of a room that is missing, and how many are.
    fn missing(&self, room: PeerHash) -> Option<(Sequence, u64)> {
        let is_missing = |(place, text): &(&Place, &Text)| place.0 == room && matches!(text, Text::Missing);
        let missing = self.texts.iter().filter(is_missing).map(|(place, _)| (place.1, 1));
        missing.reduce(|one, other| (one.0.min(other.0), one.1 + other.1))
    }
}

/// Sessions of a worker for which texts are read.
#[derive(Default)]
pub struct Recalls {
    under_way: HashMap<ResourceKey, Recall, FixedState>,
    next: u64,
    /// Questions that are not answered.
    open: usize,
}

impl Recalls {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Ends all but those of which this is true.
    pub fn retain(&mut self, is_wanted: impl Fn(ResourceKey) -> bool) {
        let open = &mut self.open;
        self.under_way.retain(|key, recall| {
            let is_kept = is_wanted(*key);
            *open -= if is_kept { 0 } else { recall.open() };
            is_kept
        });
    }

    /// A resource is gone.
    pub fn forget(&mut self, key: ResourceKey) -> Option<Recall> {
        let recall = self.under_way.remove(&key)?;
        self.open -= recall.open();
        Some(recall)
    }

    /// A message of a room is taken back.
    pub fn take_back(&mut self, key: ResourceKey, place: Place) {
        if let Some(text) = self.under_way.get_mut(&key).and_then(|recall| recall.texts.get_mut(&place)) {
            *text = Text::Gone;
        }
    }
}

/// Where the archive of its room has a message that was said to somebody in it. `None`: it is not there, or not as it was said.
pub fn reference(env: &Env, stanza: &[u8]) -> Option<Reference> {
    // Most is no message of a room, and is not looked into.
    let tag = StartTag::of(stanza)?;
    let from = tag.attribute("from")?;
    let room = address::bare_of(&from);
    address::contact_here(room, env.services().rooms?)?;
    if tag.attribute("type").as_deref() != Some("groupchat") {
        return None;
    }
    let message = Element::parse(stanza).ok()?;
    if message.find("delay", ns::DELAY).is_some() {
        return None;
    }
    let is_id =
        |child: &&Element| child.is("stanza-id", ns::STANZA_ID) && child.attribute("by") == Some(room);
    let id = message.elements().find(is_id)?.attribute("id")?;
    let id = env.shared.archive_ids.open(id).map(Sequence)?;
    let children = message.elements().map(|child| (child.name(), child.namespace()));
    let wakes = traits::of(children).has(Traits::WAKES);
    Some(Reference { id, room: hash_of(env, room), wakes })
}

/// By which references tell a room.
pub fn hash_of(env: &Env, room: &str) -> PeerHash {
    env.shared.archive_ids.peer(room)
}

/// Bytes beside references that a session without a connection keeps before what rooms have said becomes references.
pub fn kept_bytes(env: &Env) -> usize {
    room::detached_bytes(env) / KEPT_PART
}

/// A session without a connection keeps of what rooms have said nothing but references, if it keeps more than `kept` bytes. `true`:
/// it does.
pub fn refer(users: &mut Users, env: &Env, fx: &Effects, key: ResourceKey, kept: usize) -> bool {
    let Some(queue) = users.sm_mut(key).and_then(|sm| sm.unacked_mut()) else { return false };
    let before = queue.content();
    if before <= kept {
        return false;
    }
    queue.refer(|stanza| reference(env, stanza));
    fx.work.add_bytes(before - queue.content());
    true
}

/// What something that is said in a room is to a client. `None`: the log is to have it for all who have no connection.
pub fn class_of(
    actors: &mut Actors,
    env: &Env,
    fx: &Effects,
    key: ResourceKey,
    stanza: &[u8],
) -> Option<Class<'static>> {
    let is_away = actors.users.resource(key).conn == ConnId::NONE;
    // What is being read again is in memory in a moment.
    if !is_away || actors.recalls.under_way.contains_key(&key) {
        return Some(Class::Room);
    }
    let left = kept_bytes(env).checked_sub(stanza.len());
    let has_more = refer(&mut actors.users, env, fx, key, left.unwrap_or(0));
    if left.is_some() && !has_more {
        return Some(Class::Room);
    }
    fx.work.add_bytes(stanza.len());
    match reference(env, stanza) {
        Some(reference) => Some(Class::Archived(reference)),
        None if spool::takes(stanza) => None,
        None => Some(Class::Room),
    }
}

/// Goes on with reading what a session refers to, whose client has come back.
pub fn progress(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) -> Progress {
    let Some(sm) = actors.users.sm_mut(key) else { return Progress::Ready };
    let stream = sm.id();
    if sm.unacked_queue().is_none_or(|queue| queue.archived_count() == 0) {
        return Progress::Ready;
    }
    let recalls = &mut actors.recalls;
    if recalls.under_way.get(&key).is_some_and(|recall| recall.stream != stream) {
        recalls.forget(key);
    }
    if !recalls.under_way.contains_key(&key) {
        if recalls.under_way.len() >= AT_ONCE_MAX {
            return Progress::UnderWay;
        }
        begin(actors, env, key, stream);
        env.metrics().recalls_high.raise(actors.recalls.under_way.len() as u64);
    }
    ask(actors, env, fx, key);
    let Some(recall) = actors.recalls.under_way.get(&key) else { return Progress::Ready };
    if recall.asked.iter().any(|asked| matches!(asked.end, None | Some(AnswerEnd::Busy))) {
        return Progress::UnderWay;
    }
    let Some(queue) = actors.users.sm_mut(key).and_then(|sm| sm.unacked_mut()) else {
        return Progress::Ready;
    };
    let text_of = |one: Reference| recall.texts.get(&(one.room, one.id));
    if queue.archived().any(|one| text_of(one).is_none()) {
        // It has given up more meanwhile.
        actors.recalls.forget(key);
        return Progress::UnderWay;
    }
    let is_open = |room: PeerHash| {
        recall.asked.iter().any(|asked| asked.hash == room && asked.end != Some(AnswerEnd::NotThere))
    };
    let is_lost = |one: Reference| matches!(text_of(one), Some(Text::Missing)) && is_open(one.room);
    if queue.archived().any(is_lost) { Progress::Lost } else { Progress::Ready }
}

/// Begins to read what a session refers to.
fn begin(actors: &mut Actors, env: &Env, key: ResourceKey, stream: StreamId) {
    let rooms = seats::rooms_of(actors, env, key);
    let queue = actors.users.sm_mut(key).and_then(|sm| sm.unacked_mut());
    let mut texts: HashMap<Place, Text, FixedState> = HashMap::default();
    let mut ranges: HashMap<PeerHash, (Sequence, Sequence), FixedState> = HashMap::default();
    for Reference { id, room, .. } in queue.iter().flat_map(|queue| queue.archived()) {
        texts.insert((room, id), Text::Missing);
        let range = ranges.entry(room).or_insert((id, id));
        *range = (range.0.min(id), range.1.max(id));
    }
    let mut asked = Vec::new();
    // What was said in a room in which it is no more, it has no right to hear again.
    for room in rooms {
        let hash = hash_of(env, &env.room_jid(&room));
        let Some(&(first, last)) = ranges.get(&hash) else { continue };
        actors.recalls.next += 1;
        let wanted = Wanted { number: actors.recalls.next, first, last, most: 0 };
        // It is asked next.
        asked.push(Asked { room, hash, wanted, end: Some(AnswerEnd::Busy), since: Millis(0) });
    }
    actors.recalls.under_way.insert(key, Recall { stream, asked, texts });
}

/// Asks rooms that were not asked yet, or were busy a while ago, for what is still missing.
fn ask(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    let Recalls { under_way, open, .. } = &mut actors.recalls;
    let Some(recall) = under_way.get_mut(&key) else { return };
    let is_due = |asked: &Asked| asked.end == Some(AnswerEnd::Busy) && asked.since.0 + BUSY_MS <= env.now.0;
    let room_for = (OPEN_MAX - *open).min(OPEN_OF_SESSION_MAX.saturating_sub(recall.open()));
    let due: Vec<usize> =
        (0..recall.asked.len()).filter(|at| is_due(&recall.asked[*at])).take(room_for).collect();
    if due.is_empty() {
        return;
    }
    let full = actors.users.full_jid(env, key);
    for at in due {
        let missing = recall.missing(recall.asked[at].hash);
        let asked = &mut recall.asked[at];
        let Some((first, count)) = missing else {
            asked.end = Some(AnswerEnd::All);
            continue;
        };
        (asked.wanted.first, asked.wanted.most) = (first, READ_BESIDE + READ_EACH * count);
        (asked.end, asked.since) = (None, env.now);
        *open += 1;
        let question = Delivery {
            kind: Kind::Iq,
            typ: Type::Result,
            traits: Traits::FROM_SERVER,
            from: &full,
            to_local: &asked.room,
            to_resource: None,
            id: Some(&asked.wanted.text()),
            bytes: b"<iq type='result'/>",
            pending_ack: None,
        };
        fx.route_to_room(env, &question);
    }
}

/// A room gives what a session of this worker refers to, or says that there is no more of it.
pub fn receive(actors: &mut Actors, env: &Env, cast: &Cast<'_>) {
    let Recalls { under_way, open, .. } = &mut actors.recalls;
    for target in cast.targets() {
        let (local, Some(resource)) = address::local_and_resource_of_target(target) else { continue };
        let Some(user) = actors.users.find(local) else { continue };
        let Some(key) = actors.users.find_resource(user, resource) else { continue };
        let Some(recall) = under_way.get_mut(&key) else { continue };
        if cast.weight == Weight::RecallEnd {
            let Some((number, end)) = read_end(cast.tail) else { continue };
            let is_it = |asked: &&mut Asked| asked.wanted.number == number && asked.end.is_none();
            if let Some(asked) = recall.asked.iter_mut().find(is_it) {
                (asked.end, asked.since) = (Some(end), env.now);
                *open -= 1;
            }
            continue;
        }
        let room = hash_of(env, address::bare_of(cast.from));
        if cast.head.is_empty() {
            let id = std::str::from_utf8(cast.tail).ok().and_then(|id| env.shared.archive_ids.open(id));
            if let Some(text) = id.and_then(|id| recall.texts.get_mut(&(room, Sequence(id)))) {
                *text = Text::Gone;
            }
            continue;
        }
        let mut bytes = Vec::with_capacity(cast.head.len() + cast.tail.len() + target.len() + 64);
        seats::write(env, cast, (local, resource), &mut bytes);
        let found = reference(env, &bytes);
        let text = found.and_then(|found| recall.texts.get_mut(&(found.room, found.id)));
        if let Some(text @ Text::Missing) = text {
            *text = Text::Here(bytes.into());
        }
    }
}

/// A session goes on: what it refers to is kept again, to be sent and acknowledged as everything else. Of a room in which it may read
/// no more nothing is left.
pub fn restore(actors: &mut Actors, env: &Env, fx: &Effects, key: ResourceKey) {
    let mut recall = actors.recalls.forget(key);
    let Some(queue) = actors.users.sm_mut(key).and_then(|sm| sm.unacked_mut()) else { return };
    if queue.archived_count() == 0 {
        return;
    }
    let mut count = 0;
    queue.recall(|one| match recall.as_mut()?.texts.remove(&(one.room, one.id))? {
        Text::Here(bytes) => {
            count += 1;
            Some(bytes)
        }
        Text::Missing | Text::Gone => None,
    });
    env.metrics().recalled.add(count);
    let asked = recall.map(|recall| recall.asked).unwrap_or_default();
    let is_closed = |room: PeerHash| {
        asked.iter().any(|asked| asked.hash == room && asked.end == Some(AnswerEnd::NotThere))
    };
    if asked.iter().any(|asked| is_closed(asked.hash)) {
        queue.forget_where(|kind, stanza| {
            fx.work.add_bytes(stanza.len());
            kind == Kind::Message && reference(env, stanza).is_some_and(|one| is_closed(one.room))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_ends_read_as_they_were_written() {
        let wanted = Wanted { number: 7, first: Sequence(1 << 60), last: Sequence(u64::MAX), most: 1000 };
        assert_eq!(Wanted::read(&wanted.text()), Some(wanted));
        for bad in ["", "7", "7 8", "7 8 9", "7 8 9 x", "-1 2 3 4"] {
            assert_eq!(Wanted::read(bad), None, "{bad}");
        }
        for end in [AnswerEnd::All, AnswerEnd::NotThere, AnswerEnd::Busy, AnswerEnd::Failed] {
            assert_eq!(read_end(wanted.end(end).as_bytes()), Some((7, end)));
        }
    }

    #[test]
    fn questions_that_are_open_are_counted_whatever_ends_them() {
        let key = ResourceKey;
        let asked = |number, end| Asked {
            room: "room".into(),
            hash: PeerHash(1),
            wanted: Wanted { number, first: Sequence(1), last: Sequence(9), most: 1 },
            end,
            since: Millis(0),
        };
        let recall = |ends: [Option<AnswerEnd>; 2]| Recall {
            stream: StreamId(7),
            asked: ends.into_iter().zip(1..).map(|(end, number)| asked(number, end)).collect(),
            texts: HashMap::default(),
        };
        let mut recalls = Recalls { open: 4, ..Recalls::default() };
        recalls.under_way.insert(key(1), recall([None, None]));
        recalls.under_way.insert(key(2), recall([None, Some(AnswerEnd::All)]));
        recalls.under_way.insert(key(3), recall([None, Some(AnswerEnd::Busy)]));
        assert!(recalls.forget(key(3)).is_some() && recalls.forget(key(3)).is_none());
        assert_eq!(recalls.open, 3);
        recalls.retain(|one| one == key(2));
        assert_eq!((recalls.open, recalls.under_way.len()), (1, 1));
        recalls.retain(|_| false);
        assert!(recalls.is_empty() && recalls.open == 0);
    }

    #[test]
    fn a_room_is_asked_again_from_the_oldest_text_that_is_missing() {
        let (room, other) = (PeerHash(1), PeerHash(2));
        let mut recall = Recall { stream: StreamId(7), asked: Vec::new(), texts: HashMap::default() };
        for n in 1..=5 {
            recall.texts.insert((room, Sequence(n)), Text::Missing);
        }
        recall.texts.insert((other, Sequence(0)), Text::Missing);
        assert_eq!(recall.missing(room), Some((Sequence(1), 5)));
        recall.texts.insert((room, Sequence(1)), Text::Here([].into()));
        recall.texts.insert((room, Sequence(2)), Text::Gone);
        assert_eq!(recall.missing(room), Some((Sequence(3), 3)));
        (3..=5).for_each(|n| drop(recall.texts.insert((room, Sequence(n)), Text::Gone)));
        assert_eq!((recall.missing(room), recall.missing(other)), (None, Some((Sequence(0), 1))));
    }
}
