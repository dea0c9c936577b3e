//! `user import`: accounts by the million.
//!
//! ```text
//! reader ── lines, known accounts left out ──▶ derivers, one per core ── keys ──▶ writer (the main thread)
//! ```
//! A line has a password, or SCRAM keys that another server has derived (RFC 5803). Nothing that is meant as keys or as a
//! hash becomes a password ([`foreign`]).
//!
//! All queues are short, so memory stays small whatever the file's size. A batch is written whole or not at all, and
//! accounts that exist are left out before their keys are derived, so an interrupted import is resumed by running
//! it again.

mod foreign;
mod lines;

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::channel::{Receiver, Sender, bounded};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use whimbrel_storage::credentials::{Credentials, rfc5803};
use zeroize::Zeroizing;

use crate::accounts::Accounts;
use crate::cli::{Create, Iterations};
use crate::problem::Problem;
use crate::report::Report;
use crate::user;
use lines::{LINE_BYTES_MAX, Line, Lines};

/// Lines looked up, derived and handed on together.
const CHUNK: usize = 128;

/// Bad lines that are shown; all are counted.
const BAD_SHOWN_MAX: u64 = 100;

/// A line that can be imported.
struct Entry {
    line: u64,
    local: String,
    secret: Secret,
}

/// What an account is to be recognised by.
enum Secret {
    Password(Zeroizing<String>),
    /// Ready: nothing has to be derived.
    Keys(Box<Credentials>),
}

/// A line that cannot, and why.
struct BadLine {
    line: u64,
    reason: String,
}

/// What goes from the reader and the derivers to the writer.
enum Step {
    /// Accounts to create.
    Ready(Vec<(String, Credentials)>),
    /// Lines left out.
    Bad(BadLine),
    /// Accounts that exist already.
    Known(u64),
    /// Bytes of the file that have been read.
    Read(u64),
    /// The import cannot go on.
    Failed(Problem),
}

/// What has come of an import so far.
#[derive(Default)]
struct Outcome {
    added: u64,
    existing: u64,
    bad: u64,
}

/// Runs an import.
pub(crate) fn run(
    data: &Path,
    file: &Path,
    (iterations, create): (Iterations, Create),
    report: &Report,
) -> Result<ExitCode, Problem> {
    let (source, bytes) = open(file)?;
    let mut source = Lines::new(source);
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    // The domain of a new directory is that of the first good line.
    let first = source.peek_domain();
    let mut accounts = Accounts::open(data, first.as_deref().filter(|_| create.create))?;
    let rounds = user::rounds(iterations, &accounts);
    let mut lookup = accounts.another(data)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let bar = progress_bar(bytes);
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        let (steps, done) = bounded(cores * 2);
        let (to_derive, chunks) = bounded(cores * 2);
        let reader_steps = steps.clone();
        let stop_reading = &stop;
        let reader = std::thread::Builder::new().name("reader".into());
        let reader = reader.spawn_scoped(scope, move || {
            if let Err(problem) = read(source, &mut lookup, &to_derive, &reader_steps, stop_reading) {
                let _ = reader_steps.send(Step::Failed(problem));
            }
        });
        reader.map_err(|error| Problem::new(format!("cannot start a thread: {error}")))?;
        for n in 0..cores {
            let (chunks, steps) = (chunks.clone(), steps.clone());
            std::thread::Builder::new()
                .name(format!("deriver-{n}"))
                .spawn_scoped(scope, move || derive(&chunks, &steps, rounds))
                .map_err(|error| Problem::new(format!("cannot start a thread: {error}")))?;
        }
        drop((steps, chunks));
        let outcome = write(&mut accounts, &done, &bar, report, &name);
        // Dropping the receiver ends the derivers and the reader, which find nobody to send to.
        stop.store(true, Ordering::Relaxed);
        drop(done);
        outcome
    });
    bar.finish_and_clear();
    let outcome = outcome?;
    let Outcome { added, existing, bad } = outcome;
    report.result(&json!({ "added": added, "existing": existing, "bad": bad }), || {
        let hidden = bad.saturating_sub(BAD_SHOWN_MAX);
        let hidden = if hidden > 0 { format!(" ({hidden} of them not shown)") } else { String::new() };
        format!("{added} added, {existing} existed, {bad} bad lines{hidden}")
    });
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The source and its size, when it has one.
fn open(file: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), Problem> {
    if file == Path::new("-") {
        return Ok((Box::new(std::io::stdin()), None));
    }
    let failed = |error: std::io::Error| Problem::new(format!("cannot read {}: {error}", file.display()));
    let source = File::open(file).map_err(failed)?;
    let metadata = source.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Problem::new(format!("cannot read {}: it is a directory", file.display())));
    }
    Ok((Box::new(source), metadata.is_file().then_some(metadata.len())))
}

