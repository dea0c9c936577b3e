//! Looks at LMDB's file before LMDB does.
//!
//! LMDB believes its file: a page number or an offset that the disk has changed leads it out of the map, which ends
//! the process with a signal, or makes it write over pages in use. So before the file is mapped, its structure is
//! followed here from the roots to the last leaf with plain reads. Anything that is found wrong is an error in words.
//!
//! ```text
//! page 0, 1   two meta pages; the one with the higher transaction number counts
//!   ├─ tree of free pages    transaction → list of pages that nothing uses
//!   └─ main tree             name of a table → its tree → rows; long values on pages of their own
//! ```
//!
//! Checked: that each page reachable lies in the file, says its own number and kind, and is used once; that all
//! offsets and sizes stay in their page; that keys rise; that trees have the depth and the number of rows they say;
//! that no free page is in use. Values are not looked at: they have checksums, which each read compares.
//!
//! The cost is one read of each page of the trees, in proportion to the file, at each start.

mod tree;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::DirectoryError;
use super::tables::Table;
use tree::{Kind, Pages, Root};

const MAGIC: u32 = 0xbeef_c0de;
const VERSION: u32 = 1;
const PAGE_HEADER_BYTES: usize = 16;
const META_BYTES: usize = 136;
const PAGE_BYTES_MIN: usize = 512;
/// More LMDB never uses.
const PAGE_BYTES_MAX: usize = 32_768;
const FLAG_META: u16 = 0x08;
/// Flags of the tree of free pages: its keys are numbers.
const FLAGS_FREE: u16 = 0x08;

const OTHER_PROGRAM: &str = "its data.mdb is an LMDB file of another program";

/// What the check has found.
pub(super) struct Checked {
    /// There is not even a table: the first start was interrupted.
    pub(super) is_empty: bool,
}

