//! A client that writes to the directory on a managed stream while its server is killed again and again, and what must
//! be found there afterwards: of each thing it has written, the last that was acknowledged or answered, or something
//! that was sent later.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard};

use whimbrel_storage::directory::Directory;

use crate::SM;
use crate::client::{Client, attribute};
use crate::sigkill::Run;

/// The account that writes.
pub(crate) const NAME: &str = "keeper";

/// Accounts that are asked for their presence, and not any more, in turn. Nobody is ever there.
pub(crate) const ASKED: usize = 10;

/// Different contacts, blocked JIDs and elements that are written.
const SLOTS: u64 = 60;

/// Stanzas that may be unacknowledged.
const WINDOW: usize = 100;

/// The name of an account that is asked.
pub(crate) fn asked(n: u64) -> String {
    format!("asked{n}")
}

/// One thing in the directory.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    /// The name of a contact.
    Contact(u64),
    /// An element of private XML.
    Private(u64),
    /// Whether a JID is blocked.
    Blocked(u64),
    /// Whether an account has been asked for its presence: what the keeper knows of it.
    Asks(u64),
    /// The same at the account that is asked.
    Asked(u64),
}

impl Slot {
    /// What the directory has there.
    fn read(self, directory: &Directory) -> String {
        let keeper = format!("{NAME}@localhost");
        let item = |account: &str, contact: &str| directory.roster_item(account, contact).unwrap();
        match self {
            Slot::Contact(n) => {
                item(NAME, &format!("contact{n}@example.net")).map_or_else(String::new, |item| item.name)
            }
            Slot::Private(n) => {
                let found = directory.private(NAME, &format!("s{n}"), "urn:kept").unwrap();
                let text = found.map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default();
                let inside = text.split_once('>').and_then(|(_, rest)| rest.split_once('<'));
                inside.map_or_else(String::new, |(inside, _)| inside.to_owned())
            }
            Slot::Blocked(n) => {
                let jid = format!("blocked{n}@example.net");
                directory.blocked(NAME).unwrap().contains(&jid).to_string()
            }
            Slot::Asks(n) => {
                let item = item(NAME, &format!("{}@localhost", asked(n)));
                item.is_some_and(|item| item.ask).to_string()
            }
            Slot::Asked(n) => {
                item(&asked(n), &keeper).is_some_and(|item| item.pending_in.is_some()).to_string()
            }
        }
    }
}

/// One stanza, and what it leaves behind.
struct Step {
    stanza: String,
    left: Vec<(Slot, String)>,
}

/// Ten of a kind in a row, so that they share commits.
fn step(k: u64) -> Step {
    let (kind, i) = (k / 10 % 4, k / 40 * 10 + k % 10);
    let (n, on) = (i % SLOTS, (i / SLOTS).is_multiple_of(2));
    let set = |child: String| format!("<iq type='set' id='{k}'>{child}</iq>");
    let (stanza, left) = match kind {
        0 => {
            let item = format!("<item jid='contact{n}@example.net' name='v{k}'/>");
            let query = format!("<query xmlns='jabber:iq:roster'>{item}</query>");
            (set(query), vec![(Slot::Contact(n), format!("v{k}"))])
        }
        1 => {
            let kept = format!("<s{n} xmlns='urn:kept'>v{k}</s{n}>");
            let query = format!("<query xmlns='jabber:iq:private'>{kept}</query>");
            (set(query), vec![(Slot::Private(n), format!("v{k}"))])
        }
        2 => {
            let verb = if on { "block" } else { "unblock" };
            let item = format!("<item jid='blocked{n}@example.net'/>");
            let query = format!("<{verb} xmlns='urn:xmpp:blocking'>{item}</{verb}>");
            (set(query), vec![(Slot::Blocked(n), on.to_string())])
        }
        _ => {
            let (n, on) = (i % ASKED as u64, (i / ASKED as u64).is_multiple_of(2));
            let typ = if on { "subscribe" } else { "unsubscribe" };
            let stanza = format!("<presence type='{typ}' to='{}@localhost' id='{k}'/>", asked(n));
            (stanza, vec![(Slot::Asks(n), on.to_string()), (Slot::Asked(n), on.to_string())])
        }
    };
    Step { stanza, left }
}

