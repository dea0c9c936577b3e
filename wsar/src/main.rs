//! `wsar`: the command line.
#![forbid(unsafe_code)]

mod cli;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use wsar::alert::action::Teller;
use wsar::alert::rules::RulesError;
use wsar::alert::{self, Engine, Rules, Silent};
use wsar::collect::Collector;
use wsar::delta::Delta;
use wsar::live::{Ticks, stop_on_signals};
use wsar::print::Printer;
use wsar::record::{Archive, Bounds, Recorder};
use wsar::report::{Found, each};
use wsar::serve::{self, Options, ServeError};
use wsar::time;
use wsar::top::replay::Replay;
use wsar::top::{self, Samples};

use crate::cli::{Alert, Cli, Command, Part, Record, Report, Serve};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has seen enough (`wsar 1 | head`).
        Err(Problem::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wsar: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why wsar cannot go on.
#[derive(Debug, thiserror::Error)]
enum Problem {
    /// The system's reason.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Rules.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// A rule that would never come into force.
    #[error("rule `{0}`: {1}")]
    Silent(String, Silent),
    /// A time.
    #[error(transparent)]
    Time(#[from] time::NotATime),
    /// The page.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A file that was named on the command line.
    #[error("{path}: {error}", path = .0.display(), error = .1)]
    File(PathBuf, io::Error),
    /// No folder of a recording.
    #[error("{folder}: there is no recording; `wsar record` makes one", folder = .0.display())]
    NoRecording(PathBuf),
    /// Nothing to show.
    #[error("{folder}: nothing was recorded between {from} and {to}; `wsar record` records", folder = .0.display(), from = time::date_and_time(*.1), to = time::date_and_time(*.2))]
    NothingRecorded(PathBuf, u64, u64),
    /// Samples, but no two that an interval lies between.
    #[error("what was recorded between {from} and {to} is shorter than an interval; wait for more, or give a shorter --every", from = time::date_and_time(*.0), to = time::date_and_time(*.1))]
    TooShort(u64, u64),
}

fn run(cli: &Cli) -> Result<(), Problem> {
    match &cli.command {
        None => lines(cli),
        Some(Command::Record(args)) => record(cli, args),
        Some(Command::Report(args)) => report(cli, args),
        Some(Command::Top(args)) => {
            let samples = Samples::Live(Box::new(Collector::new(&cli.data)));
            Ok(top::run(samples, args.every, &cli.data, &stop_on_signals()?)?)
        }
        Some(Command::Alert(args)) => watch(cli, args),
        Some(Command::Serve(args)) => serve(cli, args),
        Some(Command::Completions { shell }) => {
            clap_complete::generate(*shell, &mut Cli::command(), "wsar", &mut io::stdout());
            Ok(())
        }
        Some(Command::Man { dir }) => {
            let failed = |error| Problem::File(dir.clone(), error);
            std::fs::metadata(dir).map_err(failed)?;
            clap_mangen::generate_to(Cli::command(), dir).map_err(failed)
        }
        Some(Command::Replay(args)) => {
            let (archive, _) = open_part(cli, &args.part)?;
            let samples = Samples::Recorded(Box::new(Replay::new(archive)?));
            Ok(top::run(samples, args.every, &cli.data, &stop_on_signals()?)?)
        }
    }
}

/// `wsar [INTERVAL [COUNT]]`.
fn lines(cli: &Cli) -> Result<(), Problem> {
    let tables = cli.show.tables();
    let mut collector = Collector::new(&cli.data);
    let mut known = Known::default();
    let mut old = collector.sample();
    let mut ticks = Ticks::new(cli.interval.unwrap_or(cli::INTERVAL), stop_on_signals()?);
    let mut printer = Printer::new(io::stdout().lock(), &tables, cli.show.format(), terminal_size());
    let mut left = cli.count;
    while left != Some(0) && ticks.wait() {
        let new = collector.sample();
        known.tell(collector.problems());
        if let Some(delta) = Delta::between(&old, &new) {
            printer.print(&delta)?;
            left = left.map(|left| left - 1);
        }
        old = new;
    }
    Ok(printer.finish()?)
}

/// Problems that have been told: each is told once.
#[derive(Default)]
struct Known(Vec<wsar::collect::Problem>);

impl Known {
    fn tell(&mut self, problems: &[wsar::collect::Problem]) {
        for problem in problems {
            if !self.0.contains(problem) {
                eprintln!("wsar: {problem}");
                self.0.push(problem.clone());
            }
        }
    }
}

/// `wsar record`.
fn record(cli: &Cli, args: &Record) -> Result<(), Problem> {
    let folder = args.into.clone().unwrap_or_else(|| cli.data.join("wsar"));
    let bounds = Bounds { bytes: args.size << 20, age_ms: args.days * 86_400_000 };
    let mut recorder = Recorder::open(&folder, bounds)?;
    let mut collector = Collector::new(&cli.data);
    let mut known = Known::default();
    let mut ticks = Ticks::new(args.every, stop_on_signals()?);
    let mut left = args.count;
    let mut failing = false;
    while left != Some(0) && ticks.wait() {
        let written = recorder.push(&collector.sample());
        known.tell(collector.problems());
        // A full disk may have room again: told once, and tried on.
        if let Err(error) = &written
            && !failing
        {
            eprintln!("wsar: cannot record: {error}; trying on");
        }
        failing = written.is_err();
        left = left.map(|left| left - 1);
    }
    Ok(recorder.flush()?)
}

/// The rules of a file, or the built-in ones.
fn rules(path: Option<&PathBuf>) -> Result<Rules, RulesError> {
    match path {
        Some(path) => Rules::read(path),
        None => Ok(Rules { builtin: true, ..Rules::default() }),
    }
}

/// The rules that watch what there is not.
fn silent(cli: &Cli, rules: &Rules) -> Vec<Problem> {
    let known = alert::Known::new(&Collector::new(&cli.data).sample().schema);
    let silent = rules.rules.iter().filter_map(|rule| Some((rule.name.clone(), known.check(rule).err()?)));
    silent.map(|(name, silent)| Problem::Silent(name, silent)).collect()
}

/// `wsar serve`.
fn serve(cli: &Cli, args: &Serve) -> Result<(), Problem> {
    let token = match &args.token_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| Problem::File(path.clone(), error))?;
            Some(text.lines().next().unwrap_or_default().trim().to_owned())
        }
        None => std::env::var("WSAR_TOKEN").ok(),
    };
    let rules = rules(args.rules.as_ref())?;
    silent(cli, &rules).iter().for_each(|problem| eprintln!("wsar: {problem}; it will be silent"));
    let options = Options {
        data: cli.data.clone(),
        recording: args.of.clone().unwrap_or_else(|| cli.data.join("wsar")),
        listen: args.listen,
        token,
        rules,
        every: args.every,
        pages: args.pages.into(),
    };
    serve::run(options, &stop_on_signals()?, |address| {
        let mut out = io::stdout().lock();
        writeln!(out, "http://{address}/")?;
        out.flush()
    })?;
    Ok(())
}

