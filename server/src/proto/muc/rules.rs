//! Who may do what (XEP-0045 §5): one table, without a room.
//!
//! | change | who may | whom never |
//! | --- | --- | --- |
//! | kick, grant and revoke voice | moderators | anybody of a higher affiliation |
//! | revoke voice | moderators | admins and owners; a member, unless by an admin |
//! | grant and revoke the role of a moderator, kick a moderator | admins and owners | admins and owners lose no role |
//! | none, member, outcast among each other | admins and owners | admins and owners; oneself, by a ban |
//! | from or to admin and owner | owners | the last owner |
//!
//! An admin or owner counts as a moderator, also while it is not in the room.

use whimbrel_storage::directory::rooms::{PrivateMessages, RoleSet, RoomConfig, RoomFlags};

use super::admin::{Change, ListOf};
use super::role::{Affiliation, Role};
use crate::proto::errors::{StanzaCondition, StanzaError};

/// What somebody is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// To the room.
    pub affiliation: Affiliation,
    /// In the room.
    pub role: Role,
}

/// Who is to be changed.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// What it is now.
    pub standing: Standing,
    /// It is the one that asks for the change.
    pub is_self: bool,
    /// It is the only owner.
    pub is_last_owner: bool,
}

/// Why a change is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The one that asks may make no such change at all.
    Forbidden,
    /// Not of this one.
    NotAllowed,
    /// The room would be without an owner, or somebody would ban itself.
    Conflict,
}

impl From<Refusal> for StanzaError {
    fn from(refusal: Refusal) -> StanzaError {
        match refusal {
            Refusal::Forbidden => StanzaCondition::Forbidden.into(),
            Refusal::NotAllowed => StanzaCondition::NotAllowed.into(),
            Refusal::Conflict => StanzaCondition::Conflict.into(),
        }
    }
}

impl Standing {
    fn is_moderator(self) -> bool {
        self.role == Role::Moderator || self.affiliation >= Affiliation::Admin
    }
}

/// Whether somebody may take back what others have said (XEP-0425).
pub fn may_moderate(actor: Standing) -> bool {
    actor.is_moderator()
}

/// Whether somebody may make this change.
///
/// # Errors
/// Why not.
pub fn may(actor: Standing, subject: Subject, change: Change) -> Result<(), Refusal> {
    match change {
        Change::Role(role) => may_change_role(actor, subject.standing, role),
        Change::Affiliation(affiliation) => may_change_affiliation(actor, subject, affiliation),
    }
}

fn may_change_role(actor: Standing, target: Standing, to: Role) -> Result<(), Refusal> {
    let needs_admin = to == Role::Moderator || target.role == Role::Moderator;
    if !actor.is_moderator() || needs_admin && actor.affiliation < Affiliation::Admin {
        return Err(Refusal::Forbidden);
    }
    let is_kick = to == Role::None;
    let is_less = to < target.role;
    // §8.2: not by somebody of a lower affiliation. §8.4, §9.7: no admin or owner loses voice or its role of a moderator,
    // and a member loses voice by somebody above it alone.
    let is_above = target.affiliation > actor.affiliation;
    let is_safe = target.affiliation >= Affiliation::Admin
        || target.affiliation >= Affiliation::Member && target.affiliation >= actor.affiliation;
    if is_less && (is_above || !is_kick && is_safe) { Err(Refusal::NotAllowed) } else { Ok(()) }
}

fn may_change_affiliation(actor: Standing, subject: Subject, to: Affiliation) -> Result<(), Refusal> {
    let from = subject.standing.affiliation;
    match actor.affiliation {
        Affiliation::Owner if subject.is_self && to == Affiliation::Outcast => Err(Refusal::Conflict),
        Affiliation::Owner if subject.is_last_owner && to != Affiliation::Owner => Err(Refusal::Conflict),
        Affiliation::Owner => Ok(()),
        Affiliation::Admin if subject.is_self && to == Affiliation::Outcast => Err(Refusal::Conflict),
        Affiliation::Admin if to >= Affiliation::Admin => Err(Refusal::Forbidden),
        // §10.7: the list of admins is the owners', also where somebody is to be taken off it.
        Affiliation::Admin if from >= Affiliation::Admin => Err(Refusal::NotAllowed),
        Affiliation::Admin => Ok(()),
        _ => Err(Refusal::Forbidden),
    }
}

