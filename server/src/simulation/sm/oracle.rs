//! What must be true of the messages of a managed world.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::rooms::OWNER;
use super::wishes::Wishes;
use crate::simulation::archive::{Archived, Exchanged, Wanted};

/// Of so many of the newest messages of all, peers retract their own.
const RETRACTED_BACK_MAX: usize = 200;

/// What a message says about its being stored (XEP-0334).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Hint {
    #[default]
    None,
    Store,
    NoCopy,
    /// It waits for its recipient, and is in no archive.
    NoPermanentStore,
}

impl Hint {
    pub(super) const ALL: [Hint; 4] = [Hint::None, Hint::Store, Hint::NoCopy, Hint::NoPermanentStore];

    /// Its element.
    pub(super) fn element(self) -> &'static str {
        match self {
            Hint::None => "",
            Hint::Store => "<store xmlns='urn:xmpp:hints'/>",
            Hint::NoCopy => "<no-copy xmlns='urn:xmpp:hints'/>",
            Hint::NoPermanentStore => "<no-permanent-store xmlns='urn:xmpp:hints'/>",
        }
    }
}

/// A message from one user to another.
#[derive(Clone, Debug, Default)]
struct Message {
    from: usize,
    to: usize,
    hint: Hint,
    /// The step in which it was sent first.
    since: u64,
    /// When its sender knew that it is durable.
    until: Option<u64>,
    /// It has come to its recipient with a page of the archive.
    paged: bool,
    /// Times that its sender has sent it without knowing that the server had not got it before.
    sent: u32,
    acknowledged: bool,
    /// Times that its recipient has got it.
    arrived: u32,
    /// How often it must have, in the end, if it waited when this world began.
    expected: u32,
    /// Of these, those of which the server is sure to know.
    settled: u32,
    /// The message that it retracts, and those that retract it.
    retracts: Option<u32>,
    retracted_by: Vec<u32>,
    /// Since when it is sure that it is retracted.
    retracted_since: Option<u64>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    messages: Vec<Message>,
    /// What users' archives call messages, as their clients have heard, and in which step they did last.
    ids: BTreeMap<(usize, u64), (u32, u64)>,
    /// The newest message of each sender that has arrived at each recipient.
    newest: BTreeMap<(usize, usize), u32>,
    again: u64,
    doubled: u64,
}

