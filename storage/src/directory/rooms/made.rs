//! How many rooms an account has made and owned ever since: a number for each account, kept in the transactions that change who
//! owns what, so that a limit on it costs one look however many rooms there are.
//!
//! Others that an account owns count for nothing: anybody can make it an owner. Who has made a room is told by the version of its
//! row: the first who belonged to the room is whoever has made it. One that becomes something else, and owner again, or inherits,
//! has another version, and counts no more.

use heed::RwTxn;

use super::RoomsView;
use super::affiliations::{Affiliate, Affiliation, FIRST_VERSION};
use crate::actor::ActorId;
use crate::directory::WriteTransaction;
use crate::directory::codec::{Decoder, Encoder};
use crate::directory::error::DirectoryError;
use crate::directory::tables::{Table, Tables, damaged};

impl Affiliate {
    /// The account that has made the room by which it has this row, and owns it still.
    pub(super) fn maker(&self) -> Option<ActorId> {
        let is_maker = self.affiliation == Affiliation::Owner && self.version == FIRST_VERSION;
        Some(self.account).filter(|account| is_maker && *account != ActorId::NOBODY)
    }
}

fn decode(key: &[u8], value: &[u8]) -> Result<u64, &'static str> {
    let mut fields = Decoder::open(key, value)?;
    let count = fields.number()?;
    fields.close().map(|()| count)
}

fn encode(key: &[u8], count: u64) -> Vec<u8> {
    let mut fields = Encoder::new(8);
    fields.number(count);
    fields.seal(key)
}

impl RoomsView<'_> {
    /// How many rooms an account has made and owned ever since.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn made_by(&self, account: ActorId) -> Result<u64, DirectoryError> {
        let key = account.key();
        let Some(value) = self.view.get(Table::RoomsMade, &key)? else { return Ok(0) };
        decode(&key, value).map_err(damaged(Table::RoomsMade, &key))
    }
}

impl WriteTransaction<'_> {
    /// A row is there from now on.
    pub(super) fn count_maker(&mut self, row: &Affiliate) -> Result<(), DirectoryError> {
        let Some(maker) = row.maker() else { return Ok(()) };
        let count = self.rooms().made_by(maker)?;
        self.put_rooms_made(maker, count + 1)
    }

    /// A row is gone.
    pub(super) fn discount_maker(&mut self, row: &Affiliate) -> Result<(), DirectoryError> {
        let Some(maker) = row.maker() else { return Ok(()) };
        let count = self.rooms().made_by(maker)?;
        self.put_rooms_made(maker, count.saturating_sub(1))
    }

    fn put_rooms_made(&mut self, account: ActorId, count: u64) -> Result<(), DirectoryError> {
        let key = account.key();
        match count {
            0 => self.delete(Table::RoomsMade, &key).map(|_| ()),
            _ => self.put(Table::RoomsMade, &key, &encode(&key, count)),
        }
    }
}

impl Tables {
    /// Counts the rooms of all accounts, for a directory in which nobody has. A row that does not read back counts for nobody: it
    /// is reported where somebody needs it.
    pub(in crate::directory) fn count_rooms_made(&self, txn: &mut RwTxn<'_>) -> Result<(), heed::Error> {
        let mut makers = std::collections::BTreeMap::<ActorId, u64>::new();
        for row in self.of(Table::RoomAffiliations).iter(txn)? {
            let (key, value) = row?;
            let maker = Affiliate::decode(key, value).ok().and_then(|row| row.maker());
            maker.into_iter().for_each(|maker| *makers.entry(maker).or_default() += 1);
        }
        for (maker, count) in makers {
            let key = maker.key();
            self.of(Table::RoomsMade).put(txn, &key, &encode(&key, count))?;
        }
        Ok(())
    }
}
