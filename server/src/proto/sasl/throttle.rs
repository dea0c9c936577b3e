//! Slowing guesses at passwords, so that nobody gets many and nobody is kept out by another's.
//!
//! A guess is counted *before* it is looked at ([`Throttle::begin`]) and forgiven when it was right
//! ([`Throttle::succeeded`]). So a thousand guesses begun at once are a thousand guesses, and one whose connection is
//! cut meanwhile stays counted. Anything that is counted, each in a table of levels that sink with time:
//!
//! | by | of whom | what it bounds |
//! | --- | --- | --- |
//! | account and address | everybody | what one address gets at one account |
//! | account and network | strangers | what one network of changing addresses gets at one account |
//! | account | strangers | what all strangers together get at one account, and those of networks that have guessed at it of late |
//! | address | strangers | one address that tries one password at many accounts |
//! | network | strangers | the same by a network of changing addresses |
//!
//! An address is an IPv4 address or an IPv6 /64, a network an IPv4 /24 or an IPv6 /48. An address from which the account
//! was logged in to before is *known* ([`known`]); anything else is a stranger. Only the first row counts for a known
//! address: whatever strangers do, its owner gets in without delay.
//!
//! The level at an account has two halves. The second one is for networks that have not guessed at that account of late: an owner
//! at a new address is among them, and a few networks that guess day and night are not. What it takes to keep an
//! owner out where it has never been is in docs/security.md; at a known address nobody can.
//!
//! The level decides how long the answer is held back, the right one as well as the wrong, so that an answer's absence
//! tells nothing. At a maximum, attempts are refused unheard; a refused one raises nothing, so a lock always ends by
//! itself. Names that are no accounts are counted like those that are.
//!
//! Time is milliseconds of any clock that does not go back, given by the caller. Memory is fixed: 24 bytes an entry of
//! the tables, 16 of a known address, and the modules say who gives way when they are full.

mod known;
mod saved;
mod table;
#[cfg(test)]
mod tests;

use std::hash::BuildHasher as _;
use std::net::IpAddr;

use foldhash::quality::FixedState;

use known::Known;
pub use saved::{Guesses, ThrottleRecord};
use table::{Rule, Table};
use whimbrel_address::Block;

/// How failed logins are slowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Entries of each table; rounded up to a power of two.
    pub entries: usize,
    /// Known addresses that are remembered; rounded up to a power of two.
    pub known: usize,
    /// Guesses of one address at one account that are answered at once.
    pub free: u32,
    /// How long the answer to the next one is held back; doubled by each one after it.
    pub delay_ms_first: u64,
    /// The longest delay. Less than the time in which a client has to log in.
    pub delay_ms_max: u64,
    /// Level at which one address is refused at one account; its network at twice as many.
    pub per_pair: u32,
    /// Level at which strangers are refused at one account; those of networks that have guessed at it of late at the half. They are
    /// delayed from the half.
    pub per_account: u32,
    /// Level at which one address is refused, its network at three times as many. Delayed from the half. Higher than
    /// the others: a company or a telephone network can share one address.
    pub per_address: u32,
}

impl Limits {
    /// As the configuration says.
    #[must_use]
    pub fn of(limits: &crate::limits::Limits) -> Self {
        Self {
            entries: 1 << 15,
            known: limits.known_addresses as usize,
            free: 3,
            delay_ms_first: 500,
            delay_ms_max: 10_000.min(u64::from(limits.preauth_seconds) * 1000 / 3),
            per_pair: limits.guesses_per_address_and_account,
            per_account: limits.guesses_per_account,
            per_address: limits.guesses_per_address,
        }
    }

    /// The highest level of a network that has guessed at an account.
    fn seen_most(&self) -> u32 {
        self.free.saturating_mul(SEEN_LEVELS)
    }
}

/// How long it takes to forgive one guess, in milliseconds, by what it is counted. The bound on guesses in the long run:
/// docs/security.md has the figures.
const FORGIVE_PAIR_MS: u64 = 15_000;
const FORGIVE_NEAR_MS: u64 = 10_000;
const FORGIVE_ACCOUNT_MS: u64 = 10_000;
const FORGIVE_ADDRESS_MS: u64 = 3_000;
const FORGIVE_NETWORK_MS: u64 = 1_000;

/// A network has guessed at an account of late if it has done so more often than is free in this time, for each of what is free.
const FORGIVE_SEEN_MS: u64 = 8 * 3_600_000;

/// A network that has guessed at an account is forgotten after so many times what would be enough.
const SEEN_LEVELS: u32 = 3;

/// Entries of the table of networks that have guessed, for each of another table: it forgets last.
const SEEN_ENTRIES: usize = 4;

/// What happens to an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is counted as a guess. Look at it, and hold the answer back for so long, whatever it is; nothing is read from
    /// the connection meanwhile.
    Proceed {
        /// Milliseconds; 0: answer at once.
        delay_ms: u64,
    },
    /// Answer `temporary-auth-failure` without looking at the proof or the password. Nothing was counted.
    Refuse,
}

/// What the tables hold.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    /// Entries in use, of all tables.
    pub remembered: u64,
    /// Entries that gave way although they were not forgiven yet, since the start.
    pub driven_out: u64,
    /// Known addresses.
    pub known: u64,
}

/// The guesses of late, and the addresses that need not fear those of others.
#[derive(Debug)]
pub struct Throttle {
    limits: Limits,
    seed: u64,
    hasher: FixedState,
    pairs: Table,
    near: Table,
    accounts: Table,
    addresses: Table,
    networks: Table,
    /// By account and network, as `near`, for a day or so.
    seen: Table,
    known: Known,
}

