//! Output: for people, or one JSON object with `--json`. Results go to standard output, problems to standard error.

use std::io::Write;

use serde_json::{Value, json};
use whimbrel_storage::plain;

use crate::problem::Problem;

/// How results are shown.
pub(crate) struct Report {
    json: bool,
}

impl Report {
    /// `json`: one JSON object in place of text.
    pub(crate) fn new(json: bool) -> Report {
        Report { json }
    }

    /// Whether JSON is wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Says in words that a list is empty, beside the standard output, which stays as empty as the list.
    pub(crate) fn nothing(&self, text: &str) {
        if !self.json {
            self.note(text);
        }
    }

    /// Shows a result: `value` as JSON, or what `text` makes of it. No text prints nothing.
    pub(crate) fn result(&self, value: &Value, text: impl FnOnce() -> String) {
        if self.json {
            self.line(&value.to_string());
        } else {
            let text = text();
            if !text.is_empty() {
                self.line(text.trim_end_matches('\n'));
            }
        }
    }

    /// One line on standard output. A reader that closes the pipe does not want the rest.
    pub(crate) fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// A remark on standard error.
    pub(crate) fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Shows why a command failed.
    pub(crate) fn problem(&self, problem: &Problem) {
        let message = plain(&problem.message);
        if self.json {
            self.note(&json!({ "error": { "kind": problem.kind, "message": message } }).to_string());
        } else {
            self.note(&format!("whimbrelctl: {message}"));
        }
    }
}

/// Lays rows out in columns; numbers to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let is_number = |cell: &str| !cell.is_empty() && cell.chars().all(|c| c.is_ascii_digit());
    let numeric: Vec<bool> =
        (0..head.len()).map(|i| !rows.is_empty() && rows.iter().all(|row| is_number(&row[i]))).collect();
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .zip(&numeric)
            .map(
                |((cell, &width), &right)| {
                    if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                },
            )
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_and_numbers_stand_to_the_right() {
        let rows = [vec!["a".into(), "10".into()], vec!["long".into(), "7".into()]];
        assert_eq!(table(&["name", "n"], &rows), "name   n\na     10\nlong   7\n");
    }
}