/// `wsar alert`.
fn watch(cli: &Cli, args: &Alert) -> Result<(), Problem> {
    let rules = rules(args.rules.as_ref())?;
    let mut silent = silent(cli, &rules);
    if args.check {
        let last = silent.pop();
        silent.iter().for_each(|problem| eprintln!("wsar: {problem}"));
        return last.map_or(Ok(()), Err);
    }
    // A server of another release may have what this wsar does not know.
    silent.iter().for_each(|problem| eprintln!("wsar: {problem}; it will be silent"));
    let mut engine = Engine::new(rules.rules, rules.builtin);
    let teller = Teller::start(rules.actions)?;
    let mut collector = Collector::new(&cli.data);
    let mut known = Known::default();
    let mut old = collector.sample();
    let mut ticks = Ticks::new(args.every, stop_on_signals()?);
    while ticks.wait() {
        let new = collector.sample();
        known.tell(collector.problems());
        if let Some(delta) = Delta::between(&old, &new) {
            for change in engine.look(&delta) {
                let mut out = io::stdout().lock();
                writeln!(out, "{change}")?;
                out.flush()?;
                teller.tell(change);
            }
        }
        old = new;
    }
    Ok(())
}

/// The part of a recording that is asked for, and its times.
fn open_part(cli: &Cli, part: &Part) -> Result<(Archive, (u64, u64)), Problem> {
    let folder = part.of.clone().unwrap_or_else(|| cli.data.join("wsar"));
    let (from, to) = time::range(part.from.as_deref().unwrap_or("-1d"), part.to.as_deref(), time::now_ms())?;
    let archive = match Archive::open(&folder, from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Problem::NoRecording(folder)),
        other => other?,
    };
    for (path, trouble) in archive.troubles() {
        eprintln!("wsar: {}: {trouble}", path.display());
    }
    match archive.is_empty() {
        true => Err(Problem::NothingRecorded(folder, from, to)),
        false => Ok((archive, (from, to))),
    }
}

/// `wsar report`.
fn report(cli: &Cli, args: &Report) -> Result<(), Problem> {
    let tables = args.show.tables();
    let (archive, times) = open_part(cli, &args.part)?;
    let printer = Printer::new(io::stdout().lock(), &tables, args.show.format(), terminal_size());
    let mut printer = printer.dated();
    let mut intervals = 0_u64;
    each(&archive, times, args.every, |found| match found {
        Found::Interval(delta) => {
            intervals += 1;
            printer.print(&delta)
        }
        Found::Hole(hole) => {
            let (from, to) = (time::date_and_time(hole.from_ms), time::date_and_time(hole.to_ms));
            eprintln!("wsar: nothing was recorded from {from} to {to}");
            Ok(())
        }
    })?;
    if intervals == 0 {
        return Err(Problem::TooShort(times.0, times.1));
    }
    Ok(printer.finish()?)
}

/// Columns and lines of the terminal; without one, those that the environment names, or the classic ones.
fn terminal_size() -> (usize, usize) {
    if io::stdout().is_terminal()
        && let Ok((columns, lines)) = ratatui::crossterm::terminal::size()
        && columns > 0
    {
        return (columns.into(), lines.into());
    }
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    (number("COLUMNS").unwrap_or(80), number("LINES").unwrap_or(24))
}
