//! Messages that wait in the log (XEP-0160), and how they reach a client: one cursor for everything.
//!
//! A resource is *live*: it gets messages as they are appended. Or it is *behind*: messages for it are only
//! appended, and it reads the log on, after [`Flow::after`](crate::user::flow::Flow::after), whenever there is
//! room; at the end of the log it is live again. It is behind
//!
//! - when it becomes available and messages wait (offline delivery),
//! - when it reads too slowly or acknowledges too little (the log holds what memory should not),
//! - when another resource has gone with messages unacknowledged (delivery to the next).
//!
//! The rule of the cursor: every message behind it that is not on its way to any resource of the user, and that is
//! for this resource, is written with the time of its receipt. So a cursor may always be put back, and nothing is
//! written twice to a stream.

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::log::Sequence;

use crate::effects::answer::{self, Refused};
use crate::effects::work;
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::StanzaCondition;
use crate::proto::sm::{AnswerTo, StreamManagement, Unacked};
use crate::runtime::driver::ConnId;
use crate::stanza::{Kind, Type};
use crate::user::actors::{Actors, Effects};
use crate::user::archive;
use crate::user::archive::torn::TornPages;
use crate::user::delivery;
use crate::user::flow::{self, Outgoing};
use crate::user::recall;
use crate::user::record::{self, StoredMessage};
use crate::user::room::{self, Room};
use crate::user::spool;
use crate::user::tables::{Flags, Resource, ResourceKey, UserKey, Users};
use crate::xml::StartTag;

/// Bytes of messages that one resource gets in one iteration, so that others get their turn.
const WINDOW_BYTES: u64 = 64 * 1024;

/// A resource has become available, or may now get other messages than before: what waits in the log is offered to
/// it.
pub fn offer_to(actors: &mut Actors, fx: &mut Effects, key: ResourceKey) {
    let account = actors.users.account_of(key);
    if actors.commits.log().backlog(account).is_some() {
        actors.users.flow_mut(key).after = Some(Sequence::ZERO);
        fx.due_cursors.note(key);
    }
}

/// As [`offer_to`], for all resources of a user that get messages to its bare JID: another one has gone.
pub fn offer(actors: &mut Actors, fx: &mut Effects, user: UserKey) {
    for key in delivery::recipients_of_bare(actors, user, Type::Chat) {
        offer_to(actors, fx, key);
    }
}

/// Writes the next messages to a resource that is behind. Afterwards it is live, has no room, or is due again in the
/// next iteration.
pub fn pump(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    let Some(resource) = actors.users.get(key) else { return };
    let Some(after) = resource.flow.as_ref().and_then(|flow| flow.after) else { return };
    if resource.flags.has(Flags::ASLEEP) {
        // Until it wakes, all that comes for it stays in the log.
        return;
    }
    if !resource.flags.has(Flags::SM_DECIDED) {
        // Until it is known whether its stream is managed nothing is handed over: see `flow::decide_sm`.
        return;
    }
    let user = resource.user;
    match room::for_message(actors, env, fx, key) {
        Room::Now => {}
        Room::Soon => return fx.due_cursors.note(key),
        // An acknowledgement or an empty output will bring it back.
        Room::Later => return,
    }
    let account = actors.users.user(user).id;
    let Some(taken_back) = archive::open::of_mailbox(actors, (account, key)) else { return };
    let under_way = flow::under_way(actors, user);
    fx.work.add_contacts(under_way.len());
    let gets_bare = delivery::recipients_of_bare(actors, user, Type::Chat).contains(&key);
    let mut bytes = fx.buffers.lend();
    let (last, writes) =
        read_window(actors, env, (account, user, after), &mut bytes, |actors, record, kept| {
            under_way.binary_search(&record).is_err()
                && is_for(&actors.users, key, kept, gets_bare)
                && !taken_back.has(record, kept.stanza)
        });
    let mut start = 0;
    let mut reached = last;
    for &(sequence, end) in &writes {
        if room::for_message(actors, env, fx, key) != Room::Now {
            reached = Some(Sequence(sequence.0 - 1));
            break;
        }
        let stanza = &bytes[start..end];
        fx.work.add(work::LOGGED);
        fx.work.add_bytes(stanza.len());
        env.metrics().redelivered.add(1);
        delivery::push_as(actors, env, fx, key, &Outgoing::record(sequence, stanza));
        start = end;
    }
    fx.buffers.give_back(bytes);
    // At the end of the log it is live at once, not when the next iteration finds nothing: of several recipients that
    // are behind one would take a message out of the log, and the others get neither it nor a copy.
    let at_end = |last| actors.commits.log().read(account, last, 1).next().is_none();
    let reached = reached.filter(|&sequence| reached != last || !at_end(sequence));
    actors.users.flow_mut(key).after = reached;
    match reached {
        Some(_) => fx.due_cursors.note(key),
        None => actors.users.tidy_flow(key),
    }
}

