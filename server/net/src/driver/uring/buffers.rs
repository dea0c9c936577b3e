//! Receive buffers that all connections share: the kernel takes one when bytes arrive, and gets it back when they are
//! delivered.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// The buffer group of this ring; there is one.
pub(super) const GROUP: u16 = 0;

const PAGE: usize = 4096;
const BUFFERS_MAX: u16 = 1 << 15;

/// One allocation: the ring of free buffers that the kernel reads, then the buffers.
///
/// ```text
/// | entry 0 (its last two bytes: the tail) | entry 1 | … | buffer 0 | buffer 1 | … |
/// ```
#[derive(Debug)]
pub(super) struct Buffers {
    memory: NonNull<u8>,
    layout: Layout,
    count: u16,
    bytes: usize,
    /// Where the next free buffer goes; runs freely, the kernel has its own head.
    tail: u16,
}

impl Buffers {
    /// Makes `count` buffers (a power of two) of `bytes` bytes and registers them with `ring`.
    pub(super) fn new(ring: &IoUring, count: u16, bytes: usize) -> io::Result<Buffers> {
        let sound = count.is_power_of_two() && count <= BUFFERS_MAX && (1..=1 << 30).contains(&bytes);
        if !sound {
            let message = format!(
                "{count} receive buffers of {bytes} bytes: the number must be a power of two up to 32768"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let size = usize::from(count) * (size_of::<BufRingEntry>() + bytes);
        let layout = Layout::from_size_align(size, PAGE).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: the layout is not empty: there is at least one buffer of at least one byte.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        let mut buffers = Buffers { memory, layout, count, bytes, tail: 0 };
        // SAFETY: the entries lie at the start of the allocation, aligned to a page. The owner of `Buffers` keeps it
        // until the ring is closed (see the order of fields and `Drop` of the driver).
        unsafe { ring.submitter().register_buf_ring_with_flags(memory.as_ptr() as u64, count, GROUP, 0)? };
        for buffer in 0..count {
            buffers.give_back(buffer);
        }
        Ok(buffers)
    }

    fn data(&self, buffer: u16) -> *mut u8 {
        assert!(buffer < self.count, "the kernel named a buffer that there is not");
        let offset = usize::from(self.count) * size_of::<BufRingEntry>() + usize::from(buffer) * self.bytes;
        // SAFETY: the buffer lies within the allocation, as `new` has sized it.
        unsafe { self.memory.as_ptr().add(offset) }
    }

    /// The first `length` bytes of a buffer that the kernel has filled and that was not yet given back.
    pub(super) fn filled(&self, buffer: u16, length: usize) -> &[u8] {
        assert!(length <= self.bytes, "the kernel wrote more than a buffer holds");
        // SAFETY: within the allocation and initialised (zeroed, then written by the kernel). The kernel has posted the
        // completion that names this buffer, so it does not write until `give_back`, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.data(buffer), length) }
    }

    /// Bytes of each.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets the kernel use a buffer again.
    pub(super) fn give_back(&mut self, buffer: u16) {
        let address = self.data(buffer) as u64;
        let slot = usize::from(self.tail & (self.count - 1));
        let entries = self.memory.cast::<BufRingEntry>().as_ptr();
        // SAFETY: the slot is below `count`, and zeroed memory is a valid entry. The kernel reads only slots between
        // its head and the published tail; there are as many slots as buffers, so this one is not among them.
        let entry = unsafe { &mut *entries.add(slot) };
        entry.set_addr(address);
        entry.set_len(self.bytes as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the reserved bytes of entry 0, is aligned for u16, and is written by us alone;
        // the kernel reads it. `entry` is not used any more. Atomic, so that the entry is visible before the tail.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed once.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) };
    }
}
