//! The readings: several accounts at once, each with one query under way, whole passes over all accounts until the time
//! is over.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::account::Accounts;
use crate::engine::counters::Latencies;
use crate::engine::scan::Element;
use crate::scenario::archive::ledger::{Faults, Ledger};
use crate::scenario::archive::plan::{Plan, Said};
use crate::scenario::archive::query::{self, Page, Query};
use crate::scenario::client::Client;
use crate::scenario::poll;

/// How long to wait for the sockets before looking whether the run is to end.
const WAIT_MAX: Duration = Duration::from_millis(50);

const READ_BYTES: usize = 256 * 1024;

/// What is read of each account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Everything, page by page, each behind the last id of the one before.
    CatchUp,
    /// Everything of one conversation.
    Contact,
    /// The end of one conversation.
    LastPage,
}

impl Reading {
    /// In the order in which they are done.
    pub(super) const ALL: [Reading; 3] = [Reading::CatchUp, Reading::Contact, Reading::LastPage];

    /// The name of its phase.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Reading::CatchUp => "catch-up",
            Reading::Contact => "one contact",
            Reading::LastPage => "last page",
        }
    }
}

/// What is read, and how.
pub(super) struct Library<'a> {
    /// The fill.
    pub(super) plan: &'a Plan,
    /// What each account has sent.
    pub(super) sent: &'a [Vec<Said>],
    /// The XMPP domain.
    pub(super) domain: &'a str,
    /// Messages of a page.
    pub(super) page: u32,
    /// Accounts that read at once.
    pub(super) readers: usize,
    /// Passes begin as long as this has not passed.
    pub(super) time: Duration,
    /// When to give up.
    pub(super) limit: Duration,
    /// If there is one: who reads stops in the middle when it is set.
    pub(super) ends: Option<&'a AtomicBool>,
    /// The run is to end.
    pub(super) interrupted: &'a AtomicBool,
}

/// What a reading came to.
#[derive(Default)]
pub(super) struct Outcome {
    /// Messages that came back.
    pub(super) messages: u64,
    /// Of these, messages that are not of this fill.
    pub(super) others: u64,
    /// Times that everything was read.
    pub(super) passes: u64,
    /// From each query to the end of its page.
    pub(super) pages: Latencies,
    /// What was wrong.
    pub(super) faults: Faults,
}

impl Outcome {
    /// Adds what a reader has come to, who reads no further.
    fn take<'a>(&mut self, reader: Reader<'a>, close: impl FnOnce(Ledger<'a>) -> Faults) {
        self.messages += reader.ledger.messages;
        self.others += reader.ledger.others;
        self.faults.add(&close(reader.ledger));
    }
}

/// An account that reads.
struct Reader<'a> {
    account: u64,
    ledger: Ledger<'a>,
    with: Option<String>,
    /// The query under way.
    id: String,
    asked: Instant,
    on_page: u64,
}

impl<'a> Library<'a> {
    /// Reads. `outcome` has what has been found out also where that ends early.
    ///
    /// # Errors
    /// Why it ends early.
    pub(super) fn read(
        &self,
        reading: Reading,
        people: &mut [Client],
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let began = Instant::now();
        let (mut waiting, mut readers) = (VecDeque::new(), Vec::new());
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if self.ends.is_some_and(|ends| ends.load(Ordering::Relaxed)) {
                readers.into_iter().for_each(|reader| outcome.take(reader, Ledger::cut));
                return Ok(());
            }
            if waiting.is_empty() && (outcome.passes == 0 || began.elapsed() < self.time) {
                waiting.extend(0..people.len() as u64);
                outcome.passes += 1;
            }
            while readers.len() < self.readers {
                let idle =
                    |account: &u64| !readers.iter().any(|reader: &Reader<'_>| reader.account == *account);
                let Some(at) = waiting.iter().position(idle) else { break };
                let Some(account) = waiting.remove(at) else { break };
                let mut reader = self.begin(reading, account);
                self.ask(reading, &mut reader, None, &mut people[account as usize], outcome.pages.len());
                readers.push(reader);
            }
            if readers.is_empty() {
                return Ok(());
            }
            self.turn(reading, &mut readers, people, &mut buffer, outcome)?;
            if self.interrupted.load(Ordering::Relaxed) {
                return Err("interrupted".into());
            }
            if began.elapsed() > self.limit {
                return Err(format!("not read after {} s", self.limit.as_secs()));
            }
        }
    }

