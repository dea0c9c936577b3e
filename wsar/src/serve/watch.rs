//! The thread that samples, and what it leaves for the answers: the latest figures, and those of the last minutes.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::events::Events;
use super::frame::{Frame, Layout, number};
use super::openmetrics::{self, Format};
use crate::alert::{Change, Engine, Rules};
use crate::busiest;
use crate::collect::{Collector, State};
use crate::delta::Delta;
use crate::live::Ticks;
use crate::sample::Sample;
use crate::time;

/// Frames that are kept in memory at most: half an hour of seconds.
pub const FRAMES_MAX: usize = 1_800;

/// Bytes that they may take at most; a machine of very many cores gets less than half an hour.
const FRAMES_BYTES_MAX: usize = 64 << 20;

/// Changes of alerts, and restarts of the server, that are kept.
const EVENTS_MAX: usize = 50;

/// The time between the two samples of the first figures.
const FIRST: Duration = Duration::from_millis(250);

/// All that is known at one time.
pub struct Now {
    /// The figures.
    pub frame: Frame,
    /// The sample that they end with.
    pub sample: Sample,
    /// How many series of the sample are the server's: they come first.
    pub server_series: usize,
    /// What is known of the server.
    pub server: State,
    /// The alerts in force and the last changes, as JSON.
    pub alerts: Value,
    /// The accounts and addresses that cause most, as JSON; `null` while the server has told nothing.
    pub busiest: Value,
    /// Everything for the page, as JSON. All who are sent it share it.
    pub json: Bytes,
    /// `/metrics` in each format, made when somebody asks, and shared as well.
    pub(super) metrics: [OnceLock<Bytes>; Format::ALL.len()],
}

impl Now {
    /// `/metrics` in a format.
    pub fn metrics(&self, format: Format) -> Bytes {
        let made = &self.metrics[format as usize];
        made.get_or_init(|| openmetrics::write(self, format).into()).clone()
    }
}

/// What the thread leaves.
pub struct Shared {
    now: watch::Sender<Arc<Now>>,
    frames: Mutex<VecDeque<Frame>>,
}

impl Shared {
    /// The latest.
    pub fn now(&self) -> Arc<Now> {
        self.now.borrow().clone()
    }

    /// Tells when there is something later. A slow reader misses what is between.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Now>> {
        self.now.subscribe()
    }

    /// The frames of a time, oldest first, and since when there are any.
    pub fn frames(&self, from_ms: u64, to_ms: u64) -> (Vec<Frame>, Option<u64>) {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = frames.iter().filter(|frame| (from_ms..=to_ms).contains(&frame.time_ms));
        (wanted.cloned().collect(), frames.front().map(|frame| frame.time_ms))
    }

    fn keep(&self, frame: Frame) {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back: what came "later" is of no use in a chart.
        if frames.back().is_some_and(|last| last.time_ms >= frame.time_ms) {
            frames.clear();
        }
        let bytes = frame.bytes().max(1);
        while frames.len() >= FRAMES_MAX.min(FRAMES_BYTES_MAX / bytes).max(2) {
            frames.pop_front();
        }
        frames.push_back(frame);
    }
}

/// What is carried from one sample to the next.
struct Watch {
    collector: Collector,
    engine: Engine,
    old: Sample,
    layout: Arc<Layout>,
    changes: VecDeque<Change>,
    /// When the server started while we watched, Unix time in milliseconds.
    restarts: VecDeque<u64>,
    last_start_ns: Option<u64>,
    events: Events,
    busiest: busiest::Reader,
}