/// A bar on standard error, when that is a terminal.
fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, style) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:40} {percent}% {msg}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}, {elapsed}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
    bar.with_style(ProgressStyle::with_template(style).expect("the template is well formed"))
}

/// Reads lines, leaves out what exists, and hands the rest to the derivers.
fn read(
    mut source: Lines<Box<dyn Read + Send>>,
    lookup: &mut Accounts,
    to_derive: &Sender<Vec<Entry>>,
    steps: &Sender<Step>,
    stop: &AtomicBool,
) -> Result<(), Problem> {
    let domain = lookup.domain().to_owned();
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut more = true;
    while more && !stop.load(Ordering::Relaxed) {
        match source.next().map_err(|error| Problem::new(format!("cannot read the file: {error}")))? {
            None => more = false,
            Some((number, line)) => match parse(number, line, &domain) {
                Ok(Some(entry)) => chunk.push(entry),
                Ok(None) => {}
                Err(reason) => {
                    let _ = steps.send(Step::Bad(BadLine { line: number, reason }));
                }
            },
        }
        if chunk.len() < CHUNK && (more || chunk.is_empty()) {
            continue;
        }
        let locals: Vec<String> = chunk.iter().map(|entry| entry.local.clone()).collect();
        let exist = lookup.exist(&locals)?;
        let known = exist.iter().filter(|&&exists| exists).count() as u64;
        let mut exist = exist.into_iter();
        chunk.retain(|_| !exist.next().unwrap_or(false));
        let _ = steps.send(Step::Known(known));
        let _ = steps.send(Step::Read(source.bytes));
        if to_derive.send(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK))).is_err() {
            break;
        }
    }
    Ok(())
}

/// Derives keys until there are no more chunks or nobody wants them.
fn derive(chunks: &Receiver<Vec<Entry>>, steps: &Sender<Step>, rounds: NonZeroU32) {
    while let Ok(chunk) = chunks.recv() {
        let mut ready = Vec::with_capacity(chunk.len());
        for Entry { line, local, secret } in chunk {
            let credentials = match secret {
                Secret::Password(password) => Credentials::derive(&password, rounds),
                Secret::Keys(keys) => Ok(*keys),
            };
            match credentials {
                Ok(credentials) => ready.push((local, credentials)),
                Err(error) => {
                    let bad = BadLine { line, reason: error.to_string() };
                    if steps.send(Step::Bad(bad)).is_err() {
                        return;
                    }
                }
            }
        }
        if steps.send(Step::Ready(ready)).is_err() {
            return;
        }
    }
}

/// Writes what is ready, in batches as large as suits the way to the accounts.
fn write(
    accounts: &mut Accounts,
    steps: &Receiver<Step>,
    bar: &ProgressBar,
    report: &Report,
    name: &str,
) -> Result<Outcome, Problem> {
    let mut outcome = Outcome::default();
    let mut batch: Vec<(String, Credentials)> = Vec::new();
    let batch_max = accounts.batch();
    let mut flush = |batch: &mut Vec<(String, Credentials)>, outcome: &mut Outcome| {
        let count = batch.len() as u64;
        let created = accounts.add(std::mem::take(batch))?.iter().filter(|&&created| created).count() as u64;
        outcome.added += created;
        // Written by an earlier line of this file, or by somebody else meanwhile.
        outcome.existing += count - created;
        Ok::<_, Problem>(())
    };
    for step in steps {
        match step {
            Step::Ready(ready) => {
                batch.extend(ready);
                if batch.len() >= batch_max {
                    flush(&mut batch, &mut outcome)?;
                    bar.set_message(format!("{} added, {} existed", outcome.added, outcome.existing));
                }
            }
            Step::Known(known) => outcome.existing += known,
            Step::Read(bytes) => bar.set_position(bytes),
            Step::Bad(BadLine { line, reason }) => {
                outcome.bad += 1;
                if outcome.bad <= BAD_SHOWN_MAX {
                    bar.suspend(|| report.note(&format!("{name}: line {line}: {reason}")));
                }
            }
            Step::Failed(problem) => {
                // What is ready is good; the rest comes with the next run.
                flush(&mut batch, &mut outcome)?;
                return Err(problem);
            }
        }
    }
    if !batch.is_empty() {
        flush(&mut batch, &mut outcome)?;
    }
    Ok(outcome)
}

