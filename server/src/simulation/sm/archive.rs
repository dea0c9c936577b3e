//! How peers use their archives: they say what they want to be there, send what is not to be, and read, page by page, in the middle of
//! everything.
//!
//! The rules, beside those for what the server has ([`crate::simulation::archive`]):
//!
//! - a reading from one end to the other gives every message once that was acknowledged before it began, in order, and nothing that the
//!   peer's preferences or the author's hints forbid, also when it is cut off and goes on behind what it has;
//! - what was retracted is never shown again; ids stay what they were;
//! - what has come with a page does not come from the mailbox as well.

use std::collections::{BTreeMap, BTreeSet};

use super::peer::{UNACKED_MAX, What};
use super::reading::{REMEMBERED_MAX, Reading, Way, Whose};
use super::wishes::Wish;
use super::{Managed, RESOURCE};
use crate::proto::ns;
use crate::simulation::archive::{Archived, FLEETING};
use crate::simulation::rooms::{number_of, room};
use crate::simulation::world::{bare, full};
use crate::xml::{CLIENT, Element};
use whimbrel_storage::log::Sequence;

/// Messages of a page that a peer asks for while there is trouble, at most.
const PAGE_MAX: usize = 12;

/// And in peace.
const CALM_PAGE: usize = 50;

/// Ids that a peer asks for by name, at most.
const NAMED_MAX: usize = 3;

impl Managed {
    /// A peer says what it wants to have archived.
    pub(super) fn prefer(&mut self, index: usize) {
        if self.peers[index].unacked.len() >= UNACKED_MAX {
            return;
        }
        let wish = Wish::draw(&mut self.world.random, self.accounts);
        let query = wish.query();
        let number = self.wishes.ask(index, wish, self.world.step);
        self.stanza(index, What::Nothing, format!("<iq type='set' id='prefs-{number}'>{query}</iq>"));
    }

    /// A change of preferences is made.
    pub(super) fn preferred(&mut self, index: usize, number: &str) {
        let number = number.parse().unwrap_or(0);
        self.wishes.made(index, number, self.world.step);
        self.tally.preferences += 1;
    }

    /// A peer sends something that no archive is to have, and that may not even arrive.
    pub(super) fn send_in_passing(&mut self, index: usize) {
        if self.peers[index].unacked.len() >= UNACKED_MAX || self.world.clients[index].deaf {
            return;
        }
        self.world.counter += 1;
        let (to, id) = (bare(self.world.random.below(self.accounts)), self.world.counter);
        let (typ, inside) = match self.world.random.below(4) {
            0 => ("chat", "<no-store xmlns='urn:xmpp:hints'/><body>passing</body>"),
            1 => ("chat", "<composing xmlns='http://jabber.org/protocol/chatstates'/>"),
            2 => ("headline", "<body>news</body>"),
            _ => (
                "normal",
                "<no-store xmlns='urn:xmpp:hints'/><store xmlns='urn:xmpp:hints'/><body>both</body>",
            ),
        };
        let text = format!("<message type='{typ}' to='{to}' id='{FLEETING}{id}'>{inside}</message>");
        self.stanza(index, What::Nothing, text);
    }

    /// A peer begins to read, or reads on.
    pub(super) fn read_archive(&mut self, index: usize) {
        if self.peers[index].unacked.len() >= UNACKED_MAX || self.world.clients[index].deaf {
            return;
        }
        if self.peers[index].reader.reading.is_none() {
            self.begin_reading(index);
        }
        self.ask_for_page(index);
    }

    fn begin_reading(&mut self, index: usize) {
        let random = &mut self.world.random;
        let whose = if random.permille(250) { Whose::Room(random.below(2)) } else { Whose::Own };
        let is_own = whose == Whose::Own;
        let with =
            (is_own && random.permille(300)).then(|| (random.below(self.accounts), random.permille(300)));
        let way = if random.permille(350) { Way::Backwards } else { Way::Forwards };
        let (is_flipped, max) = (random.permille(300), random.between(1, PAGE_MAX));
        let mut ids = Vec::new();
        if is_own && with.is_none() && random.permille(200) {
            for _ in 0..random.between(1, NAMED_MAX) {
                ids.extend(random.pick(&self.peers[index].reader.remembered).map(|(id, _, _)| *id));
            }
            ids.sort_unstable();
            ids.dedup();
        }
        self.peers[index].reader.reading =
            Some(self.reading(index, (whose, with), (way, is_flipped), (ids, max)));
    }

