//! What a run waits for: a server that comes to rest, a moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::fleet::coordinator::interruption;
use crate::sample::process::Process;

/// How long a server may take to come to rest.
const REST_MAX: Duration = Duration::from_secs(60);

/// A server is at rest when it uses less than this share of a CPU.
const REST_SHARE: f64 = 0.1;

/// Waits until the server does nothing, or is gone; returns how long that took, in seconds.
///
/// # Errors
/// The run has been interrupted.
pub(crate) fn rest(servers: &[u32], interrupted: &AtomicBool) -> Result<f64, String> {
    let began = Instant::now();
    let look = Duration::from_millis(200);
    let cpu = || Process::glance(servers).map_or(0.0, |(cpu, _)| cpu);
    let mut before = cpu();
    while began.elapsed() < REST_MAX {
        std::thread::sleep(look);
        if interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        let now = cpu();
        if now - before < REST_SHARE * look.as_secs_f64() {
            return Ok((began.elapsed() - look).as_secs_f64());
        }
        before = now;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// The time since 1970.
pub(super) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Waits for a moment, in seconds since 1970, so that several generators begin together.
///
/// # Errors
/// It has passed, or the run has been interrupted.
pub(super) fn wait_until(at: u64) -> Result<(), String> {
    let at = Duration::from_secs(at);
    if at < unix_now() {
        return Err(format!("--start-at {} has passed: it is {} now", at.as_secs(), unix_now().as_secs()));
    }
    let interrupted = interruption()?;
    while at > unix_now() {
        std::thread::sleep((at - unix_now()).min(Duration::from_millis(100)));
        if interrupted.load(Ordering::Relaxed) {
            return Err("interrupted before the start".into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_that_has_passed_is_refused_and_one_to_come_is_waited_for() {
        assert!(wait_until(1).unwrap_err().contains("has passed"));
        let at = unix_now().as_secs() + 1;
        wait_until(at).unwrap();
        assert!(unix_now().as_secs() >= at);
    }

    #[test]
    fn a_process_that_does_nothing_or_is_gone_is_at_rest() {
        let interrupted = AtomicBool::new(false);
        assert!(rest(&[u32::MAX], &interrupted).is_ok());
        assert!(rest(&[u32::MAX], &AtomicBool::new(true)).is_err());
    }
}