/// One line: an entry, nothing (an empty line), or why it is bad. Passwords and keys are never repeated in the reason.
fn parse(number: u64, line: Line<'_>, domain: &str) -> Result<Option<Entry>, String> {
    let bytes = match line {
        Line::Whole(bytes) => bytes,
        Line::TooLong => return Err(format!("longer than {LINE_BYTES_MAX} bytes")),
    };
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Ok(None);
    }
    let (jid, rest) = text.split_once('\t').ok_or("no tab between address and password")?;
    let (local, its_domain) = user::bare(jid).map_err(|problem| problem.to_string())?;
    if its_domain != domain {
        return Err(format!("`{jid}` is not of the domain {domain}"));
    }
    Ok(Some(Entry { line: number, local, secret: secret(rest)? }))
}

/// What stands behind the address: a password, or keys. Anything that is meant as keys is never a password.
fn secret(text: &str) -> Result<Secret, String> {
    if text.trim().is_empty() {
        return Err("the password is empty".into());
    }
    if rfc5803::is_keys(text) {
        let keys = Credentials::from_rfc5803(text.trim().split('\t')).map_err(|error| error.to_string())?;
        return Ok(Secret::Keys(Box::new(keys)));
    }
    if foreign::is_hash(text) {
        return Err(
            "it looks like the hash of a password; SCRAM keys (RFC 5803) can be imported, and passwords in \
                    the clear, but no other hashes"
                .into(),
        );
    }
    Ok(Secret::Password(Zeroizing::new(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_bad_line_is_told_and_no_password_is_repeated() {
        let keys = b"a@x.org\tSCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                     wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        let blank = [&keys[..8], b" ", &keys[8..], b" \r"].concat();
        let lower = keys.to_ascii_lowercase();
        let quoted = [&keys[..8], b"\"", &keys[8..], b"\""].concat();
        let table: [(&[u8], Option<&str>); 22] = [
            (keys, None),
            (&blank, None),
            (&lower, Some("in capitals")),
            (&quoted, Some("without quotes")),
            ("a@x.org\t\u{feff}SCRAM-SHA-256$secret".as_bytes(), Some("RFC 5803")),
            (b"a@x.org\t  ", Some("password is empty")),
            (b" a@x.org\tsecret", Some("not an address")),
            (b"a@x.org \tsecret", Some("not an address")),
            ("\u{a0}a@x.org\tsecret".as_bytes(), Some("not an address")),
            (b"a@x.org\t$2b$12$secretsecretsecretsecretsecret", Some("hash")),
            (&keys[..keys.len() - 4], Some("ServerKey of SCRAM-SHA-256 must be 32 bytes")),
            (b"a@x.org\tSCRAM-SHA-512$secret", Some("RFC 5803")),
            (&[&keys[..], b"\tsecret"].concat(), Some("RFC 5803")),
            (b"a@x.org\tpass word", None),
            (b"a@x.org\tpass\r", None),
            (b"", None),
            (b"a@x.org", Some("no tab")),
            (b"a@x.org\t", Some("password is empty")),
            (b"a@y.org\tsecret", Some("not of the domain x.org")),
            (b"x.org\tsecret", Some("names no account")),
            (b"a b@x.org\tsecret", Some("not an address")),
            (b"\xff@x.org\tsecret", Some("not UTF-8")),
        ];
        for (line, expected) in table {
            let shown = String::from_utf8_lossy(line).into_owned();
            match (parse(1, Line::Whole(line), "x.org"), expected) {
                (Ok(_), None) => {}
                (Err(reason), Some(expected)) => {
                    assert!(reason.contains(expected), "{shown}: {reason}");
                    assert!(!reason.contains("secret"), "{shown}: {reason}");
                }
                (Ok(_), Some(expected)) => panic!("{shown} was taken, expected: {expected}"),
                (Err(reason), None) => panic!("{shown}: {reason}"),
            }
        }
    }
}
