//! What the log should hold: a list of operations, each with the position at which it was done.

use std::collections::{BTreeMap, BTreeSet};

use crate::actor::ActorId;
use crate::log::{Log, Sequence};

use super::mirror::Mirror;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) time_ms: u64,
    pub(super) flags: u8,
    pub(super) number: u32,
    pub(super) payload: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Append(u64, Kept),
    Trim(u64),
    TrimUpTo(u64),
}

#[derive(Clone, Debug)]
struct Operation {
    end: u64,
    user: u64,
    what: What,
}

pub(super) type State = BTreeMap<u64, BTreeMap<u64, Kept>>;

#[derive(Default)]
pub(super) struct Model {
    operations: Vec<Operation>,
    /// What the operations come to.
    state: State,
    /// Trimmed without a record: may or may not wait after a restart.
    unsure: BTreeSet<(u64, u64)>,
}

fn apply(state: &mut State, user: u64, what: &What) {
    let of = state.entry(user).or_default();
    match what {
        What::Append(sequence, kept) => {
            of.insert(*sequence, kept.clone());
        }
        What::Trim(sequence) => {
            of.remove(sequence);
        }
        What::TrimUpTo(sequence) => of.retain(|other, _| other > sequence),
    }
    if of.is_empty() {
        state.remove(&user);
    }
}

impl Model {
    pub(super) fn done(&mut self, end: u64, user: u64, what: What) {
        apply(&mut self.state, user, &what);
        self.operations.push(Operation { end, user, what });
    }

    /// Something was trimmed, and the log could not write it down.
    pub(super) fn done_without_record(&mut self, user: u64, what: &What) {
        let of = self.state.get(&user).cloned().unwrap_or_default();
        apply(&mut self.state, user, what);
        let left = self.state.get(&user);
        self.unsure
            .extend(of.into_keys().filter(|s| left.is_none_or(|l| !l.contains_key(s))).map(|s| (user, s)));
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// End of the last operation.
    pub(super) fn last_end(&self) -> u64 {
        self.operations.last().map_or(0, |operation| operation.end)
    }

    pub(super) fn last_is_append(&self) -> bool {
        self.operations.last().is_some_and(|operation| matches!(operation.what, What::Append(..)))
    }

    /// End of the first operation after this position.
    pub(super) fn first_end_after(&self, position: u64) -> Option<u64> {
        self.operations.iter().map(|operation| operation.end).filter(|end| *end > position).min()
    }

    /// Operations after this position did not happen. Returns how many.
    pub(super) fn cut(&mut self, position: u64) -> usize {
        let before = self.operations.len();
        self.operations.retain(|operation| operation.end <= position);
        self.state.clear();
        for operation in &self.operations {
            apply(&mut self.state, operation.user, &operation.what);
        }
        before - self.operations.len()
    }

    /// After a restart: what was trimmed without a record either waits again, or does not for good.
    pub(super) fn settle_unsure(&mut self, logs: &[Log<Mirror>]) {
        for (user, sequence) in std::mem::take(&mut self.unsure) {
            let waits = logs.iter().any(|log| log.queue().has(ActorId::user(user), Sequence(sequence)));
            if !waits {
                let what = What::Trim(sequence);
                apply(&mut self.state, user, &what);
                self.operations.push(Operation { end: 0, user, what });
            }
        }
    }

    /// The logs were written anew: what waits now, with the ids that it had, is where everything begins.
    pub(super) fn start_over(&mut self, logs: &[Log<Mirror>]) {
        let old = std::mem::take(&mut self.state);
        self.operations.clear();
        for (user, of) in old {
            let now: Vec<u64> = logs
                .iter()
                .flat_map(|log| log.pending(ActorId::user(user)).map(|record| record.unwrap().sequence.0))
                .collect();
            assert!(now.iter().eq(of.keys()), "user {user} has the same messages as before: {now:?}");
            for (sequence, kept) in of {
                self.done(0, user, What::Append(sequence, kept));
            }
        }
    }

    /// Panics unless the log of each user holds what it should, in order.
    pub(super) fn compare(&self, logs: &[Log<Mirror>]) {
        let mut users: BTreeSet<u64> = self.state.keys().copied().collect();
        users.extend(logs.iter().flat_map(|log| log.actors().map(ActorId::number)));
        for user in users {
            let expected = self.state.get(&user);
            let mut found: Vec<(u64, Kept)> = Vec::new();
            for log in logs {
                for record in log.pending(ActorId::user(user)) {
                    let record = record.expect("nothing is damaged");
                    found.push((
                        record.sequence.0,
                        Kept {
                            time_ms: record.time_ms,
                            flags: record.flags.0,
                            number: record.origin.number,
                            payload: record.payload.to_vec(),
                        },
                    ));
                }
            }
            let expected: Vec<_> =
                expected.into_iter().flatten().map(|(s, kept)| (*s, kept.clone())).collect();
            let short =
                |list: &[(u64, Kept)]| list.iter().map(|(s, k)| (*s, k.payload.len())).collect::<Vec<_>>();
            assert_eq!(short(&found), short(&expected), "what waits for user {user}");
            assert_eq!(found, expected, "what waits for user {user}");
        }
        for log in logs {
            let (waiting, bodies) = (log.queue().messages(), log.queue().shared_bodies() as u64);
            assert_eq!(log.queue().held_records(), waiting + bodies, "the segments' counts");
        }
    }
}
