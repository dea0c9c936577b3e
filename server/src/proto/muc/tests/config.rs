use whimbrel_storage::directory::rooms::{PrivateMessages, RoleSet, RoomConfig, RoomFlags};

use crate::proto::errors::StanzaError;
use crate::proto::muc::config::{
    ConfigChange, DESCRIPTION_BYTES_MAX, HISTORY_MAX, NAMED_MAX, TEXT_BYTES_MAX, announced, form,
};
use crate::proto::muc::status::Status;
use crate::xml::Element;

/// A form with these fields.
fn submitted(fields: &[(&str, &[&str])]) -> Element {
    let mut form = String::from(
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>\
         <value>http://jabber.org/protocol/muc#roomconfig</value></field>",
    );
    for (name, values) in fields {
        let values: String = values.iter().map(|value| format!("<value>{value}</value>")).collect();
        form += &format!("<field var='{name}'>{values}</field>");
    }
    Element::parse((form + "</x>").as_bytes()).unwrap()
}

fn change(fields: &[(&str, &[&str])]) -> Result<ConfigChange, StanzaError> {
    ConfigChange::read(&submitted(fields)).map(|change| change.expect("it was submitted"))
}

fn applied(fields: &[(&str, &[&str])]) -> Result<RoomConfig, StanzaError> {
    change(fields)?.apply(RoomConfig::default(), 1000)
}

#[test]
fn what_the_server_sends_reads_back_as_the_same_configuration() {
    let other = RoomConfig {
        flags: RoomFlags::default()
            .without(RoomFlags::PUBLIC)
            .without(RoomFlags::ARCHIVE)
            .with(RoomFlags::PERSISTENT)
            .with(RoomFlags::MEMBERS_ONLY)
            .with(RoomFlags::MODERATED)
            .with(RoomFlags::NON_ANONYMOUS)
            .with(RoomFlags::CHANGE_SUBJECT)
            .with(RoomFlags::ALLOW_INVITES)
            .with(RoomFlags::REGISTRATION),
        private_messages: PrivateMessages::Moderators,
        presence_of: RoleSet::MODERATORS,
        lists_for: RoleSet::NOBODY,
        users_max: 50,
        history_max: 3,
        title: "A & B".into(),
        description: "one\ntwo".into(),
        language: "de".into(),
        password: "p<q".into(),
    };
    for config in [other, RoomConfig::default(), RoomConfig::private_group()] {
        let mut form = form("r", &config).into_element();
        form.set_attribute("type", "submit");
        let change = ConfigChange::read(&form).unwrap().unwrap();
        assert_eq!(change.apply(RoomConfig::default(), 50), Ok(config.clone()));
        assert_eq!(change.apply(RoomConfig::private_group(), 50), Ok(config));
    }
}

/// The fields that Conversations, Dino, Gajim and Monal fill in for a group among friends, each what it does.
#[test]
fn stock_clients_make_a_private_group() {
    let conversations: &[(&str, &[&str])] = &[
        ("muc#roomconfig_persistentroom", &["1"]),
        ("muc#roomconfig_membersonly", &["1"]),
        ("muc#roomconfig_publicroom", &["0"]),
        ("muc#roomconfig_whois", &["anyone"]),
        ("muc#roomconfig_changesubject", &["0"]),
        ("muc#roomconfig_allowinvites", &["0"]),
        ("muc#roomconfig_enablearchiving", &["1"]),
        ("mam", &["1"]),
        ("muc#roomconfig_mam", &["1"]),
    ];
    let dino: &[(&str, &[&str])] = &[
        ("muc#roomconfig_membersonly", &["true"]),
        ("muc#roomconfig_persistentroom", &["true"]),
        ("muc#roomconfig_publicroom", &["false"]),
        ("muc#roomconfig_whois", &["anyone"]),
        ("muc#roomconfig_enablelogging", &["0"]),
        ("{http://prosody.im/protocol/muc}roomconfig_allowmemberinvites", &["0"]),
    ];
    for fields in [conversations, dino] {
        assert_eq!(applied(fields), Ok(RoomConfig::private_group()));
    }
}

