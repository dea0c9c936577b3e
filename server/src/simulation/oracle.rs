//! What must be true: a model of the sessions and messages of a world, much simpler than the server.
//!
//! The clients write down what they send and what they see. Some rules are checked at once (a message comes once, in
//! order, unharmed and to nobody else); others when the world is quiet, because only then everything is decided.

mod judge;
mod relations;

use std::collections::{BTreeMap, BTreeSet};

use super::archive::{Archived, Exchanged, Wanted};
use crate::runtime::driver::sim::LinkId;

/// A session: one bound stream, from the request to bind to its end.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) user: usize,
    pub(super) resource: Box<str>,
    pub(super) link: LinkId,
    /// Step at which binding was asked for.
    pub(super) requested: u64,
    /// Step at which the client learned that it is bound.
    pub(super) bound: Option<u64>,
    /// Step at which the client ended it or saw its end.
    pub(super) ended: Option<u64>,
    /// Step at which the server's end of the connection was seen closed.
    pub(super) closed: Option<u64>,
    /// What the client sent last may not have reached the server.
    pub(super) cut: bool,
    /// Since when the client knows that it is available with a priority that is not negative.
    pub(super) available: Option<u64>,
    /// Since when the client knows that carbons are enabled.
    pub(super) carbons: Option<u64>,
    /// The newest message of each sending session, of those to the account (or a resource that was not there) and of
    /// those to this very resource, which need not wait for it to become available.
    newest: BTreeMap<(usize, bool), u32>,
    messages: BTreeSet<u32>,
    copies: BTreeSet<u32>,
}

/// A chat message.
#[derive(Debug)]
struct Message {
    sender: usize,
    to_user: usize,
    to_resource: Option<Box<str>>,
    sent: u64,
    delivered: Vec<usize>,
    /// It has come out of the mailbox.
    was_stored: bool,
    /// It has come with a page of an archive to somebody to whom it was written.
    was_read: bool,
    /// The step in which it was first delivered.
    arrived: Option<u64>,
    errors: u32,
    /// The message that it retracts, and those that retract it.
    retracts: Option<u32>,
    retracted_by: Vec<u32>,
}

/// A broken rule, in words.
pub(super) type Broken = String;

/// The oracle.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) sessions: Vec<Session>,
    by_user: Vec<Vec<usize>>,
    messages: Vec<Message>,
    /// Messages before this one have been judged.
    judged: usize,
    /// Ended sessions whose connection the server has not closed.
    dying: BTreeSet<usize>,
    /// Pairs of users one of whom has ever asked to block the other, the smaller first.
    blocked: BTreeSet<(usize, usize)>,
    /// Since when a user is sure to block another: the block was confirmed, and nobody has asked to lift it since.
    blocks: BTreeMap<(usize, usize), u64>,
    /// Requests to lift a block: the step of the last one, and how many have no answer.
    unblocks: BTreeMap<(usize, usize), (u64, u32)>,
    /// Subscription requests of one user to another: whether the two sides may part because of them.
    asked: BTreeMap<(usize, usize), bool>,
    /// Users who have ended their subscription to another's presence, or asked for its end.
    withdrawn: BTreeSet<(usize, usize)>,
    /// Messages of which nothing is to be seen, as far as they have been judged.
    vanished: u64,
    /// Messages delivered, copied, and answered with an error.
    pub(super) counts: (u64, u64, u64),
}

/// The text of message `n`: what stands in its body. Differs in length and has everything that needs escaping.
pub(super) fn body(n: u32) -> String {
    let filler = ["x", "<&>", "'\"", "é漢😀", "]]>", "\n\t "][n as usize % 6];
    let repeat = if n.is_multiple_of(97) { 700 } else { n as usize % 23 };
    format!("n:{n}:{}.", filler.repeat(repeat))
}

/// The number of the message whose text this is; `None` when it is not the text of any.
pub(super) fn number_of(text: &str) -> Option<u32> {
    let n = text.strip_prefix("n:")?.split_once(':')?.0.parse().ok()?;
    (body(n) == text).then_some(n)
}

