//! The accounts and addresses that cause most, over the rest of the screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::state::State;
use crate::busiest::{Busiest, Table};
use crate::table::{Unit, human};

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// What the lists are by, in their order.
const BY: [(&str, &str); 4] = [
    ("messages", "messages/s"),
    ("bytes", "bytes/s"),
    ("backlog", "waiting"),
    ("failed", "failed logins/min"),
];

/// Columns of a list at least.
const LIST_WIDTH: u16 = 36;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let place = area.inner(ratatui::layout::Margin { horizontal: 0, vertical: 1 });
    let block = Block::bordered().title(" busiest: accounts and addresses (b closes) ");
    let inner = block.inner(place);
    frame.render_widget(Clear, place);
    frame.render_widget(block, place);
    let Some(busiest) = &state.busiest else {
        let why = match state.replaying {
            true => "recordings have no names of accounts",
            false => "the server has told nothing yet; it does ten seconds after its start",
        };
        return frame.render_widget(Paragraph::new(Line::styled(why, DIM)), inner);
    };
    let columns = (inner.width / LIST_WIDTH).clamp(1, BY.len() as u16) as usize;
    let lists = lists(busiest);
    let rows = lists.len().div_ceil(columns);
    // Each list has the same height; names that do not fit are left out from the end.
    let heights = Layout::vertical(vec![Constraint::Fill(1); rows]).split(inner);
    for (n, (title, table)) in lists.iter().enumerate() {
        let row = Layout::horizontal(vec![Constraint::Fill(1); columns]).split(heights[n / columns]);
        list(frame, row[n % columns], title, table);
    }
}

fn lists(busiest: &Busiest) -> Vec<(String, &Table)> {
    let mut lists = Vec::new();
    for of in ["accounts", "addresses"] {
        for (by, words) in BY {
            let mut tables = busiest.tables.iter();
            if let Some(table) = tables.find(|table| table.of == of && table.by == by) {
                lists.push((format!("{of}, {words}"), table));
            }
        }
    }
    lists
}

fn list(frame: &mut Frame<'_>, area: Rect, title: &str, table: &Table) {
    let unit = if matches!(table.by.as_str(), "bytes" | "backlog") { Unit::Bytes } else { Unit::Number };
    let mut lines = vec![Line::styled(title.to_owned(), DIM)];
    for row in &table.rows {
        let name: String = row.name.chars().take(usize::from(area.width).saturating_sub(10)).collect();
        lines.push(Line::from(vec![
            Span::styled(format!("{:>8} ", human(Some(row.figure), unit)), BOLD),
            Span::raw(name),
        ]));
    }
    if table.rows.is_empty() {
        lines.push(Line::styled("       - none", DIM));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::busiest::Row;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn the_first_of_each_list_is_seen_on_any_screen() {
        let rows = vec![Row { name: "juliet@localhost".into(), figure: 12.0, over: 0.0 }];
        let table = |of: &str, by: &str| Table {
            of: of.into(),
            by: by.into(),
            unit: "rate".into(),
            total: 12.0,
            rows: rows.clone(),
        };
        let tables =
            ["accounts", "addresses"].iter().flat_map(|of| BY.map(|(by, _)| table(of, by))).collect();
        let mut state = State::default();
        state.incident = true;
        for told in [None, Some(Busiest { time: 1, window_seconds: 10, failed_seconds: 60, tables })] {
            state.busiest = told;
            for (width, height) in [(80, 24), (200, 60), (1, 1), (20, 5)] {
                let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
                terminal.draw(|frame| draw(frame, frame.area(), &state)).unwrap();
                let text = terminal.backend().to_string();
                let seen = text.matches("juliet@localhost").count();
                match (width >= 80, &state.busiest) {
                    (true, Some(_)) => assert_eq!(seen, 8, "{text}"),
                    (true, None) => assert!(text.contains("told nothing yet"), "{text}"),
                    _ => {}
                }
            }
        }
    }
}
