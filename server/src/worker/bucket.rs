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

/// Nanoseconds of a second, and of a millisecond.
const SECOND_NS: u64 = 1_000_000_000;
const MILLI_NS: u64 = 1_000_000;

/// How much of something may be had, as times, so that charging a turn divides nothing.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Rate {
    /// Nanoseconds for one.
    one_ns: u64,
    /// For as many as may be had at once.
    burst_ns: u64,
}

impl Rate {
    fn new(per_second: u32, burst: u32) -> Rate {
        let one_ns = SECOND_NS / u64::from(per_second.max(1));
        Rate { one_ns, burst_ns: one_ns * u64::from(burst) }
    }
}

/// When a bucket will be full, in nanoseconds of the worker's time.
#[derive(Copy, Clone, Debug, Default)]
struct Full(u64);

impl Full {
    /// Takes so much out. Returns the time at which less than the burst will be missing, if more is missing now.
    fn take(&mut self, now_ns: u64, count: u64, rate: Rate) -> Option<u64> {
        self.0 = self.0.max(now_ns).saturating_add(count.saturating_mul(rate.one_ns));
        self.0.checked_sub(rate.burst_ns).filter(|&until| until > now_ns)
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
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Rates {
    stanzas: Rate,
    work: Rate,
}

impl Bucket {
    fn take(&mut self, now_ns: u64, cost: Cost, rates: Rates) -> Option<u64> {
        let stanzas = self.stanzas.take(now_ns, cost.stanzas, rates.stanzas);
        let work = self.work.take(now_ns, cost.work, rates.work);
        stanzas.max(work)
    }

    fn is_full(&self, now_ns: u64) -> bool {
        self.stanzas.0 <= now_ns && self.work.0 <= now_ns
    }
}

/// All buckets of a worker that are not full.
#[derive(Debug)]
pub(super) struct Buckets {
    connections: HashMap<ConnId, Bucket, FixedState>,
    accounts: HashMap<UserKey, Bucket, FixedState>,
    connection: Rates,
    account: Rates,
}

impl Buckets {
    /// Without any that is not full.
    pub(super) fn new(limits: &Limits) -> Buckets {
        let (connection, account) = rates(limits);
        Buckets { connections: HashMap::default(), accounts: HashMap::default(), connection, account }
    }

    /// Charges by other limits from now on. Then all begin with full buckets: times that come of the old rates mean nothing by the new.
    pub(super) fn set_limits(&mut self, limits: &Limits) {
        let (connection, account) = rates(limits);
        if (connection, account) != (self.connection, self.account) {
            *self = Buckets::new(limits);
        }
    }

    /// Charges a turn to a connection and its account. Returns until when nothing more is to be read from it, if one
    /// of them has asked for more than its burst.
    pub(super) fn charge(&mut self, conn: ConnId, user: UserKey, cost: Cost, now: Millis) -> Option<Millis> {
        let now_ns = now.0 * MILLI_NS;
        let own = self.connections.entry(conn).or_default().take(now_ns, cost, self.connection);
        let all = self.accounts.entry(user).or_default().take(now_ns, cost, self.account);
        own.max(all).map(|until_ns| Millis(until_ns.div_ceil(MILLI_NS)))
    }

    /// Drops the buckets that are full.
    pub(super) fn rest(&mut self, now: Millis) {
        let now_ns = now.0 * MILLI_NS;
        self.connections.retain(|_, bucket| !bucket.is_full(now_ns));
        self.accounts.retain(|_, bucket| !bucket.is_full(now_ns));
        give_back(&mut self.connections);
        give_back(&mut self.accounts);
    }

    /// Buckets that are not full.
    pub(super) fn len(&self) -> usize {
        self.connections.len() + self.accounts.len()
    }
}

/// The rates of connections and of accounts.
fn rates(limits: &Limits) -> (Rates, Rates) {
    let connection = Rates {
        stanzas: Rate::new(limits.connection_stanzas_per_second, limits.connection_stanzas_burst),
        work: Rate::new(limits.connection_work_per_second, limits.connection_work_burst),
    };
    let account = Rates {
        stanzas: Rate::new(limits.account_stanzas_per_second, limits.account_stanzas_burst),
        work: Rate::new(limits.account_work_per_second, limits.account_work_burst),
    };
    (connection, account)
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

    fn rate() -> Rate {
        Rate::new(100, 1000)
    }

    #[test]
    fn a_burst_is_free_and_what_follows_comes_at_the_rate() {
        let mut bucket = Full::default();
        assert_eq!(bucket.take(0, 1000, rate()), None);
        assert_eq!(bucket.take(0, 1, rate()), Some(10 * MILLI_NS));
        assert_eq!(bucket.take(10 * MILLI_NS, 100, rate()), Some(1010 * MILLI_NS));
    }

    #[test]
    fn a_bucket_that_rests_is_full_again_and_no_fuller() {
        let mut bucket = Full::default();
        bucket.take(0, 1000, rate());
        let later = 3600 * SECOND_NS;
        assert_eq!(bucket.take(later, 1000, rate()), None);
        assert!(bucket.take(later, 1, rate()).is_some());
    }

    #[test]
    fn higher_limits_hold_up_nobody() {
        let of = |per_second| Limits {
            connection_stanzas_per_second: per_second,
            connection_stanzas_burst: 20_000,
            ..Limits::default()
        };
        let conn = ConnId { index: 1, generation: 0 };
        let (user, _) = crate::user::tables::UserKey::pair();
        let mut buckets = Buckets::new(&of(10));
        let charge =
            |buckets: &mut Buckets, stanzas| buckets.charge(conn, user, Cost { stanzas, work: 0 }, Millis(1));
        assert_eq!(charge(&mut buckets, 10_000), None);
        buckets.set_limits(&of(10));
        assert!(charge(&mut buckets, 10_001).is_some(), "the same limits change nothing");
        buckets.set_limits(&of(5_000));
        assert_eq!(charge(&mut buckets, 1), None);
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
        let mut buckets = Buckets::new(&limits);
        assert_eq!(buckets.charge(conn(1), users.0, cost, now), None);
        assert_eq!(buckets.charge(conn(2), users.0, cost, now), Some(Millis(2005)));
        assert_eq!(buckets.charge(conn(3), users.1, cost, now), None);
        assert_eq!(buckets.len(), 5);
        buckets.rest(Millis(60_000));
        assert_eq!(buckets.len(), 0);
    }
}
