//! One self-contained HTML file that is read from the top: several runs side by side, their charts, each run's details.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::report::chart::{self, Axes, Scale, Series, escape, short};
use crate::report::table::Row;
use crate::report::{Latency, Phase, Report, head, text};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}\
    table{border-collapse:collapse;margin:1em 0}th,td{border:1px solid #ccc;padding:.25em .6em;text-align:right}\
    th:first-child,td:first-child{text-align:left}.wide{overflow-x:auto}\
    svg{width:100%;max-width:760px}details{margin:.5em 0}summary{cursor:pointer}\
    svg text{font:12px system-ui,sans-serif}\
    .grid{stroke:#ddd}pre{overflow:auto;background:#f5f5f5;padding:.6em}.bad{color:#b00020;font-weight:bold}\
    @media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#222}svg text{fill:#ddd}\
    .grid{stroke:#444}th,td{border-color:#555}.bad{color:#ff8080}}";

/// The page of some runs: what was run, the verdict, figures, latencies, charts, and the raw text folded away. `rows` is
/// the table of a comparison and `summary` a table in text, where there are any.
pub(crate) fn page(rows: &[Row], summary: &str, reports: &[Report]) -> String {
    let mut out = format!(
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' \
         content='width=device-width'><title>whimbrel-perf</title><style>{STYLE}</style></head><body>\
         <h1>whimbrel-perf</h1>"
    );
    for report in reports {
        for problem in &report.problems {
            // Writing to a String cannot fail.
            let _ = write!(out, "<p class='bad'>{}: {}</p>", escape(&report.label), escape(problem));
        }
    }
    head::subject(reports, &mut out);
    head::verdict(rows, &mut out);
    figures(reports, &mut out);
    percentiles(reports, &mut out);
    // Of several rounds the curves of the first are shown; the table has all of them.
    let first: Vec<&Report> = first_rounds(reports);
    memory(&first, &mut out);
    latencies(&first, &mut out);
    over_time(&first, &mut out);
    out.push_str("<h2>Everything as text</h2>");
    if !summary.is_empty() {
        let _ = write!(out, "<details><summary>Table</summary><pre>{}</pre></details>", escape(summary));
    }
    for report in reports {
        details(report, &mut out);
    }
    out.push_str("</body></html>\n");
    out
}

/// The first run of each name and kind.
fn first_rounds(reports: &[Report]) -> Vec<&Report> {
    let kind = |report: &Report| {
        let phase = report.phases.first().map(|phase| phase.name.clone());
        (report.label.clone(), report.scenario.clone(), phase)
    };
    let mut seen = BTreeSet::new();
    reports.iter().filter(|report| seen.insert(kind(report))).collect()
}

/// Columns of a table: runs that follow each other under one name, and have no phase in common, share theirs.
fn columns(reports: &[Report]) -> Vec<Vec<&Report>> {
    let mut columns: Vec<Vec<&Report>> = Vec::new();
    for report in reports {
        let has_its_phases =
            |other: &&Report| report.phases.iter().any(|phase| find(other, &phase.name).is_some());
        match columns.last_mut() {
            Some(column) if column[0].label == report.label && !column.iter().any(has_its_phases) => {
                column.push(report);
            }
            _ => columns.push(vec![report]),
        }
    }
    columns
}

/// Phases and their figures, a column for each server or run.
fn figures(reports: &[Report], out: &mut String) {
    let names: BTreeSet<(&str, &str)> = reports
        .iter()
        .flat_map(|report| &report.phases)
        .flat_map(|phase| phase.figures.keys().map(|figure| (phase.name.as_str(), figure.as_str())))
        .collect();
    if names.is_empty() {
        return;
    }
    let columns = columns(reports);
    out.push_str("<h2>Figures</h2><div class='wide'><table><tr><th></th>");
    for column in &columns {
        let _ = write!(out, "<th>{}</th>", escape(&column[0].label));
    }
    out.push_str("</tr>");
    for (phase_name, figure) in names {
        let _ = write!(out, "<tr><td>{}: {}</td>", escape(phase_name), escape(figure));
        for column in &columns {
            let phase = column.iter().find_map(|report| find(report, phase_name));
            let value = phase.and_then(|phase| phase.figures.get(figure));
            let _ = write!(out, "<td>{}</td>", value.map_or_else(|| "–".to_owned(), |value| short(*value)));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
    for figure in ["delivered a second", "delivered a second of server CPU"] {
        let rows: Vec<(String, f64)> = reports
            .iter()
            .filter_map(|report| {
                let value = report.phases.iter().find_map(|phase| phase.figures.get(figure))?;
                Some((report.label.clone(), *value))
            })
            .collect();
        if rows.len() > 1 {
            let _ = write!(out, "<h3>{}</h3>{}", escape(figure), chart::bars(&rows, "/s"));
        }
    }
}

fn find<'a>(report: &'a Report, name: &str) -> Option<&'a Phase> {
    report.phases.iter().find(|phase| phase.name == name)
}

fn memory(reports: &[&Report], out: &mut String) {
    let names: BTreeSet<&String> = reports
        .iter()
        .filter_map(|report| report.memory.as_ref())
        .flat_map(|memory| memory.bytes_per_session.keys())
        .collect();
    let series: Vec<Series> = reports
        .iter()
        .filter_map(|report| {
            let points = report.memory.as_ref()?.points.iter();
            let points = points.filter_map(|(sessions, sample)| {
                Some((*sessions as f64, sample.process.as_ref()?.anon_bytes as f64 / f64::from(1 << 20)))
            });
            Some(Series { name: report.label.clone(), points: points.collect() })
        })
        .collect();
    if series.is_empty() {
        return;
    }
    out.push_str("<h2>Memory</h2>");
    if !names.is_empty() {
        out.push_str("<p>Bytes for each further session (slope over the counts).</p><div class='wide'><table><tr><th></th>");
        for report in reports.iter().filter(|report| report.memory.is_some()) {
            let _ = write!(out, "<th>{}</th>", escape(&report.label));
        }
        out.push_str("</tr>");
        for name in names {
            let _ = write!(out, "<tr><td>{}</td>", escape(name));
            for memory in reports.iter().filter_map(|report| report.memory.as_ref()) {
                let value = memory.bytes_per_session.get(name);
                let _ = write!(
                    out,
                    "<td>{}</td>",
                    value.map_or_else(|| "–".into(), |value| format!("{value:.0}"))
                );
            }
            out.push_str("</tr>");
        }
        out.push_str("</table></div>");
    }
    let axes = Axes {
        x: "sessions",
        y: "anonymous memory of the server, MiB",
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
    };
    out.push_str(&chart::lines(&series, &axes));
}

fn latencies(reports: &[&Report], out: &mut String) {
    let names: BTreeSet<&str> = reports
        .iter()
        .flat_map(|report| &report.phases)
        .flat_map(|phase| phase.latencies.keys().map(String::as_str))
        .collect();
    for name in names {
        let series: Vec<Series> = reports
            .iter()
            .flat_map(|report| report.phases.iter().map(move |phase| (report, phase)))
            .filter_map(|(report, phase)| {
                let latency = phase.latencies.get(name)?;
                let points =
                    latency.curve.iter().map(|&(quantile, ns)| (quantile, ns as f64 / 1e6)).collect();
                Some(Series { name: format!("{}, {}", report.label, phase.name), points })
            })
            .collect();
        let axes = Axes { x: "quantile", y: "milliseconds", x_scale: Scale::Nines, y_scale: Scale::Log };
        let chart = chart::lines(&series, &axes);
        if !chart.is_empty() {
            let _ = write!(out, "<h2>Latency: {}</h2>{chart}", escape(name));
        }
    }
}

fn over_time(reports: &[&Report], out: &mut String) {
    type Pick = fn(&Report) -> Vec<(f64, f64)>;
    let charts: [(&str, &str, Pick); 4] = [
        ("Sessions over time", "sessions up", |report| {
            report.timeline.iter().map(|tick| (tick.at_seconds, tick.ready as f64)).collect()
        }),
        ("Messages over time", "delivered a second", |report| {
            rate(report, |tick| Some(tick.delivered as f64))
        }),
        ("Memory over time", "anonymous memory, MiB", |report| {
            let ticks = report.timeline.iter();
            ticks.filter_map(|t| Some((t.at_seconds, t.anon_bytes? as f64 / f64::from(1 << 20)))).collect()
        }),
        ("Server CPU over time", "cores busy", |report| rate(report, |tick| tick.cpu_seconds)),
    ];
    for (title, y, pick) in charts {
        let series: Vec<Series> = reports
            .iter()
            .map(|report| Series { name: report.label.clone(), points: pick(report) })
            .filter(|series| series.points.iter().any(|point| point.1 > 0.0))
            .collect();
        if !series.is_empty() {
            let axes = Axes { x: "seconds", y, x_scale: Scale::Linear, y_scale: Scale::Linear };
            let _ = write!(out, "<h2>{title}</h2>{}", chart::lines(&series, &axes));
        }
    }
}

/// How fast a figure grows.
fn rate(report: &Report, figure: fn(&crate::report::Tick) -> Option<f64>) -> Vec<(f64, f64)> {
    let pairs = report.timeline.iter().zip(report.timeline.iter().skip(1));
    pairs
        .filter_map(|(before, after)| {
            let seconds = after.at_seconds - before.at_seconds;
            let grown = figure(after)? - figure(before)?;
            (seconds > 0.0).then(|| (after.at_seconds, (grown / seconds).max(0.0)))
        })
        .collect()
}

/// Percentiles of every latency, a row for each run and phase.
fn percentiles(reports: &[Report], out: &mut String) {
    let rows: Vec<(String, &Latency)> = reports
        .iter()
        .flat_map(|report| report.phases.iter().map(move |phase| (report, phase)))
        .flat_map(|(report, phase)| {
            phase
                .latencies
                .iter()
                .map(move |(name, latency)| (format!("{}, {}: {name}", report.label, phase.name), latency))
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Latencies, milliseconds</h2><div class='wide'><table><tr><th></th><th>p50</th><th>p90</th><th>p99</th>\
         <th>p99.9</th><th>max</th><th>values</th></tr>",
    );
    for (name, latency) in rows {
        let _ = write!(out, "<tr><td>{}</td>", escape(&name));
        for ns in [latency.p50_ns, latency.p90_ns, latency.p99_ns, latency.p999_ns, latency.max_ns] {
            let _ = write!(out, "<td>{:.3}</td>", ns as f64 / 1e6);
        }
        let _ = write!(out, "<td>{}</td></tr>", latency.count);
    }
    out.push_str("</table></div>");
}

fn details(report: &Report, out: &mut String) {
    let _ = write!(
        out,
        "<details><summary>{}</summary><pre>{}</pre><pre>{}</pre></details>",
        escape(&report.label),
        escape(&report.command.join(" ")),
        escape(&text::render(report))
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::counters::Latencies;
    use crate::report::Tick;

    fn report(label: &str) -> Report {
        let mut latencies = Latencies::default();
        (1..1000).for_each(|n| latencies.record(n * 10_000));
        let mut phase = Phase { name: "chat".into(), seconds: 1.0, ..Phase::default() };
        phase.figures.insert("delivered a second".into(), 1234.0);
        phase.latencies.extend(Latency::of(&latencies).map(|latency| ("message".to_owned(), latency)));
        let tick = |n: u64| Tick { at_seconds: n as f64, ready: 2, delivered: n * 100, ..Tick::default() };
        Report {
            label: label.into(),
            phases: vec![phase],
            timeline: (0..5).map(tick).collect(),
            problems: vec!["3 messages <lost>".into()],
            ..Report::default()
        }
    }

    #[test]
    fn a_page_compares_runs_and_needs_nothing_from_outside() {
        let page = page(&[], "", &[report("one"), report("two & three")]);
        for part in [
            "<svg",
            "two &amp; three",
            "3 messages &lt;lost&gt;",
            "delivered a second",
            "Latency: message",
            "<th>p99.9</th>",
            "<details>",
        ] {
            assert!(page.contains(part), "{part} is missing");
        }
        for outside in ["http://", "https://", "<script", "src="] {
            assert!(!page.contains(outside), "{outside} in the page");
        }
    }

    #[test]
    fn runs_of_one_server_share_a_column_where_their_phases_differ() {
        let mut hold = report("one");
        hold.phases[0].name = "login".into();
        let reports = [hold, report("one"), report("one"), report("two")];
        let columns: Vec<usize> = columns(&reports).iter().map(Vec::len).collect();
        assert_eq!(columns, [2, 1, 1], "a second round of the same phase has its own");
        let mut page = page(&[], "medians <here>", &reports);
        assert!(page.contains("<pre>medians &lt;here&gt;</pre>"));
        let figures = page.find("<h2>Figures").unwrap();
        assert_eq!(page.split_off(figures).matches("<th>one</th>").count(), 2);
    }

    #[test]
    fn curves_are_of_the_first_round_and_no_chart_is_empty() {
        let rounds = [report("one"), report("one"), report("two")];
        let shown: Vec<&str> = first_rounds(&rounds).iter().map(|report| report.label.as_str()).collect();
        assert_eq!(shown, ["one", "two"]);
        let mut bare = report("three");
        bare.timeline.clear();
        bare.phases[0].latencies.clear();
        let page = page(&[], "", &[bare]);
        assert!(!page.contains("over time") && !page.contains("Latenc"), "{page}");
    }

    #[test]
    fn a_report_survives_its_way_through_json() {
        let before = report("one");
        let json = serde_json::to_string(&before).unwrap();
        let after: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&after).unwrap(), json);
    }
}
