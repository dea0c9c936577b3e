//! What an account says of itself that no extension of XMPP has a place for.

use super::codec::{Decoder, Encoder};
use super::error::DirectoryError;
use super::tables::{Table, View, damaged};
use super::{Directory, WriteTransaction};

/// Who may put an account into private groups without asking it first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum MayAdd {
    /// Everybody who may make members there.
    Everyone = 1,
    /// Those in the account's roster.
    Contacts = 2,
    /// Nobody: it is always asked.
    Nobody = 3,
}

impl MayAdd {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Everyone, Self::Contacts, Self::Nobody];

    /// Its name in configurations and forms.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Everyone => "everyone",
            Self::Contacts => "contacts",
            Self::Nobody => "nobody",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// The settings of an account. One that the account has not set is the server's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// Who may put it into private groups; `None`: as the server is configured.
    pub groups_add: Option<MayAdd>,
}

/// The value of a setting that is the server's.
const DEFAULT: &str = "default";

/// The name of [`Settings::groups_add`].
const GROUPS_ADD: &str = "groups.add";

impl Settings {
    /// Name and value of each, as people write them. `default`: as the server is configured.
    #[must_use]
    pub fn texts(&self) -> [(&'static str, &'static str); 1] {
        [(GROUPS_ADD, self.groups_add.map_or(DEFAULT, MayAdd::name))]
    }

    /// Sets one as people write it.
    ///
    /// # Errors
    /// There is no such setting, or it takes no such value; the text says what there is.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        if name != GROUPS_ADD {
            return Err(format!("there is no setting `{name}`; there is {GROUPS_ADD}"));
        }
        self.groups_add = match MayAdd::named(value) {
            None if value != DEFAULT => {
                return Err(format!("{GROUPS_ADD} is everyone, contacts, nobody or default, not `{value}`"));
            }
            may => may,
        };
        Ok(())
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let groups_add = match fields.byte()? {
            0 => None,
            byte => {
                let known = MayAdd::ALL.into_iter().find(|one| *one as u8 == byte);
                Some(known.ok_or("nobody known may add the account to groups")?)
            }
        };
        fields.close()?;
        Ok(Self { groups_add })
    }

    fn encode(self, key: &[u8]) -> Vec<u8> {
        let mut fields = Encoder::new(1);
        fields.byte(self.groups_add.map_or(0, |may| may as u8));
        fields.seal(key)
    }
}

impl View<'_> {
    fn settings(&self, local: &str) -> Result<Settings, DirectoryError> {
        let Some(account) = self.account(local)? else { return Ok(Settings::default()) };
        let key = account.key();
        match self.get(Table::AccountSettings, &key)? {
            Some(value) => Settings::decode(&key, value).map_err(damaged(Table::AccountSettings, &key)),
            None => Ok(Settings::default()),
        }
    }
}

impl Directory {
    /// The settings of an account; those of nobody are the server's.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn settings(&self, local: &str) -> Result<Settings, DirectoryError> {
        self.read(|view| view.settings(local))
    }
}

impl WriteTransaction<'_> {
    /// The settings of an account; those of nobody are the server's.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn settings(&self, local: &str) -> Result<Settings, DirectoryError> {
        self.view().settings(local)
    }

    /// Keeps the settings of an account. `false`: there is no such account; nothing was written.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn set_settings(&mut self, local: &str, settings: Settings) -> Result<bool, DirectoryError> {
        let Some(account) = self.account_id(local)? else { return Ok(false) };
        let key = account.key();
        if settings == Settings::default() {
            self.delete(Table::AccountSettings, &key)?;
        } else {
            self.put(Table::AccountSettings, &key, &settings.encode(&key))?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_back_as_they_are_written() {
        for value in ["everyone", "contacts", "nobody", "default"] {
            let mut settings = Settings { groups_add: Some(MayAdd::Nobody) };
            settings.set("groups.add", value).expect("a value that it takes");
            assert_eq!(settings.texts(), [("groups.add", value)]);
            assert_eq!(Settings::decode(b"key", &settings.encode(b"key")), Ok(settings));
        }
        let mut settings = Settings::default();
        for (name, value, said) in [("colour", "red", "no setting `colour`"), ("groups.add", "", "not ``")] {
            assert!(settings.set(name, value).is_err_and(|text| text.contains(said)), "{name}");
        }
        let mut fields = Encoder::new(1);
        fields.byte(4);
        assert!(Settings::decode(b"key", &fields.seal(b"key")).is_err());
    }
}