/// Of so many of the newest messages of all, sessions retract their own.
const RETRACTED_BACK_MAX: usize = 200;

/// A message as a session receives it.
pub(super) struct Arrival<'a> {
    /// The step in which that is.
    pub(super) step: u64,
    pub(super) from: &'a str,
    pub(super) text: &'a str,
    /// Out of the log, not as it came.
    pub(super) delayed: bool,
}

impl Oracle {
    pub(super) fn new(users: usize) -> Oracle {
        Oracle { by_user: vec![Vec::new(); users], ..Oracle::default() }
    }

    pub(super) fn messages_len(&self) -> usize {
        self.messages.len()
    }

    /// A client asks to bind.
    pub(super) fn request(&mut self, step: u64, user: usize, resource: &str, link: LinkId) -> usize {
        let id = self.sessions.len();
        self.sessions.push(Session {
            user,
            resource: resource.into(),
            link,
            requested: step,
            bound: None,
            ended: None,
            closed: None,
            cut: false,
            available: None,
            carbons: None,
            newest: BTreeMap::new(),
            messages: BTreeSet::new(),
            copies: BTreeSet::new(),
        });
        self.by_user[user].push(id);
        id
    }

    /// A session is over as its client sees it.
    pub(super) fn end(&mut self, step: u64, id: usize, cut: bool) {
        let session = &mut self.sessions[id];
        if session.ended.is_none() {
            session.ended = Some(step);
            session.cut = cut;
            self.dying.insert(id);
        } else {
            session.cut |= cut;
        }
    }

    /// Looks which ended sessions the server has closed by now; returns how many it has not.
    pub(super) fn note_closed(&mut self, step: u64, is_closed: impl Fn(LinkId) -> bool) -> usize {
        let sessions = &mut self.sessions;
        self.dying.retain(|&id| {
            let closed = is_closed(sessions[id].link);
            if closed {
                sessions[id].closed = Some(step);
            }
            !closed
        });
        self.dying.len()
    }

