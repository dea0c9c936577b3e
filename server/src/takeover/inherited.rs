//! The descriptors that came along from the program before.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::runtime::platform;

/// Descriptors above this are not looked for.
const DESCRIPTORS_MAX: u64 = 1 << 26;

/// The descriptors that this process has from before it became this program. Each is given away once.
#[derive(Debug)]
pub struct InheritedDescriptors {
    taken: Vec<AtomicU64>,
}

impl InheritedDescriptors {
    pub(super) fn new() -> InheritedDescriptors {
        let most = platform::descriptor_limits().map_or(DESCRIPTORS_MAX, |limits| limits.hard);
        let words = most.min(DESCRIPTORS_MAX).div_ceil(64) as usize;
        InheritedDescriptors { taken: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Takes a descriptor over.
    ///
    /// # Errors
    /// It is not one that came along, or somebody has taken it already.
    pub fn take(&self, descriptor: u32) -> Result<OwnedFd, String> {
        let (word, bit) = ((descriptor / 64) as usize, 1u64 << (descriptor % 64));
        let word =
            self.taken.get(word).ok_or_else(|| format!("descriptor {descriptor} is beyond all limits"))?;
        if word.fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            return Err(format!("descriptor {descriptor} is in the state twice"));
        }
        let number = RawFd::try_from(descriptor).map_err(|_| "a descriptor is beyond all numbers")?;
        // What this program has opened itself is closed by an exec; what came along was not.
        if !platform::is_inherited(number) {
            return Err(format!("descriptor {descriptor} did not come along"));
        }
        // SAFETY: it is open, it is none of those that this program has opened, and it is given away once.
        #[expect(unsafe_code, reason = "a descriptor of the program before")]
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }

    /// As [`InheritedDescriptors::take`]: a copy, so that the original stays until everything is there.
    pub(super) fn copy(&self, descriptor: u32, originals: &mut Vec<OwnedFd>) -> Result<OwnedFd, String> {
        let original = self.take(descriptor)?;
        let copy = original.try_clone();
        originals.push(original);
        copy.map_err(|error| format!("cannot copy descriptor {descriptor}: {error}"))
    }
}
