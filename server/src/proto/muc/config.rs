//! The configuration of a room as a form (XEP-0045 §10.2, §15.5.3).
//!
//! Fields that the server does not know are passed over: clients fill in what other servers have.

use whimbrel_storage::directory::rooms::{PrivateMessages, RoleSet, RoomConfig, RoomFlags};
use whimbrel_storage::jid::Jid;

use super::status::Status;
use crate::proto::errors::StanzaError;
use crate::proto::forms::{Field, FieldType, Form, FormError, Submission, Submitted};
use crate::proto::ns;
use crate::xml::Element;

/// Most bytes of a title, a language or a password.
pub const TEXT_BYTES_MAX: usize = 1023;

/// Most bytes of a description.
pub const DESCRIPTION_BYTES_MAX: usize = 4096;

/// Most messages of history that a room gives those who enter.
pub const HISTORY_MAX: u32 = 200;

/// Owners and admins that one form may name.
pub const NAMED_MAX: usize = 64;

/// Each a field of its own, yes or no.
const FLAGS: [(&str, &str, RoomFlags); 11] = [
    ("muc#roomconfig_persistentroom", "Keep the room when the last occupant leaves", RoomFlags::PERSISTENT),
    ("muc#roomconfig_publicroom", "Show the room in the list of rooms", RoomFlags::PUBLIC),
    ("muc#roomconfig_membersonly", "Only members may enter", RoomFlags::MEMBERS_ONLY),
    ("muc#roomconfig_moderatedroom", "Only those with voice may speak", RoomFlags::MODERATED),
    ("muc#roomconfig_changesubject", "Participants may change the subject", RoomFlags::CHANGE_SUBJECT),
    ("muc#roomconfig_allowinvites", "Members may invite others", RoomFlags::ALLOW_INVITES),
    ("muc#roomconfig_allowvoicerequests", "Visitors may ask for voice", RoomFlags::VOICE_REQUESTS),
    ("muc#roomconfig_enablearchiving", "Keep messages for those who come later", RoomFlags::ARCHIVE),
    ("muc#roomconfig_allowregister", "Users may register and become members", RoomFlags::REGISTRATION),
    ("whimbrel#roomconfig_bookmarks", "Put the room into its members' bookmarks", RoomFlags::BOOKMARKS),
    (
        "whimbrel#roomconfig_leavingends",
        "Those who remove the bookmark are members no more",
        RoomFlags::LEAVING_ENDS_MEMBERSHIP,
    ),
];

/// [`RoomFlags::NON_ANONYMOUS`], for which the form has a list.
const WHOIS: &str = "muc#roomconfig_whois";
const WHOIS_OPTIONS: [(&str, bool); 2] = [("moderators", false), ("anyone", true)];

/// Other names of the same field, as clients fill them in for other servers. A field of its own name comes before them.
const SYNONYMS: [(&str, RoomFlags); 4] = [
    ("mam", RoomFlags::ARCHIVE),
    ("muc#roomconfig_mam", RoomFlags::ARCHIVE),
    ("allow_voice_requests", RoomFlags::VOICE_REQUESTS),
    ("muc#roomconfig_allow_voice_requests", RoomFlags::VOICE_REQUESTS),
];

const ALLOW_PM: &str = "muc#roomconfig_allowpm";
const PRIVATE_MESSAGES: [(&str, PrivateMessages); 4] = [
    ("anyone", PrivateMessages::Anyone),
    ("participants", PrivateMessages::Participants),
    ("moderators", PrivateMessages::Moderators),
    ("none", PrivateMessages::Nobody),
];

const PRESENCE_OF: &str = "muc#roomconfig_presencebroadcast";
const LISTS_FOR: &str = "muc#roomconfig_getmemberlist";
const ROLES: [(&str, RoleSet); 3] = [
    ("moderator", RoleSet::MODERATORS),
    ("participant", RoleSet::PARTICIPANTS),
    ("visitor", RoleSet::VISITORS),
];

const TITLE: &str = "muc#roomconfig_roomname";
const DESCRIPTION: &str = "muc#roomconfig_roomdesc";
const LANGUAGE: &str = "muc#roomconfig_lang";
const PROTECTED: &str = "muc#roomconfig_passwordprotectedroom";
const SECRET: &str = "muc#roomconfig_roomsecret";
const USERS_MAX: &str = "muc#roomconfig_maxusers";
const HISTORY: &str = "muc#maxhistoryfetch";
/// Another server's name of the same.
const HISTORY_SYNONYM: &str = "muc#roomconfig_historylength";
const OWNERS: &str = "muc#roomconfig_roomowners";
const ADMINS: &str = "muc#roomconfig_roomadmins";

/// What of a configuration somebody names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConfigChange {
    flags: Vec<(RoomFlags, bool)>,
    private_messages: Option<PrivateMessages>,
    presence_of: Option<RoleSet>,
    lists_for: Option<RoleSet>,
    users_max: Option<u32>,
    history_max: Option<u32>,
    title: Option<String>,
    description: Option<String>,
    language: Option<String>,
    protected: Option<bool>,
    secret: Option<String>,
    /// Bare JIDs that are to be owners. The form is not the list of owners: nobody loses anything by it.
    pub owners: Vec<Jid>,
    /// Bare JIDs that are to be admins.
    pub admins: Vec<Jid>,
}

