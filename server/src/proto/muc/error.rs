//! Why somebody is turned away at the door (XEP-0045 §7.2.15), and other refusals that have a rule of their own.

use subtle::ConstantTimeEq;
use whimbrel_storage::directory::rooms::{RoomConfig, RoomFlags};

use super::role::Affiliation;
use crate::proto::errors::{ErrorKind, StanzaCondition, StanzaError};

fn with(condition: StanzaCondition, kind: ErrorKind, text: &'static str) -> StanzaError {
    StanzaError::from(condition).with_kind(kind).with_text(text)
}

/// Whether somebody may enter, with the password that it has given, as far as that depends on neither its nick nor who is
/// in the room.
///
/// # Errors
/// In the order of §7.2: banned, no member, wrong password.
pub fn admit(
    affiliation: Affiliation,
    password: Option<&str>,
    config: &RoomConfig,
) -> Result<(), StanzaError> {
    if affiliation == Affiliation::Outcast {
        return Err(with(StanzaCondition::Forbidden, ErrorKind::Auth, "you are banned from this room"));
    }
    if affiliation == Affiliation::None && config.flags.has(RoomFlags::MEMBERS_ONLY) {
        return Err(members_only());
    }
    let is_needed = is_protected(affiliation, config);
    let is_right = password.is_some_and(|given| given.as_bytes().ct_eq(config.password.as_bytes()).into());
    if is_needed && !is_right { Err(password_needed()) } else { Ok(()) }
}

/// An owner can read the password in the configuration.
fn is_protected(affiliation: Affiliation, config: &RoomConfig) -> bool {
    !config.password.is_empty() && affiliation != Affiliation::Owner
}

/// Whether somebody who gives no password, and no token of a link, is turned away; of those who are not banned.
pub fn needs_password(affiliation: Affiliation, config: &RoomConfig) -> bool {
    affiliation == Affiliation::None && config.flags.has(RoomFlags::MEMBERS_ONLY)
        || is_protected(affiliation, config)
}

/// Only members may enter (§7.2.7).
pub fn members_only() -> StanzaError {
    with(StanzaCondition::RegistrationRequired, ErrorKind::Auth, "this room is for members only")
}

/// The password is missing or wrong (§7.2.6).
pub fn password_needed() -> StanzaError {
    with(StanzaCondition::NotAuthorized, ErrorKind::Auth, "this room needs a password, and the right one")
}

/// Somebody else has the nick, or it is reserved (§7.2.9).
pub fn nick_taken() -> StanzaError {
    with(StanzaCondition::Conflict, ErrorKind::Cancel, "somebody else has this nick")
}

/// The room is full (§7.2.10).
pub fn full() -> StanzaError {
    with(
        StanzaCondition::ServiceUnavailable,
        ErrorKind::Wait,
        "there are as many in this room as there may be",
    )
}

/// The room waits for its owner to configure it (§10.1.3).
pub fn locked() -> StanzaError {
    with(StanzaCondition::ItemNotFound, ErrorKind::Cancel, "this room is not open yet")
}

/// There is no such room, or the one that asks may not know of it.
pub fn no_room() -> StanzaError {
    StanzaCondition::ItemNotFound.into()
}

/// The one that asks may make no rooms (§10.1.1).
pub fn may_not_create() -> StanzaError {
    with(StanzaCondition::NotAllowed, ErrorKind::Cancel, "you may not make rooms here")
}

/// No nick was given (§7.2.2).
pub fn nick_needed() -> StanzaError {
    with(StanzaCondition::JidMalformed, ErrorKind::Modify, "a nick is needed to enter")
}

/// The sender is not in the room (§7.4, §7.5).
pub fn not_in_room() -> StanzaError {
    with(StanzaCondition::NotAcceptable, ErrorKind::Cancel, "you are not in this room")
}

/// The sender has no voice (§7.4).
pub fn no_voice() -> StanzaError {
    with(StanzaCondition::Forbidden, ErrorKind::Auth, "you may not speak in this room")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_has_one_answer_for_each_reason() {
        let members = RoomConfig::private_group();
        let open = RoomConfig::default();
        let locked = RoomConfig { password: "p".into(), ..RoomConfig::default() };
        let both = RoomConfig { password: "p".into(), ..RoomConfig::private_group() };
        let table = [
            (Affiliation::Outcast, Some("p"), &open, Some(StanzaCondition::Forbidden)),
            (Affiliation::Outcast, None, &both, Some(StanzaCondition::Forbidden)),
            (Affiliation::None, None, &open, None),
            (Affiliation::None, None, &members, Some(StanzaCondition::RegistrationRequired)),
            (Affiliation::None, Some("p"), &both, Some(StanzaCondition::RegistrationRequired)),
            (Affiliation::Member, None, &members, None),
            (Affiliation::Member, None, &both, Some(StanzaCondition::NotAuthorized)),
            (Affiliation::None, None, &locked, Some(StanzaCondition::NotAuthorized)),
            (Affiliation::None, Some(""), &locked, Some(StanzaCondition::NotAuthorized)),
            (Affiliation::Admin, Some("q"), &locked, Some(StanzaCondition::NotAuthorized)),
            (Affiliation::None, Some("p"), &locked, None),
            (Affiliation::Owner, None, &both, None),
        ];
        for (affiliation, password, config, expected) in table {
            let found = admit(affiliation, password, config).err().map(|error| error.condition);
            assert_eq!(found, expected, "{affiliation:?} {password:?}");
            if affiliation != Affiliation::Outcast {
                let is_refused = admit(affiliation, None, config).is_err();
                assert_eq!(needs_password(affiliation, config), is_refused, "{affiliation:?}");
            }
        }
    }
}
