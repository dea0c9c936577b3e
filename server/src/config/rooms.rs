//! The rooms' table of the configuration.

use serde::{Deserialize, Serialize};
use whimbrel_storage::directory::MayAdd;
use whimbrel_storage::jid::JidRef;

/// What the server can take, whatever is configured.
const MEMBERS_CEILING: u32 = 10_000;

/// All links of a room are gone through when one is made.
const LINKS_CEILING: u32 = 1000;

/// Who may make a room by entering it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomMakers {
    /// Every user.
    Everyone,
    /// Nobody: rooms are made with `whimbrelctl room create`.
    Operators,
}

/// Rooms (XEP-0045).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoomsConfig {
    /// Whether there are rooms. Switched off, nothing of them is announced and nobody can reach one; what is in the directory
    /// stays.
    pub enabled: bool,
    /// Their domain. Empty: `conference.` before the server's.
    pub domain: String,
    /// Who may make one.
    pub create: RoomMakers,
    /// Who may put an account into private groups that has not said it itself.
    #[serde(with = "may_add")]
    pub add: MayAdd,
    /// Owners, admins and members of one room.
    pub members_max: u32,
    /// Bans of one room.
    pub bans_max: u32,
    /// Occupants of one room.
    pub occupants_max: u32,
    /// Occupants up to which everybody hears of everybody's presence. In a larger room they hear of themselves, of moderators,
    /// and of changes of affiliation.
    pub presence_max: u32,
    /// Rooms that one account may own.
    pub per_account: u32,
    /// Rooms that one account may make in an hour.
    pub created_per_hour: u32,
    /// People whom one account may invite or add in an hour who are not its contacts.
    pub strangers_per_hour: u32,
    /// Links that make members, of one room.
    pub links_max: u32,
    /// Wrong passwords, and tokens of links, that one account may give to rooms in an hour.
    pub wrong_passwords_per_hour: u32,
    /// Messages a second of one occupant in the long run, and ten times as many at once.
    pub occupant_messages_per_second: u32,
    /// Messages a second of one room in the long run, and ten times as many at once.
    pub room_messages_per_second: u32,
    /// KiB of stanzas that wait for one room while it writes to the directory or reads its archive.
    pub waiting_kib: u32,
    /// Bytes of a nick.
    pub nick_bytes: u32,
    /// Bytes of a subject.
    pub subject_bytes: u32,
    /// Whether the server puts private groups into the bookmarks of their members, and takes them out.
    pub bookmarks: bool,
}

/// [`MayAdd`] by its names.
mod may_add {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use whimbrel_storage::directory::MayAdd;

    pub(super) fn serialize<S: Serializer>(may: &MayAdd, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(may.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<MayAdd, D::Error> {
        let name = String::deserialize(from)?;
        MayAdd::named(&name)
            .ok_or_else(|| de::Error::unknown_variant(&name, &["everyone", "contacts", "nobody"]))
    }
}

impl Default for RoomsConfig {
    fn default() -> Self {
        RoomsConfig {
            enabled: true,
            domain: String::new(),
            create: RoomMakers::Everyone,
            add: MayAdd::Contacts,
            members_max: 1024,
            bans_max: 1024,
            occupants_max: 1024,
            presence_max: 100,
            per_account: 100,
            created_per_hour: 30,
            strangers_per_hour: 60,
            links_max: 64,
            wrong_passwords_per_hour: 60,
            occupant_messages_per_second: 10,
            room_messages_per_second: 100,
            waiting_kib: 1024,
            nick_bytes: 256,
            subject_bytes: 4096,
            bookmarks: true,
        }
    }
}

impl RoomsConfig {
    /// The domain of the rooms of a server of this domain.
    pub fn domain_of(&self, server: &str) -> String {
        match self.domain.is_empty() {
            true => format!("conference.{server}"),
            false => self.domain.clone(),
        }
    }

    /// Checks what types cannot.
    pub(super) fn check(&self, server: &str) -> Result<(), String> {
        let domain = self.domain_of(server);
        let is_one = JidRef::parse(&domain).is_ok_and(|jid| jid.is_bare() && jid.local().is_none());
        if !is_one {
            return Err(format!("rooms.domain is `{domain}`, which is no domain"));
        }
        if domain == server {
            return Err("rooms.domain is the domain of the users; rooms need one of their own".into());
        }
        let least = [
            ("members_max", self.members_max),
            ("occupants_max", self.occupants_max),
            ("per_account", self.per_account),
            ("created_per_hour", self.created_per_hour),
            ("wrong_passwords_per_hour", self.wrong_passwords_per_hour),
            ("occupant_messages_per_second", self.occupant_messages_per_second),
            ("room_messages_per_second", self.room_messages_per_second),
            ("waiting_kib", self.waiting_kib),
            ("nick_bytes", self.nick_bytes),
            ("subject_bytes", self.subject_bytes),
        ];
        if let Some((name, _)) = least.iter().find(|(_, value)| *value == 0) {
            return Err(format!("rooms.{name} is 0; set it to at least 1, or rooms.enabled to false"));
        }
        let most = [
            ("members_max", self.members_max, MEMBERS_CEILING),
            ("bans_max", self.bans_max, MEMBERS_CEILING),
            ("links_max", self.links_max, LINKS_CEILING),
            ("occupants_max", self.occupants_max, MEMBERS_CEILING),
            ("nick_bytes", self.nick_bytes, 1023),
        ];
        match most.iter().find(|(_, value, max)| value > max) {
            Some((name, value, max)) => Err(format!("rooms.{name} is {value}; at most {max}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_have_a_domain_of_their_own() {
        let of = |domain: &str| RoomsConfig { domain: domain.into(), ..RoomsConfig::default() };
        assert_eq!(of("").domain_of("x.org"), "conference.x.org");
        assert_eq!(of("muc.x.org").domain_of("x.org"), "muc.x.org");
        assert_eq!(of("").check("x.org"), Ok(()));
        for (domain, said) in
            [("x.org", "of the users"), ("a@b", "no domain"), ("a/b", "no domain"), ("a b", "no domain")]
        {
            let error = of(domain).check("x.org").unwrap_err();
            assert!(error.contains(said), "{domain}: {error}");
        }
    }

    #[test]
    fn limits_have_bounds() {
        let table = [
            (RoomsConfig { members_max: 0, ..RoomsConfig::default() }, "rooms.members_max is 0"),
            (RoomsConfig { members_max: 10_001, ..RoomsConfig::default() }, "at most 10000"),
            (RoomsConfig { nick_bytes: 1024, ..RoomsConfig::default() }, "at most 1023"),
        ];
        for (config, said) in table {
            let error = config.check("x.org").unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(RoomsConfig { bans_max: 0, ..RoomsConfig::default() }.check("x.org"), Ok(()));
    }
}
