//! Messages to the room itself: invitations that it passes on (XEP-0045 §7.8.2), answers to them, and requests for voice.
//!
//! In a room for members an invitation makes a member. Somebody who blocks the room or whoever invites hears nothing of it, and
//! whoever invites does not hear that either.

use whimbrel_storage::jid::{Jid, JidRef};

use crate::effects::work;
use crate::env::Env;
use crate::occupancy::room::Room;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::forms;
use crate::proto::letters;
use crate::proto::muc::invite::{Decline, DirectInvite, Invite, Mediated, PassedInvite, write_decline};
use crate::proto::muc::{Affiliation, admin, error, rules};
use crate::proto::ns;
use crate::rooms::admin::{affiliate, affiliation_of, has_room};
use crate::rooms::commit;
use crate::rooms::membership;
use crate::rooms::say::Written;
use crate::rooms::standing::{self, By, Moved};
use crate::rooms::visit::{Ack, Asker, Visit};
use crate::rooms::voice;
use crate::rooms::waits::{self, Waits};
use crate::stanza::{Delivery, Kind, PendingAck, Traits, Type};
use crate::user::actors::{Actors, Effects};
use crate::user::blocking;
use crate::user::joins::Joins;
use whimbrel_storage::directory::rooms::RoomFlags;
use whimbrel_storage::directory::{DirectoryError, WriteTransaction};

/// A message to the room itself.
pub(super) fn message(actors: &mut Actors, env: &Env, fx: &mut Effects, visit: &Visit<'_>) -> Ack {
    let Some(message) = visit.element(fx) else { return Ack::Now };
    fx.work.add_letters(letters::weight(&message));
    if let Some(x) = message.find("x", ns::MUC_USER) {
        match Mediated::read(x) {
            Ok(Some(Mediated::Invites(invites))) => return invite(actors, env, fx, visit, invites),
            Ok(Some(Mediated::Decline(decline))) => return pass_decline(actors, env, fx, visit, &decline),
            Ok(None) => {}
            Err(error) => return visit.refuse(env, fx, error),
        }
    }
    if let Some(form) = forms::find(&message) {
        return voice::asked(actors, env, fx, visit, form);
    }
    let text = "this room takes messages of the type groupchat, invitations, and voice requests";
    visit.refuse(env, fx, StanzaError::from(StanzaCondition::BadRequest).with_text(text))
}

/// Somebody who is invited.
struct Invitee {
    local: String,
    invite: Invite,
    before: Affiliation,
    /// Neither the room nor whoever invites is blocked.
    hears_of_it: bool,
}

fn invite(actors: &mut Actors, env: &Env, fx: &mut Effects, visit: &Visit<'_>, invites: Vec<Invite>) -> Ack {
    let Some(room) = actors.rooms.room(visit.name) else { return visit.refuse(env, fx, error::no_room()) };
    match visit.standing(env, fx, room) {
        Ok(own) if rules::may_invite(own, room.config()) => {}
        Ok(_) => return visit.refuse(env, fx, admin::forbidden()),
        Err(ack) => return ack,
    }
    let mut invitees = Vec::new();
    for one in invites {
        match check(actors, env, fx, visit, one) {
            Ok(invitee) => invitees.push(invitee),
            Err(ack) => return ack,
        }
    }
    if let Err(error) = waits::has_room(actors, env) {
        return visit.refuse(env, fx, error);
    }
    let Some(room) = actors.rooms.room(visit.name) else { return Ack::Now };
    let nick = visit.seat(room).map(|key| room.occupants.get(key).nick.to_string());
    let mut moves: Vec<(Moved, Option<String>)> = invitees
        .iter()
        .filter(|one| room.has(RoomFlags::MEMBERS_ONLY) && one.before == Affiliation::None)
        .map(|one| {
            let local = Some(visit.local.to_owned());
            let by = By { local, has_invited: one.hears_of_it, nick: nick.clone(), ..By::default() };
            (Moved::new(&one.local, (one.before, Affiliation::Member), by), None)
        })
        .collect();
    if let Err(error) = has_room(env, room, &moves) {
        return visit.refuse(env, fx, error);
    }
    if moves.is_empty() {
        let mut waits = Waits::of(Asker::of(visit));
        pass_all_on(env, fx, room, visit.bare(), (&invitees, &mut waits, &mut actors.users.joins));
        return waits.end(actors, env, fx);
    }
    moves.iter_mut().for_each(|(moved, _)| membership::plan(env, fx, room, moved));
    let moves = moves.into_iter().map(|(moved, _)| moved).collect();
    make_members(actors, env, fx, visit, (moves, invitees))
}

