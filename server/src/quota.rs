//! Attempts by address in a window of time. Kept in memory, and bounded: a client that does nothing but ask costs the
//! directory nothing.

mod saved;

use std::net::IpAddr;
use std::sync::Mutex;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use whimbrel_address::Block;

pub use saved::{QuotaRecord, Registrations};

/// Addresses and networks that are told apart in one window.
pub const BLOCKS_MAX: usize = 65_536;

/// What happens to an address for which there is no room ([`BLOCKS_MAX`]).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Crowd {
    /// All such addresses share one count.
    Shares,
    /// It is refused.
    Refused,
}

/// Attempts of the current window, by address.
pub struct Quota {
    window_ms: u64,
    crowd: Crowd,
    /// Windows since the clock was 0.
    number: u64,
    attempts: HashMap<Block, u32, RandomState>,
    /// Attempts of addresses that found no room.
    others: u32,
}

impl Quota {
    /// Counts by windows of so many milliseconds.
    pub fn new(window_ms: u64, crowd: Crowd) -> Quota {
        Quota { window_ms, crowd, number: 0, attempts: HashMap::default(), others: 0 }
    }

    /// Counts one attempt in each of these blocks, with the most that each may make; `false`, and nothing is counted, when
    /// one has made as many. `now_ms` is any clock.
    pub fn take(&mut self, wanted: &[(Block, u32)], now_ms: u64) -> bool {
        let number = now_ms / self.window_ms;
        if self.number != number {
            *self = Quota { number, ..Quota::new(self.window_ms, self.crowd) };
        }
        let attempts = &mut self.attempts;
        let had = |block: &Block| attempts.get(block).copied();
        let new = wanted.iter().filter(|(block, _)| had(block).is_none()).count();
        let crowded = attempts.len() + new > BLOCKS_MAX;
        let unknown = if crowded { self.others } else { 0 };
        if crowded && new > 0 && self.crowd == Crowd::Refused
            || wanted.iter().any(|(block, most)| had(block).unwrap_or(unknown) >= *most)
        {
            return false;
        }
        for (block, _) in wanted {
            match attempts.get_mut(block) {
                Some(count) => *count += 1,
                None if crowded => self.others += 1,
                None => drop(attempts.insert(*block, 1)),
            }
        }
        true
    }
}

/// How many times as often as an address its network may try: an IPv6 /48 has 65,536 addresses.
const NETWORK_SHARE: u32 = 8;

/// How often each address has tried to register in the current hour of the server's clock.
pub struct RegistrationQuota(Mutex<Quota>);

impl Default for RegistrationQuota {
    /// In an hour in which more addresses register than are told apart, further ones are refused.
    fn default() -> RegistrationQuota {
        RegistrationQuota(Mutex::new(Quota::new(3_600_000, Crowd::Refused)))
    }
}

impl RegistrationQuota {
    /// Counts an attempt; `false` when the address has had its `limit` (`limits.registrations_per_hour`), or its network
    /// [`NETWORK_SHARE`] times as many.
    pub fn take(&self, peer: IpAddr, limit: u32, now_ms: u64) -> bool {
        let wanted = [(Block::of(peer), limit), (Block::network(peer), limit.saturating_mul(NETWORK_SHARE))];
        self.0.lock().expect("no code panics while it holds this lock").take(&wanted, now_ms)
    }
}

/// Milliseconds of an hour.
const HOUR_MS: u64 = 3_600_000;

/// How often each account has done something in the current hour of the server's clock. In an hour in which more accounts do it
/// than are told apart ([`BLOCKS_MAX`]), further ones are refused.
#[derive(Default)]
pub struct AccountQuota(Mutex<AccountCounts>);

#[derive(Default)]
struct AccountCounts {
    hour: u64,
    counts: HashMap<Box<str>, u32, RandomState>,
}

impl AccountQuota {
    /// Counts one time; `false`, and nothing is counted, when the account has had its `limit`. `now_ms` is any clock.
    pub fn take(&self, account: &str, limit: u32, now_ms: u64) -> bool {
        let mut counted = self.0.lock().expect("no code panics while it holds this lock");
        let hour = now_ms / HOUR_MS;
        if counted.hour != hour {
            *counted = AccountCounts { hour, ..AccountCounts::default() };
        }
        if counted.counts.len() >= BLOCKS_MAX && !counted.counts.contains_key(account) {
            return false;
        }
        let count = counted.counts.entry_ref(account).or_insert(0);
        let may = *count < limit;
        *count += u32::from(may);
        may
    }

