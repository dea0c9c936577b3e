//! The figures of all tables at one time, as the page shows them.
//!
//! Every figure has an id: `TABLE.COLUMN` in a table of one row, `TABLE.ROW.COLUMN` in the others (`workers.0.busy`).
//! A row may have dots in its name; tables and columns have none.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::delta::Delta;
use crate::table::{self, Column, TABLES, Table, Unit};

/// Characters of an id at most.
const ID_MAX: usize = 100;

/// One figure: a column in a row.
#[derive(Clone, Copy)]
pub struct Figure<'a> {
    table: &'static Table,
    row: &'a str,
    column: &'static Column,
}

impl<'a> Figure<'a> {
    /// The figure with an id. `None`: no table has such a column.
    pub fn parse(id: &'a str) -> Option<Figure<'a>> {
        let (name, rest) = id.split_once('.')?;
        let table = table::named(name)?;
        let (row, key) = match table.key.is_empty() {
            true => ("", rest),
            false => rest.rsplit_once('.')?,
        };
        let column = table.columns.iter().find(|column| column.key == key)?;
        Some(Figure { table, row, column })
    }

    /// Its value.
    pub fn value(&self, delta: &Delta<'_>) -> Option<f64> {
        (self.column.value)(delta, self.row).filter(|value| value.is_finite())
    }

    fn id(&self) -> String {
        match self.table.key.is_empty() {
            true => format!("{}.{}", self.table.name, self.column.key),
            false => format!("{}.{}.{}", self.table.name, self.row, self.column.key),
        }
    }
}

/// A figure that does not exist, and the one whose id is nearest.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no series `{0}`{near}; /api/series lists all", near = .1.as_deref().map_or_else(String::new, |near| format!("; did you mean `{near}`?")))]
pub struct Unknown(String, Option<String>);

/// Which rows of which tables there are.
#[derive(Debug, Default, PartialEq)]
pub struct Layout {
    /// Number of the table in [`TABLES`], and the row.
    rows: Vec<(usize, String)>,
}

/// The figures of one time.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Unix time, milliseconds.
    pub time_ms: u64,
    /// Seconds since the frame before.
    pub seconds: f64,
    layout: Arc<Layout>,
    /// Row by row, column by column; NaN is unknown.
    values: Vec<f64>,
}

impl Frame {
    /// The figures of all tables. Frames with the same rows share their layout: `last` is that of the frame before.
    pub fn new(delta: &Delta<'_>, last: &Arc<Layout>) -> Frame {
        let mut layout = Layout::default();
        let mut values = Vec::with_capacity(256);
        for (number, table) in TABLES.iter().enumerate() {
            for row in (table.rows)(delta) {
                values.extend(table.columns.iter().map(|column| {
                    (column.value)(delta, &row).filter(|value| value.is_finite()).unwrap_or(f64::NAN)
                }));
                layout.rows.push((number, row));
            }
        }
        let layout = if **last == layout { last.clone() } else { Arc::new(layout) };
        Frame { time_ms: delta.latest().time_ms, seconds: delta.seconds(), layout, values }
    }

    /// The rows.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Why no figure could ever have an id: no table has such a column. `None`: one could.
    pub fn unknown(&self, id: &str) -> Option<Unknown> {
        Figure::parse(id).is_none().then(|| self.nearest(id))
    }

    /// Why there is no figure now that has an id: its table has rows, and not this one. `None`: there is, or its table has
    /// no rows at all, because the server is away.
    pub fn unknown_row(&self, id: &str) -> Option<Unknown> {
        let figure = Figure::parse(id)?;
        let mut rows = self.rows().filter(|(table, ..)| std::ptr::eq(*table, figure.table)).peekable();
        (rows.peek().is_some() && !rows.any(|(_, row, _)| row == figure.row)).then(|| self.nearest(id))
    }

    fn nearest(&self, id: &str) -> Unknown {
        // Longer ones are no slip of the pen, and comparing them would take its time.
        if id.len() > ID_MAX {
            return Unknown(id.chars().take(ID_MAX).collect(), None);
        }
        let ids = self.rows().flat_map(|(table, row, _)| {
            table.columns.iter().map(move |column| Figure { table, row, column }.id())
        });
        // Of a table without rows, such as one of the server while it is away: each column.
        let away = TABLES.iter().flat_map(|&table| {
            let row = if table.key.is_empty() { "" } else { table::ALL };
            table.columns.iter().map(move |column| Figure { table, row, column }.id())
        });
        let near = ids.chain(away).map(|known| (strsim::damerau_levenshtein(&known, id), known)).min();
        let near = near.filter(|(distance, known)| *distance <= known.len().max(id.len()) / 2);
        Unknown(id.to_owned(), near.map(|(_, known)| known))
    }

