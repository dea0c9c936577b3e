//! What must be true of the messages of a managed world.

use std::collections::{BTreeMap, BTreeSet};

use crate::simulation::archive::Exchanged;

/// A message from one user to another.
#[derive(Debug)]
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
        self.messages.push(Message { from, to, sent: 1, acknowledged: false, arrived: 0, settled: 0 });
        n
    }

    /// All messages, as their archives are to have them: one that was acknowledged is sure to be in both. One that its
    /// sender has sent again may be there again.
    pub(super) fn exchanged(&self) -> Vec<Exchanged> {
        let exchanged = |message: &Message| Exchanged {
            from: message.from,
            to: message.to,
            is_sure: message.acknowledged,
            most: message.sent,
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
    pub(super) fn acknowledge(&mut self, n: u32) {
        self.messages[n as usize].acknowledged = true;
    }

    /// It has arrived; `in_session`: for the how-manieth time in this session of its recipient.
    pub(super) fn arrive(&mut self, n: u32, from: usize, to: usize, in_session: u32) -> Result<(), String> {
        let Some(message) = self.messages.get_mut(n as usize) else {
            return Err(format!("message {n} arrives and was never sent"));
        };
        if (message.from, message.to) != (from, to) {
            return Err(format!("message {n} arrives from {from} at {to}: {message:?}"));
        }
        message.arrived += 1;
        if message.arrived > 1 {
            self.doubled += 1;
        } else {
            let newest = self.newest.entry((from, to)).or_insert(n);
            if *newest > n {
                return Err(format!("message {n} from {from} arrives at {to} after {newest}"));
            }
            *newest = n;
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
            message.acknowledged && message.arrived == 0 && !waiting.contains(n)
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
        oracle.acknowledge(first);
        oracle.nothing_is_lost(&BTreeSet::from([first])).unwrap();
        assert!(oracle.nothing_is_lost(&BTreeSet::new()).unwrap_err().contains("lost"));
        assert!(oracle.arrive(7, 0, 1, 1).unwrap_err().contains("never sent"));
        assert!(oracle.arrive(first, 0, 2, 1).unwrap_err().contains("at 2"));
        oracle.arrive(second, 0, 1, 1).unwrap();
        assert!(oracle.arrive(first, 0, 1, 1).unwrap_err().contains("after"));
        // In another session, and nobody was told that the first arrival was noticed.
        oracle.arrive(second, 0, 1, 1).unwrap();
        assert!(oracle.arrive(second, 0, 1, 2).unwrap_err().contains("in one session"));
        oracle.settle(second);
        assert!(oracle.arrive(second, 0, 1, 1).unwrap_err().contains("knew"));
        oracle.send_again(second);
        oracle.arrive(second, 0, 1, 1).unwrap();
    }
}
