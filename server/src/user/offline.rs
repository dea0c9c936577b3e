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

use smallvec::SmallVec;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::log::{ActorCopy, AppendError, Appended, Flags as LogFlags, Sequence};

use crate::effects::answer::{self, Refused};
use crate::effects::work;
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::sm::{AnswerTo, Unacked};
use crate::runtime::driver::ConnId;
use crate::stanza::{Delivery, Kind, Type};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::archive;
use crate::user::carbons;
use crate::user::commits::{CommitTracker, Outcome};
use crate::user::delivery;
use crate::user::flow;
use crate::user::flow::Outgoing;
use crate::user::quota::{Load, Request, Sender, ShareRefusal, Shares};
use crate::user::record::{self, StoredMessage};
use crate::user::room::{self, Room};
use crate::user::stranger;
use crate::user::tables::Users;
use crate::user::tables::{Flags, Resource, ResourceKey, UserKey};
use crate::xml::Element;

/// Bytes of messages that one resource gets in one iteration, so that others get their turn.
const WINDOW_BYTES: u64 = 64 * 1024;

/// What came of a message that is to be kept.
#[derive(Copy, Clone, Debug, Default)]
pub struct KeepOutcome {
    /// Its sender will hear when it is committed; otherwise there is nothing to wait for.
    pub is_waited_for: bool,
    /// The copy of the sender's archive was appended with it.
    pub sender: Option<Sequence>,
}

impl KeepOutcome {
    /// Nothing was appended for the recipient, but perhaps in its place.
    fn not_kept(is_waited_for: bool) -> KeepOutcome {
        KeepOutcome { is_waited_for, sender: None }
    }
}

/// Appends a message to the log, then delivers it to those who are live. With it goes the copy of its sender's archive, if
/// the sender is a user of this worker.
pub fn keep(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    d: &Delivery<'_>,
    user: Option<UserKey>,
    sender: Option<ActorCopy>,
) -> KeepOutcome {
    let account = match user {
        Some(user) => actors.users.user(user).id,
        None => match look_up(env, fx, d.to_local) {
            Ok(Some(account)) => account,
            Ok(None) => {
                let error = StanzaCondition::ServiceUnavailable.into();
                return KeepOutcome::not_kept(stranger::turn_away(actors, env, fx, d, error));
            }
            Err(error) => {
                tracing::error!(user = d.to_local, %error, "cannot read the directory");
                answer::bounce(env, fx, d, StanzaCondition::InternalServerError);
                return KeepOutcome::default();
            }
        },
    };
    let addressed = d.to_resource.and_then(|name| actors.users.find_resource(user?, name));
    // RFC 6121 §8.5.3.2.1: only a chat message looks for another resource of the same user.
    if d.to_resource.is_some() && addressed.is_none() && d.typ != Type::Chat {
        let error = StanzaCondition::ServiceUnavailable.into();
        return KeepOutcome::not_kept(stranger::turn_away(actors, env, fx, d, error));
    }
    let recipients = match (user, addressed) {
        (_, Some(key)) => smallvec::smallvec![key],
        (Some(user), None) => delivery::recipients_of_bare(actors, user, Type::Chat),
        (None, None) => SmallVec::new(),
    };
    // Of several recipients one that is behind gets only what no other has acknowledged: none is that could be live.
    for &key in &recipients {
        if flow::is_behind(&actors.users, key) {
            pump(actors, env, fx, key);
        }
    }
    let copy = archive::recipient_copy(actors, env, fx, d, (account, user));
    let (appended, sender) = append(actors, env, fx, d, (account, user), (copy, sender));
    let outcome = KeepOutcome { is_waited_for: appended.is_some(), sender };
    let Some(appended) = appended else { return outcome };
    fx.work.add(work::LOGGED);
    let Some(user) = user else { return outcome };
    let id = copy.flags.has(LogFlags::ARCHIVED).then_some(appended.sequence);
    archive::stamped(actors, env, d, id, |actors, d| {
        let to = Recipients { user, resources: &recipients };
        hand_out(actors, env, fx, d, (appended.sequence, &to));
    });
    outcome
}

/// Who is to get a message.
struct Recipients<'a> {
    user: UserKey,
    resources: &'a [ResourceKey],
}

