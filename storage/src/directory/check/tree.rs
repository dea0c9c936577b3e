//! Follows one of LMDB's trees.
//!
//! ```text
//! page    8  its number     2  unused    2  kind    2  end of the offsets    2  start of the nodes
//!         2  offset of each node, from the start of the page, in order of the keys; nodes fill the page from its end
//!            (an overflow page has the number of pages in the place of the last two)
//! node    4  low half of the size, or of the page below      2  flags, or the rest of the page's number
//!         2  size of the key     key     value, or for a long one the first of its overflow pages
//! ```

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{Fault, PAGE_HEADER_BYTES, number16, number32, number64};

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
/// All kinds of pages, without the marks LMDB makes while it changes one.
const KINDS: u16 = 0x6f;

const NODE_HEADER_BYTES: usize = 8;
const NODE_OVERFLOW: u16 = 0x01;
const NODE_TABLE: u16 = 0x02;
const NODE_DUPLICATES: u16 = 0x04;

const ROOT_BYTES: usize = 48;
const NO_PAGE: u64 = u64::MAX;
/// LMDB's own limit.
const DEPTH_MAX: u16 = 32;
/// LMDB does not write pages at the file's end that one transaction has taken and freed. There are never so many; the
/// bound keeps a damaged number from making the map of seen pages, or LMDB's own map, huge.
const UNWRITTEN_MAX: u64 = 1 << 20;

/// Where a tree begins and what it should be.
#[derive(Clone, Copy)]
pub(super) struct Root {
    pub(super) flags: u16,
    depth: u16,
    entries: u64,
    page: u64,
}

impl Root {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        Self {
            flags: number16(bytes, 4),
            depth: number16(bytes, 6),
            entries: number64(bytes, 32),
            page: number64(bytes, 40),
        }
    }
}

/// Which tree it is.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Kind {
    /// Of the tables.
    Main,
    /// Of a table's rows.
    Table,
    /// Of free pages: keys are numbers.
    Free,
}

/// The pages of a file, and which of them have been seen.
pub(super) struct Pages<'f> {
    file: &'f File,
    page_bytes: usize,
    /// Pages that LMDB counts.
    count: u64,
    /// Pages that are in the file. LMDB does not write free pages at its end.
    in_file: u64,
    seen: Vec<u64>,
}

/// A node of a leaf.
struct Leaf<'p> {
    key: &'p [u8],
    /// The value, when it is in the page.
    value: &'p [u8],
    flags: u16,
    size: usize,
}

impl<'f> Pages<'f> {
    pub(super) fn new(file: &'f File, page_bytes: usize, bytes: u64, last_page: u64) -> Result<Self, Fault> {
        let in_file = bytes / page_bytes as u64;
        if last_page < 1 || last_page > in_file.saturating_add(UNWRITTEN_MAX) {
            return Err(Fault::Damaged(format!("it has {in_file} pages and says its last is {last_page}")));
        }
        let words = usize::try_from(last_page / 64 + 1)
            .map_err(|_| Fault::Damaged(format!("page {last_page} is impossible")))?;
        let mut pages = Self { file, page_bytes, count: last_page + 1, in_file, seen: vec![0; words] };
        pages.mark(0)?;
        pages.mark(1)?;
        Ok(pages)
    }

    /// Notes that a page is used.
    fn mark(&mut self, page: u64) -> Result<(), Fault> {
        if page >= self.count {
            return Err(Fault::Damaged(format!("page {page} is behind the last one")));
        }
        let (word, bit) = ((page / 64) as usize, 1 << (page % 64));
        if self.seen[word] & bit != 0 {
            return Err(Fault::Damaged(format!("page {page} is used twice")));
        }
        self.seen[word] |= bit;
        Ok(())
    }

