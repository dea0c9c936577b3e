//! Attempts as they go to another program: an upgrade gives nobody new ones.

use whimbrel_address::Block;

use super::{BLOCKS_MAX, RegistrationQuota};
use crate::saved::Owner;
use crate::saved::codec::{Decoder, Encoder};
use crate::saved::error::StateError;
use crate::saved::kind::Kind;

/// The attempts of the current window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaRecord {
    /// Windows since the server's clock was 0.
    pub number: u64,
    /// Attempts of addresses that found no room.
    pub others: u32,
    /// Attempts by address.
    pub attempts: Vec<(Block, u32)>,
}

/// Owns the attempts to register. A program that does not know them begins to count anew.
pub struct Registrations;

impl Owner for Registrations {
    const KIND: Kind = Kind::droppable("registrations");
    type Record<'a> = QuotaRecord;

    fn write(record: &QuotaRecord, to: &mut Encoder) {
        to.number(record.number);
        to.number(record.others);
        to.count(record.attempts.len());
        for (block, count) in &record.attempts {
            to.raw(&block.bits().to_le_bytes());
            to.number(*count);
        }
    }

    fn read(from: &mut Decoder<'_>) -> Result<QuotaRecord, StateError> {
        let mut record = QuotaRecord { number: from.number()?, others: from.number()?, attempts: Vec::new() };
        for _ in 0..from.count()? {
            let block = Block::from_bits(u64::from_le_bytes(*from.array()?));
            record.attempts.push((block, from.number()?));
        }
        Ok(record)
    }

    fn samples() -> Vec<QuotaRecord> {
        let block = Block::of([192, 0, 2, 7].into());
        vec![QuotaRecord { number: 24, others: 3, attempts: vec![(block, 2)] }]
    }
}

impl RegistrationQuota {
    /// The attempts of the hour, as they go to another program.
    ///
    /// # Panics
    /// Never: nothing panics while it holds the lock.
    pub fn save(&self) -> QuotaRecord {
        let quota = self.0.lock().expect("no code panics while it holds this lock");
        let attempts = quota.attempts.iter().map(|(block, count)| (*block, *count)).collect();
        QuotaRecord { number: quota.number, others: quota.others, attempts }
    }

    /// Takes over the attempts that another program has counted.
    ///
    /// # Panics
    /// Never: nothing panics while it holds the lock.
    pub fn restore(&self, record: &QuotaRecord) {
        let mut quota = self.0.lock().expect("no code panics while it holds this lock");
        quota.number = record.number;
        quota.others = record.others;
        quota.attempts = record.attempts.iter().take(BLOCKS_MAX).copied().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_gives_an_address_no_new_attempts() {
        let (before, after) = (RegistrationQuota::default(), RegistrationQuota::default());
        let (a, b) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let now_ms = 5 * 3_600_000;
        assert!(before.take(a, 2, now_ms) && before.take(a, 2, now_ms));
        after.restore(&before.save());
        assert!(!after.take(a, 2, now_ms));
        assert!(after.take(b, 2, now_ms));
        assert!(after.take(a, 2, now_ms + 3_600_000));
    }
}
