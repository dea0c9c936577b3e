//! Which accounts may have a device that is told by push: what others ask before they send an account something for its devices.
//!
//! One bit for each of [`SLOTS`] classes of account numbers, 1 MiB in all, read without a lock by every worker. A bit that is set
//! says "perhaps": with a million accounts that have devices, one of nine others is asked in vain. Bits are set when a device is
//! enabled, before that is committed, and stay until the server starts anew.

use std::sync::atomic::{AtomicU64, Ordering};

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::{Directory, DirectoryError};

/// Bits of the number of a slot.
const SLOT_BITS: u32 = 23;

/// Classes of accounts.
const SLOTS: usize = 1 << SLOT_BITS;

/// The accounts.
pub struct PushAccounts(Box<[AtomicU64]>);

impl PushAccounts {
    /// Those of a directory. Looks at the key of every device: about a second for some millions.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn of(directory: &Directory) -> Result<PushAccounts, DirectoryError> {
        let accounts = PushAccounts((0..SLOTS / 64).map(|_| AtomicU64::new(0)).collect());
        directory.each_push_account(|account| accounts.note(account))?;
        Ok(accounts)
    }

    /// An account is about to have a device.
    pub fn note(&self, account: ActorId) {
        let (word, bit) = place(account);
        self.0[word].fetch_or(bit, Ordering::Relaxed);
    }

    /// Whether an account may have a device.
    pub fn may_have(&self, account: ActorId) -> bool {
        let (word, bit) = place(account);
        self.0[word].load(Ordering::Relaxed) & bit != 0
    }
}

fn place(account: ActorId) -> (usize, u64) {
    // Numbers of accounts are a count and a hash: multiplied by 2^64 / φ, their upper bits are spread evenly.
    let slot = (account.raw().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOT_BITS)) as usize;
    (slot / 64, 1 << (slot % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_have_devices_are_found_and_few_others() {
        let accounts = PushAccounts((0..SLOTS / 64).map(|_| AtomicU64::new(0)).collect());
        let account = |n: u64| ActorId::from_raw(1 << 56 | n << 28 | (n * 7919) & 0xfff_ffff);
        (0..100_000).for_each(|n| accounts.note(account(n)));
        assert!((0..100_000).all(|n| accounts.may_have(account(n))));
        let others = (100_000..200_000).filter(|n| accounts.may_have(account(*n))).count();
        assert!(others < 3_000, "{others} of 100,000");
    }
}
