//! The program that wrote the state: where it is, what it served, and how the upgrade went as far as it.

use std::path::PathBuf;

use super::absolute;
use super::launch::Tally;
use crate::config::Config;
use crate::saved::Owner;
use crate::saved::codec::{Decoder, Encoder};
use crate::saved::error::StateError;
use crate::saved::kind::Kind;

/// The program that wrote the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramRecord {
    /// Its version.
    pub version: String,
    /// Where it was started from.
    pub program: PathBuf,
    /// Its open file.
    pub descriptor: u32,
    /// The program that is to take over.
    pub successor: PathBuf,
    /// The domain.
    pub domain: String,
    /// The data directory, absolute.
    pub data: PathBuf,
    /// The configuration in force, for the case that the program that wrote it has to go on: by then its file may say
    /// something else.
    pub config: String,
    /// The monotonic clock when the server began to settle, nanoseconds: from here on nothing was read.
    pub stopped_at_ns: u64,
    /// Seconds that a restore may take.
    pub patience_seconds: u32,
    /// How long each phase took, microseconds.
    pub phases: Vec<(String, u64)>,
    /// The sessions that were closed, by reason.
    pub closed: Vec<(String, u64)>,
    /// Upgrades so far, without this one.
    pub tally: Tally,
}

impl ProgramRecord {
    /// Whether a configuration can go on with what is here.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, config: &Config) -> Result<(), String> {
        if config.domain != self.domain {
            return Err(format!(
                "the configuration's domain is {}, that of the running server {}",
                config.domain, self.domain
            ));
        }
        let data = absolute(&config.data);
        if data != self.data {
            return Err(format!(
                "the configuration's data directory is {}, that of the running server {}",
                data.display(),
                self.data.display()
            ));
        }
        Ok(())
    }
}

/// Owns [`ProgramRecord`].
pub struct Program;

impl Owner for Program {
    const KIND: Kind = Kind::required("program");
    type Record<'a> = ProgramRecord;

    fn write(record: &ProgramRecord, to: &mut Encoder) {
        to.text(&record.version);
        to.path(&record.program);
        to.number(record.descriptor);
        to.path(&record.successor);
        to.text(&record.domain);
        to.path(&record.data);
        to.text(&record.config);
        to.number(record.stopped_at_ns);
        to.number(record.patience_seconds);
        for list in [&record.phases, &record.closed] {
            to.count(list.len());
            for (name, number) in list {
                to.text(name);
                to.number(*number);
            }
        }
        to.number(record.tally.done);
        to.number(record.tally.fallen_back);
    }

    fn read(from: &mut Decoder<'_>) -> Result<ProgramRecord, StateError> {
        let mut record = ProgramRecord {
            version: from.text()?.into(),
            program: from.path()?,
            descriptor: from.number()?,
            successor: from.path()?,
            domain: from.text()?.into(),
            data: from.path()?,
            config: from.text()?.into(),
            stopped_at_ns: from.number()?,
            patience_seconds: from.number()?,
            ..ProgramRecord::default()
        };
        for list in [&mut record.phases, &mut record.closed] {
            for _ in 0..from.count()? {
                list.push((from.text()?.into(), from.number()?));
            }
        }
        record.tally = Tally { done: from.number()?, fallen_back: from.number()? };
        Ok(record)
    }

    fn samples() -> Vec<ProgramRecord> {
        vec![ProgramRecord {
            version: "0.1.0".into(),
            program: "/usr/bin/whimbreld".into(),
            descriptor: 3,
            successor: "/usr/bin/whimbreld".into(),
            domain: "example.org".into(),
            data: "/var/lib/whimbrel".into(),
            config: "domain = 'example.org'\n".into(),
            stopped_at_ns: (1 << 50) - 5_000_000,
            patience_seconds: 30,
            phases: vec![("settle".into(), 1234)],
            closed: vec![("in a TLS handshake".into(), 2)],
            tally: Tally { done: 3, fallen_back: 1 },
        }]
    }

    fn descriptors(record: &ProgramRecord, keep: &mut Vec<u32>) {
        keep.push(record.descriptor);
    }
}
