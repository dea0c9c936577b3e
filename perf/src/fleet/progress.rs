//! The progress line on standard error.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::engine::counters::Counters;

/// Draws at most once a second on a terminal, every ten seconds elsewhere.
pub(crate) struct Progress {
    quiet: bool,
    terminal: bool,
    what: String,
    last: Instant,
    before: Counters,
    drawn: bool,
}

impl Progress {
    /// Nothing is drawn when `quiet`.
    pub(crate) fn new(quiet: bool) -> Progress {
        Progress {
            quiet,
            terminal: std::io::stderr().is_terminal(),
            what: String::new(),
            last: Instant::now(),
            before: Counters::default(),
            drawn: false,
        }
    }

    /// Names what is going on.
    pub(crate) fn now_doing(&mut self, what: &str) {
        what.clone_into(&mut self.what);
    }

    /// Draws when it is time.
    pub(crate) fn tick(&mut self, counters: &Counters) {
        let every = Duration::from_secs(if self.terminal { 1 } else { 10 });
        let passed = self.last.elapsed();
        if self.quiet || passed < every {
            return;
        }
        let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / passed.as_secs_f64();
        let line = format!(
            "{}: {} up, {} logging in, {:.0} logins/s, {:.0} messages/s, {} failed logins, {} dropped",
            self.what,
            counters.ready,
            counters.connecting,
            per_second(counters.logins, self.before.logins),
            per_second(counters.delivered, self.before.delivered),
            counters.login_failures_total(),
            counters.dropped,
        );
        let mut err = std::io::stderr().lock();
        // A closed standard error ends no run.
        let _ = if self.terminal { write!(err, "\r\x1b[K{line}") } else { writeln!(err, "{line}") };
        let _ = err.flush();
        self.drawn = self.terminal;
        self.last = Instant::now();
        self.before = counters.clone();
    }

    /// Leaves a clean line.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
