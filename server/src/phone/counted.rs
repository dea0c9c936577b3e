//! What is counted in the directory, and against which limit.

use whimbrel_storage::directory::{
    Directory, DirectoryError, NumberState, Quota, QuotaKey, WriteTransaction,
};

use super::rules::{Limit, Refused};

/// What can be read of the directory, in a transaction or outside of one.
pub trait Look {
    /// What is remembered of a number.
    ///
    /// # Errors
    /// The directory cannot be read.
    fn state(&self, number: &str) -> Result<NumberState, DirectoryError>;
    /// A quota.
    ///
    /// # Errors
    /// The directory cannot be read.
    fn count(&self, key: &QuotaKey) -> Result<Quota, DirectoryError>;
}

impl Look for Directory {
    fn state(&self, number: &str) -> Result<NumberState, DirectoryError> {
        Ok(self.number_state(number)?.unwrap_or_default())
    }

    fn count(&self, key: &QuotaKey) -> Result<Quota, DirectoryError> {
        self.quota(key)
    }
}

impl Look for WriteTransaction<'_> {
    fn state(&self, number: &str) -> Result<NumberState, DirectoryError> {
        Ok(self.number_state(number)?.unwrap_or_default())
    }

    fn count(&self, key: &QuotaKey) -> Result<Quota, DirectoryError> {
        self.quota(key)
    }
}

/// Something that is counted, and its limit.
pub(super) struct Counted {
    pub(super) limit: Limit,
    pub(super) key: QuotaKey,
    pub(super) most: u32,
    pub(super) window_ms: u64,
}

impl Counted {
    /// The quota as it is now: a window that has ended, or lies in a future that a corrected clock has taken back, is
    /// an empty one.
    fn now(&self, look: &impl Look, now_ms: u64) -> Result<Quota, DirectoryError> {
        let quota = look.count(&self.key)?;
        let current = quota.until_ms > now_ms && quota.until_ms <= now_ms + self.window_ms;
        Ok(if current { quota } else { Quota { until_ms: now_ms + self.window_ms, count: 0 } })
    }

    pub(super) fn check(&self, look: &impl Look, now_ms: u64) -> Result<Option<Refused>, DirectoryError> {
        let quota = self.now(look, now_ms)?;
        Ok((quota.count >= self.most).then(|| Refused::Limit(self.limit, quota.until_ms - now_ms)))
    }

    pub(super) fn add(
        &self,
        transaction: &mut WriteTransaction<'_>,
        now_ms: u64,
    ) -> Result<(), DirectoryError> {
        let quota = self.now(transaction, now_ms)?;
        transaction.set_quota(&self.key, Quota { count: quota.count.saturating_add(1), ..quota })
    }

    pub(super) fn take_back(
        &self,
        transaction: &mut WriteTransaction<'_>,
        now_ms: u64,
    ) -> Result<(), DirectoryError> {
        let quota = self.now(transaction, now_ms)?;
        transaction.set_quota(&self.key, Quota { count: quota.count.saturating_sub(1), ..quota })
    }
}
