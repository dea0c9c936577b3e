//! The machine that a run was made on.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::sample::field;
use crate::tune;

/// What figures depend on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// CPU model.
    pub(crate) cpu: String,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// Memory in bytes.
    pub(crate) memory_bytes: u64,
    /// Operating system and kernel release.
    pub(crate) system: String,
    /// Settings of the kernel that figures depend on, by name.
    #[serde(default)]
    pub(crate) settings: BTreeMap<String, String>,
}

impl Machine {
    /// Looks at this machine.
    pub(crate) fn look() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpuinfo
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| line.split_once(':'))
            .map_or_else(|| "unknown CPU".to_owned(), |(_, name)| name.trim().to_owned());
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            cpu,
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: field(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal")
                .unwrap_or(0),
            settings: tune::current(),
            system: format!("{} {}", std::env::consts::OS, release.trim()).trim().to_owned(),
        }
    }
}
