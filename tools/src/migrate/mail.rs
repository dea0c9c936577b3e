//! Messages that wait, for the log of a server that has not been started yet.
//!
//! The log of a message is that of its recipient's home, which only the server knows. A log with one part is everybody's: the
//! server's first start divides it among its workers.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use roxmltree::Node;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::data::{self, LOG};
use whimbrel_storage::directory::Directory;
use whimbrel_storage::jid::Jid;
use whimbrel_storage::log::{self, AppendError, Flags, Log, Message, Options, Origin, PeerHash};
use whimbrel_storage::message::StoredMessage;

use super::export::xml::{escaped, write};
use crate::archive::parse_time;
use crate::problem::Problem;

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// When the other server received it, in milliseconds since 1970; `None`: it does not say.
    pub(super) time_ms: Option<u64>,
    /// The stanza as this server keeps it.
    pub(super) stanza: String,
}

const DELAY: &str = "urn:xmpp:delay";
const STANZAS: &str = "jabber:client";

impl Waiting {
    /// Reads one for a user, and stamps it as this server does. The other server's own note of the delay gives its time and goes:
    /// this one adds its own. `None`: it comes from no address.
    pub(super) fn read(message: Node<'_, '_>, local: &str, domain: &str) -> Option<Self> {
        let own = format!("{local}@{domain}");
        let from = Jid::parse(message.attribute("from")?).ok()?;
        let is_stamp = |node: &Node<'_, '_>| {
            node.has_tag_name((DELAY, "delay"))
                && node.attribute("from").is_none_or(|from| from == domain || from == own)
        };
        // The server's own is the last: before it there may be one that the sender has made up.
        let stamp = message.children().rfind(is_stamp).and_then(|delay| delay.attribute("stamp"));
        let time_ms = stamp.and_then(|stamp| parse_time(stamp).ok());
        let to = message.attribute("to").unwrap_or(&own);
        // The form of a stamp: `from` first, in double quotes.
        let mut stanza = format!("<message from=\"{}\" to=\"{}\"", escaped(from.as_str()), escaped(to));
        for name in ["type", "id"] {
            if let Some(value) = message.attribute(name) {
                stanza += &format!(" {name}='{}'", escaped(value));
            }
        }
        stanza.push('>');
        let outer = message.tag_name().namespace().unwrap_or_default();
        for child in message.children().filter(|child| child.is_element() && !is_stamp(child)) {
            write(child, if outer.is_empty() { STANZAS } else { outer }, &mut stanza);
        }
        stanza += "</message>";
        Some(Self { time_ms, stanza })
    }
}

/// The log that takes them.
pub(super) enum Mailbox {
    /// Nothing has been written yet.
    Closed,
    /// Ours.
    Open(Box<Log>, u64),
    /// A server has divided it among its workers.
    Divided,
}

impl Mailbox {
    /// Writes what waits for an account, which is there by now. Returns how many messages were written: none where a server has
    /// divided the log, and none that the log does not take.
    ///
    /// # Errors
    /// Directory or log cannot be read or written.
    pub(super) fn write(
        &mut self,
        data: &Path,
        directory: &Directory,
        local: &str,
        waiting: &[Waiting],
    ) -> Result<u64, Problem> {
        if matches!(self, Self::Closed) {
            *self = open(data, directory)?;
        }
        let Self::Open(log, now_ms) = self else { return Ok(0) };
        let actor = directory.account_id(local).map_err(|error| Problem::new(error.to_string()))?;
        let Some(actor) = actor else { return Ok(0) };
        let mut written = 0;
        for message in waiting {
            written += u64::from(append(log, actor, message, *now_ms)?);
        }
        Ok(written)
    }

    /// Has everything on the disk.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn commit(&mut self) -> Result<(), Problem> {
        if let Self::Open(log, now_ms) = self { commit(log, *now_ms) } else { Ok(()) }
    }

    /// Closes the log.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn close(self) -> Result<(), Problem> {
        if let Self::Open(log, _) = self { log.close().map_err(|error| failed(&error)) } else { Ok(()) }
    }
}

fn failed(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(error.to_string())
}

fn open(data: &Path, directory: &Directory) -> Result<Mailbox, Problem> {
    let folder = data.join(LOG);
    let parts = match log::owner(&folder).map_err(|error| failed(&error))? {
        None => 1,
        Some(_) => log::stats(&folder).map_err(|error| failed(&error))?.len(),
    };
    if parts > 1 {
        return Ok(Mailbox::Divided);
    }
    data::check_tie(data, directory).map_err(|error| failed(&error))?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let options = Options { now_ms, ..Options::default() };
    let opened = Log::open_all(&folder, &options, 1, &|_| Some(0), &|_| {});
    let mut opened = opened.map_err(|error| failed(&error))?;
    data::reconcile(data, directory, &mut opened, false).map_err(|error| failed(&error))?;
    let log = opened.logs.pop().ok_or_else(|| Problem::new("there is no log"))?;
    Ok(Mailbox::Open(Box::new(log), now_ms))
}

