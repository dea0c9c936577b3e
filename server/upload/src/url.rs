//! URLs of slots and files.
//!
//! A file's URL is known to those whom its owner tells: its id has 128 random bits. That of a slot has in addition until when a
//! transfer may begin, and a signature over everything that the slot is for, so a request that nobody was given is refused
//! before anything is looked up.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use whimbrel_storage::directory::{UPLOAD_NAME_BYTES_MAX, UploadId};

/// What the path of every URL begins with.
pub const PREFIX: &str = "/upload/";

/// Bytes of a path with a query at most: a name may be three times as long in it as it is.
pub const TARGET_BYTES_MAX: usize = 2048;

/// Signs slots.
#[derive(Clone, Debug)]
pub struct SlotKey(hmac::Key);

impl SlotKey {
    /// Derived from the secret of the directory, so backups have it too.
    #[must_use]
    pub fn new(server_secret: &[u8; 32]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, server_secret);
        let derived = hmac::sign(&secret, b"upload slots\0");
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// The signature of a slot.
    fn sign(&self, id: &UploadId, until_seconds: u64) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, said(id, until_seconds).as_bytes()))
    }

    fn verifies(&self, id: &UploadId, until_seconds: u64, signature: &str) -> bool {
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        hmac::verify(&self.0, said(id, until_seconds).as_bytes(), &signature).is_ok()
    }
}

/// What is signed. Name, size and type belong to the id in the directory.
fn said(id: &UploadId, until_seconds: u64) -> String {
    format!("{id} {until_seconds}")
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The upload.
    pub id: UploadId,
    /// The file's name, decoded.
    pub name: String,
}

/// Why a URL does not let a file be uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has no signature, or not that of this slot.
    #[error("this URL was not given by this server for an upload")]
    Key,
    /// It was good until some time ago.
    #[error("the time in which a transfer to this URL could begin is over; ask for another slot")]
    Late,
}

/// Whether a name can be one: it is a part of a path, and the name under which browsers save the file.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_usual = |letter: char| !letter.is_control() && !"/\\".contains(letter) && !is_direction(letter);
    let length = 1..=UPLOAD_NAME_BYTES_MAX;
    length.contains(&name.len()) && ![".", ".."].contains(&name) && name.chars().all(is_usual)
}

