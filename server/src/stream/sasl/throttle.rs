//! Slowing whoever guesses passwords, per account and per address.
//!
//! Each failure raises a level by one, and time lowers it by one every
//! [`Limits::forgive_ms`]. The level decides how long the answer to a failure is held back, and at
//! a limit further attempts are refused unheard, so that in the long run nobody gets more than one
//! guess per `forgive_ms`, however many connections he opens. A refused attempt does not raise the
//! level: a lock always ends by itself. Who guesses on purpose can keep the owner of an account
//! out for that long; the limit of the account is high for that reason.
//!
//! Time is milliseconds of any clock that does not go back, given by the caller. Memory is fixed:
//! 24 bytes an entry, and the module `table` says who gives way when it is full.

mod table;
#[cfg(test)]
mod tests;

use std::hash::BuildHasher as _;
use std::net::IpAddr;

use foldhash::quality::FixedState;

use table::Table;

/// How failed logins are slowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Accounts, and addresses, that are remembered; rounded up to a power of two.
    pub entries: usize,
    /// Failures that are answered at once.
    pub free_failures: u32,
    /// How long the answer to the next failure is held back; doubled by each one after it.
    pub delay_ms_first: u64,
    /// The longest delay.
    pub delay_ms_max: u64,
    /// The level at which attempts on an account are refused; at least 1.
    pub account_failures_max: u32,
    /// The level at which attempts from an address are refused; at least 1. Higher than that of an
    /// account: a company or a telephone network can share one address.
    pub address_failures_max: u32,
    /// How long it takes to forgive one failure; at least 1.
    pub forgive_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 1 << 16,
            free_failures: 3,
            delay_ms_first: 500,
            delay_ms_max: 10_000,
            account_failures_max: 100,
            address_failures_max: 300,
            forgive_ms: 30_000,
        }
    }
}

/// Whether an attempt is heard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Go on.
    Proceed,
    /// Answer `temporary-auth-failure` without looking at the proof or the password.
    Refuse,
}

/// The failures of late.
#[derive(Debug)]
pub struct Throttle {
    limits: Limits,
    hasher: FixedState,
    accounts: Table,
    addresses: Table,
}

impl Throttle {
    /// Nobody has failed yet. `seed` is random, so that nobody can aim for a stranger's entry.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            hasher: FixedState::with_seed(seed),
            accounts: Table::new(limits.entries, limits.forgive_ms),
            addresses: Table::new(limits.entries, limits.forgive_ms),
        }
    }

    /// Asked as soon as the client has named its account, by its normalised localpart, and again
    /// before its proof is looked at: connections opened side by side do not get around it.
    #[must_use]
    pub fn verdict(&self, account: &str, address: IpAddr, now_ms: u64) -> Verdict {
        let of_account = self.accounts.level(self.account_key(account), now_ms);
        let of_address = self.addresses.level(self.address_key(address), now_ms);
        if of_account >= self.limits.account_failures_max.max(1)
            || of_address >= self.limits.address_failures_max.max(1)
        {
            Verdict::Refuse
        } else {
            Verdict::Proceed
        }
    }

    /// Counts a wrong password and says how many milliseconds its answer is held back. The caller
    /// keeps reading nothing from the connection meanwhile.
    #[must_use]
    pub fn failed(&mut self, account: &str, address: IpAddr, now_ms: u64) -> u64 {
        let (account, address) = (self.account_key(account), self.address_key(address));
        let of_account = self.accounts.raise(account, self.limits.account_failures_max.max(1), now_ms);
        let of_address = self.addresses.raise(address, self.limits.address_failures_max.max(1), now_ms);
        self.delay_ms(of_account.max(of_address))
    }

    /// Forgives the account after its owner got in. The address stays as it is: else an account of
    /// one's own would buy guesses at those of others.
    pub fn succeeded(&mut self, account: &str) {
        let account = self.account_key(account);
        self.accounts.clear(account);
    }

    fn delay_ms(&self, level: u32) -> u64 {
        match level.checked_sub(self.limits.free_failures) {
            None | Some(0) => 0,
            Some(paid) => {
                let doubled = 2_u64.saturating_pow(paid - 1);
                self.limits.delay_ms_first.saturating_mul(doubled).min(self.limits.delay_ms_max)
            }
        }
    }

    fn account_key(&self, account: &str) -> u64 {
        self.hasher.hash_one(account)
    }

    /// IPv6 by /64, the least that a customer gets; IPv4 whole, also in its mapped form.
    fn address_key(&self, address: IpAddr) -> u64 {
        match address.to_canonical() {
            IpAddr::V4(address) => self.hasher.hash_one((4_u8, u64::from(address.to_bits()))),
            IpAddr::V6(address) => {
                let network = u64::try_from(address.to_bits() >> 64).expect("64 of 128 bits remain");
                self.hasher.hash_one((6_u8, network))
            }
        }
    }
}
