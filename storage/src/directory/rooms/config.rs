//! What a room can be configured to (XEP-0045 §10.2, §15.5.3).

use super::rare_text::RareText;
use crate::directory::codec::{Decoder, Encoder};

/// What a room does or does not do, each yes or no.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RoomFlags(u16);

impl RoomFlags {
    /// It stays when the last occupant has left.
    pub const PERSISTENT: Self = Self(1);
    /// Only members may enter.
    pub const MEMBERS_ONLY: Self = Self(1 << 1);
    /// Those without an affiliation need voice to speak.
    pub const MODERATED: Self = Self(1 << 2);
    /// It is in the list of rooms.
    pub const PUBLIC: Self = Self(1 << 3);
    /// Everybody in it sees the real JIDs of all others; moderators do in any case.
    pub const NON_ANONYMOUS: Self = Self(1 << 4);
    /// Participants may change the subject, too.
    pub const CHANGE_SUBJECT: Self = Self(1 << 5);
    /// Members may invite, and so make members, in a room for members only.
    pub const ALLOW_INVITES: Self = Self(1 << 6);
    /// Visitors may ask for voice.
    pub const VOICE_REQUESTS: Self = Self(1 << 7);
    /// Messages are kept in the room's archive.
    pub const ARCHIVE: Self = Self(1 << 8);
    /// The server puts the room into the bookmarks of its members, and takes it out when membership ends.
    pub const BOOKMARKS: Self = Self(1 << 9);
    /// A member who removes the bookmark or unregisters is a member no more.
    pub const LEAVING_ENDS_MEMBERSHIP: Self = Self(1 << 10);
    /// Users may register with the room (§7.10), which makes them members.
    pub const REGISTRATION: Self = Self(1 << 11);

    const KNOWN: u16 = (1 << 12) - 1;

    /// Whether it does this.
    #[must_use]
    pub const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    /// It does this, or does not.
    pub fn put(&mut self, flag: Self, on: bool) {
        if on {
            self.0 |= flag.0;
        } else {
            self.0 &= !flag.0;
        }
    }

    /// The same with this.
    #[must_use]
    pub const fn with(self, flag: Self) -> Self {
        Self(self.0 | flag.0)
    }

    /// The same without this.
    #[must_use]
    pub const fn without(self, flag: Self) -> Self {
        Self(self.0 & !flag.0)
    }
}

impl Default for RoomFlags {
    /// An instant room (§10.1.2): temporary, open, public, semi-anonymous, with an archive.
    fn default() -> Self {
        let none = Self(0);
        none.with(Self::PUBLIC)
            .with(Self::VOICE_REQUESTS)
            .with(Self::ARCHIVE)
            .with(Self::BOOKMARKS)
            .with(Self::LEAVING_ENDS_MEMBERSHIP)
    }
}

/// Some of the roles that an occupant can have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RoleSet(u8);

impl RoleSet {
    /// Nobody.
    pub const NOBODY: Self = Self(0);
    /// Those who may not speak in a moderated room.
    pub const VISITORS: Self = Self(1);
    /// Those who may.
    pub const PARTICIPANTS: Self = Self(1 << 1);
    /// Those who say who may.
    pub const MODERATORS: Self = Self(1 << 2);
    /// Everybody.
    pub const EVERYBODY: Self = Self(7);

    /// Whether it has all of these.
    #[must_use]
    pub const fn has(self, roles: Self) -> bool {
        self.0 & roles.0 == roles.0
    }

    /// The roles of both.
    #[must_use]
    pub const fn with(self, roles: Self) -> Self {
        Self(self.0 | roles.0)
    }
}

/// Who may send private messages (`muc#roomconfig_allowpm`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum PrivateMessages {
    /// Everybody.
    #[default]
    Anyone = 0,
    /// Those who have voice.
    Participants = 1,
    /// Moderators.
    Moderators = 2,
    /// Nobody.
    Nobody = 3,
}