/// Makes members of some who are invited, and passes the invitations on then.
fn make_members(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    (moves, invitees): (Vec<Moved>, Vec<Invitee>),
) -> Ack {
    let (name, inviter) = (visit.name.to_owned(), visit.bare().to_owned());
    let (domain, now_ms, of_job) = (env.shared.domain.to_string(), env.unix_ms(), name.clone());
    let job = move |transaction: &mut WriteTransaction<'_>| -> Result<_, DirectoryError> {
        let mut record = match commit::find(transaction, &of_job)? {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        for moved in &moves {
            affiliate(transaction, &mut record, (moved, None), (&domain, now_ms))?;
        }
        Ok(Ok((record, moves)))
    };
    commit::part(actors, env, fx, Asker::of(visit), job, move |actors, env, fx, asker, made| {
        let (record, moves) = match made {
            Ok(made) => made,
            Err(error) => {
                asker.refuse(env, fx, error);
                return Ack::Now;
            }
        };
        let mut waits = Waits::of(asker);
        let Actors { rooms, users, .. } = actors;
        if let Some(room) = rooms.room_mut(&name) {
            room.replace(record);
            for moved in &moves {
                standing::moved_for(env, fx, room, moved, (&mut waits, &mut users.joins));
            }
            pass_all_on(env, fx, room, &inviter, (&invitees, &mut waits, &mut users.joins));
        }
        waits.end(actors, env, fx)
    })
}

/// Passes invitations on. Whoever invites waits for all of them, each of which is in the log of its invitee's home.
fn pass_all_on(
    env: &Env,
    fx: &mut Effects,
    room: &Room,
    inviter: &str,
    (invitees, waits, joins): (&[Invitee], &mut Waits, &mut Joins),
) {
    for one in invitees.iter().filter(|one| one.hears_of_it) {
        let pending_ack = waits.one(joins, env);
        pass_on(env, fx, room, inviter, (one, pending_ack));
    }
}

/// Whether somebody may be invited by the sender.
fn check(
    actors: &Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    invite: Invite,
) -> Result<Invitee, Ack> {
    let Some(room) = actors.rooms.room(visit.name) else { return Err(Ack::Now) };
    let bare = invite.to.to_bare();
    let Some(local) = address::contact_here(bare.as_str(), &env.shared.domain) else {
        return Err(visit.refuse(env, fx, StanzaCondition::RemoteServerNotFound));
    };
    let before = affiliation_of(env, fx, room, visit, local)?;
    if before == Affiliation::Outcast {
        let text = "who is banned cannot be invited";
        return Err(visit.refuse(env, fx, StanzaError::from(StanzaCondition::NotAllowed).with_text(text)));
    }
    count_stranger(env, fx, visit, local)?;
    let blocks =
        |jid: &str| JidRef::parse(jid).is_ok_and(|jid| blocking::blocks(&actors.users, env, fx, local, &jid));
    let hears_of_it = !blocks(visit.d.from) && !blocks(&env.room_jid(visit.name));
    Ok(Invitee { local: local.to_owned(), invite, before, hears_of_it })
}

