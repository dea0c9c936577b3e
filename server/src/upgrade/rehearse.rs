//! Reading a whole state without making anything of it.
//!
//! The new program does this as a child of the one that runs: first with the examples of all owners, then with the true
//! state. What it would stumble over, it stumbles over there, where nobody is hurt.

use crate::saved::Row;
use crate::saved::counts::Counts;
use crate::saved::error::StateError;
use crate::saved::error::WriteError;
use crate::saved::frame::StateWriter;
use crate::saved::state::{Block, State};

/// Reads all of a state, on as many threads as there are cores. Returns what is in it.
///
/// # Errors
/// It cannot be read.
pub fn read_all(bytes: &[u8], kinds: &'static [Row]) -> Result<Counts, StateError> {
    read_state(&State::read(bytes, kinds)?, kinds)
}

/// As [`read_all`], of a state whose frame was read.
///
/// # Errors
/// It cannot be read.
pub fn read_state<B: AsRef<[u8]>>(state: &State<B>, kinds: &'static [Row]) -> Result<Counts, StateError> {
    let blocks: Vec<_> = state.blocks().collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(blocks.len().max(1));
    let share = blocks.len().div_ceil(threads).max(1);
    let mut counts = Counts::default();
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            blocks.chunks(share).map(|blocks| scope.spawn(move || read_some(blocks, kinds))).collect();
        for part in parts {
            let read = part.join().map_err(|_| StateError::Damaged("it could not be read to its end"))?;
            counts.add_all(&read?);
        }
        Ok(counts)
    })
}

fn read_some(blocks: &[Block<'_>], kinds: &[Row]) -> Result<Counts, StateError> {
    let mut counts = Counts::default();
    for block in blocks {
        // A block of another kind is not in the list.
        if let Some(row) = kinds.iter().find(|row| row.kind.name == block.kind) {
            row.read(block, &mut counts)?;
        }
    }
    Ok(counts)
}

/// Writes the examples of all owners.
///
/// # Errors
/// The system has no memory for it.
pub fn write_samples(state: &StateWriter, kinds: &[Row]) -> Result<(), WriteError> {
    kinds.iter().try_for_each(|row| row.write_samples(state))?;
    state.finish().map(drop)
}
