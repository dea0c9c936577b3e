//! What the dashboard knows and what was chosen.

use std::collections::{HashMap, VecDeque};

use crate::busiest::Busiest;
use crate::delta::Delta;
use crate::table::{self, Table, server};

/// Points of history that are kept for each figure.
pub const HISTORY: usize = 240;

/// How queues are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The fullest first.
    #[default]
    Full,
    /// The longest first.
    Length,
    /// By name.
    Name,
}

/// The rows of a table: name and values.
pub type Rows = Vec<(String, Vec<Option<f64>>)>;

/// What is known and chosen.
#[derive(Debug, Default)]
pub struct State {
    /// Unix time of the figures, milliseconds.
    pub time_ms: u64,
    /// What is known of the server.
    pub server: String,
    /// Sources that failed.
    pub problems: Vec<String>,
    /// Whether the figures stand still.
    pub paused: bool,
    /// Whether they come from a recording.
    pub replaying: bool,
    /// Whether the help is shown.
    pub help: bool,
    /// Whether the accounts and addresses that cause most are shown.
    pub incident: bool,
    /// Those, as the server has last told; never in a recording.
    pub busiest: Option<Busiest>,
    /// Order of queues.
    pub order: Order,
    rows: HashMap<&'static str, Rows>,
    history: HashMap<String, VecDeque<f64>>,
}

/// Tables that the dashboard shows.
const SHOWN: [&str; 11] =
    ["overview", "cpu", "memory", "net", "disk", "tcp", "server", "stanzas", "workers", "queues", "process"];

impl State {
    /// Takes new figures.
    pub fn take(&mut self, delta: &Delta<'_>) {
        self.time_ms = delta.latest().time_ms;
        for name in SHOWN {
            let Some(table) = table::named(name) else { continue };
            let rows = (table.rows)(delta).into_iter().map(|row| {
                let values = table.columns.iter().map(|column| (column.value)(delta, &row)).collect();
                (row, values)
            });
            let rows: Rows = rows.collect();
            self.rows.insert(table.name, rows);
        }
        self.sort();
        for queue in server::queues(delta) {
            let length = delta.sum(&format!("queue.{queue}.length"), None);
            self.note(format!("queue {queue}"), length);
        }
        for (key, table, row, column) in [
            ("cpu", "overview", "", "cpu"),
            ("messages in", "server", "", "stanzas_in"),
            ("messages out", "server", "", "stanzas_out"),
            ("loop", "server", "", "loop_p99"),
        ] {
            let value = self.value(table, row, column);
            self.note(key.to_owned(), value);
        }
    }

    fn note(&mut self, key: String, value: Option<f64>) {
        let points = self.history.entry(key).or_default();
        if points.len() == HISTORY {
            points.pop_front();
        }
        points.push_back(value.unwrap_or(0.0));
    }

    /// Forgets the history: time has jumped.
    pub fn forget(&mut self) {
        self.history.clear();
    }

    /// The rows of a table.
    pub fn rows(&self, table: &str) -> &[(String, Vec<Option<f64>>)] {
        self.rows.get(table).map_or(&[], Vec::as_slice)
    }

    /// One value.
    pub fn value(&self, table: &str, row: &str, column: &str) -> Option<f64> {
        let at = column_of(table::named(table)?, column)?;
        let (_, values) = self.rows(table).iter().find(|(name, _)| name == row)?;
        values[at]
    }

    /// The last points of a figure, the latest last.
    pub fn history(&self, key: &str) -> impl ExactSizeIterator<Item = f64> + '_ {
        static NONE: VecDeque<f64> = VecDeque::new();
        self.history.get(key).unwrap_or(&NONE).iter().copied()
    }

    /// The next order of queues.
    pub fn next_order(&mut self) {
        self.order = match self.order {
            Order::Full => Order::Length,
            Order::Length => Order::Name,
            Order::Name => Order::Full,
        };
        self.sort();
    }

    fn sort(&mut self) {
        let Some(table) = table::named("queues") else { return };
        let column = match self.order {
            Order::Full => column_of(table, "full"),
            Order::Length => column_of(table, "length"),
            Order::Name => None,
        };
        let Some(rows) = self.rows.get_mut("queues") else { return };
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(at) = column {
            let value = |row: &(String, Vec<Option<f64>>)| row.1[at].unwrap_or(-1.0);
            rows.sort_by(|a, b| value(b).total_cmp(&value(a)));
        }
    }
}

/// The place of a column.
pub fn column_of(table: &Table, key: &str) -> Option<usize> {
    table.columns.iter().position(|column| column.key == key)
}