    /// Bytes that its values take.
    pub fn bytes(&self) -> usize {
        self.values.len() * size_of::<f64>()
    }

    /// Each row with its table, name and values.
    fn rows(&self) -> impl Iterator<Item = (&'static Table, &str, &[f64])> {
        let mut at = 0;
        self.layout.rows.iter().map(move |(number, row)| {
            let table = TABLES[*number];
            let values = &self.values[at..at + table.columns.len()];
            at += values.len();
            (table, row.as_str(), values)
        })
    }

    /// The value of a figure.
    pub fn value(&self, figure: &Figure<'_>) -> Option<f64> {
        let (_, _, values) =
            self.rows().find(|(table, row, _)| std::ptr::eq(*table, figure.table) && *row == figure.row)?;
        let at = figure.table.columns.iter().position(|column| column.key == figure.column.key)?;
        Some(values[at]).filter(|value| value.is_finite())
    }

    /// The rows of one table: name, and an object of its columns.
    pub fn table(&self, name: &str) -> Vec<(&str, Map<String, Value>)> {
        let rows = self.rows().filter(|(table, ..)| table.name == name);
        rows.map(|(table, row, values)| (row, object(table, values))).collect()
    }

    /// All tables as one JSON object: `{"cpu": {"all": {"user": 1.5, ...}, ...}, "memory": {...}, ...}`.
    pub fn json(&self) -> Value {
        let mut all = Map::new();
        for (table, row, values) in self.rows() {
            let object = Value::Object(object(table, values));
            match table.key.is_empty() {
                true => drop(all.insert(table.name.to_owned(), object)),
                false => {
                    let rows = all.entry(table.name).or_insert_with(|| json!({}));
                    if let Some(rows) = rows.as_object_mut() {
                        rows.insert(row.to_owned(), object);
                    }
                }
            }
        }
        Value::Object(all)
    }

    /// What figures there are: id, unit and meaning of each.
    pub fn series(&self) -> Vec<Value> {
        let figure = |(table, row, _): (&'static Table, _, _)| {
            table.columns.iter().map(move |column| {
                let figure = Figure { table, row, column };
                json!({
                    "id": figure.id(), "table": table.name, "row": row, "column": column.key,
                    "unit": unit(column.unit), "help": column.help,
                })
            })
        };
        self.rows().flat_map(figure).collect()
    }
}

fn object(table: &Table, values: &[f64]) -> Map<String, Value> {
    let pairs = table.columns.iter().zip(values);
    pairs.map(|(column, &value)| (column.key.to_owned(), number(value))).collect()
}

/// A number with six digits after the point at most, which is more than any of them is worth.
pub fn number(value: f64) -> Value {
    if value.is_finite() { json!((value * 1e6).round() / 1e6) } else { Value::Null }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Percent => "percent",
        Unit::Number => "number",
        Unit::Bytes => "bytes",
        Unit::Micros => "microseconds",
        Unit::Seconds => "seconds",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Description, Kind, Sample, Sink};

    fn sample(time_ms: u64, bytes: u64) -> Sample {
        const IN: Description =
            Description { name: "net.in.bytes", kind: Kind::Counter, unit: "bytes", help: "." };
        let mut sink = Sink::default();
        for interface in ["lo", "eth0.100"] {
            sink.put_at(&IN, "interface", interface, bytes);
        }
        sink.finish(time_ms)
    }

    #[test]
    fn every_figure_is_found_by_its_id_and_dots_in_a_row_do_no_harm() {
        let (old, new) = (sample(1_000, 100), sample(3_000, 300));
        let delta = Delta::between(&old, &new).unwrap();
        let frame = Frame::new(&delta, &Arc::default());
        let again = Frame::new(&delta, frame.layout());
        assert!(Arc::ptr_eq(frame.layout(), again.layout()));
        let figure = Figure::parse("net.eth0.100.in_bytes").unwrap();
        assert_eq!((frame.value(&figure), figure.value(&delta)), (Some(100.0), Some(100.0)));
        let series = frame.series();
        assert!(series.len() > 20);
        for one in &series {
            let id = one["id"].as_str().unwrap();
            let figure = Figure::parse(id).unwrap_or_else(|| panic!("{id}"));
            assert_eq!((figure.id().as_str(), figure.value(&delta)), (id, frame.value(&figure)), "{id}");
        }
        assert_eq!(frame.json()["net"]["eth0.100"]["in_bytes"], json!(100.0));
        for wrong in ["", "net", "net.lo", "net.lo.what", "nothing.x", "memory.", "cpu.user"] {
            assert!(Figure::parse(wrong).is_none(), "{wrong}");
        }
    }
}