#[test]
fn a_value_that_a_field_does_not_take_is_refused_by_name() {
    let long = "t".repeat(TEXT_BYTES_MAX + 1);
    let longer = "t".repeat(DESCRIPTION_BYTES_MAX + 1);
    let many = vec!["a@x"; NAMED_MAX + 1];
    let table: [(&str, &[&str]); 14] = [
        ("muc#roomconfig_persistentroom", &["yes"]),
        ("muc#roomconfig_persistentroom", &["1", "0"]),
        ("muc#roomconfig_whois", &["everybody"]),
        ("muc#roomconfig_allowpm", &["friends"]),
        ("muc#roomconfig_presencebroadcast", &["moderator", "king"]),
        ("muc#roomconfig_getmemberlist", &["owner"]),
        ("muc#roomconfig_maxusers", &["many"]),
        ("muc#roomconfig_maxusers", &["1001"]),
        ("muc#maxhistoryfetch", &["-1"]),
        ("muc#roomconfig_roomname", &[&long]),
        ("muc#roomconfig_roomdesc", &[&longer]),
        ("muc#roomconfig_roomowners", &["@"]),
        ("muc#roomconfig_roomadmins", &many),
        ("mam", &["maybe"]),
    ];
    for (name, values) in table {
        let error = applied(&[(name, values)]).unwrap_err();
        assert_eq!(error.condition.name(), "not-acceptable", "{name}");
        assert!(error.text.as_ref().is_some_and(|text| text.contains(name)), "{name}: {error:?}");
    }
}

#[test]
fn a_room_that_needs_a_password_must_have_one() {
    let protected = ("muc#roomconfig_passwordprotectedroom", &["1"] as &[&str]);
    let open = ("muc#roomconfig_passwordprotectedroom", &["0"] as &[&str]);
    let secret = ("muc#roomconfig_roomsecret", &["p"] as &[&str]);
    let error = applied(&[protected]).unwrap_err();
    assert!(error.text.unwrap().contains("muc#roomconfig_roomsecret"));
    assert_eq!(applied(&[protected, secret]).unwrap().password, "p");
    assert_eq!(applied(&[secret]).unwrap().password, "p");
    assert_eq!(applied(&[open, secret]).unwrap().password, "");
    let kept = RoomConfig { password: "old".into(), ..RoomConfig::default() };
    assert_eq!(change(&[protected]).unwrap().apply(kept, 10).unwrap().password, "old");
}

#[test]
fn unknown_fields_are_passed_over_and_cancelling_is_no_change() {
    assert_eq!(
        applied(&[("urn:x#nonsense", &["1"]), ("muc#roomconfig_pubsub", &["x"])]),
        Ok(RoomConfig::default())
    );
    assert!(change(&[]).unwrap().is_empty() && !change(&[("mam", &["1"])]).unwrap().is_empty());
    let cancelled = Element::parse(b"<x xmlns='jabber:x:data' type='cancel'/>").unwrap();
    assert_eq!(ConfigChange::read(&cancelled), Ok(None));
    let other =
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:x</value></field></x>";
    assert!(ConfigChange::read(&Element::parse(other.as_bytes()).unwrap()).is_err());
}

#[test]
fn numbers_and_names_are_read() {
    let fields: &[(&str, &[&str])] = &[
        ("muc#roomconfig_maxusers", &["none"]),
        ("muc#maxhistoryfetch", &["100000"]),
        ("muc#roomconfig_roomowners", &["A@x/r", ""]),
        ("muc#roomconfig_roomdesc", &["one", "two"]),
    ];
    let change = change(fields).unwrap();
    let config = change.apply(RoomConfig { users_max: 7, ..RoomConfig::default() }, 10).unwrap();
    assert_eq!((config.users_max, config.history_max), (0, HISTORY_MAX));
    assert_eq!(config.description, "one\ntwo");
    assert_eq!(change.owners.iter().map(|jid| jid.as_str()).collect::<Vec<_>>(), ["a@x"]);
    assert!(change.admins.is_empty());
}

#[test]
fn occupants_hear_what_concerns_them() {
    let base = RoomConfig::default();
    let with = |flag: RoomFlags, on| {
        let mut config = base.clone();
        config.flags.put(flag, on);
        config
    };
    let titled = RoomConfig { title: "t".into(), ..base.clone() };
    let open = with(RoomFlags::NON_ANONYMOUS, true);
    let table = [
        (&base, base.clone(), vec![]),
        (&base, with(RoomFlags::ARCHIVE, false), vec![Status::LoggingDisabled]),
        (&base, with(RoomFlags::NON_ANONYMOUS, true), vec![Status::NowNonAnonymous]),
        (&base, with(RoomFlags::MODERATED, true), vec![Status::ConfigurationChanged]),
        (&base, titled.clone(), vec![Status::ConfigurationChanged]),
        (&open, titled, vec![Status::NowSemiAnonymous, Status::ConfigurationChanged]),
    ];
    for (before, after, expected) in table {
        assert_eq!(announced(before, &after), expected);
    }
}
