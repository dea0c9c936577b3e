//! Sources of figures, one small module each.
//!
//! | source | Linux | FreeBSD |
//! | --- | --- | --- |
//! | `server` | the stats file | the same |
//! | `cpu` | /proc/stat, /proc/loadavg | kern.cp_times, vm.loadavg |
//! | `memory` | /proc/meminfo, /proc/vmstat | vm.stats.vm |
//! | `interrupts` | /proc/stat | vm.stats.sys |
//! | `disk` | /proc/diskstats | kern.devstat.all |
//! | `network` | /proc/net/dev | getifaddrs(3) |
//! | `tcp` | /proc/net/snmp, /proc/net/netstat | net.inet.tcp |
//! | `sockets` | /proc/net/sockstat, /proc/sys/fs/file-nr | kern.ipc, kern.openfiles |
//! | `space` | statvfs(3) | the same |
//! | `process` | /proc/PID | kern.proc.pid |
//!
//! A new source is a file with a type that implements [`Source`], and one line in the list of its system
//! (`linux/mod.rs`, `freebsd/mod.rs`). docs/wsar.md shows an example.

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;
#[expect(unsafe_code, reason = "system calls")]
mod server;
#[expect(unsafe_code, reason = "system calls")]
mod space;

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(target_os = "freebsd")]
use freebsd as system;
#[cfg(target_os = "linux")]
use linux as system;

use crate::sample::{Description, Kind, Sample, Sink};
use server::Server;
pub use server::State;

/// Something that can be asked for figures.
pub trait Source: Send {
    /// Its name, for messages.
    fn name(&self) -> &'static str;

    /// Adds its figures of now, each time in the same order.
    ///
    /// # Errors
    /// Why there are none; then nothing of it is in the sample, and the other sources are asked all the same.
    fn collect(&mut self, process: Option<u32>, sink: &mut Sink) -> io::Result<()>;
}

/// Why a source has given nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The source.
    pub source: &'static str,
    /// The reason.
    pub text: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; skipped", self.source, self.text)
    }
}

/// All sources of this system.
pub struct Collector {
    server: Server,
    sources: Vec<Box<dyn Source>>,
    sink: Sink,
    problems: Vec<Problem>,
    server_series: usize,
}

impl Collector {
    /// The sources of the system, and the server with this data directory.
    pub fn new(data: &Path) -> Collector {
        let mut sources = system::sources();
        sources.push(Box::new(space::Space::new(data)));
        Collector::with(data, sources)
    }

    /// With sources of one's own.
    pub fn with(data: &Path, sources: Vec<Box<dyn Source>>) -> Collector {
        Collector {
            server: Server::new(data),
            sources,
            sink: Sink::default(),
            problems: Vec::new(),
            server_series: 0,
        }
    }

    /// Asks all sources.
    pub fn sample(&mut self) -> Sample {
        self.problems.clear();
        let sink = &mut self.sink;
        let mut ask = |name, collect: &mut dyn FnMut(&mut Sink) -> io::Result<()>| {
            let mark = sink.mark();
            if let Err(error) = collect(sink) {
                sink.rewind(mark);
                self.problems.push(Problem { source: name, text: error.to_string() });
            }
        };
        let mut server_series = 0;
        ask("server", &mut |sink| {
            self.server.collect(sink)?;
            server_series = sink.mark().0;
            Ok(())
        });
        self.server_series = server_series;
        let process = self.server.pid();
        for source in &mut self.sources {
            ask(source.name(), &mut |sink| source.collect(process, sink));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        self.sink.finish(now)
    }

    /// What went wrong in the last sample.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many series of the last sample come from the server's stats file: the first ones.
    pub fn server_series(&self) -> usize {
        self.server_series
    }

    /// What is known of the server.
    pub fn server(&self) -> &State {
        self.server.state()
    }
}

const fn metric(name: &'static str, kind: Kind, unit: &'static str, help: &'static str) -> Description {
    Description { name, kind, unit, help }
}

/// For a file that is not as expected.
fn strange(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken;

    impl Source for Broken {
        fn name(&self) -> &'static str {
            "broken"
        }

        fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
            sink.put(&metric("half", Kind::Gauge, "x", "Never seen."), 1);
            Err(strange("it has no other half"))
        }
    }

    #[test]
    fn a_failing_source_is_reported_and_the_others_are_heard() {
        let data = tempfile::tempdir().unwrap();
        let mut sources = system::sources();
        sources.insert(0, Box::new(Broken));
        let mut collector = Collector::with(data.path(), sources);
        for _ in 0..2 {
            let sample = collector.sample();
            assert_eq!(sample.schema.words(), sample.values.len());
            assert!(sample.schema.named("half").is_empty());
            assert!(!sample.schema.named("cpu.user").is_empty(), "{:?}", collector.problems());
            let problem = collector.problems().iter().find(|p| p.source == "broken").unwrap();
            assert_eq!(problem.to_string(), "broken: it has no other half; skipped");
        }
        assert_eq!(*collector.server(), State::Absent, "there is no server, which is no problem");
        assert!(collector.problems().iter().all(|p| p.source != "server"), "{:?}", collector.problems());
    }

    #[test]
    fn every_metric_is_declared_with_a_sentence_and_a_unit() {
        let data = tempfile::tempdir().unwrap();
        let sample = Collector::new(data.path()).sample();
        for series in sample.schema.series() {
            assert!(series.help.ends_with('.') && !series.unit.is_empty(), "{series:?}");
        }
    }
}
