//! Failed logins and known addresses as they go to another program: an upgrade gives nobody new guesses and keeps no
//! owner out.

use super::table::{Entry, Table};
use super::{Limits, Throttle};
use crate::saved::Owner;
use crate::saved::codec::{Decoder, Encoder};
use crate::saved::error::StateError;
use crate::saved::kind::Kind;

/// Tables of levels.
const TABLES: usize = 5;

/// An entry of the known addresses: its place, the hash of account and address, the tag of the account, and when it was
/// used, in seconds.
pub(super) type KnownEntry = (u64, u64, u32, u32);

/// All that a throttle remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThrottleRecord {
    pub(super) seed: u64,
    pub(super) tables: [Vec<Entry>; TABLES],
    pub(super) known_places: u64,
    pub(super) known: Vec<KnownEntry>,
}

/// Owns [`ThrottleRecord`].
pub struct Guesses;

impl Owner for Guesses {
    const KIND: Kind = Kind::required("guesses");
    type Record<'a> = ThrottleRecord;

    fn write(record: &ThrottleRecord, to: &mut Encoder) {
        to.raw(&record.seed.to_le_bytes());
        for table in &record.tables {
            to.count(table.len());
            for entry in table {
                to.raw(&entry.key.to_le_bytes());
                to.number(entry.level);
                to.number(entry.since_ms);
            }
        }
        to.number(record.known_places);
        to.count(record.known.len());
        for (at, pair, account, used) in &record.known {
            to.number(*at);
            to.raw(&pair.to_le_bytes());
            to.raw(&account.to_le_bytes());
            to.number(*used);
        }
    }

    fn read(from: &mut Decoder<'_>) -> Result<ThrottleRecord, StateError> {
        let mut record =
            ThrottleRecord { seed: u64::from_le_bytes(*from.array()?), ..ThrottleRecord::default() };
        for table in &mut record.tables {
            for _ in 0..from.count()? {
                let key = u64::from_le_bytes(*from.array()?);
                table.push(Entry { key, level: from.number()?, since_ms: from.number()? });
            }
        }
        record.known_places = from.number()?;
        for _ in 0..from.count()? {
            let at: u64 = from.number()?;
            if at >= record.known_places {
                return Err(StateError::Damaged("a known address beyond the table"));
            }
            let (pair, account) = (u64::from_le_bytes(*from.array()?), u32::from_le_bytes(*from.array()?));
            record.known.push((at, pair, account, from.number()?));
        }
        Ok(record)
    }

    fn samples() -> Vec<ThrottleRecord> {
        let entry = |key| Entry { key, level: 3, since_ms: 86_000_000 };
        let tables = [1, 2, 3, 4, 5].map(|key| vec![entry(key), entry(key << 40)]);
        vec![ThrottleRecord { seed: 7, tables, known_places: 64, known: vec![(9, 1 << 50, 77, 86_000)] }]
    }
}

impl Throttle {
    /// As it goes to another program.
    #[must_use]
    pub fn save(&self) -> ThrottleRecord {
        let tables = [&self.pairs, &self.near, &self.accounts, &self.addresses, &self.networks];
        ThrottleRecord {
            seed: self.seed,
            tables: tables.map(|table| table.live().collect()),
            known_places: self.known.places(),
            known: self.known.entries().collect(),
        }
    }

    /// What another program has counted; `limits` are this one's. Where they say another number of known addresses, those
    /// have to be learnt anew.
    #[must_use]
    pub fn restored(limits: Limits, record: &ThrottleRecord) -> Throttle {
        let mut throttle = Throttle::new(limits, record.seed);
        let Throttle { pairs, near, accounts, addresses, networks, seen, known, .. } = &mut throttle;
        let tables: [&mut Table; TABLES] = [pairs, near, accounts, addresses, networks];
        for (table, entries) in tables.into_iter().zip(&record.tables) {
            entries.iter().for_each(|entry| table.restore(*entry));
        }
        // Who guesses now has guessed of late.
        let most = limits.seen_most();
        record.tables[1]
            .iter()
            .for_each(|entry| seen.restore(Entry { level: entry.level.min(most), ..*entry }));
        if record.known_places == known.places() {
            record.known.iter().for_each(|entry| known.restore(*entry));
        }
        throttle
    }
}