    fn reading(
        &self,
        index: usize,
        (whose, with): (Whose, Option<(usize, bool)>),
        (way, is_flipped): (Way, bool),
        (ids, max): (Vec<u64>, usize),
    ) -> Reading {
        let remembered: BTreeMap<u64, u32> =
            self.peers[index].reader.remembered.iter().map(|(id, n, _)| (*id, *n)).collect();
        let must = match whose {
            Whose::Own if ids.is_empty() => self.oracle.to_be_read(index, with, &self.wishes),
            Whose::Own => ids.iter().map(|id| remembered[id]).collect(),
            Whose::Room(number) => self.world.rooms.to_be_read(&room(number)),
        };
        Reading {
            whose,
            with,
            ids,
            way,
            is_flipped,
            max,
            at: None,
            must,
            found: Vec::new(),
            page: Vec::new(),
            query: None,
            is_resumed: false,
            was_resumed: false,
            came: BTreeSet::new(),
        }
    }

    /// In peace: everything is read, from the beginning to the end.
    pub(super) fn read_all(&mut self, index: usize) {
        // An answer of a room may be forgotten with the connection.
        if self.peers[index].reader.reading.as_ref().is_some_and(|reading| reading.whose != Whose::Own) {
            self.peers[index].reader.reading = None;
        }
        let is_reading = self.peers[index].reader.reading.is_some();
        if !is_reading && !self.peers[index].reader.has_read && self.peers[index].is_quiescent() {
            let all =
                self.reading(index, (Whose::Own, None), (Way::Forwards, false), (Vec::new(), CALM_PAGE));
            self.peers[index].reader.reading = Some(all);
        }
        self.ask_for_page(index);
    }

    fn ask_for_page(&mut self, index: usize) {
        let Some(reading) = &mut self.peers[index].reader.reading else { return };
        if reading.query.is_some() {
            return;
        }
        self.world.counter += 1;
        let (k, step) = (self.world.counter, self.world.step);
        reading.query = Some((k, step));
        reading.is_resumed = false;
        reading.page.clear();
        let seal = |id: u64| String::from_utf8_lossy(&self.world.shared.archive_ids.seal(id)).into_owned();
        let mut fields = String::new();
        if let Some((with, is_resource)) = reading.with {
            let jid = if is_resource { full(with, RESOURCE) } else { bare(with) };
            fields += &format!("<field var='with'><value>{jid}</value></field>");
        }
        if !reading.ids.is_empty() {
            let values: String =
                reading.ids.iter().map(|id| format!("<value>{}</value>", seal(*id))).collect();
            fields += &format!("<field var='ids'>{values}</field>");
        }
        let form = match fields.is_empty() {
            true => fields,
            false => format!(
                "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>\
                 <value>{}</value></field>{fields}</x>",
                ns::ARCHIVE
            ),
        };
        let start = match (reading.way, reading.at) {
            (Way::Forwards, None) => String::new(),
            (Way::Forwards, Some((id, _))) => format!("<after>{}</after>", seal(id)),
            (Way::Backwards, None) => "<before/>".into(),
            (Way::Backwards, Some((id, _))) => format!("<before>{}</before>", seal(id)),
        };
        let set = format!("<set xmlns='{}'><max>{}</max>{start}</set>", ns::RSM, reading.max);
        let flip = if reading.is_flipped { "<flip-page/>" } else { "" };
        let to = match reading.whose {
            Whose::Own => String::new(),
            Whose::Room(number) => format!(" to='{}'", room(number)),
        };
        let query = format!("<query xmlns='{}' queryid='{k}'>{form}{set}{flip}</query>", ns::ARCHIVE);
        self.stanza(index, What::Nothing, format!("<iq type='set' id='mam-{k}'{to}>{query}</iq>"));
    }

