//! The memory budget of the process, `limits.memory_mib`, and what is given up first as it is used.
//!
//! What the allocator has handed out is compared with the budget four times a second, by the thread that keeps the stats
//! file. Workers read the outcome:
//!
//! | used | what is given up |
//! | --- | --- |
//! | 80% | sessions without a connection keep references into the log and nothing else; nothing is held back for anybody |
//! | 90% | new connections are refused; a session may make the server hold 16 KiB: long answers become "ask again", presence beyond it is refused; a stanza of more than that which does not come to its end ends its stream |
//! | 95% | sessions without a connection end; connections with much output waiting are reset, and can be resumed elsewhere |
//!
//! Messages are not among these: they are in the log, which has limits of its own.

use std::sync::atomic::{AtomicU8, Ordering};

/// How much of the budget is used.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Less than 80%.
    None,
    /// From 80%.
    Tight,
    /// From 90%.
    Short,
    /// From 95%.
    Out,
}

/// Bytes that one session may make the server hold from [`Pressure::Short`] on.
pub const SHORT_BYTES: usize = 16 * 1024;

/// The state of the budget. At first nothing is used.
#[derive(Debug, Default)]
pub struct Memory(AtomicU8);

impl Memory {
    /// Compares the bytes that are used with the budget; returns the pressure when it is another than before.
    pub fn look(&self, used: u64, budget: u64) -> Option<Pressure> {
        let part = |percent: u64| budget / 100 * percent;
        let pressure = match used {
            _ if used >= part(95) => Pressure::Out,
            _ if used >= part(90) => Pressure::Short,
            _ if used >= part(80) => Pressure::Tight,
            _ => Pressure::None,
        };
        let before = self.0.swap(pressure as u8, Ordering::Relaxed);
        (before != pressure as u8).then_some(pressure)
    }

    /// How much of the budget is used.
    pub fn pressure(&self) -> Pressure {
        match self.0.load(Ordering::Relaxed) {
            0 => Pressure::None,
            1 => Pressure::Tight,
            2 => Pressure::Short,
            _ => Pressure::Out,
        }
    }
}

/// The budget in bytes: as configured, or half of the machine's memory.
pub fn budget_bytes(memory_mib: u64, machine_bytes: u64) -> u64 {
    match memory_mib {
        0 => machine_bytes / 2,
        mib => mib.saturating_mul(1024 * 1024),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_rises_and_falls_with_what_is_used_and_changes_are_told_once() {
        let memory = Memory::default();
        let steps = [
            (0, None),
            (799, None),
            (800, Some(Pressure::Tight)),
            (850, None),
            (900, Some(Pressure::Short)),
            (2000, Some(Pressure::Out)),
            (950, None),
            (100, Some(Pressure::None)),
        ];
        for (used, change) in steps {
            assert_eq!(memory.look(used, 1000), change, "{used}");
        }
        assert_eq!(memory.pressure(), Pressure::None);
    }

    #[test]
    fn the_budget_is_half_of_the_machine_unless_it_is_set() {
        assert_eq!(budget_bytes(0, 8 << 30), 4 << 30);
        assert_eq!(budget_bytes(64, 8 << 30), 64 << 20);
    }
}