    fn begin(&self, reading: Reading, account: u64) -> Reader<'a> {
        let conversation = account * self.plan.contacts;
        let contact = Accounts::name(self.plan.other(conversation, account));
        let of_contact = |count| Ledger::last(self.plan, self.domain, conversation, count);
        let ledger = match reading {
            Reading::CatchUp => Ledger::whole(self.plan, self.domain, account, &self.sent[account as usize]),
            Reading::Contact => of_contact(self.plan.each),
            Reading::LastPage => of_contact(self.page),
        };
        Reader {
            account,
            ledger,
            with: (reading != Reading::CatchUp).then(|| format!("{contact}@{}", self.domain)),
            id: String::new(),
            asked: Instant::now(),
            on_page: 0,
        }
    }

    fn ask(
        &self,
        reading: Reading,
        reader: &mut Reader<'_>,
        after: Option<&str>,
        client: &mut Client,
        number: u64,
    ) {
        reader.id = format!("q{}-{number}", reader.account);
        let page = match (reading, after) {
            (Reading::LastPage, _) => Page::Last,
            (_, Some(id)) => Page::After(id),
            (_, None) => Page::First,
        };
        let mut text = String::new();
        let query = Query { id: &reader.id, with: reader.with.as_deref(), max: self.page, page };
        query::write(&query, &mut text);
        reader.on_page = 0;
        reader.asked = Instant::now();
        client.push(&text);
        client.flush();
    }

    /// Reads what has come, for every reader.
    fn turn(
        &self,
        reading: Reading,
        readers: &mut Vec<Reader<'a>>,
        people: &mut [Client],
        buffer: &mut [u8],
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let interests: Vec<_> =
            readers.iter().map(|reader| people[reader.account as usize].interest(true)).collect();
        let ready = poll::wait(&interests, WAIT_MAX).map_err(|error| format!("cannot wait: {error}"))?;
        let mut left = Vec::with_capacity(readers.len());
        for (mut reader, ready) in readers.drain(..).zip(ready) {
            let client = &mut people[reader.account as usize];
            let end = if ready { reader.hear(client, buffer) } else { None };
            if let Some(reason) = &client.ended {
                return Err(format!("the server ended a session: {reason}"));
            }
            let Some(end) = end.transpose()? else {
                left.push(reader);
                continue;
            };
            outcome.pages.record(reader.asked.elapsed().as_nanos() as u64);
            if end.complete || reading == Reading::LastPage {
                outcome.take(reader, Ledger::close);
                continue;
            }
            if reader.on_page == 0 {
                return Err("a page is empty and not the last one".into());
            }
            self.ask(reading, &mut reader, end.last.as_deref(), client, outcome.pages.len());
            left.push(reader);
        }
        *readers = left;
        Ok(())
    }
}

impl Reader<'_> {
    /// Takes in what has come; the end of the page, when that is among it.
    fn hear(&mut self, client: &mut Client, buffer: &mut [u8]) -> Option<Result<query::End, String>> {
        let (id, ledger, on_page) = (&self.id, &mut self.ledger, &mut self.on_page);
        let mut end = None;
        let mut heard = |element: &Element<'_>| match element.name() {
            b"message" => {
                if let Some(copy) = query::result(element, id) {
                    *on_page += 1;
                    ledger.enter(&copy);
                }
            }
            b"iq" if element.attribute(b"id") == Some(id.as_bytes()) => end = Some(query::end(element)),
            _ => {}
        };
        client.receive(buffer, &mut heard);
        client.flush();
        end
    }
}
