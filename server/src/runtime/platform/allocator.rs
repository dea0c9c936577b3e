//! What the allocator holds: jemalloc, which `whimbreld` brings on Linux and which is FreeBSD's own.

/// Figures of the allocator, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocator {
    /// Handed out to the program.
    pub in_use: u64,
    /// In pages that are resident, and not handed out: for later, or because it cannot be given back.
    pub kept: u64,
    /// The allocator's own books.
    pub metadata: u64,
}

/// What the allocator holds. `None`: it does not say.
pub fn allocator() -> Option<Allocator> {
    // The figures are those of the last epoch: a new one is begun.
    let mut epoch = 1u64;
    let length = size_of::<u64>();
    let null = std::ptr::null_mut();
    // SAFETY: the name ends with NUL, and the new value is eight bytes of ours, as `epoch` wants them; nothing is read.
    let done = unsafe {
        system::mallctl(
            c"epoch".as_ptr(),
            null,
            std::ptr::null_mut(),
            (&raw mut epoch).cast::<libc::c_void>(),
            length,
        )
    };
    if done != 0 {
        return None;
    }
    let in_use = statistic(c"stats.allocated")?;
    let metadata = statistic(c"stats.metadata")?;
    let kept = statistic(c"stats.resident")?.saturating_sub(in_use).saturating_sub(metadata);
    Some(Allocator { in_use, kept, metadata })
}

#[cfg(target_os = "freebsd")]
use libc as system;
#[cfg(target_os = "linux")]
use tikv_jemalloc_sys as system;

fn statistic(name: &std::ffi::CStr) -> Option<u64> {
    let mut value = 0usize;
    let mut length = size_of::<usize>();
    // SAFETY: the name ends with NUL; the call writes at most `length` bytes into `value`, which is that long. Nothing
    // is set: the new value is null.
    let done = unsafe {
        system::mallctl(
            name.as_ptr(),
            (&raw mut value).cast::<libc::c_void>(),
            &raw mut length,
            std::ptr::null_mut(),
            0,
        )
    };
    (done == 0).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unit tests run with the allocator of the program.
    #[cfg(target_os = "linux")]
    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    #[test]
    fn what_is_allocated_is_seen() {
        const SIZE: usize = 64 << 20;
        let before = allocator().unwrap();
        let held = std::hint::black_box(vec![1u8; SIZE]);
        let during = allocator().unwrap();
        // Other tests allocate and free meanwhile, but not as much.
        assert!(during.in_use > before.in_use + SIZE as u64 / 2, "{before:?} {during:?}");
        assert!(during.metadata > 0);
        drop(held);
    }
}
