//! Fills the archives: every conversation of the plan, so many at once, each message sent when the one before it is there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::engine::scan::Element;
use crate::scenario::archive::plan::{Plan, Said};
use crate::scenario::client::Client;
use crate::scenario::poll;

/// How long to wait for the sockets before looking whether the run is to end.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// How long nothing may arrive.
const SILENCE_MAX: Duration = Duration::from_secs(60);

const READ_BYTES: usize = 64 * 1024;

/// A fill under way.
struct Fill<'a> {
    plan: &'a Plan,
    domain: &'a str,
    /// What each account has sent, in order.
    sent: Vec<Vec<Said>>,
    /// The number that each conversation waits for.
    next: Vec<u32>,
    /// The first conversation that has not begun.
    begun: u64,
    arrived: u64,
    /// Why it cannot go on.
    fault: Option<String>,
}

/// Lets everybody talk, in so many conversations at once; returns what each account has sent, in order.
///
/// # Errors
/// Why it did not come to an end.
pub(super) fn fill(
    (plan, at_once): (&Plan, u64),
    people: &mut [Client],
    domain: &str,
    limit: Duration,
    interrupted: &AtomicBool,
) -> Result<Vec<Vec<Said>>, String> {
    let mut fill = Fill {
        plan,
        domain,
        sent: vec![Vec::new(); people.len()],
        next: vec![0; plan.conversations() as usize],
        begun: 0,
        arrived: 0,
        fault: None,
    };
    while fill.begun < at_once {
        let Some(first) = fill.begin() else { break };
        fill.say(people, first);
    }
    let (began, mut heard) = (Instant::now(), Instant::now());
    let mut buffer = vec![0; READ_BYTES];
    while fill.arrived < plan.messages() {
        let before = fill.arrived;
        fill.turn(people, &mut buffer)?;
        if fill.arrived > before {
            heard = Instant::now();
        }
        let how_far = || format!("{} of {} messages have arrived", fill.arrived, plan.messages());
        if interrupted.load(Ordering::Relaxed) {
            return Err(format!("interrupted: {}", how_far()));
        }
        if began.elapsed() > limit || heard.elapsed() > SILENCE_MAX {
            return Err(format!(
                "the fill takes too long: {} after {} s",
                how_far(),
                began.elapsed().as_secs()
            ));
        }
    }
    Ok(fill.sent)
}

impl Fill<'_> {
    /// What is said first in the next conversation; `None`: all have begun.
    fn begin(&mut self) -> Option<Said> {
        let said = Said { conversation: self.begun, number: 0 };
        let is_there = said.conversation < self.plan.conversations();
        self.begun += u64::from(is_there);
        is_there.then_some(said)
    }

    fn say(&mut self, people: &mut [Client], said: Said) {
        let (from, _) = self.plan.way(said);
        people[from as usize].push(&self.plan.stanza(said, self.domain));
        self.sent[from as usize].push(said);
    }

    fn turn(&mut self, people: &mut [Client], buffer: &mut [u8]) -> Result<(), String> {
        for client in people.iter_mut() {
            client.flush();
        }
        let interests: Vec<_> = people.iter().map(|client| client.interest(true)).collect();
        let ready = poll::wait(&interests, WAIT_MAX).map_err(|error| format!("cannot wait: {error}"))?;
        for account in (0..people.len()).filter(|&account| ready[account]) {
            let mut answers = Vec::new();
            people[account].receive(buffer, |element| {
                if element.name() == b"message" {
                    answers.extend(self.heard(account as u64, element));
                }
            });
            for said in answers {
                self.say(people, said);
            }
            if let Some(reason) = &people[account].ended {
                return Err(format!("the server ended a session: {reason}"));
            }
        }
        self.fault.take().map_or(Ok(()), Err)
    }

    /// A message has arrived; returns what is said next.
    fn heard(&mut self, account: u64, message: &Element<'_>) -> Option<Said> {
        let said = self.plan.by_id(message.attribute(b"id")?)?;
        let number = said.number;
        if message.attribute(b"type") == Some(b"error") {
            let condition =
                message.find(b"error").and_then(|error| error.first_child()).unwrap_or(b"undefined");
            let condition = String::from_utf8_lossy(condition);
            self.fault = Some(format!("message {number} came back as an error: {condition}"));
            return None;
        }
        let next = &mut self.next[said.conversation as usize];
        if self.plan.way(said).1 != account || number != *next {
            self.fault = Some(format!(
                "account {account} got message {number} of conversation {}, which waits for number {next}",
                said.conversation
            ));
            return None;
        }
        *next += 1;
        self.arrived += 1;
        match *next < self.plan.each {
            true => Some(Said { number: number + 1, ..said }),
            false => self.begin(),
        }
    }
}
