//! `archive export`: every message of one account's archive, in order, in steps of bounded memory.

mod xep0227;

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};
use whimbrel_storage::actor::ActorKind;
use whimbrel_storage::archive::query::{Cost, Found, Page, Query};
use whimbrel_storage::archive::readers::{Folders, PageReader};
use whimbrel_storage::log::journal_folders;
use whimbrel_storage::message::StoredMessage;

use super::time::rfc3339;
use super::{Archives, Owner, failed};
use crate::cli::{ExportArgs, ExportFormat};
use crate::problem::Problem;
use crate::report::Report;

/// What was written, and what could not be.
#[derive(Default)]
struct Written {
    messages: u64,
    /// Messages whose files are gone, because they were too old.
    gone: u64,
    /// Messages that cannot be read.
    damaged: u64,
}

/// Why an export ends early.
enum Stopped {
    Problem(Problem),
    Output(io::Error),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Stopped {
        Stopped::Output(error)
    }
}

pub(super) fn run(archives: &Archives, args: &ExportArgs, report: &Report) -> Result<ExitCode, Problem> {
    let owner = archives.owner(&args.jid)?;
    if args.format == ExportFormat::Xep0227 && owner.actor.kind() != Some(ActorKind::User) {
        let text = format!("{} is a room, and XEP-0227 is for accounts: leave out --format", owner.jid);
        return Err(Problem::of_kind("bad-address", text));
    }
    let exported = match &args.output {
        Some(path) => to_file(archives, &owner, args.format, path)?,
        None => {
            let out = BufWriter::new(io::stdout().lock());
            match export(archives, &owner, args.format, out) {
                Ok(written) => written,
                // A reader that closes the pipe does not want the rest.
                Err(Stopped::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(ExitCode::SUCCESS);
                }
                Err(Stopped::Output(error)) => {
                    return Err(Problem::new(format!("cannot write to standard output: {error}")));
                }
                Err(Stopped::Problem(problem)) => return Err(problem),
            }
        }
    };
    tell(&exported, &owner, args.output.as_deref(), report);
    Ok(if exported.damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(exported: &Written, owner: &Owner, output: Option<&Path>, report: &Report) {
    if exported.gone > 0 {
        report.note(&format!("{} messages were too old, and their files are gone", exported.gone));
    }
    if exported.damaged > 0 {
        report.note(&format!("{} messages cannot be read; see `log verify`", exported.damaged));
    }
    if exported.messages == 0 {
        report.nothing(&format!("nothing is archived of {}", owner.jid));
    }
    if let Some(path) = output {
        let value = json!({ "jid": owner.jid, "file": path, "messages": exported.messages });
        report.result(&value, || {
            format!("{} messages of {} written to {}", exported.messages, owner.jid, path.display())
        });
    }
}

/// Into a new file that only its owner can read. Nothing is left of one that could not be finished.
fn to_file(
    archives: &Archives,
    owner: &Owner,
    format: ExportFormat,
    path: &Path,
) -> Result<Written, Problem> {
    let unwritten = |error: io::Error| Problem::new(format!("cannot write {}: {error}", path.display()));
    let file: File =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(unwritten)?;
    let written = export(archives, owner, format, BufWriter::new(&file));
    let written = written.and_then(|written| file.sync_all().map(|()| written).map_err(Stopped::Output));
    written.map_err(|stopped| {
        // The reason of the failure says more than that of a failure to clean up.
        let _ = std::fs::remove_file(path);
        match stopped {
            Stopped::Problem(problem) => problem,
            Stopped::Output(error) => unwritten(error),
        }
    })
}

fn export(
    archives: &Archives,
    owner: &Owner,
    format: ExportFormat,
    mut out: impl Write,
) -> Result<Written, Stopped> {
    let mut written = Written::default();
    if format == ExportFormat::Xep0227 {
        xep0227::begin(&archives.domain, &owner.local, &mut out)?;
    }
    each_page(archives, owner, &mut |page| {
        let Cost { gone, damaged, .. } = page.cost;
        written.gone += gone as u64;
        written.damaged += damaged as u64;
        for found in &page.messages {
            let Some(stanza) = stanza(page, found) else {
                written.damaged += 1;
                continue;
            };
            match format {
                ExportFormat::Jsonl => writeln!(out, "{}", line(found, stanza))?,
                ExportFormat::Xep0227 => {
                    xep0227::message(found.id, &rfc3339(found.time_ms), stanza, &mut out)?;
                }
            }
            written.messages += 1;
        }
        Ok(())
    })?;
    if format == ExportFormat::Xep0227 {
        xep0227::end(&mut out)?;
    }
    out.flush()?;
    Ok(written)
}

/// Tells all of an archive, a step at a time.
fn each_page(
    archives: &Archives,
    owner: &Owner,
    tell: &mut dyn FnMut(&Page) -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let problem = |error: &dyn std::fmt::Display| Stopped::Problem(failed(error));
    if !archives.directory.has_log().map_err(|error| problem(&error))? {
        return Ok(());
    }
    let mut tail = archives.tail(Some(owner.actor)).map_err(Stopped::Problem)?;
    let folders = journal_folders(&archives.log).map_err(|error| problem(&error))?;
    let mut reader = PageReader::new(archives.directory.clone(), Arc::new(Folders::new(folders)));
    let mut query = Query::all(owner.actor, tail.remove(&owner.actor).unwrap_or_default());
    loop {
        let page = reader.page(&query).map_err(|error| problem(&error))?;
        tell(&page)?;
        if !page.goes_on() {
            return Ok(());
        }
        query = query.rest(&page);
    }
}

/// The stanza of a message, or what stands for an erased one; `None`: another release wrote it.
fn stanza<'a>(page: &'a Page, found: &'a Found) -> Option<&'a str> {
    std::str::from_utf8(StoredMessage::decode(page.text(found))?.stanza).ok()
}

/// The id is a text, because it has more digits than a number of JSON is sure to keep.
fn line(found: &Found, stanza: &str) -> Value {
    let mut line = json!({ "id": found.id.0.to_string(), "time": rfc3339(found.time_ms), "stanza": stanza });
    if let Some(erased_ms) = found.erased_ms {
        line["erased"] = json!(rfc3339(erased_ms));
    }
    line
}
