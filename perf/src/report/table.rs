//! Medians, spreads and ratios of several rounds.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::cli::OutputArgs;
use crate::report::{Report, html, write};

/// Where a figure is in a report.
type Find = fn(&Report) -> Option<f64>;

/// What a table compares.
pub(crate) struct Figure {
    /// Its name, with its unit.
    pub(crate) name: &'static str,
    /// Where it is.
    pub(crate) find: Find,
    /// Whether more of it is better.
    pub(crate) larger_is_better: bool,
}

impl Figure {
    /// A figure of which more is better.
    pub(crate) const fn more(name: &'static str, find: Find) -> Figure {
        Figure { name, find, larger_is_better: true }
    }

    /// A figure of which less is better.
    pub(crate) const fn less(name: &'static str, find: Find) -> Figure {
        Figure { name, find, larger_is_better: false }
    }
}

/// One figure of one server over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The figure, with its unit.
    pub(crate) figure: String,
    /// The server.
    pub(crate) server: String,
    /// Half of the rounds are below.
    pub(crate) median: f64,
    /// The lowest round.
    pub(crate) lowest: f64,
    /// The highest round.
    pub(crate) highest: f64,
    /// How many times as good the median of the first server is. Above 1 the first one is the better of the two, whether
    /// more or less of the figure is better.
    pub(crate) first_is_better_by: f64,
}

/// One report of a command that compares servers: the runs of all of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Comparison {
    /// Rounds in which the servers took turns.
    pub(crate) rounds: u32,
    /// What they come to.
    pub(crate) table: Vec<Row>,
    /// Every run.
    pub(crate) runs: Vec<Report>,
}

impl Comparison {
    /// Prints and writes it.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn deliver(&self, output: &OutputArgs) -> Result<(), String> {
        let text = render(&self.table, self.rounds);
        // A closed standard output ends nothing: the exit code still tells.
        if output.json.as_deref() != Some(Path::new("-")) {
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
        }
        if let Some(path) = &output.json {
            let json =
                serde_json::to_vec_pretty(self).map_err(|error| format!("cannot make JSON: {error}"))?;
            if path == Path::new("-") {
                let _ = std::io::stdout().lock().write_all(&json);
            } else {
                write(path, &json)?;
            }
        }
        if let Some(path) = &output.html {
            write(path, html::page(&self.table, &text, &self.runs).as_bytes())?;
        }
        Ok(())
    }

    /// Whether every run has succeeded.
    ///
    /// # Errors
    /// The problems of all of them.
    pub(crate) fn verdict(&self) -> Result<ExitCode, String> {
        let of = |run: &Report| -> Vec<String> {
            run.problems.iter().map(|problem| format!("{}: {problem}", run.label)).collect()
        };
        let problems: Vec<String> = self.runs.iter().flat_map(of).collect();
        if problems.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(problems.join("\nwhimbrel-perf: ")) }
    }
}

/// The table of all runs, by figure, servers in their order of appearance.
pub(crate) fn rows(figures: &[Figure], runs: &[Report]) -> Vec<Row> {
    let mut servers: Vec<&str> = Vec::new();
    for run in runs {
        if !servers.contains(&run.label.as_str()) {
            servers.push(&run.label);
        }
    }
    let mut rows = Vec::new();
    for figure in figures {
        let mut first = None;
        for server in &servers {
            let mut values: Vec<f64> =
                runs.iter().filter(|run| run.label == *server).filter_map(figure.find).collect();
            values.sort_by(f64::total_cmp);
            let (Some(&lowest), Some(&highest)) = (values.first(), values.last()) else { continue };
            let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
            let of_first = *first.get_or_insert(median);
            rows.push(Row {
                figure: figure.name.to_owned(),
                server: (*server).to_owned(),
                median,
                lowest,
                highest,
                first_is_better_by: if figure.larger_is_better {
                    of_first / median
                } else {
                    median / of_first
                },
            });
        }
    }
    rows
}

/// The table as text.
pub(crate) fn render(rows: &[Row], rounds: u32) -> String {
    let mut out = String::new();
    let mut figure = "";
    for row in rows {
        if row.figure != figure {
            figure = &row.figure;
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "{figure} (median of {rounds}, lowest to highest, how much better the first is)"
            );
        }
        let _ = writeln!(
            out,
            "  {:<36} {:>14.2} {:>14.2} to {:<14.2} {:>8.3}",
            row.server, row.median, row.lowest, row.highest, row.first_is_better_by
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Phase;

    fn run(label: &str, rate: f64) -> Report {
        let mut phase = Phase { name: "chat".into(), ..Phase::default() };
        phase.figures.insert("delivered a second".into(), rate);
        Report { label: label.into(), scenario: "chat".into(), phases: vec![phase], ..Report::default() }
    }

    #[test]
    fn medians_spreads_and_ratios_come_from_all_rounds() {
        let runs =
            [run("a", 10.0), run("b", 4.0), run("a", 30.0), run("b", 5.0), run("a", 20.0), run("b", 9.0)];
        let rate: Find = |report| report.phases.first()?.figures.get("delivered a second").copied();
        let rows = rows(&[Figure::more("messages a second", rate), Figure::less("seconds", rate)], &runs);
        assert_eq!(rows.len(), 4);
        assert_eq!((rows[0].median, rows[0].lowest, rows[0].highest), (20.0, 10.0, 30.0));
        assert_eq!(rows[1].server, "b");
        assert!((rows[1].first_is_better_by - 4.0).abs() < 1e-9);
        assert!((rows[3].first_is_better_by - 0.25).abs() < 1e-9, "less is better: the first is the worse");
        assert!(render(&rows, 3).contains("messages a second (median of 3"));
    }
}
