//! The tables and how they are read.

use std::ops::Bound;

use heed::types::Bytes;
use heed::{Database, Env, RoTxn, RwTxn, WithoutTls};

use super::error::DirectoryError;
use super::handle::Opened;
use super::key::Key;

/// Bytes to bytes: keys and values are encoded by this module's own code.
type Raw = Database<Bytes, Bytes>;

/// A key and its value.
pub(super) type Row<'t> = (&'t [u8], &'t [u8]);

/// The tables, by what they hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Table {
    /// What is said once: format, domain, secret, counters.
    Meta,
    /// Localpart → number and credentials.
    Accounts,
    /// Account → version, length of the roster.
    RosterStates,
    /// Account and contact → item.
    Rosters,
    /// Account and roster version → contact removed then.
    Removals,
    /// Account → JIDs.
    Blocked,
    /// Account → vCard.
    Vcards,
    /// Account, name and namespace → XML.
    Private,
    /// Account → when and with what words it was last online.
    Activity,
    /// Account → what it says of itself.
    AccountSettings,
    /// Phone number → the PIN under way, and how guessing it is slowed.
    Registrations,
    /// What is counted → until when, and how often.
    Quotas,
    /// Actor and id of a block's first message → where its messages lie.
    Archive,
    /// Actor → how its archive stands.
    ArchiveStates,
    /// Journal and segment → what archives hold of it.
    ArchiveSegments,
    /// Journal → up to where rows have everything of it.
    ArchiveJournals,
    /// Actor → what it wants to be kept.
    ArchivePreferences,
    /// Actor and id of a message → what stands for its text.
    ArchiveErased,
    /// Number → what was erased and is on the disk still.
    ArchiveErasures,
    /// Journal → how far its files have been gone through for erased texts.
    ArchivePasses,
    /// Id of a block's first message and actor → the block is to be gathered with others.
    ArchiveGathering,
    /// Account and name → node.
    PubsubNodes,
    /// Account, node and sequence → item.
    PubsubItems,
    /// Account, node and id of an item → its sequence.
    PubsubItemIds,
    /// Account, node and JID → affiliation and subscription.
    PubsubMembers,
    /// Account → what its nodes hold together.
    PubsubUsage,
    /// Account, node of the service and JID → what the account is to the node; the service, node and JID → an owner.
    NodesOfAccounts,
    /// Name → room.
    Rooms,
    /// Room → its name.
    RoomNames,
    /// Room and bare JID → affiliation.
    RoomAffiliations,
    /// Room and nick → whose it is.
    RoomNicks,
    /// Room and version → who has lost an affiliation then.
    RoomRemovals,
    /// Room and hash of a token → link that makes members.
    RoomLinks,
    /// Account and room → what the account is to the room.
    RoomsOfAccounts,
    /// Account → how many rooms it has made and owned ever since.
    RoomsMade,
    /// Name → title of a public room.
    RoomsPublic,
    /// Account and node → device that push services know.
    PushDevices,
    /// Hash of a push service's token → whose device it is.
    PushTokens,
    /// Account and stream → how much of the stream was handled.
    StreamCounts,
    /// Id of an upload → the slot that waits for its file.
    UploadSlots,
    /// Id of an upload → its file.
    Uploads,
    /// Account and id of an upload → nothing more.
    UploadsOfAccounts,
    /// Account → what its uploads are together; nobody → those of all.
    UploadUsage,
    /// Id of an upload → nothing more: its bytes are to be removed.
    UploadErasures,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 44] = [
        Self::Meta,
        Self::Accounts,
        Self::RosterStates,
        Self::Rosters,
        Self::Removals,
        Self::Blocked,
        Self::Vcards,
        Self::Private,
        Self::Activity,
        Self::AccountSettings,
        Self::Registrations,
        Self::Quotas,
        Self::Archive,
        Self::ArchiveStates,
        Self::ArchiveSegments,
        Self::ArchiveJournals,
        Self::ArchivePreferences,
        Self::ArchiveErased,
        Self::ArchiveErasures,
        Self::ArchivePasses,
        Self::ArchiveGathering,
        Self::PubsubNodes,
        Self::PubsubItems,
        Self::PubsubItemIds,
        Self::PubsubMembers,
        Self::PubsubUsage,
        Self::NodesOfAccounts,
        Self::Rooms,
        Self::RoomNames,
        Self::RoomAffiliations,
        Self::RoomNicks,
        Self::RoomRemovals,
        Self::RoomLinks,
        Self::RoomsOfAccounts,
        Self::RoomsMade,
        Self::RoomsPublic,
        Self::PushDevices,
        Self::PushTokens,
        Self::StreamCounts,
        Self::UploadSlots,
        Self::Uploads,
        Self::UploadsOfAccounts,
        Self::UploadUsage,
        Self::UploadErasures,
    ];

    /// The tables whose keys begin with an account's number, and from which all of a removed account is removed with it.
    pub const OF_AN_ACCOUNT: [Self; 21] = [
        Self::RosterStates,
        Self::Rosters,
        Self::Removals,
        Self::Blocked,
        Self::Vcards,
        Self::Private,
        Self::Activity,
        Self::AccountSettings,
        Self::ArchivePreferences,
        Self::PubsubNodes,
        Self::PubsubItems,
        Self::PubsubItemIds,
        Self::PubsubMembers,
        Self::PubsubUsage,
        Self::NodesOfAccounts,
        Self::RoomsOfAccounts,
        Self::RoomsMade,
        Self::PushDevices,
        Self::StreamCounts,
        Self::UploadsOfAccounts,
        Self::UploadUsage,
    ];

    /// The tables whose keys begin with a room's number, and from which all of a room that is destroyed is removed with it.
    pub const OF_A_ROOM: [Self; 6] = [
        Self::RoomNames,
        Self::RoomAffiliations,
        Self::RoomNicks,
        Self::RoomRemovals,
        Self::RoomLinks,
        Self::Vcards,
    ];

    /// The tables whose keys begin with an actor too, and from which it is removed in small steps: it may have millions of
    /// messages.
    pub const SWEPT: [Self; 3] = [Self::Archive, Self::ArchiveStates, Self::ArchiveErased];

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Accounts => "accounts",
            Self::RosterStates => "roster_states",
            Self::Rosters => "rosters",
            Self::Removals => "removals",
            Self::Blocked => "blocked",
            Self::Vcards => "vcards",
            Self::Private => "private",
            Self::Activity => "activity",
            Self::AccountSettings => "account_settings",
            Self::Registrations => "registrations",
            Self::Quotas => "quotas",
            Self::Archive => "archive",
            Self::ArchiveStates => "archive_states",
            Self::ArchiveSegments => "archive_segments",
            Self::ArchiveJournals => "archive_journals",
            Self::ArchivePreferences => "archive_preferences",
            Self::ArchiveErased => "archive_erased",
            Self::ArchiveErasures => "archive_erasures",
            Self::ArchivePasses => "archive_passes",
            Self::ArchiveGathering => "archive_gathering",
            Self::PubsubNodes => "pubsub_nodes",
            Self::PubsubItems => "pubsub_items",
            Self::PubsubItemIds => "pubsub_item_ids",
            Self::PubsubMembers => "pubsub_members",
            Self::PubsubUsage => "pubsub_usage",
            Self::NodesOfAccounts => "nodes_of_accounts",
            Self::Rooms => "rooms",
            Self::RoomNames => "room_names",
            Self::RoomAffiliations => "room_affiliations",
            Self::RoomNicks => "room_nicks",
            Self::RoomRemovals => "room_removals",
            Self::RoomLinks => "room_links",
            Self::RoomsOfAccounts => "rooms_of_accounts",
            Self::RoomsMade => "rooms_made",
            Self::RoomsPublic => "rooms_public",
            Self::PushDevices => "push_devices",
            Self::PushTokens => "push_tokens",
            Self::StreamCounts => "stream_counts",
            Self::UploadSlots => "upload_slots",
            Self::Uploads => "uploads",
            Self::UploadsOfAccounts => "uploads_of_accounts",
            Self::UploadUsage => "upload_usage",
            Self::UploadErasures => "upload_erasures",
        }
    }

    /// Whether a directory of this format may be without it. It is then made when such a directory is opened; an earlier
    /// release does not look at tables it does not know.
    pub(super) fn came_later(self) -> bool {
        matches!(self, Self::Registrations | Self::Quotas | Self::AccountSettings | Self::RoomLinks)
            || matches!(self, Self::Archive | Self::ArchiveStates | Self::ArchiveSegments)
            || matches!(self, Self::ArchiveJournals | Self::ArchivePreferences | Self::ArchiveErased)
            || matches!(self, Self::ArchiveErasures | Self::ArchivePasses | Self::ArchiveGathering)
            || matches!(self, Self::PubsubNodes | Self::PubsubItems | Self::PubsubItemIds)
            || matches!(self, Self::PubsubMembers | Self::PubsubUsage | Self::NodesOfAccounts)
            || matches!(self, Self::Rooms | Self::RoomNames | Self::RoomAffiliations | Self::RoomNicks)
            || matches!(
                self,
                Self::RoomRemovals | Self::RoomsOfAccounts | Self::RoomsMade | Self::RoomsPublic
            )
            || matches!(self, Self::PushDevices | Self::PushTokens | Self::StreamCounts)
            || matches!(self, Self::UploadSlots | Self::Uploads | Self::UploadsOfAccounts)
            || matches!(self, Self::UploadUsage | Self::UploadErasures)
    }
}

