//! The top of the page: what was run, where, and who came out better.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::report::Report;
use crate::report::chart::{escape, short};
use crate::report::table::Row;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// What was run: servers with what is known of them, commands, machine and its settings.
pub(super) fn subject(reports: &[Report], out: &mut String) {
    let Some(first) = reports.first() else { return };
    let machine = &first.machine;
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "<p>{}, whimbrel-perf {}, {}, {} cores, {:.0} GiB, {}</p>",
        date(first.started_unix),
        escape(&first.version),
        escape(&machine.cpu),
        machine.cores,
        machine.memory_bytes as f64 / (1_u64 << 30) as f64,
        escape(&machine.system)
    );
    if reports.iter().any(|report| report.machine != *machine) {
        out.push_str("<p class='bad'>These runs were made on different machines or settings.</p>");
    }
    facts(reports, out);
    let commands: BTreeSet<String> = reports.iter().map(|report| report.command.join(" ")).collect();
    for command in commands.iter().filter(|command| !command.is_empty()) {
        let _ = write!(out, "<pre>{}</pre>", escape(command));
    }
    if !machine.settings.is_empty() {
        out.push_str("<details><summary>Settings of the system</summary><pre>");
        for (name, value) in &machine.settings {
            let _ = writeln!(out, "{} = {}", escape(name), escape(value));
        }
        out.push_str("</pre></details>");
    }
}

/// A column for each server, a row for each thing that is known of it.
fn facts(reports: &[Report], out: &mut String) {
    let mut servers: Vec<&Report> = Vec::new();
    for report in reports {
        if !servers.iter().any(|server| server.label == report.label && server.facts == report.facts) {
            servers.push(report);
        }
    }
    let names: BTreeSet<&String> = servers.iter().flat_map(|server| server.facts.keys()).collect();
    if names.is_empty() {
        return;
    }
    out.push_str("<div class='wide'><table><tr><th></th>");
    for server in &servers {
        let _ = write!(out, "<th>{}</th>", escape(&server.label));
    }
    out.push_str("</tr>");
    for name in names {
        let _ = write!(out, "<tr><td>{}</td>", escape(name));
        for server in &servers {
            let _ = write!(
                out,
                "<td>{}</td>",
                server.facts.get(name).map_or_else(|| "–".into(), |fact| escape(fact))
            );
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
}

/// The table of a comparison: medians, and how many times as good the first server is.
pub(super) fn verdict(rows: &[Row], out: &mut String) {
    let mut servers: Vec<&str> = Vec::new();
    let mut figures: Vec<&str> = Vec::new();
    for row in rows {
        if !servers.contains(&row.server.as_str()) {
            servers.push(&row.server);
        }
        if !figures.contains(&row.figure.as_str()) {
            figures.push(&row.figure);
        }
    }
    let Some(first) = servers.first() else { return };
    let _ = write!(
        out,
        "<h2>Verdict</h2><p>Medians, and in brackets how many times as good as that server {} is: the larger the better \
         for it, whether more or less of the figure is better.</p><div class='wide'><table><tr><th></th>",
        escape(first)
    );
    for server in &servers {
        let _ = write!(out, "<th>{}</th>", escape(server));
    }
    out.push_str("</tr>");
    for figure in figures {
        let _ = write!(out, "<tr><td>{}</td>", escape(figure));
        for server in &servers {
            let cell = rows.iter().find(|row| row.figure == figure && row.server == *server);
            let text = cell.map_or_else(
                || "–".to_owned(),
                |row| match row.server == *first {
                    true => short(row.median),
                    false => format!("{} ({})", short(row.median), short(row.first_is_better_by)),
                },
            );
            let _ = write!(out, "<td>{text}</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
}

/// A date and a time of day (UTC), from seconds since 1970: days are counted from 1 March of the year 0, so that a leap
/// day is the last of its year.
fn date(unix: u64) -> String {
    let days = unix / DAY + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let time = unix % DAY;
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", time / 3600, time / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix, expected) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_735_689_600, "2025-01-01 00:00 UTC"),
            (1_709_251_140, "2024-02-29 23:59 UTC"),
        ] {
            assert_eq!(date(unix), expected);
        }
    }

    #[test]
    fn the_verdict_has_a_column_for_each_server_and_ratios_for_all_but_the_first() {
        let row = |server: &str, median, first_is_better_by| Row {
            figure: "messages a second".into(),
            server: server.into(),
            median,
            lowest: median,
            highest: median,
            first_is_better_by,
        };
        let mut out = String::new();
        verdict(&[row("<ours>", 900.0, 1.0), row("other", 300.0, 3.0)], &mut out);
        for part in ["<th>&lt;ours&gt;</th>", "<td>900</td>", "<td>300 (3.0)</td>"] {
            assert!(out.contains(part), "{part}: {out}");
        }
        out.clear();
        verdict(&[], &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn what_is_known_of_a_server_is_said_once() {
        let mut run = Report { label: "one".into(), started_unix: 1, ..Report::default() };
        run.facts.insert("driver".into(), "mio".into());
        run.machine.settings.insert("net.core.somaxconn".into(), "4096".into());
        let mut out = String::new();
        subject(&[run.clone(), run], &mut out);
        assert_eq!(out.matches("<th>one</th>").count(), 1, "{out}");
        assert!(out.contains("<td>driver</td><td>mio</td>") && out.contains("somaxconn = 4096"), "{out}");
    }
}
