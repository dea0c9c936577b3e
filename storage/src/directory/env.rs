//! Opening the directory.
//!
//! # The size of the map
//! LMDB maps its file once, at a fixed size, and the file may not outgrow the map. A map can only be enlarged
//! while nobody reads, which on a server is never. So the whole of [`Options::map_bytes_max`] is reserved when the
//! directory is opened. That costs address space alone: the mapping is shared, read-only and backed by the file,
//! so neither Linux (in any overcommit mode) nor FreeBSD charges memory or swap for it, and pages behind the end of
//! the file are never touched, because LMDB writes with `pwrite` and reads only what a transaction has committed.
//! The file itself grows as data comes in. Where so much address space is not to be had (`ulimit -v`), half of it
//! is tried, and so on.
//!
//! # Readers
//! A read transaction is not tied to its thread (`MDB_NOTLS`): it takes a slot of the reader table when it begins,
//! so a callback of one read may start another. [`READERS_MAX`] slots are more than the threads of any machine
//! with some nesting; a read that finds none is an error, not a wait.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use heed::{Env, EnvFlags, EnvOpenOptions, RoTxn, WithoutTls};
use ring::rand::{SecureRandom, SystemRandom};

use super::codec::{Decoder, Encoder};
use super::data_set::KEY_DATA_SET;
use super::error::DirectoryError;
use super::handle::{Handle, Opened};
use super::tables::{Table, Tables, damaged};
use super::{Access, Inner, Options, check, lock};

/// LMDB's file in the folder.
pub(super) const DATA_FILE: &str = "data.mdb";
/// LMDB's table of readers.
const READERS_FILE: &str = "lock.mdb";
/// Format of the whole. Raised when an older release could no longer read the directory.
pub(super) const FORMAT: u32 = 2;
/// Reads that may be under way at the same time.
const READERS_MAX: u32 = 1024;
/// The map is not made smaller than this, however little address space there is.
const MAP_BYTES_MIN: u64 = 1 << 20;
/// Map sizes are multiples of this, which every page size divides.
const MAP_BYTES_UNIT: u64 = 1 << 16;

const KEY_FORMAT: &[u8] = b"format";
const KEY_DOMAIN: &[u8] = b"domain";
const KEY_SECRET: &[u8] = b"secret";

pub(super) fn open(path: &Path, options: &Options, held: Option<File>) -> Result<Inner, DirectoryError> {
    make_folder(path)?;
    // Before anything is written into a folder that may be somebody else's.
    refuse_foreign(path)?;
    let file = path.join(DATA_FILE);
    // The program that makes a directory makes the file of the lock first; a data file without one is foreign, or a backup that was
    // put back.
    if !has_content(&path.join(lock::LOCK_FILE))? && has_content(&file)? {
        check::check(path, &file)?;
    }
    let was_held = held.is_some();
    let lock = held.map_or_else(|| lock::take(path), Ok)?;
    // A process that had it open until a moment ago, when nobody else could, need not check it again.
    let is_new = match was_held && has_content(&file)? {
        true => false,
        false => !has_content(&file)? || check::check(path, &file)?.is_empty,
    };
    let (env, map_bytes) = map(path, options, flags(options))?;
    let opened = if is_new { create(&env, options) } else { attach(&env, path, options) };
    let (tables, secret) = opened.map_err(|error| error.at(path, map_bytes))?;
    if is_new {
        // The folder's entry must survive a power cut as well as the file.
        File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| DirectoryError::io("write", path, error))?;
    }
    let incarnation = options.incarnation.map_or_else(|| random_number(path), Ok)?;
    let opened = Opened::first((env, map_bytes), tables, path.to_owned(), incarnation, true);
    Ok(Inner {
        handle: Handle::new(opened, options, Access::Own)?,
        path: path.to_owned(),
        secret,
        incarnation,
        lock,
        uploads: std::sync::RwLock::default(),
        #[cfg(test)]
        fail_commits: std::sync::atomic::AtomicBool::new(false),
        #[cfg(test)]
        lose_outcomes: std::sync::atomic::AtomicBool::new(false),
    })
}

/// Opens a directory that another process has open, to read it. It takes no lock of its own but LMDB's, and the file is not
/// checked: the process that holds it has done that, and pages change while it writes.
pub(super) fn open_beside(path: &Path, options: &Options) -> Result<Inner, DirectoryError> {
    let file = path.join(DATA_FILE);
    if !has_content(&file)? {
        return Err(DirectoryError::io("open", &file, io::ErrorKind::NotFound.into()));
    }
    let (env, map_bytes) = map(path, options, EnvFlags::READ_ONLY)?;
    let opened = attach_to_read(&env, path, options).map_err(|error| error.at(path, map_bytes));
    let (tables, secret) = opened?;
    let opened = Opened::first((env, map_bytes), tables, path.to_owned(), 0, false);
    Ok(Inner {
        handle: Handle::new(opened, options, Access::Beside)?,
        path: path.to_owned(),
        secret,
        incarnation: 0,
        // Open, and not locked.
        lock: File::open(path).map_err(|error| DirectoryError::io("open", path, error))?,
        uploads: std::sync::RwLock::default(),
        #[cfg(test)]
        fail_commits: std::sync::atomic::AtomicBool::new(false),
        #[cfg(test)]
        lose_outcomes: std::sync::atomic::AtomicBool::new(false),
    })
}