/// Gives a message that has just been appended to those of its recipients that are live, and copies to the others.
fn hand_out(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    d: &Delivery<'_>,
    (sequence, to): (Sequence, &Recipients<'_>),
) {
    let &Recipients { user, resources: recipients } = to;
    let mut reached: SmallVec<[ResourceKey; 4]> = SmallVec::new();
    for &key in recipients {
        if flow::is_live(actors, env, fx, key, sequence) {
            delivery::push_as(actors, env, fx, key, &Outgoing::record(sequence, d.bytes));
            reached.push(key);
        }
    }
    // What one of them has, the log does not keep for the others: one that is behind gets a copy like those to whom the
    // message was not sent, or is counted as one that reads too slowly for it. If all are behind, one will get it.
    match reached.is_empty() {
        true => carbons::copy_received(actors, env, fx, user, d, recipients),
        false => carbons::copy_received(actors, env, fx, user, d, &reached),
    }
}

fn look_up(env: &Env, fx: &Effects, local: &str) -> Result<Option<ActorId>, DirectoryError> {
    fx.work.add(work::LOOK);
    env.shared.directory.account_id(local)
}

/// Appends a message if there is room for it in its recipient's mailbox. `None`: there is not, and its sender has been told.
/// Also returns the id of the sender's copy, if there was one to append.
fn append(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    d: &Delivery<'_>,
    (account, user): (ActorId, Option<UserKey>),
    copies: (ActorCopy, Option<ActorCopy>),
) -> (Option<Appended>, Option<Sequence>) {
    let request = match admit(actors, env, fx, d, (account, user)) {
        Ok(request) => request,
        Err(refusal) => {
            refuse_share(env, fx, d, refusal);
            return (None, None);
        }
    };
    let outcome = write(actors, env, d, copies);
    let sender = outcome.sender.and_then(|sender| sender.ok()).map(|appended| appended.sequence);
    match outcome.recipient {
        Ok(appended) => {
            if let Some(request) = request {
                actors.commits.admitted(account, &request, env.metrics());
            }
            (Some(appended), sender)
        }
        Err(error) => {
            let told = refusal(&mut actors.commits, env, error);
            answer::bounce_with(env, fx, d, told);
            (None, sender)
        }
    }
}

/// Writes a message to the log.
fn write(
    actors: &mut Actors,
    env: &Env,
    d: &Delivery<'_>,
    copies: (ActorCopy, Option<ActorCopy>),
) -> Outcome {
    let mut payload = std::mem::take(&mut actors.payload);
    record::encode(d, &mut payload);
    let outcome = actors.commits.append(copies, env.unix_ms(), &payload, d.pending_ack, env.metrics());
    actors.payload = payload;
    outcome
}

/// Appends the copy of a sender's archive by itself: the recipient lives on another worker, or takes no message.
///
/// # Errors
/// The log takes none.
pub fn keep_sent(
    actors: &mut Actors,
    env: &Env,
    copy: ActorCopy,
    d: &Delivery<'_>,
) -> Result<Sequence, StanzaError> {
    match write(actors, env, d, (copy, None)).recipient {
        Ok(appended) => Ok(appended.sequence),
        Err(error) => Err(refusal(&mut actors.commits, env, error)),
    }
}

/// Whether a message is within its sender's share of the mailbox. `Some`: so much waits there that it has to be counted.
fn admit<'a>(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    d: &Delivery<'a>,
    (account, user): (ActorId, Option<UserKey>),
) -> Result<Option<Request<'a>>, ShareRefusal> {
    let limits = &env.config.limits;
    let payload = record::length(d);
    let (messages, bytes) = actors.commits.log().waiting_load(account);
    if messages == 0 || !Shares::are_counted(limits, Load { messages, bytes }, payload) {
        return Ok(None);
    }
    let Some(backlog) = actors.commits.log().backlog(account) else { return Ok(None) };
    let from = address::local_of(d.from);
    // What an account sends itself, and what the server does, is bounded as the whole.
    if from == d.to_local || from.is_empty() {
        return Ok(None);
    }
    fx.work.add(work::LOOK);
    let shared = &env.shared;
    let sender_of = |local: &str| {
        let item = shared.directory.roster_item(d.to_local, &format!("{local}@{}", shared.domain));
        match item {
            Ok(item) => Sender::of(item.as_ref()),
            Err(error) => {
                tracing::error!(user = d.to_local, %error, "cannot read a roster");
                Sender::Stranger
            }
        }
    };
    let is_absent = user.is_none_or(|user| actors.users.available_of(user).is_empty());
    let request = Request { from, sender: sender_of(from), payload, is_absent, now_ms: env.now.0 };
    actors.commits.admit(limits, (account, &backlog), &request, sender_of)?;
    Ok(Some(request))
}

/// A message is past its sender's share of a mailbox: its sender is told to wait until the recipient has read some. A
/// stranger, too: an acknowledged message must not be lost in silence, and to get here takes a share full of messages.
fn refuse_share(env: &Env, fx: &mut Effects, d: &Delivery<'_>, refusal: ShareRefusal) {
    let metrics = env.metrics();
    let (counter, text) = match refusal {
        ShareRefusal::Sender => {
            (&metrics.refused_offline_sender, "as many of your messages wait for the recipient as may")
        }
        ShareRefusal::Strangers => (
            &metrics.refused_offline_strangers,
            "as many messages of people who are no contacts wait for the recipient as may",
        ),
        ShareRefusal::Rate => (
            &metrics.refused_offline_rate,
            "too many messages of people who are no contacts come for the recipient; try again later",
        ),
    };
    counter.add(1);
    let error = StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text);
    answer::bounce_with(env, fx, d, error);
}

