//! Manual pages: whimbreld(8) from the command line, whimbrel.toml(5) from docs/config.md, so that each key is described
//! once.

use std::io;
use std::path::Path;

use clap::CommandFactory;

use crate::cli::Cli;

/// The page about the configuration.
const CONFIGURATION: &str = include_str!("../../docs/config.md");

/// Writes the pages into a directory, which is made if it is not there.
///
/// # Errors
/// The directory cannot be made or written.
pub(crate) fn write(directory: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot write man pages into {}: {error}", directory.display());
    std::fs::create_dir_all(directory).map_err(failed)?;
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).section("8").render(&mut page).map_err(failed)?;
    std::fs::write(directory.join("whimbreld.8"), page).map_err(failed)?;
    std::fs::write(directory.join("whimbrel.toml.5"), configuration()).map_err(failed)
}

/// whimbrel.toml(5).
fn configuration() -> String {
    let mut page = format!(
        ".TH WHIMBREL.TOML 5 \"\" \"whimbrel {}\"\n.SH NAME\nwhimbrel.toml \\- configuration of whimbreld\n.SH DESCRIPTION\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut rows = Rows::default();
    let mut is_new = true;
    // The title says what NAME says.
    for line in CONFIGURATION.lines().skip(1) {
        if line.starts_with('|') {
            rows.row(line, &mut page);
            is_new = true;
            continue;
        }
        rows.end();
        match line {
            "" => is_new = true,
            _ if line.starts_with("## ") => page += &format!(".SH {}\n", text(&line[3..].to_uppercase())),
            _ if line.starts_with("### ") => page += &format!(".SS {}\n", text(&line[4..])),
            _ if line.starts_with("- ") => page += &format!(".IP \\(bu 2\n{}\n", text(&line[2..])),
            _ => {
                if is_new {
                    page += ".PP\n";
                }
                page += &format!("{}\n", text(line.trim_start()));
                is_new = false;
            }
        }
    }
    page += ".SH SEE ALSO\n.BR whimbreld (8),\n.BR whimbrelctl (1),\n.BR wsar (1)\n";
    page
}

/// A table on its way through the page.
#[derive(Default)]
struct Rows {
    heads: Vec<String>,
}

impl Rows {
    fn row(&mut self, line: &str, page: &mut String) {
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| text(cell.trim())).collect();
        if self.heads.is_empty() {
            self.heads = cells;
            return;
        }
        if line.starts_with("| ---") || line.starts_with("|---") {
            return;
        }
        if self.heads[0] == "key" && cells.len() == 4 {
            *page += &format!(".TP\n{} (default: {})\n", cells[0], cells[1]);
            if !cells[2].is_empty() {
                *page += &format!("Range: {}.\n", cells[2]);
            }
            *page += &format!("{}\n", cells[3]);
            return;
        }
        *page += &format!(".TP\n{}\n", cells[0]);
        let rest = cells[1..].iter().zip(&self.heads[1..]).filter(|(cell, _)| !cell.is_empty());
        for (cell, head) in rest {
            *page += &format!("{head}: {cell}.\n.br\n");
        }
    }

    fn end(&mut self) {
        self.heads.clear();
    }
}

/// A line of Markdown as roff has it.
fn text(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    let (mut bold, mut italic) = (false, false);
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        match letter {
            '`' => {
                bold = !bold;
                out += if bold { "\\fB" } else { "\\fR" };
            }
            '*' if !bold && rest.starts_with('*') => rest = &rest[1..],
            '*' if !bold => {
                italic = !italic;
                out += if italic { "\\fI" } else { "\\fR" };
            }
            '\\' => out += "\\e",
            '-' => out += "\\-",
            // A link: its words stay.
            '[' if !bold && rest.split_once("](").is_some_and(|(words, _)| !words.contains(['[', ']'])) => {
                let (words, behind) = rest.split_once("](").unwrap_or((rest, ""));
                out += &text(words);
                rest = behind.split_once(')').map_or("", |(_, behind)| behind);
            }
            _ => out.push(letter),
        }
    }
    // These begin requests.
    if out.starts_with(['.', '\'']) { format!("\\&{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use whimbrel_server::config::Config;

    use super::*;

    #[test]
    fn every_key_of_the_configuration_has_its_paragraph() {
        let page = configuration();
        let keys = keys_in(&toml::Table::try_from(Config::default()).unwrap(), "");
        for key in &keys {
            assert!(page.contains(&format!(".TP\n\\fB{key}\\fR (default: ")), "{key}");
        }
        assert!(keys.len() > 100, "{keys:?}");
    }

    /// The keys of a table and of those inside it.
    fn keys_in(table: &toml::Table, before: &str) -> Vec<String> {
        let inner = |(key, value): (&String, &toml::Value)| match value {
            toml::Value::Table(table) => keys_in(table, &format!("{before}{key}.")),
            _ => vec![format!("{before}{key}")],
        };
        table.iter().flat_map(inner).collect()
    }

    #[test]
    fn nothing_of_the_text_is_taken_for_a_request() {
        let known = [".TH", ".SH", ".SS", ".PP", ".TP", ".IP", ".BR", ".br"];
        for line in configuration().lines().filter(|line| line.starts_with(['.', '\''])) {
            assert!(known.contains(&line.split(' ').next().unwrap_or_default()), "{line}");
        }
        assert_eq!(
            text("a [page](x.md#y) of `k-v*` and **all** *now*"),
            "a page of \\fBk\\-v*\\fR and all \\fInow\\fR"
        );
        assert_eq!(text(".x"), "\\&.x");
        assert_eq!(text("`[\"a\"]` or [1]"), "\\fB[\"a\"]\\fR or [1]");
    }
}
