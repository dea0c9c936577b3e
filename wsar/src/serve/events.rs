//! What has happened, with its time: what a chart's shape is asked about first.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Value, json};

use super::openmetrics::version_of;
use crate::alert::Change;
use crate::collect::State;
use crate::delta::Delta;
use crate::time;

/// Events that are kept.
const EVENTS_MAX: usize = 200;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Unix time, milliseconds.
    pub time_ms: u64,
    /// `start`, `end`, `upgrade`, `reload`, `alert`, `clear` or `refusal`.
    pub kind: &'static str,
    /// What happened, in words.
    pub text: String,
}

/// What has happened while we watched.
#[derive(Default)]
pub struct Events {
    list: VecDeque<Event>,
    /// The run of the server: its start, and upgrades since.
    run: Option<(u64, f64, Option<String>)>,
    /// Limits that have refused something in this run.
    refused: BTreeSet<String>,
    running: bool,
}

impl Events {
    /// Looks at what has changed between two samples.
    pub fn look(&mut self, delta: &Delta<'_>, server: &State, changes: &[Change]) {
        let now_ms = delta.latest().time_ms;
        match *server {
            State::Running { pid, started_unix_ns } => self.running(delta, pid, started_unix_ns / 1_000_000),
            State::Ended { pid } if self.running => {
                self.push(now_ms, "end", format!("The server (process {pid}) ended."));
                self.running = false;
            }
            State::Ended { .. } | State::Absent => self.running = false,
        }
        for change in changes {
            let kind = if change.in_force { "alert" } else { "clear" };
            let figure =
                change.figure.map_or_else(|| "no figure".to_owned(), |figure| format!("{figure:.1}"));
            self.push(change.time_ms, kind, format!("{}: {figure}", change.rule));
        }
    }

    fn running(&mut self, delta: &Delta<'_>, pid: u32, started_ms: u64) {
        self.running = true;
        let now_ms = delta.latest().time_ms;
        let version = version_of(delta.latest());
        let name = |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".to_owned());
        let upgrades = delta.sum("upgrade.count", None).unwrap_or(0.0);
        match self.run.replace((started_ms, upgrades, version.clone())) {
            Some((start, before, _)) if start == started_ms && before >= upgrades => {}
            Some((_, before, old)) if upgrades > before => {
                let pause = delta.sum("upgrade.pause", None).unwrap_or(0.0) / 1000.0;
                let text = format!("Upgrade from {} to {}, pause {pause:.1} ms.", name(&old), name(&version));
                self.push(now_ms, "upgrade", text);
            }
            _ => {
                self.refused.clear();
                self.push(
                    started_ms,
                    "start",
                    format!("whimbreld {} started, process {pid}.", name(&version)),
                );
            }
        }
        if delta.grown("server.reloads", None).is_some_and(|grown| grown > 0.0) {
            self.push(now_ms, "reload", "Certificate and configuration were read again.".to_owned());
        }
        for series in delta.latest().schema.series() {
            let Some(reason) = series.name.strip_prefix("refused.") else { continue };
            let grown = || delta.grown(&series.name, None).is_some_and(|grown| grown > 0.0);
            if !self.refused.contains(reason) && grown() {
                self.refused.insert(reason.to_owned());
                self.push(now_ms, "refusal", format!("First refusal by {reason}. {}", series.help));
            }
        }
    }

    fn push(&mut self, time_ms: u64, kind: &'static str, text: String) {
        if self.list.len() == EVENTS_MAX {
            self.list.pop_front();
        }
        self.list.push_back(Event { time_ms, kind, text });
    }

    /// All that are kept, the oldest first.
    pub fn json(&self) -> Value {
        let events = self.list.iter();
        let json = events.map(|event| {
            json!({"time": event.time_ms, "at": time::rfc3339(event.time_ms), "kind": event.kind, "text": event.text})
        });
        json.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Description, Kind, Sample, Sink};

    /// A sample of a server: time, version, upgrades, reloads, refusals.
    fn sample(time_ms: u64, [version, upgrades, reloads, refused]: [u64; 4]) -> Sample {
        let what = |name, kind| Description { name, kind, unit: "x", help: "Refused: a limit." };
        let mut sink = Sink::default();
        sink.put(&what("server.version", Kind::Gauge), version);
        sink.put(&what("upgrade.count", Kind::Counter), upgrades);
        sink.put(&what("upgrade.pause", Kind::Gauge), 4_200);
        sink.put(&what("server.reloads", Kind::Counter), reloads);
        sink.put(&what("refused.sessions", Kind::Counter), refused);
        sink.finish(time_ms)
    }

    #[test]
    fn each_event_is_told_once_and_in_words() {
        let run = |start: u64| State::Running { pid: 7, started_unix_ns: start * 1_000_000 };
        let steps = [
            (sample(1_000, [1_002_003, 0, 0, 0]), run(500)),
            (sample(2_000, [1_002_003, 0, 0, 0]), run(500)),
            (sample(3_000, [1_002_003, 0, 0, 4]), run(500)),
            (sample(4_000, [1_002_003, 0, 1, 9]), run(500)),
            (sample(5_000, [1_002_004, 1, 1, 9]), run(500)),
            (sample(6_000, [1_002_004, 1, 1, 9]), State::Ended { pid: 7 }),
            (sample(7_000, [1_002_004, 0, 0, 0]), run(6_500)),
            (sample(8_000, [1_002_004, 0, 0, 1]), run(6_500)),
        ];
        let mut events = Events::default();
        for pair in steps.windows(2) {
            events.look(&Delta::between(&pair[0].0, &pair[1].0).unwrap(), &pair[1].1, &[]);
        }
        let told: Vec<_> = events.list.iter().map(|e| (e.time_ms, e.kind, e.text.as_str())).collect();
        assert_eq!(
            told,
            [
                (500, "start", "whimbreld 1.2.3 started, process 7."),
                (3_000, "refusal", "First refusal by sessions. Refused: a limit."),
                (4_000, "reload", "Certificate and configuration were read again."),
                (5_000, "upgrade", "Upgrade from 1.2.3 to 1.2.4, pause 4.2 ms."),
                (6_000, "end", "The server (process 7) ended."),
                (6_500, "start", "whimbreld 1.2.4 started, process 7."),
                (8_000, "refusal", "First refusal by sessions. Refused: a limit."),
            ]
        );
    }
}
