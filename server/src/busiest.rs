//! The accounts and addresses that cause most: messages, bytes, output that waits, failed logins.
//!
//! ```text
//! turn of a connection ─► Sampler ─(each so many messages or bytes)─► Sketch ─┐ of a worker, ten seconds
//! round of samples of memory ─(each client for which output waits)──► Sketch ─┤
//!                                                                             ▼ swapped into
//! failed login ───────────────────────────────────────────────────► Sketch ─► Board ─► stats thread ─► DATA/busiest.json
//! ```
//! **Bounded.** A sketch has [`SLOTS`] counters, whatever there is to count: the *space-saving* algorithm (Metwally,
//! Agrawal, El Abbadi, 2005). When none is free the smallest one is taken over, with its count. So a figure is never too
//! small and too large by at most what the counter had when it was taken over, which is told with the figure and is at most
//! a part of 1 in [`SLOTS`] of everything; and whatever has more than that part is in the list.
//!
//! **Cheap.** While little happens, each turn is counted. With every [`SAMPLES`] that were counted within a window the
//! step of the sampler doubles: then each second, fourth, eighth … message is counted, for as many. So in ten seconds a
//! sketch is touched a few thousand times at most, and a turn costs two additions. A sampled figure of n messages at a
//! step of s is off by about the root of n times s.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

use whimbrel_address::Block;

/// Counters of a sketch.
pub const SLOTS: usize = 64;

/// Seconds of a window.
pub const WINDOW_SECONDS: u32 = 10;

/// Windows of failed logins that are kept: a minute.
pub const FAILED_WINDOWS: usize = 6;

/// Samples after which a sampler's step doubles.
const SAMPLES: u32 = 256;

/// Bytes of a name that are kept.
const NAME_BYTES_MAX: usize = 128;

/// The largest of many counts, to within a bound. A counter is a place in each of the lists, which are apart because all
/// keys are looked through for each count.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    keys: Vec<u64>,
    counts: Vec<u64>,
    overs: Vec<u64>,
    /// Longer than the others when fewer counters are in use than were: the room of names is used again.
    names: Vec<String>,
    total: u64,
    /// No count is smaller. Counts only grow, so it is right until none has this one any more.
    least: u64,
}

/// What a sketch says about one of those that it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The account or address.
    pub name: String,
    /// Its count, or more.
    pub count: u64,
    /// The count is too large by this at most.
    pub over: u64,
}

impl Sketch {
    /// Counts `weight` for `key`; `name` writes its name where it is new. A key without a name is a [`Block`]'s.
    pub fn add(&mut self, key: u64, weight: u64, name: impl FnOnce(&mut String)) {
        self.total += weight;
        if let Some(at) = self.place(key) {
            self.counts[at] += weight;
            return;
        }
        let at = self.take_counter();
        (self.keys[at], self.overs[at]) = (key, self.counts[at]);
        self.counts[at] += weight;
        // Its room is used again, so a full sketch allocates nothing.
        let text = &mut self.names[at];
        text.clear();
        name(text);
        if text.len() > NAME_BYTES_MAX {
            let end = (0..=NAME_BYTES_MAX).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
    }

    fn place(&self, key: u64) -> Option<usize> {
        self.keys.iter().position(|&known| known == key)
    }

    /// A new counter, or the smallest one with its count.
    fn take_counter(&mut self) -> usize {
        let used = self.keys.len();
        if used == SLOTS {
            let smallest = |counts: &[u64], least| counts.iter().position(|&count| count == least);
            return smallest(&self.counts, self.least).unwrap_or_else(|| {
                self.least = self.counts.iter().copied().min().unwrap_or(0);
                smallest(&self.counts, self.least).unwrap_or(0)
            });
        }
        self.least = 0;
        self.keys.push(0);
        self.counts.push(0);
        self.overs.push(0);
        if used == self.names.len() {
            self.names.push(String::new());
        }
        used
    }

    /// Counts nothing any more.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.counts.clear();
        self.overs.clear();
        (self.total, self.least) = (0, 0);
    }

    /// Everything that was counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What may have been counted for a key that has no counter (any more), at most.
    fn unseen(&self) -> u64 {
        if self.keys.len() < SLOTS { 0 } else { self.counts.iter().copied().min().unwrap_or(0) }
    }

    /// Adds what another one has counted. No count becomes too small: where one of them has no counter for a key, it may
    /// have lost one, and that is added, too.
    pub fn merge(&mut self, other: &Sketch) {
        let unseen = other.unseen();
        for at in 0..self.keys.len() {
            if other.place(self.keys[at]).is_none() {
                self.counts[at] += unseen;
                self.overs[at] += unseen;
            }
        }
        for (at, &key) in other.keys.iter().enumerate() {
            self.add(key, other.counts[at], |name| name.push_str(&other.names[at]));
            if let Some(ours) = self.place(key) {
                self.overs[ours] += other.overs[at];
            }
        }
    }