/// Counts somebody who is invited, or is made a member of a private group, and does not know the sender; also one who has no
/// account: nobody learns from it whether there is one. Elsewhere, whoever is made a member hears nothing of it.
///
/// # Errors
/// The sender has named as many as it may in this hour; it has been told.
pub(super) fn count_stranger(env: &Env, fx: &mut Effects, visit: &Visit<'_>, local: &str) -> Result<(), Ack> {
    if local == visit.local || is_contact(env, fx, local, visit.bare()) {
        return Ok(());
    }
    let most = env.config.rooms.strangers_per_hour;
    if env.shared.strangers_invited.take(visit.local, most, env.now.0) {
        return Ok(());
    }
    env.metrics().refused_invitations.add(1);
    let text = "you have invited or added as many people in this hour as may be whose contact you are not";
    Err(visit.refuse(env, fx, StanzaError::from(StanzaCondition::PolicyViolation).with_text(text)))
}

/// Whether somebody has the inviter in its roster.
fn is_contact(env: &Env, fx: &Effects, local: &str, inviter: &str) -> bool {
    fx.work.add(work::LOOK);
    match env.shared.directory.roster_item(local, inviter) {
        Ok(item) => item.is_some_and(|item| item.listed),
        Err(error) => {
            tracing::error!(user = local, %error, "cannot read a roster");
            false
        }
    }
}

fn pass_on(
    env: &Env,
    fx: &mut Effects,
    room: &Room,
    inviter: &str,
    (invitee, pending_ack): (&Invitee, Option<PendingAck>),
) {
    let jid = env.room_jid(room.name());
    let Ok(room_jid) = Jid::parse(&jid) else { return };
    let mut written = Written::begin(Kind::Message, &jid);
    written.0.push(b'>');
    let password = String::from(&*room.config().password);
    let passed = PassedInvite {
        from: inviter,
        reason: &invitee.invite.reason,
        thread: invitee.invite.thread.as_deref(),
        password: &password,
    };
    passed.write(&mut written.0);
    DirectInvite { room: room_jid, password, reason: invitee.invite.reason.clone() }.write(&mut written.0);
    written.0.extend_from_slice(b"</message>");
    send(env, fx, (&jid, &invitee.local), &written, pending_ack);
}

/// Sends a message of the room to an account, which gets it when it comes. Whoever has caused it hears when it is safe.
fn send(
    env: &Env,
    fx: &mut Effects,
    (from, local): (&str, &str),
    written: &Written,
    pending_ack: Option<PendingAck>,
) {
    let bytes = written.addressed(&env.bare_jid(local));
    let delivery = Delivery {
        kind: Kind::Message,
        typ: Type::Normal,
        traits: Traits::CONTENT.and(Traits::NO_COPY),
        from,
        to_local: local,
        to_resource: None,
        id: None,
        bytes: &bytes,
        pending_ack,
    };
    fx.route(env, &delivery);
}

/// §7.8.2: whoever has invited hears that somebody does not come.
fn pass_decline(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    decline: &Decline,
) -> Ack {
    let bare = decline.to.to_bare();
    let Some(local) = address::contact_here(bare.as_str(), &env.shared.domain) else {
        return visit.refuse(env, fx, StanzaCondition::RemoteServerNotFound);
    };
    let Some(room) = actors.rooms.room(visit.name) else { return Ack::Now };
    let most = env.config.rooms.strangers_per_hour;
    if !env.shared.strangers_invited.take(visit.local, most, env.now.0) {
        env.metrics().refused_invitations.add(1);
        return visit.refuse(env, fx, StanzaCondition::PolicyViolation);
    }
    let jid = env.room_jid(room.name());
    let blocks =
        |jid: &str| JidRef::parse(jid).is_ok_and(|jid| blocking::blocks(&actors.users, env, fx, local, &jid));
    // To those who are in the room alone: through a room nobody writes to strangers. Nobody learns from it who is there, or who
    // blocks whom.
    if room.occupants.of_account(local).is_empty() || blocks(visit.d.from) || blocks(&jid) {
        return Ack::Now;
    }
    let mut written = Written::begin(Kind::Message, &jid);
    written.0.push(b'>');
    write_decline(visit.bare(), &decline.reason, &mut written.0);
    written.0.extend_from_slice(b"</message>");
    send(env, fx, (&jid, local), &written, visit.d.pending_ack);
    Ack::Later
}
