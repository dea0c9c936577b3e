//! Which namespace a prefix stands for, at a cost that does not grow with the declarations in force.
//!
//! A few declarations, as nearly every stanza has, are walked. When there are more, the innermost declaration of each
//! prefix is also in a sorted list, and each declaration knows the one that it hides, so that the end of an element
//! brings that back. The list is bounded (`PREFIXES_MAX`), so putting a prefix into it is cheap too.

use crate::namespace::Uri;

/// Up to so many declarations are walked.
const WALKED_MAX: usize = 8;

/// In [`Binding::hides`]: nothing.
const NOTHING: u32 = u32::MAX;

/// A declaration in force.
#[derive(Copy, Clone, Debug)]
struct Binding {
    prefix_start: u32,
    prefix_end: u32,
    uri: Uri,
    /// Which declaration of the same prefix holds outside this one's element. Kept only while the list is.
    hides: u32,
}

impl Binding {
    fn prefix(self, frame: &[u8]) -> &[u8] {
        &frame[self.prefix_start as usize..self.prefix_end as usize]
    }
}

/// The declarations in force, outermost first.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    all: Vec<Binding>,
    /// The innermost of each prefix, by length and bytes of the prefix; empty up to [`WALKED_MAX`] declarations.
    sorted: Vec<u32>,
}

impl Bindings {
    /// Declarations in force, hidden ones included.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.sorted.clear();
    }

    pub(super) fn shrink_to(&mut self, keep: usize) {
        self.all.shrink_to(keep);
        self.sorted.shrink_to(keep);
    }

    /// Memory on the heap, in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.all.capacity() * size_of::<Binding>() + self.sorted.capacity() * size_of::<u32>()
    }

    /// What a prefix stands for, if it is declared.
    pub(super) fn find(&self, frame: &[u8], prefix: &[u8]) -> Option<Uri> {
        if self.all.len() <= WALKED_MAX {
            return self.all.iter().rev().find(|b| seen(b.prefix(frame) == prefix)).map(|b| b.uri);
        }
        let at = self.place(frame, prefix).ok()?;
        Some(self.all[self.sorted[at] as usize].uri)
    }

    /// Where in the list a prefix is, or would be.
    fn place(&self, frame: &[u8], prefix: &[u8]) -> Result<usize, usize> {
        let key = (prefix.len(), prefix);
        self.sorted.binary_search_by(|&index| {
            let other = self.all[index as usize].prefix(frame);
            seen((other.len(), other).cmp(&key))
        })
    }

    /// A declaration comes into force. Returns how many prefixes are declared then, as far as there are more than a few.
    pub(super) fn push(&mut self, frame: &[u8], (start, end): (u32, u32), uri: Uri) -> usize {
        self.all.push(Binding { prefix_start: start, prefix_end: end, uri, hides: NOTHING });
        if self.all.len() <= WALKED_MAX {
            return 0;
        }
        let first = if self.all.len() == WALKED_MAX + 1 { 0 } else { self.all.len() - 1 };
        (first..self.all.len()).for_each(|index| self.list(frame, index));
        self.sorted.len()
    }

    fn list(&mut self, frame: &[u8], index: usize) {
        let listed = index as u32;
        match self.place(frame, self.all[index].prefix(frame)) {
            Ok(at) => self.all[index].hides = std::mem::replace(&mut self.sorted[at], listed),
            Err(at) => {
                self.all[index].hides = NOTHING;
                self.sorted.insert(at, listed);
            }
        }
    }

    /// Only the first `count` declarations are in force.
    pub(super) fn truncate(&mut self, frame: &[u8], count: usize) {
        if count <= WALKED_MAX {
            self.all.truncate(count);
            return self.sorted.clear();
        }
        while self.all.len() > count {
            let last = self.all.len() - 1;
            let Binding { hides, .. } = self.all[last];
            if let Ok(at) = self.place(frame, self.all[last].prefix(frame)) {
                match hides {
                    NOTHING => drop(self.sorted.remove(at)),
                    outer => self.sorted[at] = outer,
                }
            }
            self.all.truncate(last);
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Prefixes that were compared.
    pub(crate) static COMPARED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Counts a comparison of two prefixes, in tests.
#[inline(always)]
fn seen<T>(compared: T) -> T {
    #[cfg(test)]
    COMPARED.with(|count| count.set(count.get() + 1));
    compared
}