/// What is wrong with a file.
enum Fault {
    /// It is not ours.
    Foreign(String),
    /// It is ours and broken.
    Damaged(String),
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Checks the file of a directory's folder.
///
/// # Errors
/// [`DirectoryError::Foreign`], [`DirectoryError::DamagedFile`], or it cannot be read.
pub(super) fn check(folder: &Path, path: &Path) -> Result<Checked, DirectoryError> {
    let checked = File::open(path).map_err(Fault::Io).and_then(|file| check_file(&file));
    checked.map_err(|fault| match fault {
        Fault::Foreign(what) => DirectoryError::Foreign { path: folder.to_owned(), what },
        Fault::Damaged(what) => DirectoryError::DamagedFile { path: path.to_owned(), what },
        Fault::Io(error) => DirectoryError::io("read", path, error),
    })
}

fn check_file(file: &File) -> Result<Checked, Fault> {
    let bytes = file.metadata()?.len();
    let first = read_meta(file, 0, bytes)?;
    let second = read_meta(file, first.page_bytes as u64, bytes)?;
    if second.page_bytes != first.page_bytes {
        return Err(Fault::Damaged("its two meta pages disagree about the size of a page".into()));
    }
    // Transactions write the two in turn. The rule finds a damaged number, which would undo the last transaction.
    let in_turn = match (first.transaction, second.transaction) {
        (0, 0) => true,
        (even, odd) => even % 2 == 0 && odd % 2 == 1 && even.abs_diff(odd) == 1,
    };
    if !in_turn {
        return Err(Fault::Damaged("its two meta pages are not of successive transactions".into()));
    }
    let meta = if second.transaction > first.transaction { second } else { first };
    if meta.main.flags != 0 {
        return Err(Fault::Foreign(OTHER_PROGRAM.into()));
    }
    let mut pages = Pages::new(file, meta.page_bytes, bytes, meta.last_page)?;
    let mut tables = Vec::new();
    let in_main = |key: &[u8], root: Option<Root>| tables.push((key.to_vec(), root));
    pages.walk(&meta.main, Kind::Main, in_main)?;
    if tables.is_empty() {
        return Ok(Checked { is_empty: true });
    }
    check_names(&tables)?;
    for (name, root) in &tables {
        if let Some(root) = root {
            let flags = if root.flags == 0 { Ok(()) } else { Err(Fault::Damaged("impossible flags".into())) };
            flags
                .and_then(|()| pages.walk(root, Kind::Table, |_, _| {}))
                .map_err(|fault| in_table(fault, &name.escape_ascii().to_string()))?;
        }
    }
    pages.walk_free(&meta.free).map_err(|fault| in_table(fault, "of free pages"))?;
    Ok(Checked { is_empty: false })
}

fn in_table(fault: Fault, name: &str) -> Fault {
    match fault {
        Fault::Damaged(what) => Fault::Damaged(format!("table {name}: {what}")),
        other => other,
    }
}

/// Whether the tables are ours: all of them together, since they are made in one transaction, but for those that
/// earlier releases did not have.
fn check_names(tables: &[(Vec<u8>, Option<Root>)]) -> Result<(), Fault> {
    let has =
        |table: &Table| tables.iter().any(|(name, root)| root.is_some() && name == table.name().as_bytes());
    match Table::ALL.iter().find(|table| !has(table) && !table.came_later()) {
        None => Ok(()),
        Some(missing) if Table::ALL.iter().any(has) => {
            Err(Fault::Damaged(format!("the table {} is missing", missing.name())))
        }
        Some(_) => Err(Fault::Foreign(OTHER_PROGRAM.into())),
    }
}

/// What a meta page says.
struct Meta {
    page_bytes: usize,
    free: Root,
    main: Root,
    last_page: u64,
    transaction: u64,
}

fn read_meta(file: &File, at: u64, file_bytes: u64) -> Result<Meta, Fault> {
    let mut page = [0; PAGE_HEADER_BYTES + META_BYTES];
    if at + (page.len() as u64) > file_bytes {
        return Err(if at == 0 {
            no_lmdb()
        } else {
            Fault::Damaged("it is cut short in its meta pages".into())
        });
    }
    file.read_exact_at(&mut page, at)?;
    let flags = u16::from_ne_bytes([page[10], page[11]]);
    let meta = &page[PAGE_HEADER_BYTES..];
    let magic = number32(meta, 0);
    if magic == MAGIC.swap_bytes() {
        return Err(Fault::Foreign("its data.mdb was written on a machine of the other byte order".into()));
    }
    if magic != MAGIC || flags & FLAG_META == 0 {
        let other_is_there = at != 0 || has_second_meta(file);
        return Err(if other_is_there {
            Fault::Damaged(format!("the meta page at byte {at} is not one"))
        } else {
            no_lmdb()
        });
    }
    if number32(meta, 4) != VERSION {
        let what = format!("its data.mdb has version {} of LMDB's format, not {VERSION}", number32(meta, 4));
        return Err(Fault::Foreign(what));
    }
    // After magic, version, address and size of the map: the two roots, last page, transaction. The free tree's
    // first field holds the size of a page.
    let page_bytes = number32(meta, 24) as usize;
    if !page_bytes.is_power_of_two() || !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_bytes) {
        return Err(Fault::Damaged(format!("a page of {page_bytes} bytes is impossible")));
    }
    let free = Root::parse(&meta[24..72]);
    if free.flags != FLAGS_FREE {
        return Err(Fault::Damaged(format!("the meta page at byte {at} has impossible flags")));
    }
    Ok(Meta {
        page_bytes,
        free,
        main: Root::parse(&meta[72..120]),
        last_page: number64(meta, 120),
        transaction: number64(meta, 128),
    })
}

fn no_lmdb() -> Fault {
    Fault::Foreign("its data.mdb is not an LMDB file".into())
}

/// With the first meta page gone, the second one tells a damaged file from a foreign one.
fn has_second_meta(file: &File) -> bool {
    let mut size = PAGE_BYTES_MIN;
    while size <= PAGE_BYTES_MAX {
        let mut magic = [0; 4];
        let at = (size + PAGE_HEADER_BYTES) as u64;
        if file.read_exact_at(&mut magic, at).is_ok() && u32::from_ne_bytes(magic) == MAGIC {
            return true;
        }
        size *= 2;
    }
    false
}

fn number16(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("the slice has four bytes"))
}

fn number64(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("the slice has eight bytes"))
}
