//! What must be true of the messages of a managed world.

use std::collections::{BTreeMap, BTreeSet};

use crate::simulation::archive::Exchanged;

/// Of so many of the newest messages of all, peers retract their own.
const RETRACTED_BACK_MAX: usize = 200;

/// A message from one user to another.
#[derive(Debug, Default)]
struct Message {
    from: usize,
    to: usize,
    /// Times that its sender has sent it without knowing that the server had not got it before.
    sent: u32,
    acknowledged: bool,
    /// Times that its recipient has got it.
    arrived: u32,
    /// Of these, those of which the server is sure to know.
    settled: u32,
    /// The message that it retracts, and those that retract it.
    retracts: Option<u32>,
    retracted_by: Vec<u32>,
    /// Since when it is sure that it is retracted.
    retracted_since: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    messages: Vec<Message>,
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

    /// A new message; returns its number.
    pub(super) fn send(&mut self, from: usize, to: usize) -> u32 {
        let n = u32::try_from(self.messages.len()).expect("a world sends fewer messages");
        let message = Message { from, to, sent: 1, ..Message::default() };
        self.messages.push(message);
        n
    }

    /// A new message that retracts another one of its sender, the `back`-th of its newest; returns its number.
    pub(super) fn retract(&mut self, from: usize, back: usize) -> Option<u32> {
        let newest = self.messages.iter().enumerate().rev().take(RETRACTED_BACK_MAX);
        let mut own = newest.filter(|(_, message)| message.from == from && message.retracts.is_none());
        let (target, to) = own.nth(back).map(|(n, message)| (n, message.to))?;
        let n = self.send(from, to);
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
    pub(super) fn exchanged(&self) -> Vec<Exchanged> {
        let exchanged = |message: &Message| Exchanged {
            from: message.from,
            to: message.to,
            is_sure: message.acknowledged,
            most: message.sent,
            retracted: (!message.retracted_by.is_empty()).then_some(message.retracted_since.is_some()),
        };
        self.messages.iter().map(exchanged).collect()
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
            // One that waited was passed over for its retraction, and a crash may have taken that away.
            if *newest > n && message.retracted_by.is_empty() {
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
            message.acknowledged && message.arrived == 0 && !waiting.contains(n) && !may_be_gone
        };
        match (0..).zip(&self.messages).find(lost) {
            Some((n, message)) => Err(format!("message {n} was acknowledged and is lost: {message:?}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_invented_overtaken_or_doubled_without_a_reason_is_noticed() {
        let mut oracle = Oracle::default();
        let (first, second) = (oracle.send(0, 1), oracle.send(0, 1));
        oracle.nothing_is_lost(&BTreeSet::new()).unwrap();
        oracle.acknowledge(first, 5);
        oracle.nothing_is_lost(&BTreeSet::from([first])).unwrap();
        assert!(oracle.nothing_is_lost(&BTreeSet::new()).unwrap_err().contains("lost"));
        assert!(oracle.arrive(7, (0, 1), (1, 0)).unwrap_err().contains("never sent"));
        assert!(oracle.arrive(first, (0, 2), (1, 0)).unwrap_err().contains("at 2"));
        oracle.arrive(second, (0, 1), (1, 0)).unwrap();
        assert!(oracle.arrive(first, (0, 1), (1, 0)).unwrap_err().contains("after"));
        // In another session, and nobody was told that the first arrival was noticed.
        oracle.arrive(second, (0, 1), (1, 0)).unwrap();
        assert!(oracle.arrive(second, (0, 1), (2, 0)).unwrap_err().contains("in one session"));
        oracle.settle(second);
        assert!(oracle.arrive(second, (0, 1), (1, 0)).unwrap_err().contains("knew"));
        oracle.send_again(second);
        oracle.arrive(second, (0, 1), (1, 0)).unwrap();
    }

    #[test]
    fn what_arrives_although_it_was_taken_back_is_noticed() {
        let mut oracle = Oracle::default();
        let first = oracle.send(0, 1);
        oracle.acknowledge(first, 5);
        let retraction = oracle.retract(0, 0).unwrap();
        assert_eq!((oracle.retracted_by(retraction), oracle.retract(1, 0)), (Some(first), None));
        oracle.nothing_is_lost(&BTreeSet::new()).unwrap();
        oracle.acknowledge(retraction, 9);
        // On a stream that had begun before, it may have been on its way.
        oracle.arrive(first, (0, 1), (1, 8)).unwrap();
        assert!(oracle.arrive(first, (0, 1), (1, 10)).unwrap_err().contains("after its retraction"));
        assert_eq!(oracle.exchanged()[0].retracted, Some(true));
        assert_eq!(oracle.exchanged()[1].retracted, None);
    }
}
