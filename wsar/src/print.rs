//! Lines for a terminal, a pipe or a program: `wsar [INTERVAL [COUNT]]` and `wsar report`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::delta::Delta;
use crate::table::{Column, Table, human};
use crate::time;

/// How the figures are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns.
    Text,
    /// One JSON object a sample, a line each.
    Json,
    /// One line for each table and row, of name and value columns.
    Csv,
}

/// Width of a column with the space before it.
const WIDTH: usize = 8;

/// Least width of the names of rows.
const KEY_MIN: usize = 6;

/// Width of the time.
const TIME: usize = 8;

/// Writes samples as they come, and averages at the end.
pub struct Printer<'a, W> {
    out: W,
    tables: &'a [&'static Table],
    format: Format,
    /// Columns and lines of the terminal.
    size: (usize, usize),
    lines: usize,
    averages: Averages,
    head_written: bool,
    /// The date of the last lines. An empty one: the first lines have theirs before them, too.
    date: Option<String>,
}

/// Sums of values times seconds, and seconds, by table; of each row in the order in which rows are shown, and by column.
type Averages = BTreeMap<usize, Vec<(String, Vec<(f64, f64)>)>>;

impl<'a, W: Write> Printer<'a, W> {
    /// For a terminal of so many columns and lines.
    pub fn new(out: W, tables: &'a [&'static Table], format: Format, size: (usize, usize)) -> Self {
        let averages = Averages::new();
        Printer { out, tables, format, size, lines: 0, averages, head_written: false, date: None }
    }

    /// For times gone by: the date stands before the first lines, as it does in any case where the day changes.
    pub fn dated(self) -> Self {
        Printer { date: Some(String::new()), ..self }
    }

    /// Writes one sample.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn print(&mut self, delta: &Delta<'_>) -> io::Result<()> {
        let tables = self.tables;
        let mut object = Map::new();
        let one_line = tables.len() == 1 && tables[0].key.is_empty();
        if self.format == Format::Text {
            self.date(delta.latest().time_ms)?;
        }
        for (number, table) in tables.iter().enumerate() {
            let rows = (table.rows)(delta);
            let mut lines = Vec::new();
            let mut place = 0;
            for row in rows {
                let values: Vec<_> = table.columns.iter().map(|column| (column.value)(delta, &row)).collect();
                place = self.note((number, place), &row, &values, delta.seconds());
                lines.push((row, values));
            }
            match self.format {
                Format::Text => self.text(delta.latest().time_ms, table, &lines, one_line)?,
                Format::Csv => self.csv(delta, table, &lines)?,
                Format::Json => {
                    object.insert(table.name.to_owned(), table_json(table, &lines));
                }
            }
        }
        if self.format == Format::Json {
            object.insert("time".into(), json!(time::rfc3339(delta.latest().time_ms)));
            object.insert("seconds".into(), json!(delta.seconds()));
            writeln!(self.out, "{}", Value::Object(object))?;
        }
        self.out.flush()
    }

    /// Writes the averages over all samples, weighted by their time. In text only: programs have all they need.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        if self.format != Format::Text || self.averages.is_empty() {
            return self.out.flush();
        }
        for (number, table) in self.tables.iter().enumerate() {
            let Some(rows) = self.averages.get(&number) else { continue };
            writeln!(self.out)?;
            let key = key_width(table, rows.iter().map(|(row, _)| row));
            for part in parts(table, key, self.size.0) {
                self.out.write_all(head("Average", table, key, part).as_bytes())?;
                for (row, sums) in rows {
                    let mean = |&(sum, time): &(f64, f64)| (time > 0.0).then_some(sum / time);
                    let values: Vec<_> = sums.iter().map(mean).collect();
                    let range = range_of(table, part);
                    self.out.write_all(line("", key, part, row, &values[range]).as_bytes())?;
                }
            }
        }
        self.out.flush()
    }

    /// Writes the date where it changes: lines have clocks only.
    fn date(&mut self, time_ms: u64) -> io::Result<()> {
        let date = time::date(time_ms);
        if self.date.as_ref().is_some_and(|last| *last != date) {
            if self.head_written {
                writeln!(self.out)?;
            }
            writeln!(self.out, "{date}")?;
            // The heads follow it.
            self.lines = 0;
            self.head_written = false;
        }
        self.date = Some(date);
        Ok(())
    }

    /// Adds to the sums of a row, which are made at `place` when there are none. Returns the place after it: a row that
    /// is gone for a time, as a core may be, keeps its own.
    fn note(
        &mut self,
        (table, place): (usize, usize),
        row: &str,
        values: &[Option<f64>],
        seconds: f64,
    ) -> usize {
        let rows = self.averages.entry(table).or_default();
        let at = rows.iter().position(|(known, _)| known == row).unwrap_or_else(|| {
            let at = place.min(rows.len());
            rows.insert(at, (row.to_owned(), vec![(0.0, 0.0); values.len()]));
            at
        });
        for (sum, value) in rows[at].1.iter_mut().zip(values) {
            if let Some(value) = value {
                *sum = (sum.0 + value * seconds, sum.1 + seconds);
            }
        }
        at + 1
    }

    fn text(
        &mut self,
        time_ms: u64,
        table: &'static Table,
        rows: &[(String, Vec<Option<f64>>)],
        one_line: bool,
    ) -> io::Result<()> {
        let time = time::of_day(time_ms);
        let key = key_width(table, rows.iter().map(|(row, _)| row));
        let parts = parts(table, key, self.size.0);
        let flowing = one_line && parts.len() == 1;
        for part in parts {
            // A single line a sample needs its heads once a screen; blocks have their own.
            let due = self.lines.is_multiple_of(self.size.1.saturating_sub(2).max(5));
            if !flowing || due {
                if self.head_written {
                    writeln!(self.out)?;
                }
                self.head_written = true;
                let what = if rows.is_empty() { String::new() } else { head("", table, key, part) };
                self.out.write_all(what.as_bytes())?;
                if rows.is_empty() {
                    writeln!(self.out, "{time:<TIME$}  {}: nothing to show", table.name)?;
                    return Ok(());
                }
            }
            self.lines += 1;
            for (row, values) in rows {
                let values = &values[range_of(table, part)];
                self.out.write_all(line(&time, key, part, row, values).as_bytes())?;
            }
        }
        Ok(())
    }

    fn csv(
        &mut self,
        delta: &Delta<'_>,
        table: &'static Table,
        rows: &[(String, Vec<Option<f64>>)],
    ) -> io::Result<()> {
        if !self.head_written {
            self.head_written = true;
            writeln!(self.out, "time,seconds,table,row,column,value")?;
        }
        let time = time::rfc3339(delta.latest().time_ms);
        for (row, values) in rows {
            for (column, value) in table.columns.iter().zip(values) {
                let Some(value) = value else { continue };
                let seconds = delta.seconds();
                writeln!(self.out, "{time},{seconds},{},{},{},{value}", table.name, quoted(row), column.key)?;
            }
        }
        Ok(())
    }
}

