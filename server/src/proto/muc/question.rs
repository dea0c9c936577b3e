//! Requests of occupants to occupants (XEP-0045 §17.4.2): how a room knows a question again by its answer.
//!
//! A room remembers no question. The id with which it passes one on says what it has to know when the answer comes, and has a code
//! that only the room can make, over that and the account that is asked:
//!
//! ```text
//! base64url: code (12) │ when (4) │ client that asks (8) │ length (2), nick that is asked │ id of the request
//! ```
//! The client that asks is there as a code, too: which account an occupant is, and by which resource, is for the room to know.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of the code.
const CODE_BYTES: usize = 12;

/// Bytes that stand for a client.
const CLIENT_BYTES: usize = 8;

/// Bytes before the nick.
const HEAD_BYTES: usize = CODE_BYTES + 4 + CLIENT_BYTES + 2;

/// A longer id of a request is refused.
pub const ID_BYTES_MAX: usize = 256;

/// Seconds in which an answer counts.
pub const ANSWERED_WITHIN_S: u32 = 600;

/// Which client asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientCode([u8; CLIENT_BYTES]);

/// A question that was passed on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// When, in seconds since 1970.
    pub asked_s: u32,
    /// Which client asks.
    pub client: ClientCode,
    /// The nick that it has asked.
    pub nick: String,
    /// The id of its request.
    pub id: String,
}

/// Knows the questions of a room again.
pub struct Questions(ring::hmac::Key);

impl std::fmt::Debug for Questions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Questions")
    }
}

impl Questions {
    /// Those of the room with this secret.
    pub fn new(secret: &[u8; 32]) -> Questions {
        Questions(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret))
    }

    /// The code of a client.
    pub fn client(&self, local: &str, resource: &str) -> ClientCode {
        let mut code = [0; CLIENT_BYTES];
        code.copy_from_slice(&self.code("client of a question:", local, resource.as_bytes())[..CLIENT_BYTES]);
        ClientCode(code)
    }

    /// The id with which a question goes to a client of `asked`.
    pub fn seal(&self, question: &Question, asked: &str) -> String {
        let mut bytes = vec![0; CODE_BYTES];
        bytes.extend_from_slice(&question.asked_s.to_be_bytes());
        bytes.extend_from_slice(&question.client.0);
        let length = u16::try_from(question.nick.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(question.nick.as_bytes());
        bytes.extend_from_slice(question.id.as_bytes());
        let code = self.code("question:", asked, &bytes[CODE_BYTES..]);
        bytes[..CODE_BYTES].copy_from_slice(&code[..CODE_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The question that somebody answers with this id; `None`: it was never asked, or long ago.
    pub fn open(&self, id: &str, answers: &str, now_s: u32) -> Option<Question> {
        let bytes = URL_SAFE_NO_PAD.decode(id).ok()?;
        let (code, said) = bytes.split_at_checked(CODE_BYTES)?;
        if self.code("question:", answers, said)[..CODE_BYTES] != *code {
            return None;
        }
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let asked_s = u32::from_be_bytes(*said.first_chunk()?);
        let client = ClientCode(*said.get(4..)?.first_chunk()?);
        let length = u16::from_be_bytes(*head.last_chunk()?);
        let (nick, id) = rest.split_at_checked(length.into())?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let is_in_time = asked_s <= now_s && now_s - asked_s <= ANSWERED_WITHIN_S;
        is_in_time.then_some(Question { asked_s, client, nick: text(nick)?, id: text(id)? })
    }

    fn code(&self, label: &str, name: &str, said: &[u8]) -> Vec<u8> {
        // No localpart has the separator.
        let signed = [label.as_bytes(), name.as_bytes(), b"\0", said].concat();
        ring::hmac::sign(&self.0, &signed).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u32 = 1_700_000_000;

    #[test]
    fn a_question_is_known_by_its_answer_and_by_no_other() {
        let here = Questions::new(&[7; 32]);
        for (nick, id) in
            [("Nurse", "q1"), ("", ""), ("n\u{e9}/ x", "<&>"), (&*"n".repeat(1023), &*"i".repeat(256))]
        {
            let client = here.client("romeo", "orchard");
            let question = Question { asked_s: NOW_S, client, nick: nick.into(), id: id.into() };
            let sealed = here.seal(&question, "juliet");
            assert!(sealed.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
            assert_eq!(here.open(&sealed, "juliet", NOW_S + 600), Some(question.clone()));
            assert_eq!(here.open(&sealed, "juliet", NOW_S + 601), None, "it comes too late");
            assert_eq!(here.open(&sealed, "juliet", NOW_S - 1), None);
            assert_eq!(here.open(&sealed, "nurse", NOW_S), None, "she was not asked");
            assert_eq!(Questions::new(&[8; 32]).open(&sealed, "juliet", NOW_S), None);
            for at in 0..sealed.len() {
                let mut other = sealed.clone().into_bytes();
                other[at] = if other[at] == b'A' { b'B' } else { b'A' };
                let opened = here.open(std::str::from_utf8(&other).unwrap(), "juliet", NOW_S);
                // Bits of the last character may mean nothing.
                assert!(opened.is_none() || at + 1 == sealed.len() && opened == Some(question.clone()));
            }
        }
        for none in ["", "q1", "AAAA", &"A".repeat(100)] {
            assert_eq!(here.open(none, "juliet", NOW_S), None);
        }
    }

    #[test]
    fn clients_are_told_apart() {
        let here = Questions::new(&[7; 32]);
        let codes = [("romeo", "1"), ("romeo", "2"), ("romeo1", ""), ("juliet", "1")]
            .map(|(local, resource)| here.client(local, resource));
        for (at, code) in codes.iter().enumerate() {
            assert!(codes.iter().skip(at + 1).all(|other| other != code));
        }
        assert_eq!(here.client("romeo", "1"), codes[0]);
    }
}
