//! The descriptors that came along from the program before.

use std::collections::BTreeMap;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::runtime::driver::Detached;
use crate::runtime::platform;

/// Descriptors above this are not looked for.
const DESCRIPTORS_MAX: u64 = 1 << 26;

/// The descriptors that this process has from before it became this program. Each is given away once.
#[derive(Debug)]
pub struct InheritedDescriptors {
    taken: Vec<AtomicU64>,
    /// Connections of a simulation, which have numbers and no descriptors; `None` in a process of its own.
    simulated: Option<Mutex<BTreeMap<u32, Detached>>>,
}

impl InheritedDescriptors {
    pub(super) fn new() -> InheritedDescriptors {
        let most = platform::descriptor_limits().map_or(DESCRIPTORS_MAX, |limits| limits.hard);
        let words = most.min(DESCRIPTORS_MAX).div_ceil(64) as usize;
        InheritedDescriptors { taken: (0..words).map(|_| AtomicU64::new(0)).collect(), simulated: None }
    }

    /// The connections that a simulated program has left.
    pub fn simulated(left: impl IntoIterator<Item = Detached>) -> InheritedDescriptors {
        let numbered = left.into_iter().filter_map(|socket| Some((socket.number()?, socket))).collect();
        InheritedDescriptors { taken: Vec::new(), simulated: Some(Mutex::new(numbered)) }
    }

    /// Whether its numbers are descriptors of the process.
    pub fn are_descriptors(&self) -> bool {
        self.simulated.is_none()
    }

    /// Takes the connection with this number over.
    ///
    /// # Errors
    /// As [`InheritedDescriptors::take`].
    ///
    /// # Panics
    /// Never: nothing panics while it holds the lock.
    pub fn connection(&self, number: u32) -> Result<Detached, String> {
        let Some(simulated) = &self.simulated else { return self.take(number).map(Detached::from_socket) };
        let taken = simulated.lock().expect("nothing panics while it holds this lock").remove(&number);
        taken.ok_or_else(|| format!("connection {number} did not come along, or is in the state twice"))
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