    /// The largest `count`, the largest first.
    pub fn top(&self, count: usize) -> Vec<Row> {
        let mut places: Vec<usize> = (0..self.keys.len()).collect();
        let by = |at: usize| (Reverse(self.counts[at]), &self.names[at], self.keys[at]);
        places.sort_unstable_by(|&a, &b| by(a).cmp(&by(b)));
        let row = |at: usize| Row { name: self.name(at), count: self.counts[at], over: self.overs[at] };
        places.into_iter().take(count).map(row).collect()
    }

    fn name(&self, at: usize) -> String {
        match self.names[at].as_str() {
            "" => Block::from_bits(self.keys[at]).to_string(),
            name => name.to_owned(),
        }
    }
}

/// Takes each so many of something, and more seldom the more there is.
#[derive(Clone, Debug)]
pub struct Sampler {
    step: u64,
    carried: u64,
    samples: u32,
}

impl Default for Sampler {
    fn default() -> Self {
        Sampler { step: 1, carried: 0, samples: 0 }
    }
}

impl Sampler {
    /// `amount` more have come: how many are to be counted now, on behalf of all that have come since the last time.
    pub fn take(&mut self, amount: u64) -> u64 {
        self.carried += amount;
        if self.carried < self.step {
            return 0;
        }
        let weight = self.carried - self.carried % self.step;
        self.carried -= weight;
        self.samples += 1;
        if self.samples.is_multiple_of(SAMPLES) {
            self.step *= 2;
        }
        weight
    }
}

/// Lists of accounts and of addresses.
#[derive(Clone, Debug, Default)]
pub struct Pair {
    /// By account.
    pub accounts: Sketch,
    /// By address: IPv4, or the /64 of an IPv6 one.
    pub addresses: Sketch,
}

impl Pair {
    /// Adds what others have counted.
    pub fn merge(&mut self, other: &Pair) {
        self.accounts.merge(&other.accounts);
        self.addresses.merge(&other.addresses);
    }

    /// Counts nothing any more.
    pub fn clear(&mut self) {
        self.accounts.clear();
        self.addresses.clear();
    }

    /// Counts for an address.
    pub fn add_address(&mut self, address: IpAddr, weight: u64) {
        // Most are forgotten again before anybody asks for their names.
        self.addresses.add(Block::of(address).bits(), weight, |_| {});
    }
}

/// What the clients of one worker have caused.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Messages from clients in this window.
    pub messages: Pair,
    /// Bytes from clients in this window, after TLS.
    pub bytes: Pair,
    /// Bytes that wait for clients, as far as this round has seen.
    pub backlog: Pair,
    of_messages: Sampler,
    of_bytes: Sampler,
}

impl Traffic {
    /// Messages and bytes of a turn: how many of each are to be counted. `None`: none of either.
    pub fn sample(&mut self, messages: u64, bytes: u64) -> Option<(u64, u64)> {
        let found =
            (if messages > 0 { self.of_messages.take(messages) } else { 0 }, self.of_bytes.take(bytes));
        (found != (0, 0)).then_some(found)
    }

    fn begin_window(&mut self) {
        self.messages.clear();
        self.bytes.clear();
        (self.of_messages, self.of_bytes) = (Sampler::default(), Sampler::default());
    }
}

/// What workers and doors have last told.
#[derive(Debug, Default)]
pub struct Board {
    workers: Vec<Mutex<Traffic>>,
    failed: Mutex<Pair>,
}

impl Board {
    /// For so many workers.
    pub fn new(workers: usize) -> Board {
        Board { workers: (0..workers).map(|_| Mutex::default()).collect(), failed: Mutex::default() }
    }

    /// A worker's window is over: it is told to the others, and begins anew.
    pub fn publish_window(&self, worker: usize, traffic: &mut Traffic) {
        let mut told = locked(&self.workers[worker]);
        std::mem::swap(&mut told.messages, &mut traffic.messages);
        std::mem::swap(&mut told.bytes, &mut traffic.bytes);
        traffic.begin_window();
    }

    /// A worker has seen all of its clients, and begins anew.
    pub fn publish_backlog(&self, worker: usize, traffic: &mut Traffic) {
        std::mem::swap(&mut locked(&self.workers[worker]).backlog, &mut traffic.backlog);
        traffic.backlog.clear();
    }

    /// A login has failed. `key` tells accounts apart.
    pub fn failed(&self, key: u64, account: Option<&str>, address: IpAddr) {
        let mut failed = locked(&self.failed);
        if let Some(account) = account {
            // Anybody can claim any name: it is not to move an operator's cursor.
            let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
            failed.accounts.add(key, 1, |name| name.extend(account.chars().take(NAME_BYTES_MAX).map(plain)));
        }
        failed.add_address(address, 1);
    }

