//! Telling somebody: on a thread of its own, so that a slow program or a dead address holds up nothing else.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use super::engine::Change;
use super::rules::Action;

/// Changes that wait to be told at most; further ones are written to standard error only.
const WAITING_MAX: usize = 256;

/// How long a program or a request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The thread that tells.
pub struct Teller {
    changes: Option<SyncSender<Change>>,
    thread: Option<JoinHandle<()>>,
}

impl Teller {
    /// Starts it.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(actions: Vec<Action>) -> io::Result<Teller> {
        let (changes, waiting) = sync_channel(WAITING_MAX);
        let thread =
            std::thread::Builder::new().name("alerts".into()).spawn(move || tell_all(&actions, &waiting))?;
        Ok(Teller { changes: Some(changes), thread: Some(thread) })
    }

    /// Hands over a change; never waits.
    pub fn tell(&self, change: Change) {
        let Some(changes) = &self.changes else { return };
        if let Err(TrySendError::Full(change) | TrySendError::Disconnected(change)) = changes.try_send(change)
        {
            eprintln!("wsar: too many alerts wait to be told; left out: {change}");
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        // What waits is told before the end.
        drop(self.changes.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been printed by then.
            let _ = thread.join();
        }
    }
}

fn tell_all(actions: &[Action], changes: &Receiver<Change>) {
    while let Ok(change) = changes.recv() {
        for action in actions {
            if let Err(error) = tell(action, &change) {
                eprintln!("wsar: cannot tell of `{}` by {action:?}: {error}", change.rule);
            }
        }
    }
}

fn tell(action: &Action, change: &Change) -> io::Result<()> {
    match action {
        Action::Log(path) => {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            file.write_all(format!("{change}\n").as_bytes())
        }
        Action::Command(words) => run(words, change),
        Action::Webhook(address) => {
            let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build();
            let body = json!({
                "rule": change.rule,
                "state": state(change),
                "figure": change.figure,
                "level": change.level,
                "time": crate::time::rfc3339(change.time_ms),
            });
            let request = config.new_agent().post(address).content_type("application/json");
            request.send(body.to_string()).map(drop).map_err(io::Error::other)
        }
    }
}

fn state(change: &Change) -> &'static str {
    if change.in_force { "alert" } else { "clear" }
}

/// Runs a program, which gets everything in its environment, and nothing by way of a shell.
fn run(words: &[String], change: &Change) -> io::Result<()> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(io::Error::other("the command is empty"));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env("WSAR_RULE", &change.rule)
        .env("WSAR_STATE", state(change))
        .env("WSAR_FIGURE", change.figure.map_or_else(|| "missing".to_owned(), |figure| figure.to_string()))
        .env("WSAR_LEVEL", change.level.to_string())
        .env("WSAR_TIME", crate::time::rfc3339(change.time_ms))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return match status.success() {
                true => Ok(()),
                false => Err(io::Error::other(format!("it ended with {status}"))),
            };
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!("it did not end within {} seconds", PATIENCE.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
