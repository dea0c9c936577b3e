//! Who talks to whom, and what is said: everything follows from a few numbers, so that whatever comes back can be
//! checked without having been kept.
//!
//! Account `a` begins a conversation with each of the next `contacts` accounts, in a circle. A conversation is a chain:
//! its messages come from both sides in turns, each sent when the one before it has arrived. So its order is the same
//! in both archives.

use crate::account::Accounts;
use crate::engine::scan::Element;

/// The shape of a fill.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Accounts, from number 0.
    pub(super) accounts: u64,
    /// Conversations that each of them begins.
    pub(super) contacts: u64,
    /// Messages of a conversation.
    pub(super) each: u32,
    /// Bytes of a message's text, about.
    pub(super) body_bytes: u32,
    /// Tells this fill from earlier ones.
    pub(super) run: u32,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    /// The conversation.
    pub(super) conversation: u64,
    /// Its number in it.
    pub(super) number: u32,
}

/// What texts are made of; it has to be escaped, and is not all ASCII.
const WORDS: [&str; 16] = [
    "tea", "at", "four", "<b>", "R&D", "grün", "it's", "\"no\"", "naïve", "later", "maybe", "茶", "see",
    "you", "then", "🙂",
];

impl Plan {
    /// Conversations in all.
    pub(super) fn conversations(&self) -> u64 {
        self.accounts * self.contacts
    }

    /// Messages in all, each in two archives.
    pub(super) fn messages(&self) -> u64 {
        self.conversations() * u64::from(self.each)
    }

    /// The two sides of a conversation: who begins it, and with whom.
    pub(super) fn sides(&self, conversation: u64) -> (u64, u64) {
        let first = conversation / self.contacts;
        (first, (first + 1 + conversation % self.contacts) % self.accounts)
    }

    /// The conversations of an account.
    pub(super) fn of(&self, account: u64) -> Vec<u64> {
        let begun = account * self.contacts..(account + 1) * self.contacts;
        let joined = (1..=self.contacts).map(|distance| {
            let first = (account + self.accounts - distance) % self.accounts;
            first * self.contacts + distance - 1
        });
        begun.chain(joined).collect()
    }

    /// Who sends a message, and to whom.
    pub(super) fn way(&self, said: Said) -> (u64, u64) {
        let (first, second) = self.sides(said.conversation);
        if said.number.is_multiple_of(2) { (first, second) } else { (second, first) }
    }

    /// The other side of an account's conversation.
    pub(super) fn other(&self, conversation: u64, account: u64) -> u64 {
        let (first, second) = self.sides(conversation);
        if account == first { second } else { first }
    }

    /// The message as its sender writes it.
    pub(super) fn stanza(&self, said: Said, domain: &str) -> String {
        let to = Accounts::name(self.way(said).1);
        format!(
            "<message type='chat' to='{to}@{domain}' id='{}'><body>{}</body></message>",
            self.id(said),
            escape(&self.text(said))
        )
    }

    /// The `id` of a message.
    pub(super) fn id(&self, said: Said) -> String {
        format!("a{:x}-{:x}-{:x}", said.conversation, said.number, self.run)
    }

    /// Which message has this `id`; `None` when it is not of this fill.
    pub(super) fn by_id(&self, id: &[u8]) -> Option<Said> {
        let mut parts = std::str::from_utf8(id).ok()?.strip_prefix('a')?.split('-');
        let mut next = || u64::from_str_radix(parts.next()?, 16).ok();
        let (conversation, number, run) = (next()?, next()?, next()?);
        let said = Said { conversation, number: u32::try_from(number).ok()? };
        let ours =
            run == u64::from(self.run) && conversation < self.conversations() && said.number < self.each;
        ours.then_some(said)
    }

    /// The text of a message.
    pub(super) fn text(&self, said: Said) -> String {
        let mut text = format!("{}.{}", said.conversation, said.number);
        let mut state = said.conversation.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(said.number);
        while text.len() < self.body_bytes as usize {
            // A step of xorshift: cheap, and the words differ from message to message.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push(' ');
            text.push_str(WORDS[(state >> 32) as usize % WORDS.len()]);
        }
        text
    }

