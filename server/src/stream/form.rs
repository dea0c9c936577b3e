//! The form with which an account is opened, or its password changed (XEP-0077).

use whimbrel_storage::credentials::CredentialsError;
use whimbrel_storage::jid;
use zeroize::Zeroizing;

use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::xml::Element;

/// What a form says: username and password.
pub struct Form {
    /// Localpart, normalised.
    pub username: String,
    /// Password as it was sent; wiped when dropped.
    pub password: Zeroizing<String>,
}

impl Form {
    /// Reads the fields of a query.
    ///
    /// # Errors
    /// `not-acceptable` for a missing field (§3.1), `jid-malformed` for a username that cannot be a localpart.
    pub fn read(query: &Element) -> Result<Form, StanzaError> {
        let field =
            |name| query.find(name, ns::REGISTER).map(Element::content).filter(|text| !text.is_empty());
        let (Some(username), Some(password)) = (field("username"), field("password")) else {
            let text = "username and password are both needed";
            return Err(StanzaError::from(StanzaCondition::NotAcceptable).with_text(text));
        };
        let username = jid::normalise_local(&username)
            .map_err(|error| StanzaError::from(StanzaCondition::JidMalformed).with_text(error.to_string()))?
            .into_owned();
        Ok(Form { username, password: Zeroizing::new(password.into_owned()) })
    }
}

/// The answer when no keys can be made from a password.
pub fn password_refused(error: &CredentialsError) -> StanzaError {
    match error {
        CredentialsError::PasswordEmpty
        | CredentialsError::PasswordTooLong { .. }
        | CredentialsError::PasswordForbidden(_) => {
            StanzaError::from(StanzaCondition::NotAcceptable).with_text(error.to_string())
        }
        _ => {
            tracing::error!(%error, "cannot make keys from a password");
            StanzaCondition::InternalServerError.into()
        }
    }
}

/// The answer when the crypto pool has no room (`limits.crypto_queue`).
pub fn pool_is_full() -> StanzaError {
    let text = "the server is busy; try again later";
    StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_needs_both_fields_and_a_username_that_can_be_a_localpart() {
        let read = |inside: &str| {
            let bytes = format!("<query xmlns='jabber:iq:register'>{inside}</query>");
            Form::read(&Element::parse(bytes.as_bytes()).unwrap())
        };
        let form = read("<username>Juliet</username><password>p w</password>").ok().unwrap();
        assert_eq!((form.username.as_str(), form.password.as_str()), ("juliet", "p w"));
        let table = [
            ("<username>juliet</username>", StanzaCondition::NotAcceptable),
            ("<username>juliet</username><password/>", StanzaCondition::NotAcceptable),
            ("<username/><password>x</password>", StanzaCondition::NotAcceptable),
            ("<username>a@b</username><password>x</password>", StanzaCondition::JidMalformed),
        ];
        for (inside, expected) in table {
            assert_eq!(read(inside).err().map(|error| error.condition), Some(expected), "{inside}");
        }
    }
}
