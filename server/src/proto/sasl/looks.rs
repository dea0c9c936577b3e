//! How names that are no accounts are to look: as accounts do, in the same proportions.
//!
//! A SCRAM challenge shows iterations and salt ([`Look`]). Real accounts differ in them when they were imported or when
//! `auth.scram_iterations` has changed, so one look for all unknown names would tell which names are real. The looks of
//! the accounts are counted, over and over, a page at a time; an unknown name has each of them with the same chance as a
//! real account, chosen by the server's secret and the name. When the shares change, only as many names change their
//! look as have to, towards the look whose share has grown: as accounts do that change their passwords.

use std::collections::HashMap;
use std::num::NonZeroU32;

use ring::hmac;
use whimbrel_storage::credentials::Look;
use whimbrel_storage::directory::Directory;

/// Different looks that are kept apart; of more, the most frequent.
const LOOKS_MAX: usize = 64;

/// Accounts read at the start, before anybody can ask.
pub const FIRST_PAGE: usize = 10_000;

/// Accounts read at a time later on.
pub const PAGE: usize = 1_000;

/// Between two counts, in milliseconds, at least; a count that took longer is followed by a rest four times as long.
const REST_MS: u64 = 15_000;

/// Looks with their shares.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Looks(Vec<(Look, u64)>);

impl Looks {
    /// Of a directory without accounts: that of one made now.
    #[must_use]
    pub fn usual(iterations: NonZeroU32) -> Self {
        Self(vec![(Look::usual(iterations), 1)])
    }

    fn counted(counts: &HashMap<Look, u64>, iterations: NonZeroU32) -> Self {
        if counts.is_empty() {
            return Self::usual(iterations);
        }
        let mut looks: Vec<(Look, u64)> = counts.iter().map(|(look, count)| (*look, *count)).collect();
        looks.sort_unstable_by_key(|&(look, count)| (std::cmp::Reverse(count), look));
        looks.truncate(LOOKS_MAX);
        Self(looks)
    }

    /// The look of a name: weighted rendezvous hashing, so that it stays while the shares do.
    #[must_use]
    pub fn of(&self, secret: &[u8], username: &str) -> Look {
        let [(first, _), rest @ ..] = &self.0[..] else { unreachable!("there is always one look") };
        if rest.is_empty() {
            return *first;
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let score = |look: &Look, share: u64| {
            let mut context = hmac::Context::with_key(&key);
            context.update(b"look");
            context.update(&look.bytes());
            context.update(username.as_bytes());
            let tag = context.sign();
            let first = tag.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
            // In (0, 1): 53 bits are what the fraction has.
            let chance = ((u64::from_le_bytes(*first) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            -chance.ln() / share as f64
        };
        let scored = self.0.iter().map(|(look, share)| (score(look, *share), look));
        scored.min_by(|(a, _), (b, _)| a.total_cmp(b)).map_or(*first, |(_, look)| *look)
    }
}

/// A count of looks under way.
#[derive(Debug, Default)]
pub struct LooksSurvey {
    after: Vec<u8>,
    counts: HashMap<Look, u64>,
    begun_ms: u64,
    rests_until_ms: u64,
}

impl LooksSurvey {
    /// Counts a page of at most `max` accounts. Returns what is known then: at the end of the directory, and of the first
    /// page so that nobody has to wait for it. `iterations` are what new accounts get.
    pub fn step(
        &mut self,
        directory: &Directory,
        max: usize,
        iterations: NonZeroU32,
        now_ms: u64,
    ) -> Option<Looks> {
        if now_ms < self.rests_until_ms {
            return None;
        }
        if self.after.is_empty() {
            self.begun_ms = now_ms;
        }
        let page = match directory.looks(&self.after, max) {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "cannot read how accounts look; unknown names may look otherwise");
                self.rests_until_ms = now_ms + REST_MS;
                return None;
            }
        };
        for look in &page.seen {
            let full = self.counts.len() >= 16 * LOOKS_MAX && !self.counts.contains_key(look);
            if !full {
                *self.counts.entry(*look).or_insert(0) += 1;
            }
        }
        let first = self.after.is_empty() && self.rests_until_ms == 0;
        if let Some(last) = page.last {
            self.after = last;
            return first.then(|| Looks::counted(&self.counts, iterations));
        }
        let looks = Looks::counted(&self.counts, iterations);
        let took_ms = now_ms.saturating_sub(self.begun_ms);
        *self = Self { rests_until_ms: now_ms + REST_MS.max(4 * took_ms), ..Self::default() };
        Some(looks)
    }

    /// Begins at once with the next count: something has changed.
    pub fn hurry(&mut self) {
        self.rests_until_ms = self.rests_until_ms.min(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(iterations: u32) -> Look {
        Look::usual(NonZeroU32::new(iterations).expect("not zero"))
    }

    fn shares(shares: &[(u32, u64)]) -> Looks {
        Looks(shares.iter().map(|&(iterations, share)| (look(iterations), share)).collect())
    }

    const NAMES: usize = 4000;

    fn names_with(looks: &Looks, iterations: u32) -> usize {
        (0..NAMES).filter(|n| looks.of(b"secret", &format!("nobody{n}")) == look(iterations)).count()
    }

    #[test]
    fn unknown_names_have_each_look_as_often_as_accounts() {
        let looks = shares(&[(4096, 750), (10_000, 200), (20_000, 50)]);
        for (iterations, share) in [(4096, 0.75), (10_000, 0.2), (20_000, 0.05)] {
            let found = names_with(&looks, iterations) as f64 / NAMES as f64;
            assert!((found - share).abs() < 0.03, "{iterations}: {found}");
        }
        assert_eq!(names_with(&shares(&[(4096, 3)]), 4096), NAMES);
    }

    #[test]
    fn a_name_changes_its_look_only_for_one_whose_share_has_grown() {
        let (before, after) = (shares(&[(4096, 900), (8192, 100)]), shares(&[(4096, 900), (8192, 200)]));
        let mut changed = 0;
        for n in 0..NAMES {
            let name = format!("nobody{n}");
            let (old, new) = (before.of(b"secret", &name), after.of(b"secret", &name));
            assert!(old == new || new == look(8192), "{name}");
            changed += usize::from(old != new);
        }
        assert!(changed < NAMES / 8, "{changed}");
        assert!(changed > 0);
    }
}
