//! The state on a screen of any size: what does not fit is left out from the end.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph};

use super::incident;
use super::state::{Order, State};
use crate::table::{self, Unit, human};
use crate::time;

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    let workers = state.rows("workers").len() as u16 + 3;
    let queues = state.rows("queues").len().max(1) as u16 + 3;
    let wide = area.width >= 160;
    let [head, figures, middle, rest, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(SUMMARY.len() as u16),
        Constraint::Length(if wide { workers.max(queues) } else { workers.min(area.height / 4) }),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    title(frame, head, state);
    summary(frame, figures, state);
    if wide {
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(middle);
        rows(frame, left, state, "workers", None);
        rows(frame, right, state, "queues", Some("queue "));
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(rest);
        charts(frame, left, state);
        let height = |name: &str| Constraint::Length(state.rows(name).len() as u16 + 3);
        let parts = [height("cpu"), height("net"), height("disk"), Constraint::Min(0)];
        let [cpu, net, disk, _] = Layout::vertical(parts).areas(right);
        rows(frame, cpu, state, "cpu", None);
        rows(frame, net, state, "net", None);
        rows(frame, disk, state, "disk", None);
    } else {
        rows(frame, middle, state, "workers", None);
        let [first, second] =
            Layout::vertical([Constraint::Length(queues.min(rest.height)), Constraint::Min(0)]).areas(rest);
        rows(frame, first, state, "queues", Some("queue "));
        if second.height >= 5 {
            charts(frame, second, state);
        }
    }
    let keys = match state.replaying {
        true => {
            "q quit  space pause  \u{2190}/\u{2192} step  PgUp/PgDn minute  Home/End  +/- speed  s sort  h help"
        }
        false => "q quit  space pause  s sort  b busiest  h help",
    };
    frame.render_widget(Paragraph::new(Line::styled(keys, DIM)), foot);
    if state.incident {
        incident::draw(frame, area, state);
    }
    if state.help {
        help(frame, area);
    }
}