/// Handles of all tables.
#[derive(Clone, Copy)]
pub(super) struct Tables([Raw; Table::ALL.len()]);

impl Tables {
    /// Makes them in a new directory.
    pub(super) fn create(env: &Env<WithoutTls>, txn: &mut RwTxn<'_>) -> Result<Self, heed::Error> {
        let mut tables = Vec::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            tables.push(env.create_database(txn, Some(table.name()))?);
        }
        Ok(Self(tables.try_into().expect("there is one handle for each table")))
    }

    /// Opens them; the name of the first one missing otherwise. What is counted in a table that the directory was without is
    /// counted now.
    pub(super) fn open(
        env: &Env<WithoutTls>,
        txn: &mut RwTxn<'_>,
    ) -> Result<Result<Self, &'static str>, heed::Error> {
        let mut tables = Vec::with_capacity(Table::ALL.len());
        let mut made = Vec::new();
        for table in Table::ALL {
            match env.open_database(txn, Some(table.name()))? {
                Some(handle) => tables.push(handle),
                None if table.came_later() => {
                    tables.push(env.create_database(txn, Some(table.name()))?);
                    made.push(table);
                }
                None => return Ok(Err(table.name())),
            }
        }
        let tables = Self(tables.try_into().expect("there is one handle for each table"));
        if made.contains(&Table::RoomsMade) {
            tables.count_rooms_made(txn)?;
        }
        Ok(Ok(tables))
    }

    /// Opens them to be read only; the name of the first one missing otherwise.
    pub(super) fn open_to_read(
        env: &Env<WithoutTls>,
        txn: &RoTxn<'_, WithoutTls>,
    ) -> Result<Result<Self, &'static str>, heed::Error> {
        let mut tables = Vec::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            match env.open_database(txn, Some(table.name()))? {
                Some(handle) => tables.push(handle),
                None => return Ok(Err(table.name())),
            }
        }
        Ok(Ok(Self(tables.try_into().expect("there is one handle for each table"))))
    }

    pub(super) fn of(&self, table: Table) -> Raw {
        self.0[table as usize]
    }
}

