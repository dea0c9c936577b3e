//! Ids of occupants (XEP-0421): the same for one account in one room as long as both exist, and telling nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use whimbrel_storage::actor::ActorId;

use super::push;
use crate::proto::ns;

/// Bytes of the authentication code that an id has.
const CODE_BYTES: usize = 18;

/// Characters of an id.
pub const ID_CHARS: usize = CODE_BYTES / 3 * 4;

/// The id of an occupant: 24 characters that need no escaping, kept as what they stand for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct OccupantId([u8; CODE_BYTES]);

/// The characters of an id.
#[derive(Clone, Copy, Debug)]
pub struct OccupantIdText([u8; ID_CHARS]);

/// Makes the ids of a room's occupants.
pub struct OccupantIds(ring::hmac::Key);

impl std::fmt::Debug for OccupantIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OccupantIds")
    }
}

impl OccupantIds {
    /// Those of the room with this secret.
    pub fn new(secret: &[u8; 32]) -> OccupantIds {
        OccupantIds(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret))
    }

    /// The id of an account with this bare JID. A new account of the same name has another one.
    pub fn of(&self, jid: &str, account: ActorId) -> OccupantId {
        let mut context = ring::hmac::Context::with_key(&self.0);
        context.update(&account.raw().to_be_bytes());
        context.update(jid.as_bytes());
        let code = context.sign();
        OccupantId(*code.as_ref().first_chunk().expect("SHA-256 has 32 bytes"))
    }
}

impl OccupantId {
    /// Its characters.
    pub fn text(&self) -> OccupantIdText {
        let mut text = [0; ID_CHARS];
        let written = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text);
        debug_assert_eq!(written, Ok(ID_CHARS));
        OccupantIdText(text)
    }

    /// Appends `<occupant-id/>`.
    pub fn write(&self, out: &mut Vec<u8>) {
        push(out, &["<occupant-id xmlns='", ns::OCCUPANT_ID, "' id='", self.text().as_str(), "'/>"]);
    }
}

impl OccupantIdText {
    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_accounts_in_one_room() {
        let here = OccupantIds::new(&[7; 32]);
        let id = here.of("a@x", ActorId::user(1));
        assert_eq!(id, OccupantIds::new(&[7; 32]).of("a@x", ActorId::user(1)), "also after a restart");
        let others = [
            here.of("b@x", ActorId::user(1)),
            here.of("a@x", ActorId::user(2)),
            here.of("a@x", ActorId::NOBODY),
            OccupantIds::new(&[8; 32]).of("a@x", ActorId::user(1)),
        ];
        assert!(others.iter().all(|other| *other != id), "{others:?}");
        assert!(id.text().as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
        let mut out = Vec::new();
        id.write(&mut out);
        let expected = format!("<occupant-id xmlns='urn:xmpp:occupant-id:0' id='{}'/>", id.text().as_str());
        assert_eq!((String::from_utf8(out).unwrap(), id.text().as_str().len()), (expected, 24));
    }
}