/// What is known of one slot.
#[derive(Debug, Default)]
struct Known {
    /// What it has for certain, if nothing of what follows has come through.
    certain: Option<(u64, String)>,
    /// What has been sent since, by step.
    sent: VecDeque<(u64, String)>,
}

/// What must be found.
#[derive(Debug, Default)]
struct Books {
    slots: BTreeMap<Slot, Known>,
    next: u64,
    confirmed: u64,
    refused: u64,
    lost: Vec<String>,
}

impl Books {
    fn send(&mut self) -> (u64, String) {
        let k = self.next;
        self.next += 1;
        let Step { stanza, left } = step(k);
        for (slot, value) in left {
            self.slots.entry(slot).or_default().sent.push_back((k, value));
        }
        (k, stanza)
    }

    /// The server has acknowledged a stanza.
    fn acknowledged(&mut self, k: u64) {
        self.confirmed += 1;
        self.confirm(k);
    }

    /// The server has acknowledged a stanza or answered it: what it leaves is certain.
    fn confirm(&mut self, k: u64) {
        for (slot, _) in step(k).left {
            let Some(known) = self.slots.get_mut(&slot) else { continue };
            while known.sent.front().is_some_and(|(sent, _)| *sent <= k) {
                known.certain = known.sent.pop_front();
            }
        }
    }

    /// Compares everything with what is there, which from now on is certain.
    fn compare(&mut self, directory: &Directory) {
        for (slot, known) in &mut self.slots {
            let found = slot.read(directory);
            let nothing = if matches!(slot, Slot::Contact(_) | Slot::Private(_)) { "" } else { "false" };
            let least = known.certain.as_ref().map_or(nothing, |(_, value)| value);
            if found != least && !known.sent.iter().any(|(_, value)| *value == found) {
                self.lost.push(format!("{slot:?} is {found:?}: {known:?}"));
            }
            let number = known.certain.as_ref().map_or(0, |(k, _)| *k);
            known.certain = Some((number, found));
            known.sent.clear();
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Keeper(Mutex<Books>);

impl Keeper {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap()
    }

    /// One connection, from the login to its end.
    pub(crate) fn connection(&self, run: &Run) -> io::Result<()> {
        let mut client = Client::log_in(run.address, NAME)?;
        client.bind()?;
        client.enable()?;
        let mut unacknowledged = VecDeque::new();
        let mut h = 0;
        while !run.over.load(Ordering::SeqCst) {
            let calm = run.calm.load(Ordering::SeqCst);
            let mut packet = String::new();
            for _ in 0..10 {
                if !calm && unacknowledged.len() < WINDOW {
                    let (k, stanza) = self.books().send();
                    unacknowledged.push_back(k);
                    packet.push_str(&stanza);
                }
            }
            run.kept.store(calm && unacknowledged.is_empty(), Ordering::SeqCst);
            client.say(&format!("{packet}<r xmlns='{SM}'/>"))?;
            while let Some(element) = client.element_soon()? {
                if element.starts_with("<a ") {
                    let now: u64 = attribute(&element, "h").unwrap().parse().unwrap();
                    for _ in h..now {
                        self.books().acknowledged(unacknowledged.pop_front().expect("no more than was sent"));
                    }
                    h = now;
                    break;
                }
                if element.contains("type='error'") {
                    self.books().refused += 1;
                } else if element.starts_with("<iq")
                    && let Some(k) = attribute(&element, "id").and_then(|id| id.parse().ok())
                {
                    self.books().confirm(k);
                }
            }
        }
        client.say("</stream:stream>")
    }

    /// Compares with the directory. No server runs, and the client has noticed.
    pub(crate) fn compare(&self, directory: &Directory) {
        self.books().compare(directory);
    }

    /// Stanzas acknowledged, what was lost of what they left, and errors.
    pub(crate) fn outcome(&self) -> (u64, Vec<String>, u64) {
        let books = self.books();
        (books.confirmed, books.lost.clone(), books.refused)
    }
}
