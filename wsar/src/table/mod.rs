//! Groups of columns as an operator reads them: what `wsar` prints, `wsar top` shows and `wsar serve` sends.
//!
//! A table has a row for the whole or for each core, disk, interface, worker or queue, and a column is computed for
//! a row from two samples. A new table is a line in [`TABLES`]; its command-line option, help and outputs follow.

mod archive;
pub mod server;
mod system;
mod web;

use crate::delta::Delta;

/// What a number is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 0 to 100.
    Percent,
    /// A number of things, or of things a second.
    Number,
    /// Bytes, or bytes a second.
    Bytes,
    /// Microseconds.
    Micros,
    /// Seconds.
    Seconds,
}

/// A column.
pub struct Column {
    /// Short name, over the column.
    pub head: &'static str,
    /// Name in JSON and CSV.
    pub key: &'static str,
    /// Unit.
    pub unit: Unit,
    /// What it is, in one sentence.
    pub help: &'static str,
    /// The value in a row; `None`: unknown.
    pub value: fn(&Delta<'_>, &str) -> Option<f64>,
}

/// A table.
pub struct Table {
    /// Name, which is its option on the command line, too.
    pub name: &'static str,
    /// What its rows are; empty for a table of one row.
    pub key: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// The rows; none when there is nothing to show (no server, no such source).
    pub rows: fn(&Delta<'_>) -> Vec<String>,
    /// The columns.
    pub columns: &'static [Column],
}

/// The row that stands for all instances together.
pub const ALL: &str = "all";

/// The overview, shown when nothing else is asked for.
pub static OVERVIEW: Table = Table {
    name: "overview",
    key: "",
    about: "one line of the most important figures",
    rows: one_row,
    columns: system::OVERVIEW,
};

/// All tables.
pub static TABLES: &[&Table] = &[
    &OVERVIEW,
    &system::CPU,
    &system::MEMORY,
    &system::INTERRUPTS,
    &system::DISK,
    &system::SPACE,
    &system::NETWORK,
    &system::TCP,
    &system::SOCKETS,
    &server::PROCESS,
    &server::SERVER,
    &server::STANZAS,
    &server::WORKERS,
    &archive::ARCHIVE,
    &web::WEB,
    &server::PUSH,
    &server::QUEUES,
    &server::REFUSALS,
];

/// The table with a name.
pub fn named(name: &str) -> Option<&'static Table> {
    TABLES.iter().copied().find(|table| table.name == name)
}

const fn column(
    head: &'static str,
    key: &'static str,
    unit: Unit,
    help: &'static str,
    value: fn(&Delta<'_>, &str) -> Option<f64>,
) -> Column {
    Column { head, key, unit, help, value }
}

fn one_row(_: &Delta<'_>) -> Vec<String> {
    vec![String::new()]
}

/// The instance of a row.
fn instance(row: &str) -> Option<&str> {
    (!row.is_empty() && row != ALL).then_some(row)
}

fn with_all(delta: &Delta<'_>, name: &str) -> Vec<String> {
    let instances: Vec<String> = delta.instances(name).map(str::to_owned).collect();
    match instances.len() {
        0 => instances,
        _ => std::iter::once(ALL.to_owned()).chain(instances).collect(),
    }
}

/// A number as people read it, in at most seven characters.
pub fn human(value: Option<f64>, unit: Unit) -> String {
    let Some(value) = value else { return "-".into() };
    match unit {
        Unit::Percent => format!("{value:.1}"),
        Unit::Number => scaled(value, 1000.0, &["", "k", "M", "G", "T", "P"]),
        Unit::Bytes => scaled(value, 1024.0, &["B", "K", "M", "G", "T", "P"]),
        Unit::Micros if value.abs() >= 999_950.0 => format!("{:.1}s", value / 1e6),
        Unit::Micros if value.abs() >= 999.5 => format!("{:.1}ms", value / 1e3),
        Unit::Micros => format!("{value:.0}us"),
        Unit::Seconds if value >= 86_400.0 => format!("{:.1}d", value / 86_400.0),
        Unit::Seconds if value >= 3_600.0 => format!("{:.1}h", value / 3_600.0),
        Unit::Seconds => format!("{value:.0}s"),
    }
}

fn scaled(value: f64, base: f64, suffixes: &[&str]) -> String {
    let (mut value, mut at) = (value, 0);
    while value.abs() >= base * 0.9995 && at + 1 < suffixes.len() {
        value /= base;
        at += 1;
    }
    let digits = match value.abs() {
        v if v == v.trunc() && at == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", suffixes[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_short() {
        let cases = [
            (0.0, Unit::Number, "0"),
            (7.0, Unit::Number, "7"),
            (0.25, Unit::Number, "0.25"),
            (999.0, Unit::Number, "999"),
            (12_345.0, Unit::Number, "12.3k"),
            (1_000_000.0, Unit::Number, "1.00M"),
            (-5.0, Unit::Number, "-5"),
            (512.0, Unit::Bytes, "512B"),
            (1536.0, Unit::Bytes, "1.50K"),
            (25.0 * 1024.0 * 1024.0 * 1024.0, Unit::Bytes, "25.0G"),
            (99.95, Unit::Percent, "100.0"),
            (120.0, Unit::Micros, "120us"),
            (1_500.0, Unit::Micros, "1.5ms"),
            (2_500_000.0, Unit::Micros, "2.5s"),
            (7_200.0, Unit::Seconds, "2.0h"),
        ];
        for (value, unit, text) in cases {
            assert_eq!(human(Some(value), unit), text);
        }
        assert_eq!(human(None, Unit::Bytes), "-");
        for power in 0..60 {
            for unit in [Unit::Number, Unit::Bytes] {
                let text = human(Some(1.37f64.powi(power)), unit);
                assert!(text.len() <= 7, "{text}");
            }
        }
    }

    #[test]
    fn names_of_tables_and_columns_are_unique() {
        let mut tables: Vec<_> = TABLES.iter().map(|table| table.name).collect();
        tables.sort_unstable();
        tables.dedup();
        assert_eq!(tables.len(), TABLES.len());
        for table in TABLES {
            let mut keys: Vec<_> = table.columns.iter().map(|column| column.key).collect();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), table.columns.len(), "{}", table.name);
            for column in table.columns {
                assert!(
                    column.help.ends_with('.') && column.head.len() <= 7,
                    "{} {}",
                    table.name,
                    column.head
                );
            }
        }
    }
}