/// Where an attempt is counted.
struct Keys {
    account: u64,
    pair: u64,
    near: u64,
    address: u64,
    network: u64,
}

impl Throttle {
    /// Nobody has failed yet. `seed` is random, so that nobody can aim for a stranger's entry.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        let table = |forgive_ms| Table::new(limits.entries, forgive_ms);
        Self {
            limits,
            seed,
            hasher: FixedState::with_seed(seed),
            pairs: table(FORGIVE_PAIR_MS),
            near: table(FORGIVE_NEAR_MS),
            accounts: table(FORGIVE_ACCOUNT_MS),
            addresses: table(FORGIVE_ADDRESS_MS),
            networks: table(FORGIVE_NETWORK_MS),
            seen: Table::new(limits.entries.saturating_mul(SEEN_ENTRIES), FORGIVE_SEEN_MS),
            known: Known::new(limits.known),
        }
    }

    /// Takes other limits. The sizes of the tables stay.
    pub fn configure(&mut self, limits: Limits) {
        self.limits = Limits { entries: self.limits.entries, known: self.limits.known, ..limits };
    }

    /// Counts a guess at an account (its normalised localpart), and says whether it may be looked at and when it is to be
    /// answered. Asked once for each proof or password, before it is checked.
    #[must_use]
    pub fn begin(&mut self, account: &str, address: IpAddr, now_ms: u64) -> Verdict {
        let keys = self.keys(account, address);
        let stranger = !self.known.contains(keys.account, keys.pair);
        let pair = self.pair_rule();
        let mut rules = self.stranger_rules();
        if self.seen.level(keys.near, now_ms) >= self.limits.free.max(1) {
            let [_, of_account, ..] = &mut rules;
            of_account.most = (of_account.most / 2).max(1);
        }
        let tables = [&self.near, &self.accounts, &self.addresses, &self.networks];
        let places = [keys.near, keys.account, keys.address, keys.network];
        let full = |(table, (key, rule)): (&&Table, (u64, &Rule))| table.level(key, now_ms) >= rule.most;
        if self.pairs.level(keys.pair, now_ms) >= pair.most
            || stranger && tables.iter().zip(places.into_iter().zip(&rules)).any(full)
        {
            return Verdict::Refuse;
        }
        let level = self.pairs.raise(keys.pair, pair.most, now_ms);
        let mut delay_ms = self.delay_ms(level, pair);
        if stranger {
            let tables = [&mut self.near, &mut self.accounts, &mut self.addresses, &mut self.networks];
            let mut levels = [0; 4];
            for (n, table) in tables.into_iter().enumerate() {
                levels[n] = table.raise(places[n], rules[n].most, now_ms);
            }
            self.seen.raise(keys.near, self.limits.seen_most(), now_ms);
            for (level, rule) in levels.into_iter().zip(rules) {
                delay_ms = delay_ms.max(self.delay_ms(level, rule));
            }
        }
        Verdict::Proceed { delay_ms }
    }

    /// A guess that [`Throttle::begin`] counted was right: it is forgiven, all guesses from that address at that account
    /// are, and the address is known from now on. Anything that strangers have done stays: else each login of the owner would buy
    /// them as many guesses again.
    pub fn succeeded(&mut self, account: &str, address: IpAddr, now_ms: u64) {
        let keys = self.keys(account, address);
        self.pairs.clear(keys.pair);
        if !self.known.contains(keys.account, keys.pair) {
            self.near.lower(keys.near);
            self.accounts.lower(keys.account);
            self.addresses.lower(keys.address);
            self.networks.lower(keys.network);
            self.seen.lower(keys.near);
        }
        self.known.learn(keys.account, keys.pair, now_ms);
    }

    /// What the tables hold.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let tables = [&self.pairs, &self.near, &self.accounts, &self.addresses, &self.networks, &self.seen];
        Figures {
            remembered: tables.iter().map(|table| table.used()).sum(),
            driven_out: tables.iter().map(|table| table.driven_out()).sum(),
            known: self.known.len(),
        }
    }

    fn pair_rule(&self) -> Rule {
        Rule { free: self.limits.free, most: self.limits.per_pair.max(1) }
    }

    /// Of the tables that count strangers only, in the order of [`Throttle::begin`].
    fn stranger_rules(&self) -> [Rule; 4] {
        let rule = |most: u32| Rule { free: most / 2, most: most.max(1) };
        let Limits { per_pair, per_account, per_address, .. } = self.limits;
        let (near, network) = (per_pair.saturating_mul(2), per_address.saturating_mul(3));
        [rule(near), rule(per_account), rule(per_address), rule(network)]
    }

    fn delay_ms(&self, level: u32, rule: Rule) -> u64 {
        match level.checked_sub(rule.free) {
            None | Some(0) => 0,
            Some(paid) => {
                let doubled = 2_u64.saturating_pow(paid - 1);
                self.limits.delay_ms_first.saturating_mul(doubled).min(self.limits.delay_ms_max)
            }
        }
    }

    fn keys(&self, account: &str, address: IpAddr) -> Keys {
        let (block, network) = (Block::of(address), Block::network(address));
        let account = self.hasher.hash_one(account);
        Keys {
            account,
            pair: self.hasher.hash_one((account, block)),
            near: self.hasher.hash_one((account, network)),
            address: self.hasher.hash_one(block),
            network: self.hasher.hash_one(network),
        }
    }
}