/// What a room is configured to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomConfig {
    /// Yes or no.
    pub flags: RoomFlags,
    /// Who may send private messages.
    pub private_messages: PrivateMessages,
    /// Of whom presence is sent to everybody; of others to themselves and to moderators alone.
    pub presence_of: RoleSet,
    /// Who may ask for the lists of members, admins and owners, in a room that is not for members only.
    pub lists_for: RoleSet,
    /// Most occupants; 0: as many as the server allows. Admins and owners may always enter.
    pub users_max: u32,
    /// Most messages of history that a client gets when it enters.
    pub history_max: u32,
    /// Name, for people.
    pub title: RareText,
    /// Description.
    pub description: RareText,
    /// Language of the conversation (RFC 5646); empty for none.
    pub language: RareText,
    /// What is asked for at the door; empty: nothing. Owners can read it in the form.
    pub password: RareText,
}

impl Default for RoomConfig {
    fn default() -> Self {
        Self {
            flags: RoomFlags::default(),
            private_messages: PrivateMessages::default(),
            presence_of: RoleSet::EVERYBODY,
            lists_for: RoleSet::EVERYBODY,
            users_max: 0,
            history_max: 20,
            title: RareText::default(),
            description: RareText::default(),
            language: RareText::default(),
            password: RareText::default(),
        }
    }
}

impl RoomConfig {
    /// A group among people who know one another, as stock clients make one: it stays, only members enter and find it, all
    /// see who the others are.
    #[must_use]
    pub fn private_group() -> Self {
        let flags = RoomFlags::default()
            .without(RoomFlags::PUBLIC)
            .with(RoomFlags::PERSISTENT)
            .with(RoomFlags::MEMBERS_ONLY)
            .with(RoomFlags::NON_ANONYMOUS);
        Self { flags, ..Self::default() }
    }

    /// Whether it is for members alone, and nobody else finds it.
    #[must_use]
    pub const fn is_private_group(&self) -> bool {
        self.flags.has(RoomFlags::MEMBERS_ONLY) && !self.flags.has(RoomFlags::PUBLIC)
    }

    /// Bytes of its texts.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.title.len() + self.description.len() + self.language.len() + self.password.len()
    }

    pub(super) fn encode(&self, fields: &mut Encoder) {
        fields.number(self.flags.0.into());
        fields.byte(self.private_messages as u8);
        fields.byte(self.presence_of.0);
        fields.byte(self.lists_for.0);
        fields.number(self.users_max.into());
        fields.number(self.history_max.into());
        for text in [&self.title, &self.description, &self.language, &self.password] {
            fields.text(text.as_bytes());
        }
    }

    pub(super) fn decode(fields: &mut Decoder<'_>) -> Result<Self, &'static str> {
        let flags = u16::try_from(fields.number()?).map_err(|_| "unknown flags")?;
        if flags & !RoomFlags::KNOWN != 0 {
            return Err("unknown flags");
        }
        let private_messages = match fields.byte()? {
            0 => PrivateMessages::Anyone,
            1 => PrivateMessages::Participants,
            2 => PrivateMessages::Moderators,
            3 => PrivateMessages::Nobody,
            _ => return Err("an unknown sender of private messages"),
        };
        let mut roles = || match fields.byte()? {
            roles @ 0..=7 => Ok(RoleSet(roles)),
            _ => Err("unknown roles"),
        };
        let (presence_of, lists_for) = (roles()?, roles()?);
        let mut count = || u32::try_from(fields.number()?).map_err(|_| "too great a number");
        let (users_max, history_max) = (count()?, count()?);
        let mut text = || fields.text().map(RareText::from);
        let (title, description, language, password) = (text()?, text()?, text()?, text()?);
        let flags = RoomFlags(flags);
        Ok(Self {
            flags,
            private_messages,
            presence_of,
            lists_for,
            users_max,
            history_max,
            title,
            description,
            language,
            password,
        })
    }
}