/// The log does not take a message: what its sender is told.
pub(super) fn refusal(commits: &mut CommitTracker, env: &Env, error: AppendError) -> StanzaError {
    let metrics = env.metrics();
    let (condition, text) = match error {
        AppendError::UserQuota => {
            metrics.refused_offline.add(1);
            (StanzaCondition::ResourceConstraint, "as many messages wait for the recipient as may")
        }
        AppendError::LogQuota | AppendError::Full => {
            metrics.refused_log_full.add(1);
            (StanzaCondition::ResourceConstraint, "the server has no room for messages; try again later")
        }
        AppendError::TooLarge => {
            metrics.refused_log_failed.add(1);
            (StanzaCondition::PolicyViolation, "the message is too long to be kept")
        }
        AppendError::Failed => {
            metrics.refused_log_failed.add(1);
            (StanzaCondition::InternalServerError, "the server cannot keep messages now; try again later")
        }
    };
    if error != AppendError::UserQuota {
        commits.refused = Some(error);
    }
    StanzaError::from(condition).with_text(text)
}

/// A resource has become available, or may now get other messages than before: what waits in the log is offered to
/// it.
pub fn offer_to(actors: &mut Actors, fx: &mut Effects, key: ResourceKey) {
    let account = actors.users.account_of(key);
    if actors.commits.log().backlog(account).is_some() {
        actors.users.flow_mut(key).after = Some(Sequence::ZERO);
        fx.due_cursors.push(key);
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
    if !resource.flags.has(Flags::SM_DECIDED) {
        // Until it is known whether its stream is managed nothing is handed over: see `flow::decide_sm`.
        return;
    }
    let user = resource.user;
    match room::for_message(actors, env, fx, key) {
        Room::Now => {}
        Room::Soon => return fx.due_cursors.push(key),
        // An acknowledgement or an empty output will bring it back.
        Room::Later => return,
    }
    let account = actors.users.user(user).id;
    let under_way = flow::under_way(actors, user);
    let gets_bare = delivery::recipients_of_bare(actors, user, Type::Chat).contains(&key);
    let mut bytes = std::mem::take(&mut actors.payload);
    let local = actors.users.user(user).local.clone();
    let mut last = None;
    let mut damaged = 0;
    let mut writes: Vec<(Sequence, usize)> = Vec::new();
    bytes.clear();
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
        if under_way.binary_search(&record.sequence).is_ok() {
            continue;
        }
        if let Some(kept) = record::decode(record.payload)
            && is_for(&actors.users, key, &kept, gets_bare)
        {
            let about = (record.sequence, record.flags, record.time_ms);
            archive::write_logged(env, &local, kept.stanza, about, &mut bytes);
            writes.push((record.sequence, bytes.len()));
        }
    }
    env.metrics().log_damaged.add(damaged);
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
    actors.payload = bytes;
    // At the end of the log it is live at once, not when the next iteration finds nothing: of several recipients that
    // are behind one would take a message out of the log, and the others get neither it nor a copy.
    let at_end = |last| actors.commits.log().read(account, last, 1).next().is_none();
    let reached = reached.filter(|&sequence| reached != last || !at_end(sequence));
    actors.users.flow_mut(key).after = reached;
    match reached {
        Some(_) => fx.due_cursors.push(key),
        None => actors.users.tidy_flow(key),
    }
}

/// Whether a message is for a resource: it is addressed to it; or to the account, or a resource that is gone, and
/// this one gets what comes for the account (RFC 6121 §8.5.2.1.1).
fn is_for(users: &Users, key: ResourceKey, kept: &StoredMessage<'_>, gets_bare: bool) -> bool {
    let resource = users.resource(key);
    match kept.resource {
        Some(name) if *resource.name == *name => true,
        Some(name) => gets_bare && users.find_resource(resource.user, name).is_none(),
        None => gets_bare,
    }
}

/// A session is over and its resource, which was `full`, is gone from the tables: what it has not acknowledged goes
/// to others. Messages are in the log and are offered; requests get an error (RFC 6120 §8.3.3.19); what else there
/// is, is dropped.
pub fn session_ended(actors: &mut Actors, env: &Env, fx: &mut Effects, full: &str, resource: Resource) {
    let user = resource.user;
    let unacked = resource.flow.and_then(|flow| flow.sm).map(|sm| sm.into_unacked()).unwrap_or_default();
    for stanza in unacked {
        refuse_request(env, fx, full, &stanza);
    }
    let local = address::local_of(full);
    if actors.users.find(local) == Some(user) {
        offer(actors, fx, user);
    }
}