/// Letters that change the direction of those around them: they would show another end of the name.
fn is_direction(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The path of a file below `base`, which ends without a slash.
#[must_use]
pub fn file_url(base: &str, id: &UploadId, name: &str) -> String {
    let mut url = format!("{base}{PREFIX}{id}/");
    encode(name, &mut url);
    url
}

/// As [`file_url`], that to which the file is put.
#[must_use]
pub fn slot_url(base: &str, key: &SlotKey, id: &UploadId, name: &str, until_seconds: u64) -> String {
    let mut url = file_url(base, id, name);
    let _ = write!(url, "?until={until_seconds}&key={}", key.sign(id, until_seconds));
    url
}

/// Percent-encodes whatever is not unreserved (RFC 3986 §2.3).
pub fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Undoes [`encode`], also where more is encoded than must be. `None`: half an escape, or no UTF-8.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let ([high, low], behind) = rest.split_first_chunk()?;
        bytes.push(digit(high)? << 4 | digit(low)?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

/// Reads the path of a request. `None`: it is that of no upload.
#[must_use]
pub fn read(path: &str) -> Option<Target> {
    if path.len() > TARGET_BYTES_MAX {
        return None;
    }
    let (id, name) = path.strip_prefix(PREFIX)?.split_once('/')?;
    let name = decode(name).filter(|name| is_name(name))?;
    Some(Target { id: id.parse().ok()?, name })
}

/// Whether the query of a request to a slot lets a transfer begin now.
///
/// # Errors
/// It does not.
pub fn admit(key: &SlotKey, id: &UploadId, query: Option<&str>, now_seconds: u64) -> Result<(), Refused> {
    let query = query.filter(|query| query.len() <= TARGET_BYTES_MAX).ok_or(Refused::Key)?;
    let (until, signature) = query.split_once('&').ok_or(Refused::Key)?;
    let until = until.strip_prefix("until=").ok_or(Refused::Key)?;
    let signature = signature.strip_prefix("key=").ok_or(Refused::Key)?;
    let is_number = until.bytes().all(|byte| byte.is_ascii_digit());
    let until: u64 = until.parse().ok().filter(|_| is_number).ok_or(Refused::Key)?;
    if !key.verifies(id, until, signature) {
        return Err(Refused::Key);
    }
    if now_seconds >= until { Err(Refused::Late) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> UploadId {
        UploadId::new(1_795_889_516_000, [7; 16])
    }

    #[test]
    fn a_slot_is_good_for_itself_and_for_its_time() {
        let key = SlotKey::new(&[1; 32]);
        let url = slot_url("https://a.example", &key, &id(), "Romeo & Julia.jpg", 100);
        assert!(url.starts_with(&file_url("https://a.example", &id(), "Romeo & Julia.jpg")), "{url}");
        let (path, query) = url.strip_prefix("https://a.example").unwrap().split_once('?').unwrap();
        let target = read(path).unwrap();
        assert_eq!((target.id, target.name.as_str()), (id(), "Romeo & Julia.jpg"));
        assert_eq!(admit(&key, &id(), Some(query), 99), Ok(()));
        assert_eq!(admit(&key, &id(), Some(query), 100), Err(Refused::Late));
        let other = UploadId::new(1_795_889_516_000, [8; 16]);
        let changed = query.replace("until=100", "until=200");
        let cut = &query[..query.len() - 1];
        let shown = format!("{query}&x=1");
        for (key, id, query) in [
            (&SlotKey::new(&[2; 32]), &id(), Some(query)),
            (&key, &other, Some(query)),
            (&key, &id(), Some(changed.as_str())),
            (&key, &id(), Some(cut)),
            (&key, &id(), Some(shown.as_str())),
            (&key, &id(), Some("until=&key=")),
            (&key, &id(), Some("until=+200&key=AA")),
            (&key, &id(), Some("")),
            (&key, &id(), None),
        ] {
            assert_eq!(admit(key, id, query, 1), Err(Refused::Key), "{query:?}");
        }
    }

    #[test]
    fn a_path_leads_to_an_upload_and_nowhere_else() {
        let id = id();
        for (path, name) in [
            (format!("/upload/{id}/a.jpg"), Some("a.jpg")),
            (format!("/upload/{id}/%C3%A4%20b"), Some("ä b")),
            (format!("/upload/{id}/..%2F..%2Fetc"), None),
            (format!("/upload/{id}/%2e%2e"), None),
            (format!("/upload/{id}/../a"), None),
            (format!("/upload/{id}/a/b"), None),
            (format!("/upload/{id}/a%00"), None),
            (format!("/upload/{id}/a%5cb"), None),
            (format!("/upload/{id}/%FF"), None),
            (format!("/upload/{id}/%4"), None),
            (format!("/upload/{id}/%+1"), None),
            (format!("/upload/{id}/"), None),
            (format!("/upload/{id}"), None),
            (format!("/upload/../{id}/a"), None),
            (format!("/upload/%2e%2e/{id}"), None),
            (format!("/Upload/{id}/a"), None),
            (format!("/upload/{id}/{}", "a".repeat(256)), None),
            (format!("/upload/{id}/{}", "%41".repeat(1000)), None),
        ] {
            assert_eq!(read(&path).map(|target| target.name).as_deref(), name, "{path}");
        }
    }

    #[test]
    fn a_name_shows_its_end() {
        for letter in
            "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}"
                .chars()
        {
            assert!(!is_name(&format!("a{letter}gpj.exe")), "{}", letter.escape_unicode());
        }
        assert!(is_name("صورة.jpg"), "a name may be written from right to left");
    }

    proptest! {
        #[test]
        fn names_survive_their_encoding(name in "\\PC{1,60}") {
            let url = file_url("", &id(), &name);
            prop_assert!(url.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%/".contains(&byte)));
            let read = read(&url).map(|target| target.name);
            prop_assert_eq!(read, Some(name.clone()).filter(|name| is_name(name)));
        }
    }
}