/// A table's rows as JSON: an object, or one for each row.
pub fn table_json(table: &Table, rows: &[(String, Vec<Option<f64>>)]) -> Value {
    let object = |values: &[Option<f64>]| {
        let pairs = table.columns.iter().zip(values);
        Value::Object(pairs.map(|(column, value)| (column.key.to_owned(), json!(value))).collect())
    };
    match (table.key.is_empty(), rows) {
        (true, [(_, values)]) => object(values),
        (true, _) => Value::Null,
        (false, rows) => {
            Value::Object(rows.iter().map(|(row, values)| (row.clone(), object(values))).collect())
        }
    }
}

fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// Width of the column that names the rows, with the space before it.
fn key_width<'a>(table: &Table, rows: impl Iterator<Item = &'a String>) -> usize {
    match table.key.is_empty() {
        true => 0,
        false => rows.map(String::len).chain([table.key.len(), KEY_MIN]).max().unwrap_or(KEY_MIN) + 1,
    }
}

/// The columns cut into parts that fit the terminal.
fn parts(table: &'static Table, key: usize, width: usize) -> Vec<&'static [Column]> {
    let room = width.saturating_sub(TIME + key) / WIDTH;
    table.columns.chunks(room.max(1)).collect()
}

fn range_of(table: &'_ Table, part: &[Column]) -> std::ops::Range<usize> {
    let first = part.first().map(|column| column.key);
    let start = table.columns.iter().position(|column| Some(column.key) == first).unwrap_or(0);
    start..start + part.len()
}

fn head(time: &str, table: &Table, key: usize, part: &[Column]) -> String {
    let mut text = format!("{time:<TIME$}");
    if key > 0 {
        text += &format!(" {:<width$}", table.key, width = key - 1);
    }
    for column in part {
        text += &format!("{:>WIDTH$}", column.head);
    }
    text + "\n"
}

fn line(time: &str, key: usize, part: &[Column], row: &str, values: &[Option<f64>]) -> String {
    let mut text = format!("{time:<TIME$}");
    if key > 0 {
        text += &format!(" {row:<width$}", width = key - 1);
    }
    for (column, value) in part.iter().zip(values) {
        text += &format!("{:>WIDTH$}", human(*value, column.unit));
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Description, Kind, Sample, Sink};
    use crate::table;

    fn sample(time_ms: u64, user: [u64; 2], switches: u64) -> Sample {
        let what = |name| Description { name, kind: Kind::Counter, unit: "x", help: "." };
        let mut sink = Sink::default();
        for (core, time) in user.into_iter().enumerate() {
            sink.put_at(&what("cpu.user"), "cpu", &core.to_string(), time);
            sink.put_at(&what("cpu.idle"), "cpu", &core.to_string(), time_ms - time);
        }
        sink.put(&what("context_switches"), switches);
        sink.finish(time_ms)
    }

    fn printed(names: &[&str], format: Format, width: usize) -> String {
        let tables: Vec<_> = names.iter().map(|name| table::named(name).unwrap()).collect();
        let samples = [
            sample(86_400_000, [0, 0], 0),
            sample(86_401_000, [250, 750], 5_000),
            sample(86_403_000, [750, 750], 6_000),
        ];
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, &tables, format, (width, 24));
        for pair in samples.windows(2) {
            printer.print(&Delta::between(&pair[0], &pair[1]).unwrap()).unwrap();
        }
        printer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_of_cores_with_averages_weighted_by_time() {
        let text = printed(&["cpu"], Format::Text, 100);
        let fields = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<_> = text.lines().map(fields).collect();
        let average: Vec<_> = lines.iter().skip_while(|l| l.first().is_none_or(|f| f != "Average")).collect();
        assert_eq!(average[1][..2], ["all", "25.0"], "{text}");
        assert_eq!(average[2][..2], ["0", "25.0"]);
        assert_eq!(average[3][..2], ["1", "25.0"]);
        let rows: Vec<_> = lines.iter().filter(|l| l.get(1).is_some_and(|f| f == "1")).collect();
        assert_eq!((rows[0][2].as_str(), rows[1][2].as_str()), ("75.0", "0.0"));
    }

    #[test]
    fn a_core_that_goes_and_comes_again_has_one_average() {
        let user = Description { name: "cpu.user", kind: Kind::Counter, unit: "x", help: "." };
        let mut sink = Sink::default();
        let mut take = |time_ms, cores: &[&str]| {
            for core in cores {
                sink.put_at(&user, "cpu", core, time_ms);
            }
            sink.finish(time_ms)
        };
        let all = ["0", "1", "2"];
        let samples = [
            take(1_000, &all),
            take(2_000, &all),
            take(3_000, &["0", "2"]),
            take(4_000, &all),
            take(5_000, &all),
        ];
        let (mut out, tables) = (Vec::new(), [table::named("cpu").unwrap()]);
        let mut printer = Printer::new(&mut out, &tables, Format::Text, (100, 24));
        for pair in samples.windows(2) {
            printer.print(&Delta::between(&pair[0], &pair[1]).unwrap()).unwrap();
        }
        printer.finish().unwrap();
        let text = String::from_utf8(out).unwrap();
        let averages = text.split("Average").nth(1).unwrap().lines().skip(1);
        let rows: Vec<_> = averages.filter_map(|line| line.split_ascii_whitespace().next()).collect();
        assert_eq!(rows, ["all", "0", "1", "2"], "{text}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [40, 60, 80, 200] {
            for names in [&["overview"][..], &["cpu", "interrupts"]] {
                let text = printed(names, Format::Text, width);
                assert!(text.lines().all(|line| line.len() <= width), "{width}:\n{text}");
                assert!(names == ["overview"] || text.contains("5.00k"), "{text}");
            }
        }
    }

    #[test]
    fn the_date_stands_where_the_day_changes_and_over_times_gone_by() {
        let tables = [table::named("interrupts").unwrap()];
        let samples = [1, 2, 3, 86_402, 86_403].map(|second| sample(second * 1000 + (1 << 40), [0, 0], 0));
        for dated in [false, true] {
            let mut out = Vec::new();
            let printer = Printer::new(&mut out, &tables, Format::Text, (200, 24));
            let mut printer = if dated { printer.dated() } else { printer };
            for pair in samples.windows(2) {
                printer.print(&Delta::between(&pair[0], &pair[1]).unwrap()).unwrap();
            }
            printer.finish().unwrap();
            let text = String::from_utf8(out).unwrap();
            let dates: Vec<_> = text.lines().filter(|line| line.starts_with("2004-1")).collect();
            let expected = [time::date(1 << 40), time::date((1 << 40) + 86_400_000)];
            assert_eq!(dates, expected[usize::from(!dated)..], "{text}");
            let after: Vec<_> = text.lines().skip_while(|line| !line.starts_with("2004-1")).skip(1).collect();
            assert!(after[0].contains("intr/s"), "{text}");
        }
    }

    #[test]
    fn programs_get_plain_numbers() {
        let json = printed(&["cpu", "interrupts"], Format::Json, 80);
        let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["cpu"]["1"]["user"], json!(75.0));
        assert_eq!(lines[0]["interrupts"]["context_switches"], json!(5000.0));
        assert_eq!((&lines[1]["seconds"], &lines[1]["interrupts"]["forks"]), (&json!(2.0), &Value::Null));
        let csv = printed(&["interrupts"], Format::Csv, 80);
        assert_eq!(csv.lines().nth(1), Some("1970-01-02T00:00:01Z,1,interrupts,,context_switches,5000"));
    }
}
