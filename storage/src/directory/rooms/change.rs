//! Changing who belongs to a room; reserved nicks; what the end of an account does to its rooms.

use super::affiliations::{
    Affiliate, Affiliation, HAT_TEXT_BYTES_MAX, HATS_MAX, Hat, affiliate_key, decode_removal,
};
use super::record::{REMOVALS_MAX, Room, RoomCounts};
use super::{account_key, encode_named, encode_of_account};
use crate::actor::ActorId;
use crate::directory::WriteTransaction;
use crate::directory::codec::Encoder;
use crate::directory::error::DirectoryError;
use crate::directory::key::{CONTACT_BYTES_MAX, Key, size_error};
use crate::directory::tables::{Table, damaged};
use crate::directory::transaction::check_size;
use crate::directory::version::RosterVersion;
use crate::jid::PART_BYTES_MAX;

/// Most bytes of a nick: it is a resource.
pub const NICK_BYTES_MAX: usize = PART_BYTES_MAX;

/// What somebody is to become.
#[derive(Clone, Copy, Debug)]
pub struct AffiliationChange<'a> {
    /// Bare JID.
    pub jid: &'a str,
    /// The localpart of the account that it names, if it is one of this domain.
    pub localpart: Option<&'a str>,
    /// What it becomes.
    pub affiliation: Affiliation,
    /// What is said about it; empty for nothing.
    pub reason: &'a str,
    /// When, milliseconds since 1970.
    pub now_ms: u64,
}

/// What a change has made of somebody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Changed {
    /// What it was before.
    pub before: Affiliation,
    /// What it is.
    pub after: Affiliation,
}

/// A room that has lost an account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeftRoom {
    /// The room.
    pub room: ActorId,
    /// Its name.
    pub name: String,
    /// What the account was to it.
    pub was: Affiliation,
    /// Bare JID of who owns it now, if the account was its last owner and another account belongs to it.
    pub heir: Option<String>,
    /// No account belongs to it any more.
    pub is_deserted: bool,
}

pub(super) fn nick_key(room: ActorId, nick: &str) -> Option<Key> {
    Key::owned(room, nick, NICK_BYTES_MAX)
}

fn counted(counts: &mut RoomCounts, affiliation: Affiliation) -> Option<&mut u32> {
    match affiliation {
        Affiliation::Owner => Some(&mut counts.owners),
        Affiliation::Admin => Some(&mut counts.admins),
        Affiliation::Member => Some(&mut counts.members),
        Affiliation::Outcast => Some(&mut counts.outcasts),
        Affiliation::None => None,
    }
}