/// The role with which somebody enters (§5.1.2). One that is banned does not.
pub fn initial_role(affiliation: Affiliation, config: &RoomConfig) -> Role {
    match affiliation {
        Affiliation::Outcast => Role::None,
        Affiliation::None if config.flags.has(RoomFlags::MEMBERS_ONLY) => Role::None,
        Affiliation::None if config.flags.has(RoomFlags::MODERATED) => Role::Visitor,
        Affiliation::None | Affiliation::Member => Role::Participant,
        Affiliation::Admin | Affiliation::Owner => Role::Moderator,
    }
}

/// The role of an occupant whose affiliation or whose room has changed: that of its affiliation, but voice that it was given
/// or that was taken from it stays as it is.
pub fn role_after(role: Role, before: Affiliation, after: Affiliation, config: &RoomConfig) -> Role {
    let initial = initial_role(after, config);
    let is_same = before == after && after < Affiliation::Admin && initial != Role::None;
    if is_same { role } else { initial }
}

/// Whether somebody sees the real JIDs of others.
pub fn sees_jids(standing: Standing, config: &RoomConfig) -> bool {
    config.flags.has(RoomFlags::NON_ANONYMOUS) || standing.is_moderator()
}

/// Whether an occupant may speak to all.
pub fn may_speak(role: Role) -> bool {
    role >= Role::Participant
}

/// Whether an occupant may set the subject (§8.1).
pub fn may_set_subject(role: Role, config: &RoomConfig) -> bool {
    match role {
        Role::Moderator => true,
        Role::Participant => config.flags.has(RoomFlags::CHANGE_SUBJECT),
        _ => false,
    }
}

/// Whether an occupant may send private messages (§7.5). Everybody may answer a moderator.
pub fn may_send_private(role: Role, to: Role, config: &RoomConfig) -> bool {
    let needed = match config.private_messages {
        PrivateMessages::Anyone => Role::Visitor,
        PrivateMessages::Participants => Role::Participant,
        PrivateMessages::Moderators => Role::Moderator,
        PrivateMessages::Nobody => return false,
    };
    role >= needed || to == Role::Moderator && role > Role::None
}

/// Whether somebody may invite (§7.8.2). In a room for members an invitation makes a member.
pub fn may_invite(standing: Standing, config: &RoomConfig) -> bool {
    if standing.affiliation >= Affiliation::Admin {
        return true;
    }
    match config.flags.has(RoomFlags::MEMBERS_ONLY) {
        true => standing.affiliation == Affiliation::Member && config.flags.has(RoomFlags::ALLOW_INVITES),
        false => standing.role >= Role::Participant,
    }
}

/// Whether somebody may have this list (§9.5 and others). Those who belong to a room in which all see who the others are may
/// have all lists but that of bans, also while they are not in it.
pub fn may_have_list(standing: Standing, list: ListOf, config: &RoomConfig) -> bool {
    if standing.affiliation >= Affiliation::Admin {
        return true;
    }
    match list {
        ListOf::Affiliation(affiliation) if affiliation >= Affiliation::Member => {
            let is_open = config.flags.has(RoomFlags::NON_ANONYMOUS);
            let is_near =
                standing.affiliation == Affiliation::Member || config.lists_for.has(set_of(standing.role));
            is_open && is_near && (standing.role > Role::None || standing.affiliation == Affiliation::Member)
        }
        ListOf::Affiliation(_) => false,
        ListOf::Role(_) => standing.role == Role::Moderator,
    }
}

/// Whether presence of an occupant goes to all others (`muc#roomconfig_presencebroadcast`).
pub fn is_shown(role: Role, config: &RoomConfig) -> bool {
    role == Role::None || config.presence_of.has(set_of(role))
}

fn set_of(role: Role) -> RoleSet {
    match role {
        Role::None => RoleSet::NOBODY,
        Role::Visitor => RoleSet::VISITORS,
        Role::Participant => RoleSet::PARTICIPANTS,
        Role::Moderator => RoleSet::MODERATORS,
    }
}

/// Whether somebody who is not in the room may read its archive (XEP-0313): whoever could enter and read the same there. In a room with
/// a password nobody but owners, who can read it: all others give it when they enter.
pub fn may_read_archive(affiliation: Affiliation, config: &RoomConfig) -> bool {
    match affiliation {
        Affiliation::Outcast => false,
        Affiliation::Owner => true,
        _ if !config.password.is_empty() => false,
        Affiliation::None => !config.flags.has(RoomFlags::MEMBERS_ONLY),
        Affiliation::Member | Affiliation::Admin => true,
    }
}
