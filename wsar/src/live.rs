//! Samples of now, at an interval that does not drift, until a signal comes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The longest time without a look at whether to stop.
const NAP: Duration = Duration::from_millis(200);

/// Becomes true when the program is asked to end (SIGINT, SIGTERM, SIGHUP).
///
/// # Errors
/// The system's reason.
pub fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}

/// Ticks at an interval.
pub struct Ticks {
    next: Instant,
    interval: Duration,
    stop: Arc<AtomicBool>,
}

impl Ticks {
    /// The first tick comes after one interval.
    pub fn new(interval: Duration, stop: Arc<AtomicBool>) -> Ticks {
        Ticks { next: Instant::now() + interval, interval, stop }
    }

    /// Waits for the next tick; `false` when it is time to stop. Ticks that were missed are left out.
    pub fn wait(&mut self) -> bool {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            let now = Instant::now();
            let Some(left) = self.next.checked_duration_since(now).filter(|left| !left.is_zero()) else {
                break;
            };
            // A signal does not end a sleep, but none takes long.
            std::thread::sleep(left.min(NAP));
        }
        let late = Instant::now().saturating_duration_since(self.next);
        let missed = late.as_nanos() / self.interval.as_nanos().max(1);
        self.next += self.interval * u32::try_from(missed + 1).unwrap_or(u32::MAX);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_end_when_asked_to() {
        let stop = Arc::new(AtomicBool::new(false));
        let mut ticks = Ticks::new(Duration::from_millis(1), stop.clone());
        assert!(ticks.wait() && ticks.wait());
        stop.store(true, Ordering::Relaxed);
        assert!(!ticks.wait());
        let mut long = Ticks::new(Duration::from_secs(3600), stop);
        assert!(!long.wait());
    }
}