    /// Sessions that are bound and over neither for the client nor, as far as it knows, for the server.
    pub(super) fn alive(&self, user: usize) -> impl Iterator<Item = usize> + '_ {
        let alive = |id: &usize| self.sessions[*id].bound.is_some() && self.sessions[*id].ended.is_none();
        self.by_user[user].iter().copied().filter(alive)
    }

    /// Whether a session of this user ended so late that what was sent at `step` may have been handed to it.
    pub(super) fn lost_one_since(&self, user: usize, step: u64) -> bool {
        self.by_user[user].iter().any(|&id| {
            let session = &self.sessions[id];
            session.ended.is_some() && session.closed.is_none_or(|closed| closed >= step)
        })
    }

    /// Whether what was sent at `step` may have been on its way to another session than this one, of the same user,
    /// when that one ended. Then it comes to this one late, after what was sent later, and rightly so: RFC 6120 §10.1
    /// asks for order in what is processed, and it was processed in order, to the resource that RFC 6121 §8.5.2.1.1
    /// names. Anything that a session leaves undelivered goes to another resource as if it had been stored (XEP-0198 §5, here
    /// without stream management too), and XEP-0203 dates it.
    ///
    /// The server ends a session before its client hears of it: one that reads slowly and whose resource is taken by
    /// another connection believes for a while that it is bound. So it is the server that is asked.
    fn was_under_way_elsewhere(&self, id: usize, step: u64, mut serves: impl FnMut(LinkId) -> bool) -> bool {
        let user = self.sessions[id].user;
        let mut others = self.by_user[user].iter().filter(|other| **other != id);
        self.lost_one_since(user, step)
            || others.any(|&other| {
                let session = &self.sessions[other];
                session.ended.is_none() && !serves(session.link)
            })
    }

    /// Whether another session can have been given the same resource after this one: the reason for a conflict.
    pub(super) fn has_rival(&self, id: usize) -> bool {
        let session = &self.sessions[id];
        self.by_user[session.user].iter().any(|&other| {
            let rival = &self.sessions[other];
            let later = rival.bound.is_none_or(|bound| bound >= session.requested);
            other != id && rival.resource == session.resource && later
        })
    }

    /// A message is sent; returns its number.
    pub(super) fn sent(
        &mut self,
        step: u64,
        sender: usize,
        to_user: usize,
        to_resource: Option<&str>,
    ) -> u32 {
        let n = u32::try_from(self.messages.len()).expect("a world sends fewer messages");
        self.messages.push(Message {
            sender,
            to_user,
            to_resource: to_resource.map(Into::into),
            sent: step,
            delivered: Vec::new(),
            was_stored: false,
            was_read: false,
            arrived: None,
            errors: 0,
            retracts: None,
            retracted_by: Vec::new(),
        });
        n
    }

    /// A message of a session that it may retract: the `back`-th of its newest ones; for whom it was.
    pub(super) fn retractable(&self, session: usize, back: usize) -> Option<(u32, usize)> {
        let newest = self.messages.iter().enumerate().rev().take(RETRACTED_BACK_MAX);
        let mut own = newest.filter(|(_, message)| message.sender == session && message.retracts.is_none());
        own.nth(back).map(|(n, message)| (n as u32, message.to_user))
    }

    /// A message that was just sent retracts another one.
    pub(super) fn retracts(&mut self, retraction: u32, target: u32) {
        self.messages[retraction as usize].retracts = Some(target);
        self.messages[target as usize].retracted_by.push(retraction);
    }

    /// Whether a message may not be given to a session that has come after its retraction had arrived.
    fn is_taken_back(&self, n: u32, id: usize) -> bool {
        let arrived = |by: &u32| self.messages[*by as usize].arrived;
        let before = |step: u64| step < self.sessions[id].requested;
        self.messages[n as usize].retracted_by.iter().filter_map(arrived).any(before)
    }

    /// All messages, as their archives are to have them: one that has arrived is sure to be in both.
    pub(super) fn exchanged(&self) -> Vec<Exchanged> {
        let exchanged = |message: &Message| Exchanged {
            from: self.sessions[message.sender].user,
            to: message.to_user,
            is_sure: !message.delivered.is_empty(),
            most: 1,
            retracted: self.is_retracted(message),
            wanted: [Wanted::Yes; 2],
        };
        self.messages.iter().map(exchanged).collect()
    }

    /// A session gets a message with a page of its archive that it asked for in a step. If the message waited until now, it waits no
    /// more.
    pub(super) fn read(
        &mut self,
        id: usize,
        archived: &Archived,
        (asked, step): (u64, u64),
    ) -> Result<(), Broken> {
        let (n, user) = (archived.number, self.sessions[id].user);
        let Some(message) = self.messages.get(n as usize) else {
            return Err(format!("message {n} is in an archive and was never sent"));
        };
        if message.to_user != user && self.sessions[message.sender].user != user {
            return Err(format!("user {user} reads message {n}, which is somebody else's: {message:?}"));
        }
        let arrived = message.retracted_by.iter().filter_map(|by| self.messages[*by as usize].arrived).min();
        match (archived.is_retracted, arrived) {
            (false, Some(since)) if since < asked => {
                return Err(format!("user {user} reads message {n}, retracted since {since}: {message:?}"));
            }
            (true, _) if message.retracted_by.is_empty() => {
                return Err(format!(
                    "the text of message {n} is gone, and nobody has retracted it: {message:?}"
                ));
            }
            _ => {}
        }
        let message = &mut self.messages[n as usize];
        if message.to_user == user {
            message.was_read = true;
            if message.delivered.is_empty() {
                message.delivered.push(id);
                message.was_stored = true;
                message.arrived.get_or_insert(step);
            }
        }
        Ok(())
    }

    /// Whether somebody has asked to take a message back.
    pub(super) fn is_doubtful(&self, n: u32) -> bool {
        !self.messages[n as usize].retracted_by.is_empty()
    }

    /// Whether it is sure that a message is retracted; `None`: its sender has not asked for it.
    fn is_retracted(&self, message: &Message) -> Option<bool> {
        let has_arrived = |by: &u32| self.messages[*by as usize].arrived.is_some();
        let by = &message.retracted_by;
        (!by.is_empty()).then(|| by.iter().any(has_arrived))
    }

    /// The sessions that have received a message itself.
    #[cfg(test)]
    pub(super) fn reached(&self, n: u32) -> &[usize] {
        &self.messages[n as usize].delivered
    }

    fn known(&self, text: &str) -> Result<u32, Broken> {
        let n = number_of(text).ok_or_else(|| format!("a message nobody has sent: {text:?}"))?;
        if (n as usize) < self.messages.len() {
            return Ok(n);
        }
        Err(format!("message {n} arrives and was never sent"))
    }

    fn check_from(&self, n: u32, from: &str, jid: impl Fn(usize, &str) -> String) -> Result<(), Broken> {
        let sender = &self.sessions[self.messages[n as usize].sender];
        let expected = jid(sender.user, &sender.resource);
        if from == expected {
            return Ok(());
        }
        Err(format!("message {n} of {expected} comes from {from}"))
    }

    /// A session receives a message. `serves`: whether the server still serves a connection, that is, has not ended its
    /// stream.
    pub(super) fn delivered(
        &mut self,
        id: usize,
        arrival: &Arrival<'_>,
        serves: impl FnMut(LinkId) -> bool,
        jid: impl Fn(usize, &str) -> String,
    ) -> Result<(), Broken> {
        let &Arrival { step, from, text, delayed } = arrival;
        let n = self.known(text)?;
        self.check_from(n, from, jid)?;
        let message = &mut self.messages[n as usize];
        let session = &mut self.sessions[id];
        if message.to_user != session.user {
            return Err(format!("message {n} to user {} reaches user {}", message.to_user, session.user));
        }
        let session_user = session.user;
        if !session.messages.insert(n) {
            return Err(format!("message {n} reaches session {id} twice"));
        }
        let (sent, from_user) = (message.sent, self.sessions[message.sender].user);
        if self.is_blocked_since(session_user, from_user, sent) {
            return Err(format!("message {n}, sent in step {sent}, reaches session {id} past a block"));
        }
        let message = &mut self.messages[n as usize];
        let own = self.sessions[message.sender].user == message.to_user;
        let session = &mut self.sessions[id];
        if session.copies.contains(&n) && !own && !delayed {
            return Err(format!("session {id} gets message {n} and a copy of it"));
        }
        let kind = (message.sender, message.to_resource.as_deref() == Some(&*session.resource));
        let newest = *session.newest.entry(kind).and_modify(|newest| *newest = n.max(*newest)).or_insert(n);
        if newest > n && !(delayed && self.was_under_way_elsewhere(id, sent, serves)) {
            return Err(format!("session {id} gets message {n} after {newest} of the same sender"));
        }
        if self.is_taken_back(n, id) {
            return Err(format!("session {id} gets message {n}, which had been retracted before it came"));
        }
        let message = &mut self.messages[n as usize];
        message.delivered.push(id);
        message.was_stored |= delayed;
        message.arrived.get_or_insert(step);
        self.counts.0 += 1;
        if message.errors > 0 {
            return Err(format!("message {n} is delivered and was answered with an error"));
        }
        Ok(())
    }

    /// A session hears of a change of a subscription which `sender` sent before message `first` and any presence after
    /// number `presences`: whether no later message or presence of the sender has come before it (RFC 6120 §10.1). `seen` are
    /// the presences the session knows.
    pub(super) fn not_overtaken(
        &self,
        id: usize,
        sender: usize,
        first: u32,
        presences: u32,
        seen: &BTreeMap<String, u32>,
    ) -> Result<(), Broken> {
        let late = "before a subscription stanza that was sent earlier";
        let newest = [true, false].map(|own| self.sessions[id].newest.get(&(sender, own)));
        if let Some(newest) = newest.into_iter().flatten().max()
            && *newest >= first
        {
            return Err(format!("session {id} gets message {newest} of session {sender} {late}"));
        }
        let jid = super::world::full(self.sessions[sender].user, &self.sessions[sender].resource);
        // Another session of the resource has an order of its own.
        match seen.get(&jid) {
            Some(newest) if *newest > presences && !self.has_rival(sender) => {
                Err(format!("session {id} gets presence p{newest} of {jid} {late}"))
            }
            _ => Ok(()),
        }
    }

    /// A device of a user is told of a message with this text, or of what it was not told the text.
    pub(super) fn may_be_told(&self, user: usize, text: Option<&str>) -> Result<(), Broken> {
        // Long texts are cut.
        let Some(n) = text.and_then(|text| text.strip_prefix("n:")?.split_once(':')) else { return Ok(()) };
        let found = n.0.parse::<usize>().ok().and_then(|n| self.messages.get(n));
        let Some(message) = found else {
            return Err(format!("a device is told of message {}, which nobody has sent", n.0));
        };
        if message.to_user != user {
            return Err(format!(
                "a device of user {user} is told of message {}, to user {}",
                n.0, message.to_user
            ));
        }
        if self.is_blocked_since(user, self.sessions[message.sender].user, message.sent) {
            return Err(format!("a device of user {user} is told of message {} past a block", n.0));
        }
        Ok(())
    }

    /// Of messages that wait, those whose users have had no session since they were sent: number, user, and the step.
    pub(super) fn waiting_for_the_absent(&self, waiting: &BTreeSet<u32>) -> Vec<(u32, usize, u64)> {
        let facts = |&n: &u32| (n, self.messages[n as usize].to_user, self.messages[n as usize].sent);
        let is_absent = |&(_, user, sent): &(u32, usize, u64)| {
            let mut sessions = self.by_user[user].iter().map(|id| &self.sessions[*id]);
            sessions.all(|session| session.closed.is_some_and(|closed| closed < sent))
        };
        waiting.iter().map(facts).filter(is_absent).collect()
    }

    /// A session receives a carbon copy.
    pub(super) fn copied(
        &mut self,
        id: usize,
        received: bool,
        from: &str,
        text: &str,
        jid: impl Fn(usize, &str) -> String,
    ) -> Result<(), Broken> {
        let n = self.known(text)?;
        self.check_from(n, from, jid)?;
        let message = &self.messages[n as usize];
        let owner = if received { message.to_user } else { self.sessions[message.sender].user };
        let own = message.to_user == self.sessions[message.sender].user;
        let session = &mut self.sessions[id];
        if owner != session.user {
            return Err(format!("a copy of message {n} reaches user {}, not {owner}", session.user));
        }
        if message.sender == id {
            return Err(format!("session {id} gets a copy of message {n}, which it has sent"));
        }
        if session.messages.contains(&n) && !own {
            return Err(format!("session {id} gets a copy of message {n} and the message"));
        }
        if !session.copies.insert(n) {
            return Err(format!("session {id} gets a copy of message {n} twice"));
        }
        self.counts.1 += 1;
        Ok(())
    }

    /// A session receives an error in answer to a message.
    pub(super) fn refused(&mut self, id: usize, n: u32) -> Result<(), Broken> {
        let Some(message) = self.messages.get_mut(n as usize) else {
            return Err(format!("an error for message {n}, which was never sent"));
        };
        let (sender, session) = (&self.sessions[message.sender], &self.sessions[id]);
        if (sender.user, &sender.resource) != (session.user, &session.resource) {
            return Err(format!("an error for message {n} reaches session {id}, which has not sent it"));
        }
        message.errors += 1;
        self.counts.2 += 1;
        if message.errors > 1 {
            return Err(format!("message {n} is answered with two errors"));
        }
        if !message.delivered.is_empty() {
            return Err(format!("message {n} is answered with an error and was delivered"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
