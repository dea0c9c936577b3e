//! What a double heard.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use serde_json::Value;
use tokio::sync::watch;

/// How long a test waits for something that must come: it decides nothing but when a broken test ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request that followed the rules.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The number of the connection, from 1 on.
    pub connection: u64,
    /// The path.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The payload as JSON; of Web Push decrypted.
    pub payload: Value,
    /// Bytes of the request's body.
    pub bytes: usize,
}

impl Heard {
    /// A header as text; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct State {
    heard: Vec<Heard>,
    violations: Vec<String>,
    connections: u64,
    open: u64,
    streams: usize,
    streams_max: usize,
}

/// What a double heard, and its valves.
#[derive(Debug)]
pub struct Journal {
    state: Mutex<State>,
    changed: Condvar,
    /// Counts releases.
    released: watch::Sender<u64>,
    /// Counts outages; odd: it is down.
    down: watch::Sender<u64>,
    /// Connections up to this number do nothing any more.
    frozen: watch::Sender<u64>,
}

impl Default for Journal {
    fn default() -> Journal {
        let [released, down, frozen] = [(); 3].map(|()| watch::channel(0).0);
        Journal { state: Mutex::default(), changed: Condvar::new(), released, down, frozen }
    }
}

impl Journal {
    /// All requests that followed the rules, those among them that the script left without an answer.
    pub fn heard(&self) -> Vec<Heard> {
        self.lock().heard.clone()
    }

    /// How often the rules were broken, and how.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Connections that were ever made.
    pub fn connections(&self) -> u64 {
        self.lock().connections
    }

    /// Connections that are open.
    pub fn open(&self) -> u64 {
        self.lock().open
    }

    /// The most requests that were under way at once.
    pub fn streams_max(&self) -> usize {
        self.lock().streams_max
    }

    /// Waits until so many requests were heard, and returns all that were.
    ///
    /// # Panics
    /// They do not come.
    pub fn wait_for(&self, requests: usize) -> Vec<Heard> {
        self.wait(&format!("{requests} requests"), |state| state.heard.len() >= requests).heard.clone()
    }

    /// Waits until so many requests are under way at once.
    ///
    /// # Panics
    /// They do not come.
    pub fn wait_for_streams(&self, streams: usize) {
        drop(self.wait(&format!("{streams} at once"), |state| state.streams >= streams));
    }

    /// Waits until so many connections were made.
    ///
    /// # Panics
    /// They do not come.
    pub fn wait_for_connections(&self, connections: u64) {
        drop(self.wait(&format!("{connections} connections"), |state| state.connections >= connections));
    }

    /// Gives the answers that are held.
    pub fn release(&self) {
        self.released.send_modify(|count| *count += 1);
    }

    /// Closes all connections, and from now on every new one at once.
    pub fn go_down(&self) {
        self.down.send_modify(|count| *count |= 1);
    }

    /// Takes connections again.
    pub fn come_up(&self) {
        self.down.send_modify(|count| *count += *count & 1);
    }

    /// From now on nothing comes from the connections that there are, as if a cable had been cut; new ones work.
    pub fn freeze(&self) {
        self.frozen.send_replace(self.connections());
    }

    /// Waits until a connection is frozen.
    pub(super) async fn frozen(&self, connection: u64) {
        // The double ends with its journal.
        let _ = self.frozen.subscribe().wait_for(|frozen| connection <= *frozen).await;
    }

    pub(super) fn releases(&self) -> watch::Receiver<u64> {
        self.released.subscribe()
    }

    pub(super) fn downs(&self) -> watch::Receiver<u64> {
        self.down.subscribe()
    }

    pub(super) fn is_down(&self) -> bool {
        *self.down.borrow() % 2 == 1
    }

    pub(super) fn hear(&self, heard: Heard) {
        self.change(|state| state.heard.push(heard));
    }

    pub(super) fn violation(&self, text: String) {
        self.change(|state| state.violations.push(text));
    }

    /// A connection was made; its number.
    pub(super) fn connected(&self) -> u64 {
        let mut number = 0;
        self.change(|state| {
            state.connections += 1;
            state.open += 1;
            number = state.connections;
        });
        number
    }

    pub(super) fn disconnected(&self) {
        self.change(|state| state.open -= 1);
    }

    pub(super) fn begun(&self) {
        self.change(|state| {
            state.streams += 1;
            state.streams_max = state.streams_max.max(state.streams);
        });
    }

    pub(super) fn ended(&self) {
        self.change(|state| state.streams -= 1);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait(&self, what: &str, until: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let end = Instant::now() + PATIENCE;
        let mut state = self.lock();
        while !until(&state) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}: {state:?}");
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