    /// Whether the account has had its `limit`.
    pub fn is_spent(&self, account: &str, limit: u32, now_ms: u64) -> bool {
        let counted = self.0.lock().expect("no code panics while it holds this lock");
        let is_this_hour = counted.hour == now_ms / HOUR_MS;
        counted.counts.get(account).filter(|_| is_this_hour).is_some_and(|count| *count >= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_its_times_in_each_hour() {
        let quota = AccountQuota::default();
        assert!(quota.take("a", 2, 0) && quota.take("a", 2, 1) && !quota.take("a", 2, HOUR_MS - 1));
        assert!(quota.take("b", 2, HOUR_MS - 1) && quota.take("a", 2, HOUR_MS));
        assert!(!quota.take("c", 0, HOUR_MS));
    }

    fn address(n: u32) -> Block {
        Block::of(std::net::Ipv4Addr::from(n).into())
    }

    #[test]
    fn an_address_has_its_attempts_in_each_window() {
        let mut quota = Quota::new(60_000, Crowd::Shares);
        let mut take = |n, now_ms| quota.take(&[(address(n), 2)], now_ms);
        assert!(take(1, 0) && take(1, 59_999));
        assert!(!take(1, 59_999));
        assert!(take(2, 59_999));
        assert!(take(1, 60_000));
    }

    #[test]
    fn an_attempt_counts_in_all_its_blocks_or_in_none() {
        let mut quota = Quota::new(60_000, Crowd::Refused);
        let (one, two, network) = (address(1), address(2), Block::network([0, 0, 0, 1].into()));
        assert!(quota.take(&[(one, 1), (network, 2)], 0));
        assert!(!quota.take(&[(one, 1), (network, 2)], 0));
        assert!(
            quota.take(&[(two, 1), (network, 2)], 0),
            "the refused attempt did not count for the network"
        );
        assert!(!quota.take(&[(address(3), 1), (network, 2)], 0));
    }

    #[test]
    fn memory_is_bounded_and_a_crowd_does_not_shut_out_known_addresses() {
        for crowd in [Crowd::Shares, Crowd::Refused] {
            let mut quota = Quota::new(60_000, crowd);
            let mut take = |n: u32| quota.take(&[(address(n), 3)], 0);
            let known = u32::try_from(BLOCKS_MAX).unwrap();
            assert!((0..known).all(&mut take));
            let taken = (known..2 * known).filter(|n| take(*n)).count();
            assert_eq!(taken, if crowd == Crowd::Shares { 3 } else { 0 }, "{crowd:?}");
            assert!(take(0), "{crowd:?}");
            assert_eq!(quota.attempts.len(), BLOCKS_MAX);
        }
    }

    #[test]
    fn an_address_has_its_quota_each_hour() {
        let quota = RegistrationQuota::default();
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        assert!(quota.take(a, 2, 0) && quota.take(a, 2, 1000));
        assert!(!quota.take(a, 2, 3_599_999));
        assert!(quota.take(b, 2, 3_599_999));
        assert!(quota.take(a, 2, 3_600_000));
        assert!(!quota.take(b, 0, 3_600_000));
    }

    #[test]
    fn an_account_has_its_limit_each_hour() {
        let quota = AccountQuota::default();
        assert!(!quota.is_spent("juliet", 2, 0));
        assert!(quota.take("juliet", 2, 0) && !quota.is_spent("juliet", 2, 0));
        assert!(quota.take("juliet", 2, 1) && quota.is_spent("juliet", 2, 1) && !quota.take("juliet", 2, 2));
        assert!(!quota.is_spent("romeo", 2, 2) && !quota.is_spent("juliet", 2, HOUR_MS));
        assert!(quota.take("juliet", 2, HOUR_MS));
    }

    #[test]
    fn a_network_of_changing_addresses_has_a_quota_as_well() {
        let quota = RegistrationQuota::default();
        let taken = (0..255).filter(|n| quota.take([10, 0, 0, *n].into(), 2, 0)).count();
        assert_eq!(taken, 2 * NETWORK_SHARE as usize);
        assert!(quota.take([10, 0, 1, 1].into(), 2, 0));
    }
}