impl Oracle {
    /// Messages, those sent again, those that have arrived again.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        (self.messages.len() as u64, self.again, self.doubled)
    }

    /// Messages so far.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.messages.len()).expect("a world sends fewer messages")
    }

    /// A new message; returns its number.
    pub(super) fn send(&mut self, from: usize, to: usize, step: u64) -> u32 {
        let n = self.len();
        self.messages.push(Message { from, to, sent: 1, since: step, ..Message::default() });
        n
    }

    /// A new message says this about its being stored.
    pub(super) fn hints(&mut self, n: u32, hint: Hint) {
        self.messages[n as usize].hint = hint;
    }

    /// What a message says about its being stored.
    pub(super) fn hint(&self, n: u32) -> Hint {
        self.messages[n as usize].hint
    }

    /// A new message that retracts another one of its sender, the `back`-th of its newest; returns its number.
    pub(super) fn retract(&mut self, from: usize, back: usize, step: u64) -> Option<u32> {
        let newest = self.messages.iter().enumerate().rev().take(RETRACTED_BACK_MAX);
        let mut own = newest.filter(|(_, message)| message.from == from && message.retracts.is_none());
        let (target, to) = own.nth(back).map(|(n, message)| (n, message.to))?;
        let n = self.send(from, to, step);
        self.messages[n as usize].retracts = Some(target as u32);
        self.messages[target].retracted_by.push(n);
        Some(n)
    }

    /// The message that a message retracts.
    pub(super) fn retracted_by(&self, n: u32) -> Option<u32> {
        self.messages[n as usize].retracts
    }

    /// All messages, as their archives are to have them: one that was acknowledged is sure to be in both. One that its
    /// sender has sent again may be there again.
    pub(super) fn exchanged(&self, wishes: &Wishes) -> Vec<Exchanged> {
        self.messages.iter().map(|message| exchanged(message, wishes)).collect()
    }

    /// A message comes to a user, with the id by which the user's archive knows it, if it is there.
    pub(super) fn named(
        &mut self,
        n: u32,
        (user, id): (usize, Option<u64>),
        wishes: &Wishes,
        step: u64,
    ) -> Result<(), String> {
        let Some(message) = self.messages.get(n as usize) else {
            return Err(format!("message {n} was never sent"));
        };
        let wanted = exchanged(message, wishes).wanted_by(user);
        match (wanted, id) {
            (None, _) => return Err(format!("message {n} comes to user {user}: {message:?}")),
            (Some(Wanted::No), Some(id)) => {
                return Err(format!(
                    "user {user} does not want message {n}, which has the id {id}: {message:?}"
                ));
            }
            (Some(Wanted::Yes), None) => {
                return Err(format!("message {n} has no id of the archive of user {user}: {message:?}"));
            }
            _ => {}
        }
        let Some(id) = id else { return Ok(()) };
        let (of, last) = self.ids.entry((user, id)).or_insert((n, step));
        *last = step;
        match *of == n {
            true => Ok(()),
            false => Err(format!("the archive of user {user} calls messages {of} and {n} {id}")),
        }
    }

    /// A message comes to a user who has got it with a page on the same stream: twice only if it was sent twice.
    pub(super) fn comes_once(&self, n: u32, was_paged: bool) -> Result<(), String> {
        let message = &self.messages[n as usize];
        match was_paged && message.sent == 1 {
            true => Err(format!("message {n} comes after a page had it: {message:?}")),
            false => Ok(()),
        }
    }

    /// A power cut may have taken what a user's archive got since a step: ids are known no more.
    pub(super) fn forget_ids(&mut self, of: usize, since: u64) {
        self.ids.retain(|(user, _), (_, step)| *user != of || *step < since);
    }

    /// Whether what a user's archive has is called what it was before.
    pub(super) fn check_ids(&self, user: usize, found: &[Archived]) -> Result<(), String> {
        for archived in found {
            let known = self.ids.get(&(user, archived.id.0));
            if let Some((n, _)) = known.filter(|(n, _)| *n != archived.number) {
                return Err(format!("the archive of user {user} had message {n} in place of {archived:?}"));
            }
        }
        Ok(())
    }

    /// A message comes to a user with a page of its archive that was asked for in a step.
    pub(super) fn read(
        &mut self,
        archived: &Archived,
        user: usize,
        wishes: &Wishes,
        (asked, step): (u64, u64),
    ) -> Result<(), String> {
        self.named(archived.number, (user, Some(archived.id.0)), wishes, step)?;
        let message = &mut self.messages[archived.number as usize];
        match (archived.is_retracted, message.retracted_since) {
            (false, Some(since)) if since < asked => {
                return Err(format!("a page shows what was retracted: {archived:?}, {message:?}"));
            }
            (true, _) if message.retracted_by.is_empty() => {
                return Err(format!("a text is gone that nobody has retracted: {archived:?}, {message:?}"));
            }
            _ => {}
        }
        message.paged |= message.to == user;
        Ok(())
    }

    /// What a user must find in its archive now, of what it has exchanged with another one; `None`: with all.
    pub(super) fn to_be_read(
        &self,
        user: usize,
        with: Option<(usize, bool)>,
        wishes: &Wishes,
    ) -> BTreeSet<u32> {
        let all = (0..).zip(&self.messages);
        let found = all.filter(|(_, message)| {
            is_with(message, user, with) && exchanged(message, wishes).must_be_with(user)
        });
        found.map(|(n, _)| n).collect()
    }

    /// Whether a message is one that a user has exchanged with another one.
    pub(super) fn is_with(&self, n: u32, user: usize, with: Option<(usize, bool)>) -> bool {
        self.messages.get(n as usize).is_some_and(|message| is_with(message, user, with))
    }

    /// Whether somebody has asked to take a message back.
    pub(super) fn is_doubtful(&self, n: u32) -> bool {
        !self.messages[n as usize].retracted_by.is_empty()
    }

    /// What is known when a server begins with a copy of what another one has had, in which these messages wait: nothing of what
    /// has arrived since.
    pub(super) fn restored(&self, waiting: &BTreeSet<u32>) -> Result<Oracle, String> {
        self.nothing_is_lost(waiting).map_err(|what| format!("in the copy {what}"))?;
        let mut copy = Oracle { newest: BTreeMap::new(), again: 0, doubled: 0, ..self.clone() };
        for (n, message) in (0..).zip(&mut copy.messages) {
            let waits = waiting.contains(&n);
            // What has come before, and waits because it was sent again, may come after what was sent later.
            message.expected = if waits { message.arrived + 1 } else { 0 };
            message.arrived = message.arrived.max(u32::from(!waits));
            // What does not wait must not come.
            message.settled = if waits { 0 } else { message.sent };
            message.paged = false;
        }
        Ok(copy)
    }

    /// Whether a message has come to its recipient.
    pub(super) fn has_arrived(&self, n: u32) -> bool {
        let message = &self.messages[n as usize];
        message.arrived >= message.expected.max(1) || message.paged || !message.retracted_by.is_empty()
    }

    /// For whom a message is.
    pub(super) fn recipient(&self, n: u32) -> usize {
        self.messages[n as usize].to
    }

    /// Its sender sends it again, on another stream.
    pub(super) fn send_again(&mut self, n: u32) {
        self.messages[n as usize].sent += 1;
        self.again += 1;
    }

    /// The server has told its sender that it is durable.
    pub(super) fn acknowledge(&mut self, n: u32, step: u64) {
        self.messages[n as usize].acknowledged = true;
        self.messages[n as usize].until.get_or_insert(step);
        if let Some(target) = self.messages[n as usize].retracts {
            self.messages[target as usize].retracted_since.get_or_insert(step);
        }
    }

    /// It has arrived on a stream of its recipient that began in a step; `in_session`: for the how-manieth time there.
    pub(super) fn arrive(
        &mut self,
        n: u32,
        (from, to): (usize, usize),
        (in_session, begun): (u32, u64),
    ) -> Result<(), String> {
        let Some(message) = self.messages.get_mut(n as usize) else {
            return Err(format!("message {n} arrives and was never sent"));
        };
        if (message.from, message.to) != (from, to) {
            return Err(format!("message {n} arrives from {from} at {to}: {message:?}"));
        }
        if message.retracted_since.is_some_and(|since| since < begun) {
            return Err(format!("message {n} arrives after its retraction was acknowledged: {message:?}"));
        }
        message.arrived += 1;
        if message.arrived > 1 {
            self.doubled += 1;
        } else {
            let newest = self.newest.entry((from, to)).or_insert(n);
            // One that waited was passed over for its retraction, and a crash may have taken that away; one that has come with a page of
            // the archive is offered again if that was not acknowledged.
            if *newest > n && message.retracted_by.is_empty() && !message.paged {
                return Err(format!("message {n} from {from} arrives at {to} after {newest}"));
            }
            *newest = n.max(*newest);
        }
        if in_session > message.sent {
            return Err(format!("message {n} arrives {in_session} times in one session: {message:?}"));
        }
        if message.settled >= message.sent {
            return Err(format!("message {n} arrives again, and the server knew that it had: {message:?}"));
        }
        Ok(())
    }

    /// The server is sure to know of one arrival.
    pub(super) fn settle(&mut self, n: u32) {
        self.messages[n as usize].settled += 1;
    }

    /// A power cut may have made the server forget one.
    pub(super) fn unsettle(&mut self, n: u32) {
        self.messages[n as usize].settled -= 1;
    }

    /// What was acknowledged has arrived or waits.
    pub(super) fn nothing_is_lost(&self, waiting: &BTreeSet<u32>) -> Result<(), String> {
        let lost = |(n, message): &(u32, &Message)| {
            let may_be_gone = !message.retracted_by.is_empty();
            let has_come = message.arrived > 0 || message.paged;
            message.acknowledged && !has_come && !waiting.contains(n) && !may_be_gone
        };
        match (0..).zip(&self.messages).find(lost) {
            Some((n, message)) => Err(format!("message {n} was acknowledged and is lost: {message:?}")),
            None => Ok(()),
        }
    }
}

/// Whether a message is one that a user has exchanged with another one. What it has sent names the other's account, and what it has
/// got the other's resource.
fn is_with(message: &Message, user: usize, with: Option<(usize, bool)>) -> bool {
    let is_sent = message.from == user;
    let other = if is_sent { message.to } else { message.from };
    (is_sent || message.to == user)
        && with.is_none_or(|(with, is_resource)| with == other && !(is_resource && is_sent))
}

fn exchanged(message: &Message, wishes: &Wishes) -> Exchanged {
    let Message { from, to, hint, since, until, .. } = *message;
    let between = (since, until.unwrap_or(u64::MAX));
    let wanted = match hint {
        Hint::NoPermanentStore => [Wanted::No; 2],
        _ => [
            wishes.wanted(from, (to, false), between, OWNER),
            wishes.wanted(to, (from, true), between, OWNER),
        ],
    };
    Exchanged {
        from,
        to,
        is_sure: message.acknowledged,
        most: message.sent,
        retracted: (!message.retracted_by.is_empty()).then_some(message.retracted_since.is_some()),
        wanted,
    }
}