    /// A message of an archive comes to a peer. `false`: it is none.
    pub(super) fn is_page(&mut self, index: usize, element: &Element) -> bool {
        let Some(result) = element.find("result", ns::ARCHIVE) else { return false };
        let outcome = self.take_result(index, element, result);
        self.note(outcome);
        true
    }

    fn take_result(&mut self, index: usize, element: &Element, result: &Element) -> Result<(), String> {
        let inner = result.find("forwarded", ns::FORWARD).and_then(|all| all.find("message", CLIENT));
        let id = result.attribute("id").and_then(|id| self.world.shared.archive_ids.open(id));
        let (Some(inner), Some(id)) = (inner, id) else {
            return Err(format!("peer {index} gets a page of nothing: {element:?}"));
        };
        let k: Option<u32> = result.attribute("queryid").and_then(|k| k.parse().ok());
        let current = self.peers[index].reader.reading.as_ref().and_then(|reading| reading.query);
        let asked = current.filter(|(of, _)| Some(*of) == k).map(|(_, step)| step);
        let from = element.attribute("from").unwrap_or_default().to_owned();
        let n = if from == bare(index) {
            let archived = Archived::read(Sequence(id), inner);
            let archived =
                archived.ok_or_else(|| format!("peer {index} reads what nobody has sent: {element:?}"))?;
            let step = self.world.step;
            // What comes of a page that nobody waits for may be from before a retraction.
            self.oracle.read(&archived, index, &self.wishes, (asked.unwrap_or(0), step))?;
            self.peers[index].paged.insert(archived.number);
            let remembered = &mut self.peers[index].reader.remembered;
            remembered.push((id, archived.number, step));
            if remembered.len() > REMEMBERED_MAX {
                remembered.remove(0);
            }
            archived.number
        } else {
            let body = inner.find("body", CLIENT).map(|body| body.content().into_owned());
            let n = body.and_then(|body| number_of(&body));
            let n = n.ok_or_else(|| format!("peer {index} reads what nobody has said: {element:?}"))?;
            self.world.rooms.reads(index, &from, (n, id), asked)?;
            n
        };
        self.tally.read += 1;
        let Some(reading) = self.peers[index].reader.reading.as_mut().filter(|_| asked.is_some()) else {
            return Ok(());
        };
        if reading.whose == Whose::Own && !self.oracle.is_with(n, index, reading.with) {
            return Err(format!(
                "peer {index} reads message {n}, which it has not asked for: {:?}",
                reading.with
            ));
        }
        if !reading.ids.is_empty() && !reading.ids.contains(&id) {
            return Err(format!("peer {index} reads {id}, which it has not asked for: {:?}", reading.ids));
        }
        let rises =
            reading.page.last().is_none_or(|(last, _)| (*last < id) != reading.is_flipped && *last != id);
        let is_behind = reading.at.is_none_or(|(at, _)| match reading.way {
            Way::Forwards => id > at,
            Way::Backwards => id < at,
        });
        if !rises || !is_behind {
            return Err(format!("peer {index} reads message {n} as {id} out of order: {reading:?}"));
        }
        reading.page.push((id, n));
        Ok(())
    }

    /// The end of a page comes.
    pub(super) fn page_ends(&mut self, index: usize, k: &str, answer: &Element) {
        let outcome = self.take_fin(index, k.parse().ok(), answer);
        self.note(outcome);
    }

