//! What the operator has from Apple, and the names of texts in the app.

use crate::es256::Es256;
use crate::key::KeyError;

/// A key of Apple's developer account that signs provider tokens.
#[derive(Debug)]
pub struct ApnsKey {
    pub(crate) pair: Es256,
    pub(crate) key_id: String,
    pub(crate) team_id: String,
}

impl ApnsKey {
    /// From the text of the `.p8` file, the ten characters that name the key, and those that name the team.
    ///
    /// # Errors
    /// The file is no such key, or an id is none.
    pub fn new(pem: &[u8], key_id: &str, team_id: &str) -> Result<ApnsKey, KeyError> {
        let id = |what, id: &str| match id.len() == 10 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            true => Ok(id.to_owned()),
            false => Err(KeyError::Id(what, id.chars().take(32).collect())),
        };
        Ok(ApnsKey {
            pair: Es256::from_pem(pem)?,
            key_id: id("the id of a key of Apple's", key_id)?,
            team_id: id("the id of a team of Apple's", team_id)?,
        })
    }
}

/// Keys of the app's `Localizable.strings`, for what is shown when the text is withheld.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApnsTexts {
    /// A message waits.
    pub message: String,
    /// Somebody calls.
    pub call: String,
    /// The operator tries it.
    pub test: String,
}

impl Default for ApnsTexts {
    fn default() -> ApnsTexts {
        ApnsTexts { message: "push.message".into(), call: "push.call".into(), test: "push.test".into() }
    }
}