fn title(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let mut spans = vec![
        Span::styled("wsar ", BOLD),
        Span::raw(time::date_and_time(state.time_ms)),
        Span::raw(format!("  {}", state.server)),
    ];
    if let Some(uptime) = state.value("process", "", "uptime") {
        spans.push(Span::raw(format!(" up {}", human(Some(uptime), Unit::Seconds))));
    }
    if state.paused {
        spans.push(Span::styled("  PAUSED", BOLD.fg(Color::Yellow)));
    }
    if let Some(problem) = state.problems.first() {
        spans.push(Span::styled(format!("  {problem}"), Style::new().fg(Color::Red)));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

/// Table, its name on the screen, its columns.
const SUMMARY: [(&str, &str, &[&str]); 6] = [
    ("cpu", "cpu", &["user", "system", "irq", "softirq", "steal", "iowait", "idle"]),
    ("memory", "mem", &["available", "used", "anonymous", "cached", "slab", "dirty"]),
    ("tcp", "tcp", &["established", "passive_opens", "in_segments", "out_segments", "retransmits", "resets"]),
    (
        "server",
        "xmpp",
        &["connections", "stanzas_in", "stanzas_out", "loop_p99", "refused", "logins", "sessions"],
    ),
    (
        "stanzas",
        "msgs",
        &["messages_in", "messages_out", "pending", "commit_mean", "presences_out", "iqs_in"],
    ),
    ("process", "proc", &["user", "system", "resident", "anonymous", "faults", "switches", "files"]),
];

fn summary(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let mut lines = Vec::new();
    for (name, short, columns) in SUMMARY {
        let Some(table) = table::named(name) else { continue };
        let row = if name == "cpu" { table::ALL } else { "" };
        let mut spans = vec![Span::styled(format!("{short:<5}"), BOLD)];
        let mut used = spans[0].width();
        for key in columns {
            let Some(column) = table.columns.iter().find(|column| column.key == *key) else { continue };
            let value = state.value(name, row, key);
            let (head, text) = (format!("{} ", column.head), format!("{:<7}", human(value, column.unit)));
            used += head.len() + text.len();
            if used > area.width.into() {
                break;
            }
            spans.push(Span::styled(head, DIM));
            spans.push(Span::styled(text, style_of(key, value)));
        }
        lines.push(Line::from(spans));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// Colour by how bad a value is.
fn style_of(key: &str, value: Option<f64>) -> Style {
    let (warn, bad) = match key {
        "full" | "queue_fullest" => (50.0, 80.0),
        "busy" => (70.0, 90.0),
        "loop_p99" | "loop_max" | "commit_mean" => (10_000.0, 100_000.0),
        "used" => (85.0, 95.0),
        "steal" | "iowait" => (10.0, 30.0),
        "retransmits" | "resets" | "refused" | "dropped" | "errors" => (1.0, 100.0),
        _ => return Style::new(),
    };
    match value {
        Some(value) if value >= bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Some(value) if value >= warn => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    }
}

/// A table in a box; with `history`, what is left of the width shows the past of each row.
fn rows(frame: &mut Frame<'_>, area: Rect, state: &State, name: &str, history: Option<&str>) {
    let Some(table) = table::named(name) else { return };
    let order = match (name, state.order) {
        ("queues", Order::Full) => ", fullest first",
        ("queues", Order::Length) => ", longest first",
        _ => "",
    };
    let block = Block::new().borders(Borders::TOP).title(format!(" {name}{order} "));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let rows = state.rows(name);
    if rows.is_empty() {
        let what = if state.time_ms == 0 { "waiting for the second sample" } else { "nothing to show" };
        frame.render_widget(Paragraph::new(Line::styled(what, DIM)), inner);
        return;
    }
    let key = rows.iter().map(|(row, _)| row.len()).chain([table.key.len()]).max().unwrap_or(0) + 1;
    let fit = (usize::from(inner.width).saturating_sub(key) / 8).min(table.columns.len());
    let mut head = format!("{:<key$}", table.key);
    for column in &table.columns[..fit] {
        head += &format!("{:>8}", column.head);
    }
    let left = usize::from(inner.width).saturating_sub(key + fit * 8 + 1);
    let mut lines = vec![Line::styled(head, DIM)];
    for (row, values) in rows {
        let mut spans = vec![Span::raw(format!("{row:<key$}"))];
        for (column, value) in table.columns[..fit].iter().zip(values) {
            let text = format!("{:>8}", human(*value, column.unit));
            spans.push(Span::styled(text, style_of(column.key, *value)));
        }
        if let Some(prefix) = history {
            let text = format!(" {}", spark(state.history(&format!("{prefix}{row}")), left));
            spans.push(Span::styled(text, Style::new().fg(Color::Cyan)));
        }
        lines.push(Line::from(spans));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

/// The last `width` points as bars of eighths, the largest of them full.
fn spark(points: impl ExactSizeIterator<Item = f64>, width: usize) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let skip = points.len().saturating_sub(width);
    let points: Vec<f64> = points.skip(skip).collect();
    let top = points.iter().copied().fold(0.0, f64::max);
    let bar = |&point: &f64| {
        let eighths = if top > 0.0 { (point / top * 8.0).ceil() as usize } else { 0 };
        BARS[eighths.min(8)]
    };
    points.iter().map(bar).collect()
}

fn charts(frame: &mut Frame<'_>, area: Rect, state: &State) {
    const CHARTS: [(&str, &str, Unit); 4] = [
        ("messages in", "stanzas from clients a second", Unit::Number),
        ("messages out", "stanzas to clients a second", Unit::Number),
        ("loop", "event loop, 99 of 100 iterations within", Unit::Micros),
        ("cpu", "CPU of the machine, percent", Unit::Percent),
    ];
    let each = (area.height / CHARTS.len() as u16).max(3);
    for (n, (key, name, unit)) in CHARTS.into_iter().enumerate() {
        let top = area.y + n as u16 * each;
        if top + 3 > area.bottom() {
            break;
        }
        let area = Rect { y: top, height: each.min(area.bottom() - top), ..area };
        let points: Vec<f64> = state.history(key).collect();
        let skip = points.len().saturating_sub(area.width.into());
        let most = points[skip..].iter().copied().fold(0.0, f64::max);
        let now = points.last().copied();
        let title = format!(" {name}: {}, at most {} ", human(now, unit), human(Some(most), unit));
        // Eighths of the largest value, so that small values are visible whatever the unit.
        let scaled: Vec<u64> =
            points[skip..].iter().map(|p| if most > 0.0 { (p / most * 1000.0) as u64 } else { 0 }).collect();
        let chart = ratatui::widgets::Sparkline::default()
            .block(Block::new().borders(Borders::TOP).title(title))
            .data(&scaled)
            .max(1000)
            .style(Style::new().fg(Color::Cyan));
        frame.render_widget(chart, area);
    }
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let mut lines: Vec<Line<'_>> = [
        "space, p   pause and go on",
        "s          order of queues: fullest, longest, by name",
        "b          accounts and addresses that cause most",
        "h, ?       this help",
        "q, Esc     leave",
        "recordings: \u{2190} \u{2192} a step, PgUp PgDn a minute, Home End, + - speed",
        "",
        "yellow: queue half full, worker 70 % busy, 10 ms an iteration",
        "red: queue four fifths full, worker 90 % busy, 100 ms an iteration",
        "",
    ]
    .map(Line::raw)
    .into();
    for name in ["workers", "queues"] {
        for column in table::named(name).into_iter().flat_map(|table| table.columns) {
            lines.push(Line::raw(format!("{:<10} {}", column.head, column.help)));
        }
    }
    let height = (lines.len() as u16 + 2).min(area.height);
    let width = 72.min(area.width);
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" help ")), place);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::Collector;
    use crate::delta::Delta;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn any_size_of_screen_can_be_drawn() {
        let data = tempfile::tempdir().unwrap();
        let mut collector = Collector::new(data.path());
        let old = collector.sample();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let new = collector.sample();
        let mut state = State::default();
        for help in [false, true] {
            state.help = help;
            for (width, height) in [(80, 24), (200, 60), (1, 1), (20, 5), (300, 8), (30, 100)] {
                let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
                terminal.draw(|frame| draw(frame, &state)).unwrap();
                if (width, height) == (80, 24) && state.time_ms > 0 && !help {
                    let text = terminal.backend().to_string();
                    assert!(text.contains("%user") && text.contains("q quit"), "{text}");
                }
            }
            state.take(&Delta::between(&old, &new).unwrap());
        }
    }

    #[test]
    fn bars_scale_to_the_largest_point_shown() {
        assert_eq!(spark([100.0, 0.0, 1.0, 4.0, 8.0].into_iter(), 4), " ▁▄█");
        assert_eq!(spark([0.0, 0.0].into_iter(), 10), "  ");
    }
}