    fn read(&mut self, page: u64) -> Result<Vec<u8>, Fault> {
        self.mark(page)?;
        if page >= self.in_file {
            return Err(Fault::Damaged(format!("it is cut short: page {page} is behind its end")));
        }
        let mut bytes = vec![0; self.page_bytes];
        self.file.read_exact_at(&mut bytes, page * self.page_bytes as u64)?;
        if number64(&bytes, 0) != page {
            return Err(Fault::Damaged(format!("page {page} has the number {}", number64(&bytes, 0))));
        }
        Ok(bytes)
    }

    /// Follows a tree. `row` gets each key and, if the row is a table, its root.
    pub(super) fn walk(
        &mut self,
        root: &Root,
        kind: Kind,
        mut row: impl FnMut(&[u8], Option<Root>),
    ) -> Result<(), Fault> {
        self.tree(root, kind, &mut |_, leaf| {
            let is_table = kind == Kind::Main && leaf.flags == NODE_TABLE && leaf.value.len() == ROOT_BYTES;
            row(leaf.key, is_table.then(|| Root::parse(leaf.value)));
            Ok(())
        })
    }

    /// Follows the tree of free pages, after all others: no page in it may be in use.
    pub(super) fn walk_free(&mut self, root: &Root) -> Result<(), Fault> {
        let mut lists = Vec::new();
        self.tree(root, Kind::Free, &mut |pages, leaf| {
            let list = if leaf.flags & NODE_OVERFLOW != 0 {
                pages.overflow_bytes(leaf)?
            } else {
                leaf.value.to_vec()
            };
            lists.push(list);
            Ok(())
        })?;
        lists.iter().try_for_each(|list| self.free_list(list))
    }

    /// A list of free pages: how many, then their numbers, the highest first.
    fn free_list(&mut self, list: &[u8]) -> Result<(), Fault> {
        let (numbers, rest) = list.as_chunks::<8>();
        let Some((count, numbers)) = numbers.split_first() else {
            return Err(Fault::Damaged("a list of free pages is cut short".into()));
        };
        let count = u64::from_ne_bytes(*count);
        if !rest.is_empty() || count > numbers.len() as u64 {
            return Err(Fault::Damaged("a list of free pages is cut short".into()));
        }
        let mut before = NO_PAGE;
        for number in &numbers[..count as usize] {
            let page = u64::from_ne_bytes(*number);
            if page >= before {
                return Err(Fault::Damaged("a list of free pages is not in order".into()));
            }
            before = page;
            self.mark(page)?;
        }
        Ok(())
    }

