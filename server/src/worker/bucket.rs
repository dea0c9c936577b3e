//! Token buckets: how much a connection, and an account with all its connections, may ask for in the long run.
//!
//! A bucket is kept as the time at which it will be full again, so it needs no refilling, and one that is full needs no
//! place. It is charged once a turn, with what the turn has cost; past its burst the reader of that connection is
//! slowed down to the rate. Nobody is ended for it: a client that waits in TCP costs nothing.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::limits::Limits;
use crate::runtime::driver::ConnId;
use crate::runtime::timer::Millis;
use crate::user::tables::UserKey;

/// Microseconds of a second.
const SECOND_US: u64 = 1_000_000;

/// How much of something may be had.
#[derive(Copy, Clone, Debug)]
pub(super) struct Rate {
    per_second: u64,
    burst: u64,
}

/// When a bucket will be full, in microseconds of the worker's time.
#[derive(Copy, Clone, Debug, Default)]
struct Full(u64);

impl Full {
    /// Takes so much out. Returns the time at which less than the burst will be missing, if more is missing now.
    fn take(&mut self, now_us: u64, count: u64, rate: Rate) -> Option<u64> {
        self.0 = self.0.max(now_us) + count * SECOND_US / rate.per_second;
        let burst_us = rate.burst * SECOND_US / rate.per_second;
        self.0.checked_sub(burst_us).filter(|&until| until > now_us)
    }
}

/// The buckets of one connection or account.
#[derive(Copy, Clone, Debug, Default)]
struct Bucket {
    stanzas: Full,
    work: Full,
}

/// What a turn has cost.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Cost {
    /// Stanzas.
    pub(super) stanzas: u64,
    /// Work units.
    pub(super) work: u64,
}

/// The rates of connections or of accounts.
#[derive(Copy, Clone, Debug)]
struct Rates {
    stanzas: Rate,
    work: Rate,
}

impl Bucket {
    fn take(&mut self, now_us: u64, cost: Cost, rates: Rates) -> Option<u64> {
        let stanzas = self.stanzas.take(now_us, cost.stanzas, rates.stanzas);
        let work = self.work.take(now_us, cost.work, rates.work);
        stanzas.max(work)
    }

    fn is_full(&self, now_us: u64) -> bool {
        self.stanzas.0 <= now_us && self.work.0 <= now_us
    }
}

/// All buckets of a worker that are not full.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    connections: HashMap<ConnId, Bucket, FixedState>,
    accounts: HashMap<UserKey, Bucket, FixedState>,
}

impl Buckets {
    /// Charges a turn to a connection and its account. Returns until when nothing more is to be read from it, if one
    /// of them has asked for more than its burst.
    pub(super) fn charge(
        &mut self,
        conn: ConnId,
        user: UserKey,
        cost: Cost,
        now: Millis,
        limits: &Limits,
    ) -> Option<Millis> {
        let now_us = now.0 * 1000;
        let connection = Rates {
            stanzas: Rate {
                per_second: limits.connection_stanzas_per_second.into(),
                burst: limits.connection_stanzas_burst.into(),
            },
            work: Rate {
                per_second: limits.connection_work_per_second.into(),
                burst: limits.connection_work_burst.into(),
            },
        };
        let account = Rates {
            stanzas: Rate {
                per_second: limits.account_stanzas_per_second.into(),
                burst: limits.account_stanzas_burst.into(),
            },
            work: Rate {
                per_second: limits.account_work_per_second.into(),
                burst: limits.account_work_burst.into(),
            },
        };
        let own = self.connections.entry(conn).or_default().take(now_us, cost, connection);
        let all = self.accounts.entry(user).or_default().take(now_us, cost, account);
        own.max(all).map(|until_us| Millis(until_us.div_ceil(1000)))
    }

    /// Drops the buckets that are full.
    pub(super) fn rest(&mut self, now: Millis) {
        let now_us = now.0 * 1000;
        self.connections.retain(|_, bucket| !bucket.is_full(now_us));
        self.accounts.retain(|_, bucket| !bucket.is_full(now_us));
        give_back(&mut self.connections);
        give_back(&mut self.accounts);
    }

    /// Buckets that are not full.
    pub(super) fn len(&self) -> usize {
        self.connections.len() + self.accounts.len()
    }
}

/// What a crowd has needed is given back.
pub(super) fn give_back<K: Eq + std::hash::Hash, V>(table: &mut HashMap<K, V, FixedState>) {
    if table.len() < table.capacity() / 4 {
        table.shrink_to(table.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 100, burst: 1000 };

    #[test]
    fn a_burst_is_free_and_what_follows_comes_at_the_rate() {
        let mut bucket = Full::default();
        assert_eq!(bucket.take(0, 1000, RATE), None);
        assert_eq!(bucket.take(0, 1, RATE), Some(10_000));
        assert_eq!(bucket.take(10_000, 100, RATE), Some(1_010_000));
    }

    #[test]
    fn a_bucket_that_rests_is_full_again_and_no_fuller() {
        let mut bucket = Full::default();
        bucket.take(0, 1000, RATE);
        let later = 3600 * SECOND_US;
        assert_eq!(bucket.take(later, 1000, RATE), None);
        assert!(bucket.take(later, 1, RATE).is_some());
    }

    #[test]
    fn an_account_pays_for_all_its_connections_and_no_other_does() {
        let limits = Limits {
            account_stanzas_burst: 100,
            account_stanzas_per_second: 10,
            connection_stanzas_burst: 80,
            connection_stanzas_per_second: 10,
            ..Limits::default()
        };
        let (now, cost) = (Millis(5), Cost { stanzas: 60, work: 1 });
        let conn = |index| ConnId { index, generation: 0 };
        let users = crate::user::tables::UserKey::pair();
        let mut buckets = Buckets::default();
        assert_eq!(buckets.charge(conn(1), users.0, cost, now, &limits), None);
        assert_eq!(buckets.charge(conn(2), users.0, cost, now, &limits), Some(Millis(2005)));
        assert_eq!(buckets.charge(conn(3), users.1, cost, now, &limits), None);
        assert_eq!(buckets.len(), 5);
        buckets.rest(Millis(60_000));
        assert_eq!(buckets.len(), 0);
    }
}