/// A stanza is given up that `full` has not acknowledged: if it is a request, its sender gets an error.
fn refuse_request(env: &Env, fx: &mut Effects, full: &str, stanza: &Unacked) {
    if let Unacked::Stanza { kind: Kind::Iq, bytes, .. } = stanza
        && let Ok(iq) = Element::parse(bytes)
        && matches!(iq.attribute("type"), Some("get" | "set"))
    {
        let from = iq.attribute("from").unwrap_or_default();
        let refused = Refused { kind: Kind::Iq, sender: from, to: Some(full), id: iq.attribute("id") };
        answer::refuse(env, fx, &refused, &StanzaCondition::ServiceUnavailable.into());
    }
}

/// A session has lost its connection: it keeps references, and no more of other things than `limits.detached_bytes`. The
/// client is told to ask again for answers that it missed, and contacts are asked for their presence again. `false`: what
/// it cannot do without is not kept, so it cannot be resumed.
pub fn shed(users: &mut Users, env: &Env, fx: &mut Effects, key: ResourceKey) -> bool {
    shed_to(users, env, fx, key, room::detached_bytes(env))
}

/// As [`shed`], with no more than `bytes_max` bytes of other things.
pub fn shed_to(users: &mut Users, env: &Env, fx: &mut Effects, key: ResourceKey, bytes_max: usize) -> bool {
    let full = users.full_jid(env, key);
    let mut refused = Vec::new();
    let mut complete = true;
    let Some(queue) = users.sm_mut(key).and_then(|sm| sm.unacked_mut()) else { return true };
    queue.shed(bytes_max, |entry| match answer_to(&entry) {
        Some(answer) => Unacked::Answer(Box::new(answer)),
        None => {
            complete &= !matches!(entry, Unacked::Answer(_)) && !is_own(&entry);
            refused.push(entry);
            Unacked::Forgotten(1)
        }
    });
    for entry in refused {
        refuse_request(env, fx, &full, &entry);
    }
    complete
}

/// Of an answer that is no longer kept, which request it was for.
fn answer_to(entry: &Unacked) -> Option<AnswerTo> {
    let Unacked::Stanza { kind: Kind::Iq, bytes, .. } = entry else { return None };
    let iq = Element::parse(bytes).ok()?;
    matches!(iq.attribute("type"), Some("result" | "error")).then(|| AnswerTo {
        from: iq.attribute("from").map(Into::into),
        id: iq.attribute("id").unwrap_or_default().into(),
    })
}

/// Whether a stanza is a push of the account's own: an iq set without a sender, or from the account.
fn is_own(entry: &Unacked) -> bool {
    let Unacked::Stanza { kind: Kind::Iq, bytes, .. } = entry else { return false };
    Element::parse(bytes).is_ok_and(|iq| {
        iq.attribute("type") == Some("set") && iq.attribute("from").is_none_or(|from| !from.contains('/'))
    })
}

/// Writes everything unacknowledged to a resumed stream again, in order (XEP-0198 §5). Messages that another resource
/// has taken in the meantime are left out; so is what was forgotten, and then contacts are to be asked for their presence.
pub fn send_again(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    let resource = actors.users.resource_mut(key);
    let (conn, user) = (resource.conn, resource.user);
    let account = actors.users.user(user).id;
    let (local, full) = (actors.users.user(user).local.clone(), actors.users.full_jid(env, key));
    let Some(sm) = actors.users.sm_mut(key) else { return };
    debug_assert_ne!(conn, ConnId::NONE, "a resumed stream has a connection");
    let (log, mut out) = (actors.commits.log(), fx.out.stream(conn));
    let (mut count, mut lost) = (0, false);
    let again = |entry: Unacked| {
        let written = match &entry {
            Unacked::Stanza { bytes, .. } => {
                out.written(bytes);
                true
            }
            Unacked::Answer(answer) => {
                out.written(&flow::ask_again(&full, answer.from.as_deref(), &answer.id));
                true
            }
            Unacked::Record { sequence, .. } => {
                let record = log.read(account, Sequence(sequence.0 - 1), 1).next();
                match record {
                    Some(Ok(record)) if record.sequence == *sequence => {
                        let kept = record::decode(record.payload);
                        if let Some(kept) = &kept {
                            let about = (record.sequence, record.flags, record.time_ms);
                            out.element(|out| archive::write_logged(env, &local, kept.stanza, about, out));
                        }
                        kept.is_some()
                    }
                    _ => false,
                }
            }
            Unacked::Forgotten(_) => {
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