impl ConfigChange {
    /// Reads a submitted form; `None`: it was cancelled.
    ///
    /// # Errors
    /// `bad-request` for what is no such form; `not-acceptable` for a value that its field does not take: the text names it.
    pub fn read(form: &Element) -> Result<Option<ConfigChange>, StanzaError> {
        match Submission::read_implied(form, ns::MUC_CONFIG)? {
            Submission::Submitted(fields) => Ok(Some(fields_of(fields)?)),
            Submission::Cancelled => Ok(None),
        }
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        *self == ConfigChange::default()
    }

    /// The configuration with this change.
    ///
    /// # Errors
    /// `not-acceptable` for a room that needs a password and has none, or for more occupants than `users_max`.
    pub fn apply(&self, mut config: RoomConfig, users_max: u32) -> Result<RoomConfig, StanzaError> {
        for (flag, on) in &self.flags {
            config.flags.put(*flag, *on);
        }
        config.private_messages = self.private_messages.unwrap_or(config.private_messages);
        config.presence_of = self.presence_of.unwrap_or(config.presence_of);
        config.lists_for = self.lists_for.unwrap_or(config.lists_for);
        config.history_max = self.history_max.unwrap_or(config.history_max);
        if let Some(wanted) = self.users_max {
            if wanted > users_max {
                return Err(not(USERS_MAX, "a number of occupants that the server allows").into());
            }
            config.users_max = wanted;
        }
        let texts = [
            (&self.title, &mut config.title),
            (&self.description, &mut config.description),
            (&self.language, &mut config.language),
            (&self.secret, &mut config.password),
        ];
        for (new, text) in texts {
            if let Some(new) = new {
                *text = new.as_str().into();
            }
        }
        match self.protected {
            Some(false) => config.password.clear(),
            Some(true) if config.password.is_empty() => return Err(FormError::Missing(SECRET.into()).into()),
            _ => {}
        }
        Ok(config)
    }
}

fn not(field: &str, expected: &'static str) -> FormError {
    FormError::Value { field: field.to_owned(), expected }
}

fn fields_of(mut fields: Submitted<'_>) -> Result<ConfigChange, FormError> {
    let mut change = ConfigChange {
        private_messages: fields.choice(ALLOW_PM, &PRIVATE_MESSAGES)?,
        presence_of: roles(&mut fields, PRESENCE_OF)?,
        lists_for: roles(&mut fields, LISTS_FOR)?,
        users_max: users_max(&mut fields)?,
        history_max: history_max(&mut fields)?,
        title: text(&mut fields, TITLE, TEXT_BYTES_MAX)?,
        description: description(&mut fields)?,
        language: text(&mut fields, LANGUAGE, TEXT_BYTES_MAX)?,
        protected: fields.boolean(PROTECTED)?,
        secret: text(&mut fields, SECRET, TEXT_BYTES_MAX)?,
        owners: named(&mut fields, OWNERS)?,
        admins: named(&mut fields, ADMINS)?,
        flags: Vec::new(),
    };
    for (name, flag) in SYNONYMS {
        if let Some(on) = fields.boolean(name)? {
            change.flags.push((flag, on));
        }
    }
    for (name, _, flag) in FLAGS {
        if let Some(on) = fields.boolean(name)? {
            change.flags.push((flag, on));
        }
    }
    if let Some(on) = fields.choice(WHOIS, &WHOIS_OPTIONS)? {
        change.flags.push((RoomFlags::NON_ANONYMOUS, on));
    }
    Ok(change)
}

fn roles(fields: &mut Submitted<'_>, name: &str) -> Result<Option<RoleSet>, FormError> {
    let chosen = fields.choices(name, &ROLES)?;
    Ok(chosen.map(|chosen| chosen.into_iter().fold(RoleSet::NOBODY, RoleSet::with)))
}

fn users_max(fields: &mut Submitted<'_>) -> Result<Option<u32>, FormError> {
    match fields.text(USERS_MAX)?.as_deref() {
        None => Ok(None),
        Some("" | "none") => Ok(Some(0)),
        Some(text) => text.parse().map(Some).map_err(|_| not(USERS_MAX, "a number of occupants or \"none\"")),
    }
}

fn history_max(fields: &mut Submitted<'_>) -> Result<Option<u32>, FormError> {
    for name in [HISTORY, HISTORY_SYNONYM] {
        match fields.text(name)?.as_deref() {
            None | Some("") => {}
            Some(text) => {
                let count = text.parse::<u32>().map_err(|_| not(name, "a number of messages"))?;
                return Ok(Some(count.min(HISTORY_MAX)));
            }
        }
    }
    Ok(None)
}

