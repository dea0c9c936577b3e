//! What a room and the service of rooms tell those who discover them (XEP-0045 §6).

use whimbrel_storage::directory::rooms::{PrivateMessages, RoomConfig, RoomFlags};

use crate::proto::forms::{Field, FieldType, Form};
use crate::proto::ns::{self, room_feature};
use crate::xml::Element;

/// What there is to know of a room beside its configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoomState<'a> {
    /// The subject; empty for none.
    pub subject: &'a str,
    /// Who is in it; `None`: it is not said.
    pub occupants: Option<usize>,
    /// The SHA-1 of its picture in hexadecimal digits (XEP-0486); empty for none.
    pub avatar: &'a str,
}

/// The features of a room that keeps what is said in it.
pub const OF_ARCHIVE: &[&str] = &[ns::ARCHIVE, ns::MODERATION, ns::RETRACTION, ns::RETRACTION_TOMBSTONE];

/// The features that depend on a room's configuration (§6.4).
pub fn features(config: &RoomConfig) -> impl Iterator<Item = &'static str> {
    let flags = config.flags;
    let choices = [
        (RoomFlags::PUBLIC, room_feature::PUBLIC, room_feature::HIDDEN),
        (RoomFlags::PERSISTENT, room_feature::PERSISTENT, room_feature::TEMPORARY),
        (RoomFlags::MEMBERS_ONLY, room_feature::MEMBERS_ONLY, room_feature::OPEN),
        (RoomFlags::MODERATED, room_feature::MODERATED, room_feature::UNMODERATED),
        (RoomFlags::NON_ANONYMOUS, room_feature::NON_ANONYMOUS, room_feature::SEMI_ANONYMOUS),
    ];
    let password = match config.password.is_empty() {
        true => room_feature::UNSECURED,
        false => room_feature::PASSWORD_PROTECTED,
    };
    let archive: &[&str] = match flags.has(RoomFlags::ARCHIVE) {
        true => OF_ARCHIVE,
        false => &[],
    };
    let registration = flags.has(RoomFlags::REGISTRATION).then_some(ns::REGISTER);
    choices
        .into_iter()
        .map(move |(flag, yes, no)| if flags.has(flag) { yes } else { no })
        .chain([password])
        .chain(archive.iter().copied())
        .chain(registration)
}

fn line(name: &str, value: &str) -> Field {
    Field::new(FieldType::TextSingle, name).value(value)
}

/// The form `muc#roominfo` (§6.4).
pub fn form(config: &RoomConfig, state: &RoomState<'_>) -> Element {
    let flag =
        |name: &str, flag: RoomFlags| Field::new(FieldType::Boolean, name).flag(config.flags.has(flag));
    let allow_pm = match config.private_messages {
        PrivateMessages::Anyone => "anyone",
        PrivateMessages::Participants => "participants",
        PrivateMessages::Moderators => "moderators",
        PrivateMessages::Nobody => "none",
    };
    let mut form = Form::result(ns::MUC_INFO)
        .field(line("muc#roominfo_description", &config.description))
        .field(line("muc#roomconfig_roomname", &config.title));
    let said = [
        ("muc#roominfo_subject", state.subject),
        ("muc#roominfo_lang", &*config.language),
        ("muc#roominfo_avatarhash", state.avatar),
    ];
    for (name, value) in said.into_iter().filter(|(_, value)| !value.is_empty()) {
        form = form.field(line(name, value));
    }
    if let Some(occupants) = state.occupants {
        form = form.field(line("muc#roominfo_occupants", &occupants.to_string()));
    }
    form.field(flag("muc#roominfo_subjectmod", RoomFlags::CHANGE_SUBJECT))
        .field(flag("muc#roomconfig_changesubject", RoomFlags::CHANGE_SUBJECT))
        .field(flag("muc#roomconfig_allowinvites", RoomFlags::ALLOW_INVITES))
        .field(line("muc#roomconfig_allowpm", allow_pm))
        .field(line("muc#maxhistoryfetch", &config.history_max.to_string()))
        .into_element()
}

/// The name that discovery tells: the title, or else the name in the address.
pub fn name<'a>(localpart: &'a str, config: &'a RoomConfig) -> &'a str {
    if config.title.is_empty() { localpart } else { &config.title }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::forms::{Submission, Submitted};

    #[test]
    fn a_private_group_announces_what_clients_look_for() {
        let found: Vec<_> = features(&RoomConfig::private_group()).collect();
        let expected = [
            "muc_hidden",
            "muc_persistent",
            "muc_membersonly",
            "muc_unmoderated",
            "muc_nonanonymous",
            "muc_unsecured",
            "urn:xmpp:mam:2",
            "urn:xmpp:message-moderate:1",
            "urn:xmpp:message-retract:1",
            "urn:xmpp:message-retract:1#tombstone",
        ];
        assert_eq!(found, expected);
        let mut config = RoomConfig { password: "p".into(), ..RoomConfig::default() };
        config.flags =
            config.flags.without(RoomFlags::ARCHIVE).with(RoomFlags::REGISTRATION).with(RoomFlags::MODERATED);
        let found: Vec<_> = features(&config).collect();
        let expected = [
            "muc_public",
            "muc_temporary",
            "muc_open",
            "muc_moderated",
            "muc_semianonymous",
            "muc_passwordprotected",
            "jabber:iq:register",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_form_says_what_the_room_is_about() {
        let config = RoomConfig { title: "T".into(), description: "D & d".into(), ..RoomConfig::default() };
        let state = RoomState { subject: "S", occupants: Some(3), avatar: "" };
        let mut element = form(&config, &state);
        element.set_attribute("type", "submit");
        let mut fields: Submitted<'_> = Submission::read(&element, "http://jabber.org/protocol/muc#roominfo")
            .unwrap()
            .submitted()
            .unwrap();
        for (name, expected) in [
            ("muc#roominfo_description", Some("D & d")),
            ("muc#roomconfig_roomname", Some("T")),
            ("muc#roominfo_subject", Some("S")),
            ("muc#roominfo_occupants", Some("3")),
            ("muc#roomconfig_allowpm", Some("anyone")),
            ("muc#roominfo_avatarhash", None),
            ("muc#roominfo_lang", None),
        ] {
            assert_eq!(fields.text(name).unwrap().as_deref(), expected, "{name}");
        }
        assert_eq!((name("r", &config), name("r", &RoomConfig::default())), ("T", "r"));
    }
}