/// Takes the first two samples and starts the thread, which ends when `ticks` do.
///
/// # Errors
/// The thread cannot be started.
pub fn start(data: &Path, rules: Rules, ticks: Ticks) -> io::Result<(Arc<Shared>, JoinHandle<()>)> {
    let mut collector = Collector::new(data);
    let old = collector.sample();
    let mut watch = Watch {
        collector,
        engine: Engine::new(rules.rules, rules.builtin),
        old,
        layout: Arc::default(),
        changes: VecDeque::new(),
        restarts: VecDeque::new(),
        last_start_ns: None,
        events: Events::default(),
        busiest: busiest::Reader::new(data),
    };
    let mut first = watch.look_after(FIRST);
    // Only a clock that is being set back makes it take longer.
    while first.is_none() {
        first = watch.look_after(FIRST);
    }
    let first = Arc::new(first.expect("the loop ends with something"));
    let shared = Arc::new(Shared { now: watch::Sender::new(first.clone()), frames: Mutex::default() });
    shared.keep(first.frame.clone());
    let for_thread = shared.clone();
    let thread = std::thread::Builder::new().name("samples".into()).spawn(move || {
        let (shared, mut ticks) = (for_thread, ticks);
        while ticks.wait() {
            if let Some(now) = watch.look() {
                shared.keep(now.frame.clone());
                shared.now.send_replace(Arc::new(now));
            }
        }
    })?;
    Ok((shared, thread))
}

impl Watch {
    fn look_after(&mut self, wait: Duration) -> Option<Now> {
        std::thread::sleep(wait);
        self.look()
    }

    /// Takes a sample. `None`: no time has passed.
    fn look(&mut self) -> Option<Now> {
        let new = self.collector.sample();
        let old = std::mem::replace(&mut self.old, new);
        let delta = Delta::between(&old, &self.old)?;
        let frame = Frame::new(&delta, &self.layout);
        self.layout = frame.layout().clone();
        let server = self.collector.server().clone();
        let changes = self.engine.look(&delta);
        self.events.look(&delta, &server, &changes);
        for change in changes {
            push(&mut self.changes, change);
        }
        if let State::Running { started_unix_ns, .. } = server {
            if self.last_start_ns.is_some_and(|last| last != started_unix_ns) {
                push(&mut self.restarts, started_unix_ns / 1_000_000);
            }
            self.last_start_ns = Some(started_unix_ns);
        }
        let alerts = self.alerts();
        let mut problems: Vec<String> = self.collector.problems().iter().map(ToString::to_string).collect();
        let busiest = match self.busiest.look() {
            Ok(told) => json!(told),
            Err(error) => {
                problems.push(error.to_string());
                Value::Null
            }
        };
        let json = json!({
            "time": frame.time_ms,
            "seconds": number(frame.seconds),
            "server": server_json(&server),
            "restarts": self.restarts,
            "problems": problems,
            "alerts": alerts,
            "events": self.events.json(),
            "busiest": busiest,
            "tables": frame.json(),
        });
        Some(Now {
            frame,
            sample: self.old.clone(),
            server_series: self.collector.server_series(),
            server,
            alerts,
            busiest,
            json: json.to_string().into(),
            metrics: Default::default(),
        })
    }

    fn alerts(&self) -> Value {
        let in_force = self.engine.in_force().map(
            |(rule, figure, since_ms)| json!({"rule": rule, "figure": figure.map_or(Value::Null, number), "since": since_ms}),
        );
        let changes = self.changes.iter().rev().map(|change| {
            json!({
                "rule": change.rule,
                "state": if change.in_force { "alert" } else { "clear" },
                "figure": change.figure.map_or(Value::Null, number),
                "level": number(change.level),
                "time": change.time_ms,
            })
        });
        let rules = self.engine.rules().map(|rule| {
            json!({
                "rule": rule.name, "metric": rule.metric, "of": rule.of, "above": rule.above,
                "below": rule.below, "clear": rule.clear, "cure": rule.cure,
            })
        });
        let rules: Vec<_> = rules.collect();
        json!({"rules": rules, "in_force": in_force.collect::<Vec<_>>(), "changes": changes.collect::<Vec<_>>()})
    }
}

fn push<T>(list: &mut VecDeque<T>, one: T) {
    if list.len() == EVENTS_MAX {
        list.pop_front();
    }
    list.push_back(one);
}

/// What is known of the server, as JSON.
pub fn server_json(server: &State) -> Value {
    match server {
        State::Absent => json!({"state": "absent"}),
        State::Running { pid, started_unix_ns } => {
            let started = started_unix_ns / 1_000_000;
            json!({"state": "running", "pid": pid, "started": started, "since": time::rfc3339(started)})
        }
        State::Ended { pid } => json!({"state": "ended", "pid": pid}),
    }
}