    /// Takes the failed logins since this was last asked.
    pub fn take_failed(&self) -> Pair {
        std::mem::take(&mut locked(&self.failed))
    }

    /// What all workers have last told of messages, bytes and what waits.
    pub fn traffic(&self) -> [Pair; 3] {
        let mut all = [Pair::default(), Pair::default(), Pair::default()];
        for worker in &self.workers {
            let told = locked(worker);
            for (sum, one) in all.iter_mut().zip([&told.messages, &told.bytes, &told.backlog]) {
                sum.merge(one);
            }
        }
        all
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(sketch: &mut Sketch, key: u64, weight: u64) {
        sketch.add(key, weight, |name| name.push_str(&key.to_string()));
    }

    #[test]
    fn the_heaviest_are_found_among_many_and_the_error_is_told() {
        let mut sketch = Sketch::default();
        // A thousand that come now and then, and three that come often, all mixed.
        for n in 0..40_000u64 {
            add(&mut sketch, 10 + n * 7919 % 1000, 1);
            for (key, each) in [(1, 4), (2, 8), (3, 16)] {
                if n % each == 0 {
                    add(&mut sketch, key, 1);
                }
            }
        }
        let top = sketch.top(3);
        assert_eq!(top.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
        for (row, truth) in top.iter().zip([10_000, 5_000, 2_500]) {
            assert!(row.count >= truth && row.count - row.over <= truth, "{row:?} {truth}");
            assert!(row.over <= sketch.total() / SLOTS as u64, "{row:?}");
        }
        assert_eq!(sketch.total(), 57_500);
    }

    #[test]
    fn few_are_counted_exactly_also_over_workers() {
        let (mut one, mut other) = (Sketch::default(), Sketch::default());
        add(&mut one, 1, 5);
        add(&mut other, 1, 2);
        add(&mut other, 2, 9);
        one.merge(&other);
        let rows: Vec<_> = one.top(10).into_iter().map(|row| (row.name, row.count, row.over)).collect();
        assert_eq!(rows, [("2".to_owned(), 9, 0), ("1".to_owned(), 7, 0)]);
        assert_eq!(one.total(), 16);
        one.clear();
        assert!(one.top(10).is_empty() && one.total() == 0);
    }

    #[test]
    fn a_name_of_any_length_takes_little() {
        let mut sketch = Sketch::default();
        sketch.add(1, 1, |name| name.push_str(&"ä".repeat(500)));
        assert_eq!(sketch.top(1)[0].name, format!("{}…", "ä".repeat(NAME_BYTES_MAX / 2)));
    }

    #[test]
    fn a_sampler_takes_everything_in_sum_and_seldom_touches_a_sketch() {
        let mut sampler = Sampler::default();
        assert_eq!([sampler.take(1), sampler.take(7)], [1, 7]);
        let (mut sum, mut samples) = (8, 0);
        for _ in 0..2_000_000 {
            let weight = sampler.take(1);
            sum += weight;
            samples += u32::from(weight > 0);
        }
        assert!(sum <= 2_000_008 && sum > 2_000_008 - sampler.step, "{sum}");
        assert!(samples < 14 * SAMPLES, "{samples}");
    }

    #[test]
    fn a_window_is_told_once_it_is_over() {
        let (board, mut traffic) = (Board::new(2), Traffic::default());
        assert_eq!(traffic.sample(1, 100), Some((1, 100)));
        traffic.messages.accounts.add(7, 1, |name| name.push_str("juliet"));
        traffic.messages.add_address("2001:db8::1".parse().unwrap(), 1);
        traffic.backlog.accounts.add(7, 90, |name| name.push_str("juliet"));
        board.publish_window(1, &mut traffic);
        let [messages, bytes, backlog] = board.traffic();
        assert_eq!(messages.accounts.top(10)[0].name, "juliet");
        assert_eq!(messages.addresses.top(10)[0].name, "2001:db8::/64");
        assert_eq!((bytes.accounts.total(), backlog.accounts.total()), (0, 0), "the round is not over");
        board.publish_backlog(1, &mut traffic);
        board.publish_window(1, &mut traffic);
        let [messages, _, backlog] = board.traffic();
        assert_eq!((messages.accounts.total(), backlog.accounts.total()), (0, 90));
        board.failed(1, Some("nobody"), "192.0.2.7".parse().unwrap());
        assert_eq!(board.take_failed().addresses.top(1)[0].name, "192.0.2.7");
        assert_eq!(board.take_failed().addresses.total(), 0);
    }
}