fn text(fields: &mut Submitted<'_>, name: &str, bytes_max: usize) -> Result<Option<String>, FormError> {
    let text = fields.text(name)?.map(std::borrow::Cow::into_owned);
    match text {
        Some(text) if text.len() > bytes_max => Err(not(name, "a shorter text")),
        text => Ok(text),
    }
}

/// Some clients send it line by line.
fn description(fields: &mut Submitted<'_>) -> Result<Option<String>, FormError> {
    let lines = fields.lines(DESCRIPTION);
    match lines.map(|lines| lines.join("\n")) {
        Some(text) if text.len() > DESCRIPTION_BYTES_MAX => Err(not(DESCRIPTION, "a shorter text")),
        text => Ok(text),
    }
}

fn named(fields: &mut Submitted<'_>, name: &str) -> Result<Vec<Jid>, FormError> {
    let filled = fields.lines(name).unwrap_or_default();
    let filled = filled.iter().filter(|text| !text.is_empty());
    let jids = filled
        .map(|text| Jid::parse(text).map(|jid| jid.to_bare()).map_err(|_| not(name, "a list of addresses")));
    let jids = jids.collect::<Result<Vec<_>, _>>()?;
    if jids.len() > NAMED_MAX { Err(not(name, "a shorter list")) } else { Ok(jids) }
}

fn name_of<T: Copy + PartialEq>(options: &[(&'static str, T)], value: T) -> &'static str {
    options.iter().find(|(_, option)| *option == value).map_or("", |(name, _)| name)
}

fn list<T: Copy + PartialEq>(name: &str, label: &str, options: &[(&'static str, T)], value: T) -> Field {
    let field = Field::new(FieldType::ListSingle, name).label(label);
    let field = options.iter().fold(field, |field, (option, _)| field.option(option, option));
    field.value(name_of(options, value))
}

fn role_list(name: &str, label: &str, value: RoleSet) -> Field {
    let field = Field::new(FieldType::ListMulti, name).label(label);
    let field = ROLES.iter().fold(field, |field, (option, _)| field.option(option, option));
    let chosen = ROLES.iter().filter(|(_, role)| value.has(*role));
    chosen.fold(field, |field, (option, _)| field.value(option))
}

fn line(name: &str, label: &str, value: &str) -> Field {
    Field::new(FieldType::TextSingle, name).label(label).value(value)
}

/// The form with which a room is configured, filled in with what it is configured to.
pub fn form(room: &str, config: &RoomConfig) -> Form {
    let users_max = match config.users_max {
        0 => "none".to_owned(),
        count => count.to_string(),
    };
    let users =
        Field::new(FieldType::ListSingle, USERS_MAX).label("Occupants at most").option("none", "none");
    let users = ["10", "50", "100", "500"].iter().fold(users, |field, count| field.option(count, count));
    let secret = Field::new(FieldType::TextPrivate, SECRET).label("Password").value(&config.password);
    let protected = Field::new(FieldType::Boolean, PROTECTED).label("A password is needed to enter");
    let form = Form::to_fill_in(ns::MUC_CONFIG)
        .title(&format!("Configuration of {room}"))
        .field(line(TITLE, "Name", &config.title))
        .field(line(DESCRIPTION, "Description", &config.description))
        .field(line(LANGUAGE, "Language", &config.language));
    let form = FLAGS.into_iter().fold(form, |form, (name, label, flag)| {
        form.field(Field::new(FieldType::Boolean, name).label(label).flag(config.flags.has(flag)))
    });
    let is_open = config.flags.has(RoomFlags::NON_ANONYMOUS);
    form.field(list(WHOIS, "Who sees real addresses", &WHOIS_OPTIONS, is_open))
        .field(list(ALLOW_PM, "Who may send private messages", &PRIVATE_MESSAGES, config.private_messages))
        .field(role_list(PRESENCE_OF, "Whose presence all others see", config.presence_of))
        .field(role_list(LISTS_FOR, "Who may have the lists of members", config.lists_for))
        .field(protected.flag(!config.password.is_empty()))
        .field(secret)
        .field(users.value(&users_max))
        .field(line(HISTORY, "Messages that those who enter get at most", &config.history_max.to_string()))
}

/// What occupants are told of another configuration (§10.2.1); nothing for one that is the same.
pub fn announced(before: &RoomConfig, after: &RoomConfig) -> Vec<Status> {
    let mut told = Vec::new();
    let pairs = [
        (RoomFlags::ARCHIVE, Status::LoggingEnabled, Status::LoggingDisabled),
        (RoomFlags::NON_ANONYMOUS, Status::NowNonAnonymous, Status::NowSemiAnonymous),
    ];
    let (mut old, mut new) = (before.clone(), after.clone());
    for (flag, on, off) in pairs {
        if before.flags.has(flag) != after.flags.has(flag) {
            told.push(if after.flags.has(flag) { on } else { off });
        }
        old.flags.put(flag, false);
        new.flags.put(flag, false);
    }
    if old != new {
        told.push(Status::ConfigurationChanged);
    }
    told
}
