//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use wsar::print::Format;
use wsar::table::{self, TABLES, Table};

/// Between samples, when nothing is said.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// The machine and the Whimbrel server, second by second.
#[derive(Debug, Parser)]
#[command(name = "wsar", version)]
pub(crate) struct Cli {
    /// Data directory of the server. Without a server there, wsar shows the machine alone.
    #[arg(long, global = true, value_name = "DIR", env = "WHIMBREL_DATA", default_value = "whimbrel-data")]
    pub(crate) data: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Seconds between samples, at least 0.1.
    #[arg(value_name = "INTERVAL", value_parser = interval)]
    pub(crate) interval: Option<Duration>,
    /// How many samples; without it, until interrupted.
    #[arg(value_name = "COUNT")]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) show: Show,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Record samples into ring files, until interrupted.
    Record(Record),
    /// Print what was recorded.
    Report(Report),
    /// The dashboard in this terminal.
    Top(Top),
    /// The dashboard over recorded time.
    Replay(Replay),
    /// Watch figures, and tell when they are out of bounds.
    Alert(Alert),
    /// The dashboard in a browser, with a JSON API and OpenMetrics.
    Serve(Serve),
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write man pages into a folder.
    Man {
        /// The folder, which must exist.
        dir: PathBuf,
    },
}

/// `wsar serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address and port. Other machines are let in with a token only.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9522")]
    pub(crate) listen: SocketAddr,
    /// The first line of this file is the token that everybody must give (or the environment's WSAR_TOKEN is).
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Folder of the recording for times gone by [default: DATA/wsar].
    #[arg(long, value_name = "DIR")]
    pub(crate) of: Option<PathBuf>,
    /// Rules of the alerts that are shown; without it, the built-in ones. Their actions are `wsar alert`'s to take.
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// Seconds between samples.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(crate) every: Duration,
    /// Live pages that may be open at a time.
    #[arg(long, value_name = "COUNT", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub(crate) pages: u16,
}

/// `wsar alert`.
#[derive(Debug, Args)]
pub(crate) struct Alert {
    /// Rules and actions (docs/wsar.md); without it, the built-in rules.
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// Seconds between samples.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(crate) every: Duration,
    /// Only check the rules: that they can be read, and that what they watch exists.
    #[arg(long)]
    pub(crate) check: bool,
}

/// `wsar top`.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Seconds between samples.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(crate) every: Duration,
}

/// `wsar replay`.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(crate) part: Part,
    /// Seconds that each sample stays on the screen.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(crate) every: Duration,
}

/// `wsar record`.
#[derive(Debug, Args)]
pub(crate) struct Record {
    /// Folder of the recording [default: DATA/wsar].
    #[arg(long, value_name = "DIR")]
    pub(crate) into: Option<PathBuf>,
    /// Seconds between samples.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(crate) every: Duration,
    /// Size of the recording on disk at most, in MiB; the oldest samples go first.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub(crate) size: u64,
    /// Age of samples at most, in days.
    #[arg(long, value_name = "DAYS", default_value_t = 14, value_parser = clap::value_parser!(u64).range(1..=36_500))]
    pub(crate) days: u64,
    /// Stop after so many samples.
    #[arg(long, value_name = "COUNT")]
    pub(crate) count: Option<u64>,
}

/// Which part of which recording.
#[derive(Debug, Args)]
pub(crate) struct Part {
    /// Folder of the recording [default: DATA/wsar].
    #[arg(long, value_name = "DIR")]
    pub(crate) of: Option<PathBuf>,
    /// Begin: 13:05, 2026-01-31, `2026-01-31 13:05:00`, -2h (two hours ago), or a Unix time [default: -1d].
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// End, likewise [default: now].
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) to: Option<String>,
}

/// `wsar report`.
#[derive(Debug, Args)]
pub(crate) struct Report {
    #[command(flatten)]
    pub(crate) part: Part,
    /// Length of an interval: 30s, 10m, 1h.
    #[arg(long, value_name = "LENGTH", default_value = "1m", value_parser = length)]
    pub(crate) every: u64,
    #[command(flatten)]
    pub(crate) show: Show,
}

fn length(text: &str) -> Result<u64, String> {
    let length = wsar::time::duration(text).filter(|&ms| ms > 0);
    length.ok_or_else(|| "it is not a length of time; write 30s, 10m or 1h".to_owned())
}

/// What is shown, and how.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// One JSON object a sample, a line each.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// CSV: time, seconds, table, row, column, value.
    #[arg(long)]
    csv: bool,
    /// Everything.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    tables: Tables,
}

impl Show {
    pub(crate) fn format(&self) -> Format {
        match (self.json, self.csv) {
            (true, _) => Format::Json,
            (_, true) => Format::Csv,
            _ => Format::Text,
        }
    }

    pub(crate) fn tables(&self) -> Vec<&'static Table> {
        match (self.all, self.tables.0.is_empty()) {
            (true, _) => TABLES.to_vec(),
            (false, true) => vec![&table::OVERVIEW],
            (false, false) => self.tables.0.iter().filter_map(|name| table::named(name)).collect(),
        }
    }
}

/// One option for each table, made from the list of tables.
#[derive(Debug, Default)]
struct Tables(Vec<String>);

impl Args for Tables {
    fn augment_args(command: clap::Command) -> clap::Command {
        TABLES.iter().fold(command, |command, table| {
            command.arg(
                clap::Arg::new(table.name)
                    .long(table.name)
                    .action(clap::ArgAction::SetTrue)
                    .help_heading("What to show")
                    .help(capitalised(table.about)),
            )
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Tables {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let wanted = TABLES.iter().filter(|table| matches.get_flag(table.name));
        Ok(Tables(wanted.map(|table| table.name.to_owned()).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is not a number of seconds".to_owned())?;
    match (0.1..=86_400.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("it is not between 0.1 and 86400 seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_names_every_table() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        for table in TABLES {
            let cli = Cli::try_parse_from(["wsar", &format!("--{}", table.name), "1", "5"]).unwrap();
            assert_eq!(cli.show.tables().iter().map(|t| t.name).collect::<Vec<_>>(), [table.name]);
            assert_eq!((cli.interval, cli.count), (Some(INTERVAL), Some(5)));
        }
        for wrong in [["wsar", "0"], ["wsar", "--what"], ["wsar", "x"]] {
            assert!(Cli::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }
}