/// A consistent state of the directory: that of a read transaction, or that of a write transaction with what it
/// has written so far.
#[derive(Clone, Copy)]
pub(super) struct View<'t> {
    pub(super) inner: &'t Opened,
    pub(super) txn: &'t RoTxn<'t>,
}

impl<'t> View<'t> {
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<&'t [u8]>, DirectoryError> {
        self.inner.tables.of(table).get(self.txn, key).map_err(|error| self.inner.failed("read", error))
    }

    /// Rows of a table. Costs the same for any number.
    pub(super) fn len(&self, table: Table) -> Result<u64, DirectoryError> {
        self.inner.tables.of(table).len(self.txn).map_err(|error| self.inner.failed("read", error))
    }

    /// Everything in a table, in order.
    pub(super) fn all(
        &self,
        table: Table,
    ) -> Result<impl Iterator<Item = Result<Row<'t>, DirectoryError>> + use<'t>, DirectoryError> {
        let inner = self.inner;
        let rows = inner.tables.of(table).iter(self.txn).map_err(|error| inner.failed("read", error))?;
        Ok(rows.map(move |row| row.map_err(|error| inner.failed("read", error))))
    }

    /// Everything behind a key, in order; behind none, everything.
    pub(super) fn after(
        &self,
        table: Table,
        key: Option<&Key>,
    ) -> Result<impl Iterator<Item = Result<Row<'t>, DirectoryError>> + use<'t>, DirectoryError> {
        let inner = self.inner;
        let from = key.map_or(Bound::Unbounded, |key| Bound::Excluded(key.bytes()));
        let rows = inner.tables.of(table).range(self.txn, &(from, Bound::Unbounded));
        let rows = rows.map_err(|error| inner.failed("read", error))?;
        Ok(rows.map(move |row| row.map_err(|error| inner.failed("read", error))))
    }

    /// Everything behind a key of a table whose keys are short, in order; behind none, everything.
    pub(super) fn behind_key(
        &self,
        table: Table,
        key: Option<&[u8]>,
    ) -> Result<impl Iterator<Item = Result<Row<'t>, DirectoryError>> + use<'t>, DirectoryError> {
        let inner = self.inner;
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = inner.tables.of(table).range(self.txn, &(from, Bound::Unbounded));
        let rows = rows.map_err(|error| inner.failed("read", error))?;
        Ok(rows.map(move |row| row.map_err(|error| inner.failed("read", error))))
    }

    /// Everything whose key begins with `prefix` and lies behind a key with that prefix, in order; behind none, all of it.
    pub(super) fn behind(
        &self,
        table: Table,
        prefix: &[u8],
        key: Option<&Key>,
    ) -> Result<impl Iterator<Item = Result<Row<'t>, DirectoryError>> + use<'t>, DirectoryError> {
        let inner = self.inner;
        let from = key.map_or(Bound::Included(prefix), |key| Bound::Excluded(key.bytes()));
        let rows = inner.tables.of(table).range(self.txn, &(from, Bound::Unbounded));
        let rows = rows.map_err(|error| inner.failed("read", error))?;
        let prefix = prefix.to_vec();
        let rows = rows.map(move |row| row.map_err(|error| inner.failed("read", error)));
        Ok(rows.take_while(move |row| row.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix))))
    }

    /// Everything whose key begins with `prefix`, in order.
    pub(super) fn prefixed(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> Result<impl Iterator<Item = Result<Row<'t>, DirectoryError>> + use<'t>, DirectoryError> {
        let inner = self.inner;
        let rows = inner
            .tables
            .of(table)
            .prefix_iter(self.txn, prefix)
            .map_err(|error| inner.failed("read", error))?;
        Ok(rows.map(move |row| row.map_err(|error| inner.failed("read", error))))
    }
}

/// The error for a value that does not read back. Returned as a function, for `map_err`.
pub(super) fn damaged(table: Table, key: &[u8]) -> impl FnOnce(&'static str) -> DirectoryError {
    const SHOWN: usize = 80;
    move |what| DirectoryError::Damaged {
        table: table.name(),
        key: key[..key.len().min(SHOWN)].escape_ascii().to_string(),
        what,
    }
}
