//! A message that is kept: appended to the log with its copies for the archives, then given to those who are live. What waits
//! there is read by the cursor of [`offline`](crate::user::offline).

use smallvec::SmallVec;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::log::{ActorCopy, AppendError, Appended, Flags, Sequence};

use crate::effects::answer;
use crate::effects::work;
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::stanza::{Delivery, Type};
use crate::user::actors::{Actors, Effects};
use crate::user::archive;
use crate::user::carbons;
use crate::user::commits::{CommitTracker, Outcome};
use crate::user::delivery;
use crate::user::flow::{self, Outgoing};
use crate::user::offline;
use crate::user::push::{self, Recipient};
use crate::user::quota::{Load, Request, Sender, ShareRefusal, Shares};
use crate::user::record;
use crate::user::stranger;
use crate::user::tables::{Flags as ResourceFlags, ResourceKey, UserKey};

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
    let has_room = || archive::open::has_room_to_receive(actors, env, account, address::local_of(d.from));
    if env.config.archive.enabled && d.retracts() && !has_room() {
        env.metrics().refused_retractions.add(1);
        answer::bounce_with(env, fx, d, archive::open::too_many());
        return KeepOutcome::default();
    }
    let addressed = d.to_resource.and_then(|name| actors.users.find_resource(user?, name));
    // RFC 6121 §8.5.3.2.1: only a chat message looks for another resource of the same user.
    if d.to_resource.is_some() && addressed.is_none() && d.typ != Type::Chat {
        let error = StanzaCondition::ServiceUnavailable.into();
        return KeepOutcome::not_kept(stranger::turn_away(actors, env, fx, d, error));
    }
    let others =
        || user.map_or_else(SmallVec::new, |user| delivery::recipients_of_bare(actors, user, Type::Chat));
    let recipients = match addressed {
        // Contacts see one that sleeps as gone: then the message is for all, and waits if there are none.
        Some(key) if d.typ == Type::Chat && actors.users.resource(key).flags.has(ResourceFlags::ASLEEP) => {
            match others() {
                none if none.is_empty() => smallvec::smallvec![key],
                others => others,
            }
        }
        Some(key) => smallvec::smallvec![key],
        None => others(),
    };
    // Of several recipients one that is behind gets only what no other has acknowledged: none is that could be live.
    for &key in &recipients {
        if flow::is_behind(&actors.users, key) {
            offline::pump(actors, env, fx, key);
        }
    }
    let copy = archive::recipient_copy(actors, env, fx, d, (account, user));
    let (appended, sender) = append(actors, env, fx, d, (account, user), (copy, sender));
    let outcome = KeepOutcome { is_waited_for: appended.is_some(), sender };
    let Some(appended) = appended else { return outcome };
    fx.work.add(work::LOGGED);
    let to = Recipient { account, local: d.to_local, user };
    let Some(user) = user else {
        push::message(actors, env, fx, d, to, (appended.sequence, &[]));
        return outcome;
    };
    archive::open::forget_copies(actors, env, fx, user, d);
    let id = copy.flags.has(Flags::ARCHIVED).then_some(appended.sequence);
    let reached = archive::stamped(actors, env, fx, (d, id), |actors, fx, d| {
        let to = Recipients { user, resources: &recipients };
        hand_out(actors, env, fx, d, (appended.sequence, &to))
    });
    push::message(actors, env, fx, d, to, (appended.sequence, &reached));
    outcome
}

/// Who is to get a message.
struct Recipients<'a> {
    user: UserKey,
    resources: &'a [ResourceKey],
}

/// Gives a message that has just been appended to those of its recipients that are live, and copies to the others. Returns those
/// that are live.
fn hand_out(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    d: &Delivery<'_>,
    (sequence, to): (Sequence, &Recipients<'_>),
) -> SmallVec<[ResourceKey; 4]> {
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
    reached
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
    let Actors { commits, payload, .. } = actors;
    record::encode(d, payload);
    commits.append(copies, env.unix_ms(), payload, d.pending_ack, env.metrics())
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
pub fn refusal(commits: &mut CommitTracker, env: &Env, error: AppendError) -> StanzaError {
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
