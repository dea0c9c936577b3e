//! The allocator of `whimbreld`: mimalloc, counted.
//!
//! mimalloc does not say cheaply what it has handed out, so each call is counted here, in one of a few cells, so that
//! threads seldom meet in a cache line. A routed message allocates nothing, so the counting costs it nothing.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use mimalloc::MiMalloc;

/// Cells; a thread takes the next one when it first allocates. A power of two.
const CELLS: usize = 16;

/// Counts of some of the threads, in a cache line (or two) of their own.
#[repr(align(128))]
struct Counts {
    /// Bytes allocated less bytes freed; a thread may free what another allocated.
    in_use: AtomicI64,
    /// Calls that allocated.
    allocations: AtomicU64,
}

static COUNTS: [Counts; CELLS] =
    [const { Counts { in_use: AtomicI64::new(0), allocations: AtomicU64::new(0) } }; CELLS];

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The thread's cell; `CELLS` until it has one. Needs neither memory nor a destructor, so it serves an allocator.
    static CELL: Cell<usize> = const { Cell::new(CELLS) };
}

fn counts() -> &'static Counts {
    let cell = CELL.try_with(|own| {
        if own.get() == CELLS {
            own.set(NEXT.fetch_add(1, Ordering::Relaxed) % CELLS);
        }
        own.get()
    });
    &COUNTS[cell.unwrap_or(0)]
}

/// mimalloc, counted. `whimbreld` makes it the global allocator.
pub struct Counted;

// SAFETY: every call is mimalloc's, with the arguments unchanged; the counting touches no memory of the heap.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let memory = unsafe { MiMalloc.alloc(layout) };
        took(memory, 0, layout.size());
        memory
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let memory = unsafe { MiMalloc.alloc_zeroed(layout) };
        took(memory, 0, layout.size());
        memory
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        let memory = unsafe { MiMalloc.realloc(memory, layout, size) };
        took(memory, layout.size(), size);
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.dealloc(memory, layout) };
        counts().in_use.fetch_sub(layout.size() as i64, Ordering::Relaxed);
    }
}

/// Counts a call that gave `memory` of `size` bytes in place of `before`; a call that failed is none.
fn took(memory: *mut u8, before: usize, size: usize) {
    if !memory.is_null() {
        let counts = counts();
        counts.in_use.fetch_add(size as i64 - before as i64, Ordering::Relaxed);
        counts.allocations.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the allocator was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Bytes handed out and not given back.
    pub in_use: u64,
    /// Allocations since the start; a reallocation is one.
    pub allocations: u64,
}

/// What the allocator was asked for until now: zeroes where the program runs with another one.
pub fn figures() -> Figures {
    let sum: i64 = COUNTS.iter().map(|counts| counts.in_use.load(Ordering::Relaxed)).sum();
    Figures {
        // Cells are read one after another: what moves meanwhile may look freed before it was allocated.
        in_use: u64::try_from(sum).unwrap_or(0),
        allocations: COUNTS.iter().map(|counts| counts.allocations.load(Ordering::Relaxed)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unit tests run with the allocator of the program.
    #[global_allocator]
    static ALLOCATOR: Counted = Counted;

    #[test]
    fn what_is_allocated_is_seen_until_it_is_freed() {
        // Other tests allocate and free meanwhile, but not as much.
        const SIZE: usize = 512 << 20;
        let before = figures();
        let held = std::hint::black_box(vec![0u8; SIZE]);
        let during = figures();
        assert!(during.in_use > before.in_use + SIZE as u64 / 2, "{before:?} {during:?}");
        assert!(during.allocations > before.allocations);
        // Freed by another thread, as what crosses workers is.
        std::thread::spawn(move || drop(held)).join().unwrap();
        assert!(figures().in_use < during.in_use - SIZE as u64 / 2, "{during:?}");
    }
}