impl WriteTransaction<'_> {
    /// Makes somebody something to a room. A nick that was reserved stays reserved unless the affiliation ends. What changes
    /// nothing writes nothing and gives the room no other version.
    ///
    /// # Errors
    /// [`DirectoryError::Size`] for what can be no JID, or too long a reason; the directory is damaged or cannot be written.
    pub fn affiliate(
        &mut self,
        room: &mut Room,
        change: &AffiliationChange<'_>,
    ) -> Result<Changed, DirectoryError> {
        check_size("the reason", change.reason.len())?;
        let key = affiliate_key(room.actor, change.jid)
            .ok_or_else(|| size_error("the address", change.jid, CONTACT_BYTES_MAX))?;
        let row = self.rooms().row(room.actor, change.jid)?;
        let account = match change.localpart {
            Some(local) => self.rooms().number_of(local)?,
            None => ActorId::NOBODY,
        };
        // A row of an account that is gone, or of none, is nobody's: it is written over.
        let own = row.as_ref().filter(|row| row.account == account);
        let before = own.map_or(Affiliation::None, |row| row.affiliation);
        let changed = Changed { before, after: change.affiliation };
        if before == change.affiliation && own.is_some() == row.is_some() {
            return Ok(changed);
        }
        let is_banned = change.affiliation == Affiliation::Outcast;
        let kept = own.filter(|_| !is_banned);
        let (nick, hats) = kept.map(|row| (row.nick.clone(), row.hats.clone())).unwrap_or_default();
        if let Some(row) = &row {
            self.forget_affiliate(room, &key, row)?;
        }
        self.next_version(room);
        if change.affiliation == Affiliation::None {
            self.note_removal(room, change.jid)?;
        } else {
            let after = Affiliate {
                jid: change.jid.to_owned(),
                affiliation: change.affiliation,
                nick,
                reason: change.reason.to_owned(),
                account,
                since_ms: change.now_ms,
                version: room.version,
                hats,
            };
            self.forget_removal_of(room, change.jid)?;
            self.put_affiliate(room, &key, &after)?;
        }
        self.write_room(room)?;
        Ok(changed)
    }

    /// Reserves a nick for somebody who belongs to the room, in place of the one it had; an empty one reserves none. `false`:
    /// it is somebody else's, or the JID is nothing to the room; nothing was written. The room has no other version by that: a
    /// version is one of affiliations.
    ///
    /// # Errors
    /// [`DirectoryError::Size`] for a nick longer than [`NICK_BYTES_MAX`]; the directory is damaged or cannot be written.
    pub fn reserve_nick(&mut self, room: &Room, jid: &str, nick: &str) -> Result<bool, DirectoryError> {
        let Some(mut row) = self.rooms().row(room.actor, jid)? else { return Ok(false) };
        if !nick.is_empty() && nick_key(room.actor, nick).is_none() {
            return Err(size_error("the nick", nick, NICK_BYTES_MAX));
        }
        let owner = self.rooms().nick_owner(room.actor, nick)?;
        if row.affiliation <= Affiliation::None || owner.is_some_and(|owner| owner != jid) {
            return Ok(false);
        }
        if row.nick == nick {
            return Ok(true);
        }
        if let Some(key) = nick_key(room.actor, &row.nick) {
            self.delete(Table::RoomNicks, key.bytes())?;
        }
        row.nick = nick.to_owned();
        self.rewrite_affiliate(room, &row)?;
        Ok(true)
    }

    /// Gives somebody who belongs to a room these hats in place of those that it had, at most [`HATS_MAX`]. `false`: it does not
    /// belong to the room; nothing was written.
    ///
    /// # Errors
    /// [`DirectoryError::Size`] for more hats, or longer texts, than there may be; the directory is damaged or cannot be written.
    pub fn set_hats(&mut self, room: &Room, jid: &str, hats: Vec<Hat>) -> Result<bool, DirectoryError> {
        if hats.len() > HATS_MAX {
            return Err(DirectoryError::Size { what: "the hats", bytes: hats.len(), max: HATS_MAX });
        }
        let longest = hats.iter().map(|hat| hat.uri.len().max(hat.title.len())).max().unwrap_or_default();
        if longest > HAT_TEXT_BYTES_MAX {
            return Err(DirectoryError::Size { what: "a hat", bytes: longest, max: HAT_TEXT_BYTES_MAX });
        }
        let Some(mut row) = self.rooms().row(room.actor, jid)? else { return Ok(false) };
        if row.affiliation <= Affiliation::None {
            return Ok(false);
        }
        row.hats = hats;
        self.rewrite_affiliate(room, &row)?;
        Ok(true)
    }

    /// Ends what an account is to all rooms. Where it was the last owner, whoever has been an admin for longest owns the room
    /// from then on, or whoever has been a member for longest. For an account that is to be deleted.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn leave_rooms(&mut self, account: ActorId) -> Result<Vec<LeftRoom>, DirectoryError> {
        let mut left = Vec::new();
        for of_account in self.rooms().of_account(account, usize::MAX)? {
            let Some(mut room) = self.rooms().room(&of_account.name)? else { continue };
            let Some(row) = self.rooms().row(room.actor, &of_account.jid)? else { continue };
            let key = affiliate_key(room.actor, &row.jid)
                .ok_or_else(|| size_error("the address", &row.jid, CONTACT_BYTES_MAX))?;
            self.forget_affiliate(&mut room, &key, &row)?;
            self.next_version(&mut room);
            self.note_removal(&mut room, &row.jid)?;
            let was_owner = row.affiliation == Affiliation::Owner;
            let is_orphaned = room.counts.owners == 0 || was_owner && !self.rooms().has_owner(room.actor)?;
            let heir = if is_orphaned { self.pass_ownership(&mut room)? } else { None };
            self.write_room(&room)?;
            let is_deserted = self.rooms().is_deserted(room.actor)?;
            left.push(LeftRoom {
                room: room.actor,
                name: room.name.into(),
                was: row.affiliation,
                heir,
                is_deserted,
            });
        }
        Ok(left)
    }

    /// Makes an owner of the account that has been an admin for longest, or else a member; its bare JID. `None`: no account belongs
    /// to the room. To be called when the last owner is gone.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn pass_ownership(&mut self, room: &mut Room) -> Result<Option<String>, DirectoryError> {
        let mut heir: Option<Affiliate> = None;
        let seniority =
            |affiliate: &Affiliate| (affiliate.affiliation, std::cmp::Reverse(affiliate.since_ms));
        self.rooms().each_affiliate(room.actor, |affiliate| {
            let belongs = affiliate.affiliation > Affiliation::None && affiliate.account != ActorId::NOBODY;
            if belongs && heir.as_ref().is_none_or(|heir| seniority(&affiliate) > seniority(heir)) {
                heir = Some(affiliate);
            }
            true
        })?;
        let Some(row) = heir else { return Ok(None) };
        let key = affiliate_key(room.actor, &row.jid)
            .ok_or_else(|| size_error("the address", &row.jid, CONTACT_BYTES_MAX))?;
        self.forget_affiliate(room, &key, &row)?;
        self.next_version(room);
        let owner = Affiliate {
            affiliation: Affiliation::Owner,
            reason: String::new(),
            version: room.version,
            ..row
        };
        self.put_affiliate(room, &key, &owner)?;
        self.write_room(room)?;
        Ok(Some(owner.jid))
    }

    /// Writes the row of somebody who had none, and all that goes with it but the room's own row.
    fn put_affiliate(&mut self, room: &mut Room, key: &Key, row: &Affiliate) -> Result<(), DirectoryError> {
        self.put(Table::RoomAffiliations, key.bytes(), &row.encode(key))?;
        self.count_maker(row)?;
        if let Some(nick) = nick_key(room.actor, &row.nick) {
            self.put(Table::RoomNicks, nick.bytes(), &encode_named(&nick, &row.nick, &row.jid))?;
        }
        if row.account != ActorId::NOBODY {
            let key = account_key(row.account, room.actor);
            let value = encode_of_account(&key, row.affiliation, &row.jid);
            self.put(Table::RoomsOfAccounts, &key, &value)?;
        }
        if let Some(count) = counted(&mut room.counts, row.affiliation) {
            *count += 1;
        }
        Ok(())
    }

    /// Takes the row of somebody away, and all that goes with it but the room's own row.
    fn forget_affiliate(
        &mut self,
        room: &mut Room,
        key: &Key,
        row: &Affiliate,
    ) -> Result<(), DirectoryError> {
        self.delete(Table::RoomAffiliations, key.bytes())?;
        self.discount_maker(row)?;
        if let Some(nick) = nick_key(room.actor, &row.nick) {
            self.delete(Table::RoomNicks, nick.bytes())?;
        }
        if row.account != ActorId::NOBODY {
            self.delete(Table::RoomsOfAccounts, &account_key(row.account, room.actor))?;
        }
        if let Some(count) = counted(&mut room.counts, row.affiliation) {
            *count = count.saturating_sub(1);
        }
        Ok(())
    }

    /// Writes a row whose affiliation is what it was.
    fn rewrite_affiliate(&mut self, room: &Room, row: &Affiliate) -> Result<(), DirectoryError> {
        let key = affiliate_key(room.actor, &row.jid)
            .ok_or_else(|| size_error("the address", &row.jid, CONTACT_BYTES_MAX))?;
        self.put(Table::RoomAffiliations, key.bytes(), &row.encode(&key))?;
        match nick_key(room.actor, &row.nick) {
            Some(nick) => self.put(Table::RoomNicks, nick.bytes(), &encode_named(&nick, &row.nick, &row.jid)),
            None => Ok(()),
        }
    }

    /// The room's next version; its row is to be written afterwards.
    fn next_version(&self, room: &mut Room) {
        room.version += 1;
        room.history.note(RosterVersion { number: room.version, incarnation: self.inner.incarnation });
    }

    /// Remembers that somebody has lost its affiliation at the room's version.
    fn note_removal(&mut self, room: &mut Room, jid: &str) -> Result<(), DirectoryError> {
        if room.removals >= REMOVALS_MAX {
            let view = self.view();
            let oldest = view.prefixed(Table::RoomRemovals, &room.actor.key())?.next().transpose()?;
            if let Some((key, value)) = oldest {
                let removal = decode_removal(key, value).map_err(damaged(Table::RoomRemovals, key))?;
                room.floor = removal.version;
                room.removals -= 1;
                self.delete(Table::RoomRemovals, &Key::removal(room.actor, removal.version))?;
            }
        }
        let key = Key::removal(room.actor, room.version);
        let mut fields = Encoder::new(4 + jid.len());
        fields.text(jid.as_bytes());
        room.removals += 1;
        self.put(Table::RoomRemovals, &key, &fields.seal(&key))
    }

    /// Somebody who belongs to the room again is no longer removed.
    fn forget_removal_of(&mut self, room: &mut Room, jid: &str) -> Result<(), DirectoryError> {
        if room.removals == 0 {
            return Ok(());
        }
        let mut found = None;
        for row in self.view().prefixed(Table::RoomRemovals, &room.actor.key())? {
            let (key, value) = row?;
            let removal = decode_removal(key, value).map_err(damaged(Table::RoomRemovals, key))?;
            if removal.jid == jid {
                found = Some(removal.version);
            }
        }
        if let Some(version) = found {
            self.delete(Table::RoomRemovals, &Key::removal(room.actor, version))?;
            room.removals -= 1;
        }
        Ok(())
    }
}