/// Whether the log has taken it.
fn append(log: &mut Log, actor: ActorId, message: &Waiting, now_ms: u64) -> Result<bool, Problem> {
    let mut payload = Vec::new();
    StoredMessage { resource: None, stanza: message.stanza.as_bytes() }.encode(&mut payload);
    let message = Message {
        actor,
        // One from the future would not become too old before that comes, and ids, which rise with the time, may go there with it.
        time_ms: message.time_ms.map_or(now_ms, |time_ms| time_ms.min(now_ms)),
        flags: Flags::NONE,
        origin: Origin::default(),
        peer: PeerHash::NONE,
        payload: &payload,
    };
    let mut appended = log.append(&message);
    if appended == Err(AppendError::Full) {
        // The next file is made by upkeep.
        commit(log, now_ms)?;
        appended = log.append(&message);
    }
    match appended {
        Ok(_) => Ok(true),
        Err(error @ AppendError::Failed) => Err(failed(&error)),
        Err(_) => Ok(false),
    }
}

fn commit(log: &mut Log, now_ms: u64) -> Result<(), Problem> {
    log.maintain(now_ms);
    log.keep_files_now();
    log.commit_now().map_err(|error| failed(&error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::num::NonZeroU32;

    use roxmltree::Document;
    use whimbrel_storage::credentials::Credentials;
    use whimbrel_storage::directory::run_inline;

    use super::*;

    #[test]
    fn messages_that_wait_are_stamped_as_here_and_keep_their_time() {
        let export = "<offline-messages xmlns='urn:xmpp:pie:0'>\
             <message xmlns='jabber:client' to='juliet@example.org' from='romeo@example.org/o' type='chat' id='a&quot;b' \
             xml:lang='en'><body>1 &lt; 2</body><x xmlns='urn:x'><y/></x>\
             <delay xmlns='urn:xmpp:delay' from='example.org' stamp='2026-01-31T12:05:59.007Z'>Offline</delay></message>\
             <message from='nurse@example.org'><body>b</body>\
             <delay xmlns='urn:xmpp:delay' from='x.org' stamp='2026-01-31T12:05:59Z'/></message>\
             <message><body>nobody's</body></message></offline-messages>";
        let document = Document::parse(export).unwrap();
        let read = |message| Waiting::read(message, "juliet", "example.org");
        let found: Vec<_> = document.root_element().children().map(read).collect();
        let [Some(first), Some(second), None] = &found[..] else { panic!("{found:?}") };
        assert_eq!(first.time_ms, Some(1_769_861_159_007));
        assert_eq!(
            first.stanza,
            "<message from=\"romeo@example.org/o\" to=\"juliet@example.org\" type='chat' id='a&quot;b'><body>1 &lt; 2</body>\
             <x xmlns='urn:x'><y></y></x></message>"
        );
        // Under the export's own namespace; what is said of another server's delay stays.
        assert_eq!(second.time_ms, None);
        let begins = "<message from=\"nurse@example.org\" to=\"juliet@example.org\"><body>b</body><delay ";
        assert!(second.stanza.starts_with(begins), "{}", second.stanza);
    }

    #[test]
    fn a_message_from_the_future_has_the_time_of_its_migration() {
        let folder = tempfile::tempdir().unwrap();
        let options = whimbrel_storage::directory::Options { domain: "x".into(), ..Default::default() };
        let directory = Directory::open(&folder.path().join(data::DIRECTORY), &options).unwrap();
        let keys = Credentials::derive("p", NonZeroU32::new(1000).unwrap()).unwrap();
        run_inline(&directory, Box::new(move |t| t.create_account("juliet", &keys))).unwrap();
        let stamped = "<message from='r@x'><delay xmlns='urn:xmpp:delay' from='x' stamp='9999-12-31T00:00:00Z'/></message>";
        let document = Document::parse(stamped).unwrap();
        let from_the_future = Waiting::read(document.root_element(), "juliet", "x").unwrap();
        let mut mailbox = Mailbox::Closed;
        let waiting = [from_the_future, Waiting { time_ms: None, stanza: "<message/>".into() }];
        assert_eq!(mailbox.write(folder.path(), &directory, "juliet", &waiting).unwrap(), 2);
        mailbox.commit().unwrap();
        // What comes after the commit might get an id of that time.
        assert_eq!(mailbox.write(folder.path(), &directory, "juliet", &waiting).unwrap(), 2);
        let Mailbox::Open(log, now_ms) = mailbox else { panic!("it is open") };
        let actor = directory.account_id("juliet").unwrap().unwrap();
        let hour_ms = 3_600_000;
        assert!(log.waiting(actor).all(|id| id.time_ms() < now_ms + hour_ms));
        let received: Vec<u64> = log.pending(actor).map(|record| record.unwrap().time_ms).collect();
        assert_eq!(received, [now_ms; 4]);
    }

    #[test]
    fn the_senders_own_note_of_a_delay_is_not_the_servers() {
        let delay = |stamp| format!("<delay xmlns='urn:xmpp:delay' from='x' stamp='{stamp}'/>");
        let (made_up, own) = (delay("1999-01-01T00:00:00Z"), delay("2026-01-31T12:05:59Z"));
        let text = format!("<message from='r@x'>{made_up}<body>b</body>{own}</message>");
        let document = Document::parse(&text).unwrap();
        let found = Waiting::read(document.root_element(), "juliet", "x").unwrap();
        assert_eq!(found.time_ms, Some(1_769_861_159_000));
    }

    #[test]
    fn a_message_from_no_address_is_left_out() {
        for from in ["", "a@b@c", "@", "x'/>"] {
            let text = format!("<message from=\"{from}\"/>");
            let document = Document::parse(&text).unwrap();
            assert_eq!(Waiting::read(document.root_element(), "juliet", "x"), None, "{from}");
        }
    }
}
