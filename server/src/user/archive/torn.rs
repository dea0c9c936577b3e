//! Pages of which a session without a connection cannot keep all messages: a resumed stream must not hear that such a page has ended,
//! or its client would take what is missing for not being in the archive. It is told to ask again.

use memchr::memmem;
use smallvec::SmallVec;

use crate::proto::address;
use crate::proto::ns;
use crate::proto::sm::queue::UnackedQueue;
use crate::proto::sm::{AnswerTo, Unacked};
use crate::stanza::Kind;
use crate::xml::{Element, StartTag};

/// Archives of which pages have lost messages: their addresses.
#[derive(Debug, Default)]
pub struct TornPages(SmallVec<[Box<str>; 1]>);

impl TornPages {
    /// What a client has not acknowledged is no longer kept.
    pub fn note(&mut self, entry: &Unacked) {
        let Unacked::Stanza { kind: Kind::Message, bytes, .. } = entry else { return };
        let Some(archive) = StartTag::of(bytes).and_then(|message| message.attribute("from")) else { return };
        // One message of an archive is looked into, and of others nothing that has no such name in it.
        if self.0.iter().any(|torn| **torn == *archive)
            || memmem::find(bytes, ns::ARCHIVE.as_bytes()).is_none()
        {
            return;
        }
        // What is too large for a tree may be one.
        if Element::parse(bytes).map_or(true, |message| message.find("result", ns::ARCHIVE).is_some()) {
            self.0.push(archive.into());
        }
    }

    /// In place of the ends of these pages, the queue has from now on that its client is to ask again. `full`: its address.
    pub fn end(&self, queue: &mut UnackedQueue, full: &str) {
        if self.0.is_empty() {
            return;
        }
        queue.rebuild(|entry| {
            let torn = self.end_of(&entry, full);
            Some(torn.map_or(entry, |answer| Unacked::Answer(Box::new(answer))))
        });
    }

    /// Which request an entry ends, if that was for a page of these archives.
    fn end_of(&self, entry: &Unacked, full: &str) -> Option<AnswerTo> {
        let Unacked::Stanza { kind: Kind::Iq, bytes, .. } = entry else { return None };
        let iq = StartTag::of(bytes)?;
        let from = iq.attribute("from");
        let archive = from.as_deref().unwrap_or_else(|| address::bare_of(full));
        if !self.0.iter().any(|torn| **torn == *archive)
            || memmem::find(bytes, ns::ARCHIVE.as_bytes()).is_none()
        {
            return None;
        }
        Element::parse(bytes).ok()?.find("fin", ns::ARCHIVE)?;
        let id = iq.attribute("id").unwrap_or_default().into();
        Some(AnswerTo { from: from.map(Into::into), id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "juliet@x/balcony";

    fn stanza(kind: Kind, text: &str) -> Unacked {
        Unacked::Stanza { kind, sender: 0, bytes: text.as_bytes().into() }
    }

    fn message(archive: &str) -> Unacked {
        let text = "x".repeat(400);
        let result = format!("<result xmlns='urn:xmpp:mam:2' id='a'>{text}</result>");
        stanza(Kind::Message, &format!("<message from='{archive}' to='{FULL}'>{result}</message>"))
    }

    fn end(id: &str, from: Option<&str>) -> Unacked {
        let from = from.map_or(String::new(), |from| format!(" from='{from}'"));
        stanza(Kind::Iq, &format!("<iq type='result' id='{id}'{from}><fin xmlns='urn:xmpp:mam:2'/></iq>"))
    }

    /// Which requests are to be asked again once so many bytes at most are kept.
    fn asked_again(entries: Vec<Unacked>, bytes_max: usize) -> Vec<String> {
        let mut queue = UnackedQueue::of(entries.into_iter());
        let mut torn = TornPages::default();
        queue.shed(
            bytes_max,
            |_| false,
            |entry| {
                torn.note(&entry);
                Unacked::Forgotten(1)
            },
        );
        torn.end(&mut queue, FULL);
        let again = queue.iter().filter_map(|entry| match entry {
            Unacked::Answer(answer) => Some(answer.id.to_string()),
            _ => None,
        });
        again.collect()
    }

    #[test]
    fn a_page_that_has_lost_a_message_is_asked_for_again_and_no_other() {
        let entries = |own: usize, room: usize| {
            let mut all: Vec<Unacked> = (0..own).map(|_| message("juliet@x")).collect();
            all.push(end("own", None));
            all.extend((0..room).map(|_| message("hall@rooms.x")));
            all.push(end("room", Some("hall@rooms.x")));
            all.push(stanza(Kind::Iq, "<iq type='result' id='ping'/>"));
            all
        };
        assert_eq!(asked_again(entries(3, 3), 10_000), [""; 0]);
        // There is room for one message of three, and for all answers.
        assert_eq!(asked_again(entries(3, 0), 800), ["own"]);
        assert_eq!(asked_again(entries(0, 3), 800), ["room"]);
        assert_eq!(asked_again(entries(3, 3), 800), ["own", "room"]);
    }
}