    fn take_fin(&mut self, index: usize, k: Option<u32>, answer: &Element) -> Result<(), String> {
        let Some(mut reading) = self.peers[index].reader.reading.take() else { return Ok(()) };
        if reading.query.map(|(of, _)| of) != k {
            self.peers[index].reader.reading = Some(reading);
            return Ok(());
        }
        let asked = reading.query.take().map_or(0, |(_, asked)| asked);
        let is_own = reading.whose == Whose::Own;
        if let Whose::Room(number) = reading.whose {
            let is_given = answer.attribute("type") == Some("result");
            self.world.rooms.may_read(index, &room(number), (asked, is_given))?;
        }
        if answer.attribute("type") == Some("error") {
            return self.page_fails(index, reading, answer);
        }
        let Some(fin) = answer.find("fin", ns::ARCHIVE) else {
            return Err(format!("peer {index} gets a page without an end: {answer:?}"));
        };
        self.tally.pages += 1;
        let mut page = std::mem::take(&mut reading.page);
        if page.len() > reading.max {
            return Err(format!("peer {index} asks for {} messages and gets {page:?}", reading.max));
        }
        page.sort_unstable();
        let bounds = bounds(fin).map(|(first, last)| {
            let open = |id: &str| self.world.shared.archive_ids.open(id).unwrap_or_default();
            (open(&first), open(&last))
        });
        let here = page.first().zip(page.last()).map(|(first, last)| (first.0, last.0));
        // What was retracted while the stream was interrupted is not in the page.
        if bounds != here && !reading.is_resumed {
            return Err(format!(
                "peer {index} gets the page {page:?} and hears that it is {bounds:?}: {reading:?}"
            ));
        }
        match reading.way {
            Way::Forwards => reading.found.append(&mut page),
            Way::Backwards => {
                page.append(&mut reading.found);
                reading.found = page;
            }
        }
        if fin.attribute("complete") == Some("true") {
            return self.has_read(index, &reading, is_own);
        }
        let Some((first, last)) = bounds else {
            return Err(format!("peer {index} gets nothing of a page, and there is more: {reading:?}"));
        };
        let at = if reading.way == Way::Forwards { last } else { first };
        reading.at = Some((at, self.world.step));
        self.peers[index].reader.reading = Some(reading);
        Ok(())
    }

    /// A page does not come to its end.
    fn page_fails(&mut self, index: usize, mut reading: Reading, answer: &Element) -> Result<(), String> {
        let error = answer.find("error", CLIENT);
        let condition = error.and_then(|error| error.elements().next()).map_or("none", Element::name);
        match (condition, reading.whose) {
            ("resource-constraint", whose) => {
                self.tally.interrupted += 1;
                // What has come is there, and the rest is behind it, unless a part was lost with the connection; or all of it comes once
                // more.
                let is_whole = reading.way == Way::Forwards && !reading.is_flipped && !reading.is_resumed;
                let goes_on = is_whole && self.world.random.permille(500);
                let mut page = std::mem::take(&mut reading.page);
                if whose == Whose::Own
                    && goes_on
                    && let Some((last, _)) = page.last()
                {
                    reading.at = Some((*last, self.world.step));
                    reading.found.append(&mut page);
                }
                self.peers[index].reader.reading = Some(reading);
                Ok(())
            }
            ("forbidden" | "registration-required" | "item-not-found", Whose::Room(_)) => Ok(()),
            _ => Err(format!("peer {index} cannot read {reading:?}: {answer:?}")),
        }
    }

    /// A peer has read to the end.
    fn has_read(&mut self, index: usize, reading: &Reading, is_own: bool) -> Result<(), String> {
        if let Some(pair) = reading.found.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(format!("peer {index} has read {pair:?} out of order"));
        }
        let found: BTreeSet<u32> = reading.found.iter().map(|(_, n)| *n).collect();
        let doubtful =
            |n: u32| if is_own { self.oracle.is_doubtful(n) } else { self.world.rooms.is_doubtful(n) };
        // What a page would have delivered, and was lost with the connection, has come from the mailbox.
        let has_come = |n: u32| is_own && reading.was_resumed && reading.came.contains(&n);
        if let Some(n) = reading.must.difference(&found).find(|n| !doubtful(**n) && !has_come(**n)) {
            return Err(format!("peer {index} has read to the end and not found message {n}: {reading:?}"));
        }
        self.tally.readings += 1;
        self.peers[index].reader.has_read |= self.calm && is_own && reading.max == CALM_PAGE;
        Ok(())
    }
}

/// First and last id of a page, as its end says.
fn bounds(fin: &Element) -> Option<(String, String)> {
    let set = fin.find("set", ns::RSM)?;
    let text = |name| set.find(name, ns::RSM).map(|id| id.content().into_owned());
    text("first").zip(text("last"))
}