/// Opens the file of a directory that was open in this process until a moment ago: it has its tables, and is not checked.
pub(super) fn open_again(
    path: &Path,
    options: &Options,
    is_writable: bool,
) -> Result<((Env<WithoutTls>, u64), Tables), DirectoryError> {
    let flags = if is_writable { flags(options) } else { EnvFlags::READ_ONLY };
    let (env, map_bytes) = map(path, options, flags)?;
    let opened = attach_to_read(&env, path, options).map_err(|error| error.at(path, map_bytes));
    let (tables, _) = opened?;
    Ok(((env, map_bytes), tables))
}

fn flags(options: &Options) -> EnvFlags {
    if options.durable { EnvFlags::empty() } else { EnvFlags::NO_SYNC }
}

/// A random number that is not 0.
fn random_number(path: &Path) -> Result<u64, DirectoryError> {
    let mut bytes = [0; 8];
    fill(path, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes).max(1))
}

fn fill(path: &Path, bytes: &mut [u8]) -> Result<(), DirectoryError> {
    SystemRandom::new().fill(bytes).map_err(|_| {
        let error = io::Error::other("the operating system gave no random bytes");
        DirectoryError::io("make", path, error)
    })
}

pub(super) fn make_folder(path: &Path) -> Result<(), DirectoryError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(DirectoryError::NotAFolder { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| DirectoryError::io("make the folder", path, error)),
        Err(error) => Err(DirectoryError::io("open", path, error)),
    }
}

/// Whether there is a directory in a folder: a file with something in it.
pub(crate) fn is_there(path: &Path) -> Result<bool, DirectoryError> {
    has_content(&path.join(DATA_FILE))
}

fn has_content(file: &Path) -> Result<bool, DirectoryError> {
    match fs::metadata(file) {
        Ok(metadata) => Ok(metadata.len() > 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DirectoryError::io("open", file, error)),
    }
}

/// A folder without our file must be empty, or hold no more than what an interrupted first start leaves.
fn refuse_foreign(path: &Path) -> Result<(), DirectoryError> {
    let entries = fs::read_dir(path).map_err(|error| DirectoryError::io("read", path, error))?;
    let mut other = None;
    for entry in entries {
        let name = entry.map_err(|error| DirectoryError::io("read", path, error))?.file_name();
        if name == DATA_FILE {
            return Ok(());
        }
        if name != lock::LOCK_FILE && name != READERS_FILE {
            other = Some(name);
        }
    }
    match other {
        None => Ok(()),
        Some(name) => Err(DirectoryError::Foreign {
            path: path.to_owned(),
            what: format!("it has no {DATA_FILE} and holds {}", name.display()),
        }),
    }
}

fn map(path: &Path, options: &Options, flags: EnvFlags) -> Result<(Env<WithoutTls>, u64), DirectoryError> {
    let most = usize::MAX as u64 / 2;
    let mut bytes = options.map_bytes_max.clamp(MAP_BYTES_MIN, most).next_multiple_of(MAP_BYTES_UNIT);
    loop {
        let mut lmdb = EnvOpenOptions::new().read_txn_without_tls();
        lmdb.map_size(usize::try_from(bytes).expect("it was limited to half of usize::MAX"))
            .max_readers(READERS_MAX)
            .max_dbs(Table::ALL.len() as u32);
        // Pages are asked for one by one, all over the file. With what the system reads ahead for each, as much as 8 MiB on some
        // machines, a directory that is larger than memory would displace itself.
        let flags = flags | EnvFlags::NO_READ_AHEAD;
        // SAFETY: without syncing, a power cut can damage the file (which the check at the next start finds); within a
        // run the flag changes nothing. Reading only, and without reading ahead, changes nothing at all.
        unsafe { lmdb.flags(flags) };
        // SAFETY: the file is mapped and must not be changed by others while it is: `lock` keeps other servers
        // away, the folder is only its owner's, and LMDB's own locks are on, by which one process writes and others
        // read. The check before, of this process or of the one that writes, has followed every page LMDB can reach.
        match unsafe { lmdb.open(path) } {
            Ok(env) => {
                // LMDB makes the map larger than asked for when the file is.
                let map_bytes = env.info().map_size as u64;
                return Ok((env, map_bytes));
            }
            Err(heed::Error::Io(error))
                if error.kind() == io::ErrorKind::OutOfMemory && bytes / 2 >= MAP_BYTES_MIN =>
            {
                bytes = (bytes / 2).next_multiple_of(MAP_BYTES_UNIT);
            }
            Err(error) => return Err(DirectoryError::lmdb("open", path, bytes, error)),
        }
    }
}

