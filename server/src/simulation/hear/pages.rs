//! What a client makes of pages of its archive: a reading from the beginning to the end gives each message once, in order, that had
//! arrived before it began.

use std::collections::BTreeSet;

use whimbrel_storage::log::Sequence;

use crate::proto::ns;
use crate::simulation::archive::Archived;
use crate::simulation::client::Reading;
use crate::simulation::world::{World, bare};
use crate::xml::{CLIENT, Element};

impl World {
    /// A message of an archive comes.
    pub(super) fn page_heard(&mut self, index: usize, element: &Element, result: &Element) {
        let outcome = self.take_result(index, element, result);
        self.note(outcome);
    }

    fn take_result(&mut self, index: usize, element: &Element, result: &Element) -> Result<(), String> {
        let inner = result.find("forwarded", ns::FORWARD).and_then(|all| all.find("message", CLIENT));
        let id = result.attribute("id").and_then(|id| self.shared.archive_ids.open(id));
        let (Some(inner), Some(id)) = (inner, id) else {
            return Err(format!("client {index} gets a page of nothing: {element:?}"));
        };
        let client = &mut self.clients[index];
        if element.attribute("from") != Some(&bare(client.user)) {
            return Err(format!("client {index} gets a page from somebody else: {element:?}"));
        }
        let query = result.attribute("queryid").and_then(|step| step.parse().ok());
        let reading = client.live.as_mut().and_then(|live| Some((live.id, live.reading.as_mut()?)));
        let Some((session, reading)) = reading.filter(|(_, reading)| Some(reading.asked) == query) else {
            return Err(format!("client {index} gets a page that it has not asked for: {element:?}"));
        };
        let behind = reading.page.last().or(reading.found.last());
        if behind.is_some_and(|(last, _)| *last >= id) {
            return Err(format!("client {index} reads {id} out of order: {reading:?}"));
        }
        let archived = Archived::read(Sequence(id), inner);
        // Of what clients in trouble send, the oracle keeps no account.
        reading.page.push((id, archived.map(|archived| archived.number)));
        let asked = reading.asked;
        match archived {
            Some(archived) => self.oracle.read(session, &archived, (asked, self.step)),
            None => Ok(()),
        }
    }

    /// The end of a page comes, or an error in its place.
    pub(super) fn page_ends(&mut self, index: usize, answer: &Element) {
        let outcome = self.take_fin(index, answer);
        self.note(outcome);
    }

    fn take_fin(&mut self, index: usize, answer: &Element) -> Result<(), String> {
        let Some(live) = &mut self.clients[index].live else { return Ok(()) };
        let Some(mut reading) = live.reading.take() else { return Ok(()) };
        if let Some(error) = answer.find("error", CLIENT) {
            // What has come of the page is there: it goes on behind it.
            reading.found.append(&mut reading.page);
            live.reading = Some(reading);
            let condition = error.elements().next().map_or("none", Element::name);
            return match condition {
                "resource-constraint" => Ok(()),
                _ => Err(format!("client {index} cannot read its archive: {answer:?}")),
            };
        }
        if reading.page.len() > reading.max {
            return Err(format!("client {index} has asked for {} messages: {reading:?}", reading.max));
        }
        let fin = answer.find("fin", ns::ARCHIVE);
        let set = fin.and_then(|fin| fin.find("set", ns::RSM));
        let open = |name| {
            let id = set.and_then(|set| set.find(name, ns::RSM))?.content().into_owned();
            self.shared.archive_ids.open(&id)
        };
        let (told, page) = ((open("first"), open("last")), &reading.page);
        if told != (page.first().map(|(id, _)| *id), page.last().map(|(id, _)| *id)) {
            return Err(format!("client {index} hears that its page is {told:?}: {reading:?}"));
        }
        reading.found.append(&mut reading.page);
        if fin.and_then(|fin| fin.attribute("complete")) != Some("true") {
            if let Some(live) = &mut self.clients[index].live {
                live.reading = Some(reading);
            }
            return Ok(());
        }
        self.has_read(index, &reading)
    }

    fn has_read(&mut self, index: usize, reading: &Reading) -> Result<(), String> {
        let found: BTreeSet<u32> = reading.found.iter().filter_map(|(_, n)| *n).collect();
        self.report.archives_read += 1;
        match reading.must.difference(&found).find(|n| !self.oracle.is_doubtful(**n)) {
            Some(n) => Err(format!(
                "client {index} has read its archive, and message {n} was not there: {reading:?}"
            )),
            None => Ok(()),
        }
    }
}