/// Appends the next messages of an account's log that fit, as they are delivered. Returns the last one that was read, and of
/// each that fits the end of its bytes.
fn read_window(
    actors: &Actors,
    env: &Env,
    (account, user, after): (ActorId, UserKey, Sequence),
    bytes: &mut Vec<u8>,
    fits: impl Fn(&Actors, Sequence, &StoredMessage<'_>) -> bool,
) -> (Option<Sequence>, Vec<(Sequence, usize)>) {
    let local = &actors.users.user(user).local;
    let (mut last, mut damaged, mut writes) = (None, 0, Vec::new());
    for record in actors.commits.log().read(account, after, WINDOW_BYTES) {
        let record = match record {
            Ok(record) => record,
            Err(damage) => {
                tracing::error!(%damage, "a message that waits for delivery cannot be read");
                damaged += 1;
                continue;
            }
        };
        last = Some(record.sequence);
        if let Some(kept) = record::decode(record.payload)
            && fits(actors, record.sequence, &kept)
        {
            let about = (record.sequence, record.flags, record.time_ms);
            archive::write_logged(env, local, kept.stanza, about, bytes);
            writes.push((record.sequence, bytes.len()));
        }
    }
    env.metrics().log_damaged.add(damaged);
    (last, writes)
}

/// Whether a message is for a resource: it is addressed to it; or to the account, or a resource that is gone or sleeps, and
/// this one gets what comes for the account (RFC 6121 §8.5.2.1.1).
fn is_for(users: &Users, key: ResourceKey, kept: &StoredMessage<'_>, gets_bare: bool) -> bool {
    let resource = users.resource(key);
    match kept.resource {
        Some(name) if *resource.name == *name => true,
        Some(name) => gets_bare && !users.is_awake(resource.user, name),
        None => gets_bare,
    }
}

/// A session of an account is over and its resource, which was `full`, is gone from the tables: what it has not acknowledged goes
/// to others. Messages are in the log and are offered, but for what rooms have said to it alone; requests get an error (RFC 6120 §8.3.3.19); what else there
/// is, is dropped.
pub fn session_ended(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (account, full): (ActorId, &str),
    resource: Resource,
) {
    let user = resource.user;
    let unacked = resource.flow.and_then(|flow| flow.sm).map(|sm| sm.into_unacked()).unwrap_or_default();
    let mut spooled = Vec::new();
    for stanza in unacked {
        if let Unacked::Spooled { sequence, .. } = stanza {
            spooled.push(sequence);
        }
        refuse_request(env, fx, full, &stanza);
    }
    let others = actors.users.find(address::local_of(full)).filter(|found| *found == user);
    spool::release(actors, env, fx, (account, others), &spooled);
    if let Some(user) = others {
        offer(actors, fx, user);
    }
}

/// A stanza is given up that `full` has not acknowledged: if it is a request, its sender gets an error.
fn refuse_request(env: &Env, fx: &mut Effects, full: &str, stanza: &Unacked) {
    if let Unacked::Stanza { kind: Kind::Iq, bytes, .. } = stanza
        && let Some(iq) = StartTag::of(bytes)
        && matches!(iq.attribute("type").as_deref(), Some("get" | "set"))
    {
        let (from, id) = (iq.attribute("from").unwrap_or_default(), iq.attribute("id"));
        let refused = Refused { kind: Kind::Iq, sender: &from, to: Some(full), id: id.as_deref() };
        answer::refuse(env, fx, &refused, &StanzaCondition::ServiceUnavailable.into());
    }
}

/// A session has lost its connection: it keeps references, into the log and into archives of rooms, and no more of other things than
/// `limits.detached_bytes`. The client is told to ask again for answers that it missed, and contacts are asked for their presence again. `false`: what
/// it cannot do without is not kept, so it cannot be resumed: pushes of its own account, and what rooms in which it is have said or
/// told it of itself.
pub fn shed(users: &mut Users, env: &Env, fx: &mut Effects, key: ResourceKey) -> bool {
    shed_to(users, env, fx, key, room::detached_bytes(env))
}

/// As [`shed`], with no more than `bytes_max` bytes of other things.
pub fn shed_to(users: &mut Users, env: &Env, fx: &mut Effects, key: ResourceKey, bytes_max: usize) -> bool {
    recall::refer(users, env, fx, key, recall::kept_bytes(env).min(bytes_max));
    let full = users.full_jid(env, key);
    let (mut refused, mut torn) = (Vec::new(), TornPages::default());
    let mut complete = true;
    let Some(queue) = users.sm_mut(key).and_then(|sm| sm.unacked_mut()) else { return true };
    let shed = |entry| match answer_to(&entry) {
        Some(answer) => Unacked::Answer(Box::new(answer)),
        None => {
            complete &= !matches!(entry, Unacked::Answer(_)) && !is_essential(&entry);
            torn.note(&entry);
            refused.push(entry);
            Unacked::Forgotten(1)
        }
    };
    queue.shed(bytes_max, is_essential, shed);
    torn.end(queue, &full);
    for entry in refused {
        refuse_request(env, fx, &full, &entry);
    }
    complete
}

/// Of an answer that is no longer kept, which request it was for.
fn answer_to(entry: &Unacked) -> Option<AnswerTo> {
    let Unacked::Stanza { kind: Kind::Iq, bytes, .. } = entry else { return None };
    let iq = StartTag::of(bytes)?;
    matches!(iq.attribute("type").as_deref(), Some("result" | "error")).then(|| AnswerTo {
        from: iq.attribute("from").map(Into::into),
        id: iq.attribute("id").unwrap_or_default().into(),
    })
}

/// Whether a client cannot do without a stanza: a push of its own account, which is an iq set without a sender or from the account;
/// what was said in a room; presence that is no other's, by which a room tells it what it is there.
fn is_essential(entry: &Unacked) -> bool {
    let Unacked::Stanza { kind, sender, bytes } = entry else { return false };
    match kind {
        Kind::Presence => *sender == 0,
        Kind::Message => {
            StartTag::of(bytes).is_some_and(|it| it.attribute("type").as_deref() == Some("groupchat"))
        }
        Kind::Iq => StartTag::of(bytes).is_some_and(|iq| {
            iq.attribute("type").as_deref() == Some("set")
                && iq.attribute("from").is_none_or(|from| !address::has_resource(&from))
        }),
    }
}

/// The first message for a resource that waits in the log although a later one has been sent to it: with a page of the archive, which
/// has what was asked for and not all that waits. `elsewhere`: messages that are on their way to others. No more than
/// [`WINDOW_BYTES`] is read for it; then what was sent is sent again as it is.
fn passed_over(
    actors: &Actors,
    fx: &mut Effects,
    key: ResourceKey,
    elsewhere: &[Sequence],
) -> Option<Sequence> {
    let resource = actors.users.resource(key);
    let sm = resource.flow.as_ref().and_then(|flow| flow.sm.as_ref())?;
    let mut sent: Vec<Sequence> = sm.records().collect();
    sent.sort_unstable();
    let newest = *sent.last()?;
    let (user, account) = (resource.user, actors.users.user(resource.user).id);
    let gets_bare = delivery::recipients_of_bare(actors, user, Type::Chat).contains(&key);
    let log = actors.commits.log();
    let is_sent = |one: &Sequence| sent.binary_search(one).is_ok() || elsewhere.binary_search(one).is_ok();
    let older = log.waiting(account).take_while(|one| *one < newest);
    let mut bytes = 0;
    for one in older.filter(|one| !is_sent(one)) {
        let Some(Ok(record)) = log.read(account, Sequence(one.0.saturating_sub(1)), 1).next() else {
            return None;
        };
        fx.work.add_bytes(record.payload.len());
        bytes += record.payload.len() as u64;
        let is_meant = |kept: StoredMessage<'_>| is_for(&actors.users, key, &kept, gets_bare);
        if record.sequence == one && record::decode(record.payload).is_some_and(is_meant) {
            return Some(one);
        }
        if bytes > WINDOW_BYTES {
            return None;
        }
    }
    None
}

/// The message of the log that an entry refers to, and its bytes.
fn record_of(entry: &Unacked) -> Option<(Sequence, u32)> {
    match entry {
        Unacked::Record { sequence, length } => Some((*sequence, *length)),
        _ => None,
    }
}

/// Messages of the log that are unacknowledged, in the order in which they were said: a page of the archive may have brought some before
/// older ones.
fn records_in_turn(sm: &StreamManagement) -> impl Iterator<Item = (Sequence, u32)> + use<> {
    let mut records: Vec<(Sequence, u32)> = sm.unacked().filter_map(record_of).collect();
    records.sort_unstable();
    records.into_iter()
}

/// Writes everything unacknowledged to a resumed stream again, in order (XEP-0198 §5). Messages that another resource
/// has taken in the meantime, or that are on their way to one, are left out, and what was retracted; so is what was forgotten, and then contacts are to be asked for their presence.
/// Messages that a page of the archive brought before their turn come in their turn now.
pub fn send_again(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    let resource = actors.users.resource_mut(key);
    let (conn, user) = (resource.conn, resource.user);
    let account = actors.users.user(user).id;
    let (local, full) = (actors.users.user(user).local.clone(), actors.users.full_jid(env, key));
    let name = actors.users.resource(key).name.clone();
    let taken_back = archive::open::taken_back(actors, account);
    // It slept, and they were offered to others. What those do not acknowledge is offered to this one again.
    let elsewhere = flow::under_way_to_others(actors, key);
    let in_turn = passed_over(actors, fx, key, &elsewhere);
    if let Some(first) = in_turn {
        let flow = actors.users.flow_mut(key);
        let after = Sequence(first.0.saturating_sub(1));
        flow.after = Some(flow.after.map_or(after, |before| before.min(after)));
        fx.due_cursors.note(key);
    }
    let Some(sm) = actors.users.sm_mut(key) else { return };
    debug_assert_ne!(conn, ConnId::NONE, "a resumed stream has a connection");
    let (commits, mut out) = (&actors.commits, fx.out.stream(conn));
    let (mut count, mut lost) = (0, false);
    let mut records = records_in_turn(sm);
    let again = |entry: Unacked| {
        let entry = match record_of(&entry).and_then(|_| records.next()) {
            Some((sequence, length)) => Unacked::Record { sequence, length },
            None => entry,
        };
        let written = match &entry {
            Unacked::Stanza { bytes, .. } => {
                out.written(bytes);
                true
            }
            Unacked::Answer(answer) => {
                out.written(&flow::ask_again(&full, answer.from.as_deref(), &answer.id));
                true
            }
            Unacked::Record { sequence, .. } if elsewhere.binary_search(sequence).is_ok() => false,
            Unacked::Record { sequence, .. } if in_turn.is_some_and(|first| first < *sequence) => false,
            Unacked::Record { sequence, .. } => {
                // One that waits no more in a log that has other numbers has none: see `user::saved::waiting`.
                let record = commits.log().read(account, Sequence(sequence.0.saturating_sub(1)), 1).next();
                match record {
                    Some(Ok(record)) if record.sequence == *sequence => {
                        let kept = record::decode(record.payload)
                            .filter(|kept| !taken_back.has(*sequence, kept.stanza));
                        if let Some(kept) = &kept {
                            let about = (record.sequence, record.flags, record.time_ms);
                            out.element(|out| archive::write_logged(env, &local, kept.stanza, about, out));
                        }
                        kept.is_some()
                    }
                    _ => false,
                }
            }
            Unacked::Spooled { sequence, .. } => spool::text(commits, account, *sequence)
                .map(|text| out.element(|out| text.write(env, (&local, &name), out)))
                .is_some(),
            // Texts are there again before a stream is resumed.
            Unacked::Archived { .. } | Unacked::Forgotten(_) => {
                lost = true;
                false
            }
        };
        count += u64::from(written);
        written.then_some(entry)
    };
    if let Some(queue) = sm.unacked_mut() {
        queue.rebuild(again);
    }
    sm.resumed();
    if lost {
        actors.users.resource_mut(key).flags.put(Flags::PRESENCE_LOST, true);
    }
    env.metrics().sent_again.add(count);
    fx.due_sm.push(key);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands behind the start tag is cut off: nobody may have to read it, however long it is.
    #[test]
    fn what_an_unacknowledged_stanza_is_stands_in_its_start_tag() {
        let kept = |kind, text: &str| Unacked::Stanza { kind, sender: 0, bytes: text.as_bytes().into() };
        for (kind, text, essential) in [
            (Kind::Iq, "<iq type='set' id='1' to='a@x/r'><query", true),
            (Kind::Iq, "<iq from='a@x' type=\"set\" id='1'><query", true),
            (Kind::Iq, "<iq type='set' from='b@x/r' id='1'><query", false),
            (Kind::Iq, "<iq type='result' id='1'><query", false),
            (Kind::Message, "<message type='groupchat' from='hall@c.x/n'><body", true),
            (Kind::Message, "<message from='b@x/r'><body type='groupchat'", false),
        ] {
            assert_eq!(is_essential(&kept(kind, text)), essential, "{text}");
        }
        let answer = answer_to(&kept(Kind::Iq, "<iq type='result' id='&lt;1' from='b@x'><query"));
        assert_eq!(answer, Some(AnswerTo { from: Some("b@x".into()), id: "<1".into() }));
        assert_eq!(answer_to(&kept(Kind::Iq, "<iq type='get' id='1' from='b@x'><query")), None);
    }
}