/// What can go wrong before there is a path to report.
enum Failed {
    Lmdb(heed::Error),
    Other(DirectoryError),
}

impl From<heed::Error> for Failed {
    fn from(error: heed::Error) -> Self {
        Self::Lmdb(error)
    }
}

impl Failed {
    fn at(self, path: &Path, map_bytes: u64) -> DirectoryError {
        match self {
            Self::Lmdb(error) => DirectoryError::lmdb("open tables", path, map_bytes, error),
            Self::Other(error) => error,
        }
    }
}

fn create(env: &Env<WithoutTls>, options: &Options) -> Result<(Tables, [u8; 32]), Failed> {
    let mut secret = [0; 32];
    fill(env.path(), &mut secret).map_err(Failed::Other)?;
    let data_set = random_number(env.path()).map_err(Failed::Other)?;
    let mut txn = env.write_txn()?;
    let tables = Tables::create(env, &mut txn)?;
    let meta = tables.of(Table::Meta);
    for (key, value) in [
        (KEY_FORMAT, &FORMAT.to_le_bytes()[..]),
        (KEY_DOMAIN, options.domain.as_bytes()),
        (KEY_SECRET, &secret),
    ] {
        let mut encoder = Encoder::new(value.len() + 4);
        encoder.text(value);
        meta.put(&mut txn, key, &encoder.seal(key))?;
    }
    let mut number = Encoder::new(8);
    number.number(data_set);
    meta.put(&mut txn, KEY_DATA_SET, &number.seal(KEY_DATA_SET))?;
    txn.commit()?;
    Ok((tables, secret))
}

fn attach(env: &Env<WithoutTls>, path: &Path, options: &Options) -> Result<(Tables, [u8; 32]), Failed> {
    let txn = env.read_txn()?;
    let secret = secret_of(env, &txn, path, options)?;
    drop(txn);
    // To write, because a directory of an earlier release may lack a table.
    let mut txn = env.write_txn()?;
    let tables = Tables::open(env, &mut txn)?.map_err(|name| missing(path, name))?;
    // Handles opened in a transaction are kept only when it is committed.
    txn.commit()?;
    Ok((tables, secret))
}

fn attach_to_read(
    env: &Env<WithoutTls>,
    path: &Path,
    options: &Options,
) -> Result<(Tables, [u8; 32]), Failed> {
    let txn = env.read_txn()?;
    let secret = secret_of(env, &txn, path, options)?;
    let tables = Tables::open_to_read(env, &txn)?.map_err(|name| missing(path, name))?;
    txn.commit()?;
    Ok((tables, secret))
}

fn missing(path: &Path, table: &'static str) -> Failed {
    Failed::Other(DirectoryError::DamagedFile {
        path: path.join(DATA_FILE),
        what: format!("the table {table} is missing"),
    })
}

/// Looks whether it is a directory of this format and domain. Returns its secret.
fn secret_of(
    env: &Env<WithoutTls>,
    txn: &RoTxn<'_, WithoutTls>,
    path: &Path,
    options: &Options,
) -> Result<[u8; 32], Failed> {
    let foreign = |what| Failed::Other(DirectoryError::Foreign { path: path.to_owned(), what });
    // The format first: another format may have other tables.
    let meta =
        match env.open_database::<heed::types::Bytes, heed::types::Bytes>(txn, Some(Table::Meta.name())) {
            Ok(Some(meta)) => meta,
            Ok(None) | Err(heed::Error::Mdb(heed::MdbError::Incompatible)) => {
                return Err(foreign(format!("its {DATA_FILE} is an LMDB file of another program")));
            }
            Err(error) => return Err(Failed::Lmdb(error)),
        };
    let read = |key: &'static [u8]| -> Result<&[u8], Failed> {
        let value = meta
            .get(txn, key)?
            .ok_or_else(|| foreign(format!("its {DATA_FILE} is an LMDB file of another program")))?;
        let decoded = Decoder::open(key, value).and_then(|mut fields| {
            let bytes = fields.bytes()?;
            fields.close().map(|()| bytes)
        });
        decoded.map_err(|what| Failed::Other(damaged(Table::Meta, key)(what)))
    };
    let format = read(KEY_FORMAT)?;
    let impossible = |key| Failed::Other(damaged(Table::Meta, key)("an impossible value"));
    let found = u32::from_le_bytes(format.try_into().map_err(|_| impossible(KEY_FORMAT))?);
    if found != FORMAT {
        let error = DirectoryError::UnknownFormat { path: path.to_owned(), found, known: FORMAT };
        return Err(Failed::Other(error));
    }
    let domain = std::str::from_utf8(read(KEY_DOMAIN)?).map_err(|_| impossible(KEY_DOMAIN))?;
    if domain != options.domain {
        return Err(Failed::Other(DirectoryError::OtherDomain {
            path: path.to_owned(),
            found: domain.to_owned(),
            wanted: options.domain.clone(),
        }));
    }
    read(KEY_SECRET)?.try_into().map_err(|_| impossible(KEY_SECRET))
}