    /// What is wrong with a copy of a message: its text, or between whom it went.
    pub(super) fn fault(&self, said: Said, copy: &Element<'_>, domain: &str) -> Option<String> {
        let (from, to) = self.way(said);
        for (attribute, account) in [(&b"from"[..], from), (&b"to"[..], to)] {
            let jid = String::from_utf8_lossy(copy.attribute(attribute).unwrap_or_default()).into_owned();
            let bare = jid.split('/').next().unwrap_or_default();
            if bare != format!("{}@{domain}", Accounts::name(account)) {
                let attribute = String::from_utf8_lossy(attribute);
                return Some(format!("it says {attribute}='{jid}'"));
            }
        }
        let text = copy.find(b"body").map(|body| unescape(body.text())).unwrap_or_default();
        (text != self.text(said)).then(|| format!("its text is {text:?}"))
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Text as it was before it was escaped (XML §4.6, and characters by number).
fn unescape(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut out = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let Some(end) = rest.find(';') else { break };
        let character = match &rest[1..end] {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            number => number
                .strip_prefix("#x")
                .map(|hex| u32::from_str_radix(hex, 16))
                .or_else(|| number.strip_prefix('#').map(str::parse))
                .and_then(Result::ok)
                .and_then(char::from_u32),
        };
        match character {
            Some(character) => out.push(character),
            None => out.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::scan::{self, Item};

    const PLAN: Plan = Plan { accounts: 7, contacts: 3, each: 5, body_bytes: 80, run: 9 };

    #[test]
    fn every_conversation_is_of_its_two_sides_and_of_nobody_else() {
        let mut seen = vec![0; PLAN.conversations() as usize];
        for account in 0..PLAN.accounts {
            let own = PLAN.of(account);
            assert_eq!(own.len() as u64, 2 * PLAN.contacts);
            let mut others: Vec<u64> = own.iter().map(|&c| PLAN.other(c, account)).collect();
            others.sort_unstable();
            others.dedup();
            assert_eq!(others.len() as u64, 2 * PLAN.contacts, "no two conversations of one pair");
            for conversation in own {
                let (first, second) = PLAN.sides(conversation);
                assert!(first == account || second == account);
                seen[conversation as usize] += 1;
            }
        }
        assert!(seen.iter().all(|&count| count == 2));
        assert_eq!(PLAN.messages(), 105);
    }

    #[test]
    fn a_stanza_is_recognised_and_what_was_changed_in_it_is_found() {
        let said = Said { conversation: 20, number: 3 };
        let stanza = PLAN.stanza(said, "localhost").replacen(' ', " from='user0@localhost/x' ", 1);
        let fault = |stanza: &str| {
            let Ok(Some((Item::Element(copy), _))) = scan::next(stanza.as_bytes()) else {
                panic!("no element")
            };
            assert_eq!(PLAN.by_id(copy.attribute(b"id").unwrap()), Some(said));
            PLAN.fault(said, &copy, "localhost")
        };
        // Conversation 20 is the third of account 6: with account 2, whose turn the odd numbers are.
        assert_eq!(PLAN.way(said), (2, 6));
        let right = stanza.replace("user0@", "user2@");
        assert_eq!(fault(&right), None);
        assert!(fault(&stanza).is_some_and(|fault| fault.contains("from='user0@localhost/x'")));
        assert!(fault(&right.replace("to='user6@", "to='user5@")).is_some());
        assert!(fault(&right.replace("20.3", "20.4")).is_some_and(|fault| fault.contains("20.4")));
        assert!(fault(&right.replace("<body>", "<x>").replace("</body>", "</x>")).is_some());
    }

    #[test]
    fn ids_of_others_are_not_ours() {
        for id in [&b"a0-0-8"[..], b"a15-0-9", b"a0-5-9", b"w0-0-9", b"a0-0", b""] {
            assert_eq!(PLAN.by_id(id), None, "{}", String::from_utf8_lossy(id));
        }
    }

    #[test]
    fn texts_survive_every_way_of_escaping() {
        let text: String = WORDS.join(" ");
        assert_eq!(unescape(escape(&text).as_bytes()), text);
        assert_eq!(unescape(b"it&apos;s &quot;&#x8336;&#38;&quot; &unknown; &"), "it's \"茶&\" &unknown; &");
        assert!(PLAN.text(Said { conversation: 1, number: 2 }).len() >= 80);
    }
}