    fn tree(
        &mut self,
        root: &Root,
        kind: Kind,
        row: &mut dyn FnMut(&mut Self, &Leaf<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if root.page == NO_PAGE {
            return if root.entries == 0 { Ok(()) } else { Err(Fault::Damaged("a tree has no root".into())) };
        }
        if root.depth == 0 || root.depth > DEPTH_MAX {
            return Err(Fault::Damaged(format!("a tree of depth {} is impossible", root.depth)));
        }
        let entries = self.page(root.page, root.depth, kind, row)?;
        if entries != root.entries {
            let what = format!("a tree has {entries} rows and says it has {}", root.entries);
            return Err(Fault::Damaged(what));
        }
        Ok(())
    }

    /// Follows a page and all below it, `levels` of them with itself. Returns the rows.
    fn page(
        &mut self,
        page: u64,
        levels: u16,
        kind: Kind,
        row: &mut dyn FnMut(&mut Self, &Leaf<'_>) -> Result<(), Fault>,
    ) -> Result<u64, Fault> {
        let bytes = self.read(page)?;
        let damaged = |what: &str| Fault::Damaged(format!("page {page} {what}"));
        let is_leaf = levels == 1;
        if number16(&bytes, 10) & KINDS != if is_leaf { LEAF } else { BRANCH } {
            return Err(damaged("is of the wrong kind"));
        }
        let (lower, upper) = (usize::from(number16(&bytes, 12)), usize::from(number16(&bytes, 14)));
        if lower < PAGE_HEADER_BYTES || lower > upper || upper > self.page_bytes || lower % 2 != 0 {
            return Err(damaged("has impossible bounds"));
        }
        let count = (lower - PAGE_HEADER_BYTES) / 2;
        // LMDB leaves no branch without a choice, except above free pages.
        if count < if is_leaf || kind == Kind::Free { 1 } else { 2 } {
            return Err(damaged("has too few entries"));
        }
        let mut entries = 0;
        let mut before: Option<&[u8]> = None;
        for index in 0..count {
            let at = usize::from(number16(&bytes, PAGE_HEADER_BYTES + 2 * index));
            let node = bytes.get(at..).filter(|node| at >= upper && node.len() >= NODE_HEADER_BYTES);
            let node = node.ok_or_else(|| damaged("has an entry outside of itself"))?;
            let (low, high) = (number16(node, 0), number16(node, 2));
            let (flags, key_bytes) = (number16(node, 4), usize::from(number16(node, 6)));
            let rest = &node[NODE_HEADER_BYTES..];
            let key = rest.get(..key_bytes).ok_or_else(|| damaged("has a key outside of itself"))?;
            // The first key of a branch stands for all that are lower, and is not looked at.
            if is_leaf || index > 0 {
                if kind == Kind::Free && key.len() != 8 {
                    return Err(damaged("has a key that is no number"));
                }
                if key.is_empty() || before.is_some_and(|before| !rises(before, key, kind)) {
                    return Err(damaged("has keys out of order"));
                }
                before = Some(key);
            }
            if is_leaf {
                let size = usize::from(low) | usize::from(high) << 16;
                let in_page = if flags & NODE_OVERFLOW != 0 { 8 } else { size };
                let value = rest[key_bytes..]
                    .get(..in_page)
                    .ok_or_else(|| damaged("has a value outside of itself"))?;
                self.check_flags(flags, kind).map_err(damaged)?;
                let leaf = Leaf { key, value, flags, size };
                if flags & NODE_OVERFLOW != 0 {
                    self.overflow(&leaf)?;
                }
                row(self, &leaf)?;
                entries += 1;
            } else {
                let below = u64::from(low) | u64::from(high) << 16 | u64::from(flags) << 32;
                entries += self.page(below, levels - 1, kind, row)?;
            }
        }
        Ok(entries)
    }

    fn check_flags(&self, flags: u16, kind: Kind) -> Result<(), &'static str> {
        match flags {
            0 | NODE_OVERFLOW => Ok(()),
            NODE_TABLE if kind == Kind::Main => Ok(()),
            // Tables with several values for a key: another program's, and then not followed further.
            _ if kind == Kind::Main && flags & !(NODE_TABLE | NODE_DUPLICATES | NODE_OVERFLOW) == 0 => Ok(()),
            _ => Err("has an entry of an unknown kind"),
        }
    }

    /// Checks the pages of a long value, of which only the first has a header.
    fn overflow(&mut self, leaf: &Leaf<'_>) -> Result<(), Fault> {
        let first = number64(leaf.value, 0);
        let bytes = self.read(first)?;
        let count = u64::from(number32(&bytes, 12));
        let has_room = count
            .checked_mul(self.page_bytes as u64)
            .is_some_and(|room| room >= (PAGE_HEADER_BYTES + leaf.size) as u64);
        if number16(&bytes, 10) & KINDS != OVERFLOW || !has_room {
            return Err(Fault::Damaged(format!("page {first} does not hold the value it should")));
        }
        if first + count > self.in_file {
            return Err(Fault::Damaged(format!(
                "it is cut short: the value at page {first} is behind its end"
            )));
        }
        (first + 1..first + count).try_for_each(|page| self.mark(page))
    }

    /// The bytes of a long value that was checked.
    fn overflow_bytes(&self, leaf: &Leaf<'_>) -> Result<Vec<u8>, Fault> {
        let mut bytes = vec![0; leaf.size];
        let at = number64(leaf.value, 0) * self.page_bytes as u64 + PAGE_HEADER_BYTES as u64;
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }
}

fn rises(before: &[u8], key: &[u8], kind: Kind) -> bool {
    if kind == Kind::Free { number64(before, 0) < number64(key, 0) } else { before < key }
}
