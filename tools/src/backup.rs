//! `backup`: a copy of directory, message log and uploaded files that a server can be started on; with `--verify` it is read back whole.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};
use whimbrel_storage::data::{self, DataError, Increment, Place};
use whimbrel_storage::directory::Directory;
use whimbrel_storage::log;
use whimbrel_storage::pace::Pace;
use whimbrel_storage::uploads::UPLOADS;

use crate::accounts::{open_directory, refuse_other_owner};
use crate::cli::BackupArgs;
use crate::control::Client;
use crate::problem::Problem;
use crate::report::Report;

/// How long the server may take for a copy: as long as reading and writing terabytes does.
const COPY_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// How often the progress is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Accounts read at once.
const PAGE: usize = 1000;

/// The kind of a problem with a copy that is not what was written.
const DAMAGED: &str = "damaged";

/// What was copied.
#[derive(Deserialize)]
struct Copied {
    folder: PathBuf,
    segments: u64,
    bytes: u64,
    linked: u64,
    linked_bytes: u64,
    uploads: u64,
    uploads_bytes: u64,
    uploads_linked: u64,
    #[serde(default)]
    uploads_objects: u64,
    removed: u64,
    positions: Vec<u64>,
}

/// What was read back.
struct Verified {
    accounts: u64,
    records: u64,
    files: u64,
}

/// Copies once, or again and again.
pub(crate) fn run(data: &Path, args: &BackupArgs, report: &Report) -> Result<(), Problem> {
    if args.into.is_none() && (args.keep.is_some() || args.every.is_some()) {
        return Err(Problem::new("--keep and --every are about the backups of a place: name it with --into"));
    }
    let Some(seconds) = args.every else { return back_up(data, args, report) };
    let every = Duration::from_secs(seconds.into());
    loop {
        let begun = Instant::now();
        // Without a server nothing changes, and its next start must not find its data in use.
        let is_running = Client::connect(data).map(|client| client.is_some());
        let done = match is_running {
            Ok(true) => back_up(data, args, report),
            Ok(false) => {
                Err(Problem::new(format!("no server runs in {}: no backup is made", data.display())))
            }
            Err(problem) => Err(problem),
        };
        if let Err(problem) = done {
            report.problem(&problem);
        }
        std::thread::sleep(every.saturating_sub(begun.elapsed()));
    }
}

/// Copies through the running server, or by itself when none runs.
fn back_up(data: &Path, args: &BackupArgs, report: &Report) -> Result<(), Problem> {
    let Some(to) = args.into.as_ref().or(args.dir.as_ref()) else {
        return Err(Problem::new("name the folder to copy to"));
    };
    let absolute = std::path::absolute(to)
        .map_err(|error| Problem::new(format!("cannot use {}: {error}", to.display())))?;
    if absolute.to_str().is_none() {
        // It is to go through JSON.
        return Err(Problem::new(format!("cannot use {}: its name is not UTF-8", absolute.display())));
    }
    let grows = if args.into.is_some() { absolute.join(data::UNFINISHED_OF_PLACE) } else { absolute.clone() };
    // What is to be read back is read before anything older goes.
    let keep = args.keep.filter(|_| !args.verify);
    let mut copied: Copied = with_progress(data, &grows, || match Client::connect(data)? {
        Some(mut client) => {
            client.wait_so_long(COPY_WAIT_MAX)?;
            client.ask(
                "backup",
                json!({
                    "folder": absolute,
                    "into": args.into.is_some(),
                    "keep": keep,
                    "mib_per_second": args.mib_per_second,
                }),
            )
        }
        None => copy(data, &absolute, args, keep),
    })?;
    let verified = if args.verify { Some(verify(&mut copied, &absolute, args)?) } else { None };
    let value: Value = json!({
        "folder": copied.folder,
        "segments": copied.segments,
        "bytes": copied.bytes,
        "linked": copied.linked,
        "linked_bytes": copied.linked_bytes,
        "uploads": copied.uploads,
        "uploads_bytes": copied.uploads_bytes,
        "uploads_linked": copied.uploads_linked,
        "uploads_objects": copied.uploads_objects,
        "removed": copied.removed,
        "positions": copied.positions,
        "verified": verified.as_ref().map(|found| {
            json!({ "accounts": found.accounts, "records": found.records, "files": found.files })
        }),
    });
    report.result(&value, || said(&copied, verified.as_ref()));
    Ok(())
}

fn said(copied: &Copied, verified: Option<&Verified>) -> String {
    let mut text = format!(
        "directory and message log ({} files, {} bytes read) copied to {}",
        copied.segments,
        copied.bytes,
        copied.folder.display()
    );
    if copied.linked > 0 {
        text += &format!(
            "\n{} files ({} bytes) are those of an earlier backup: they have not changed",
            copied.linked, copied.linked_bytes
        );
    }
    if copied.uploads + copied.uploads_linked > 0 {
        text += &format!(
            "\n{} uploaded files ({} bytes) copied, {} are those of an earlier backup",
            copied.uploads, copied.uploads_bytes, copied.uploads_linked
        );
    }
    if copied.uploads_objects > 0 {
        text += &format!(
            "\n{} uploaded files are in the object store: they are listed, not copied",
            copied.uploads_objects
        );
    }
    if copied.removed > 0 {
        text += &format!("\n{} older backups removed", copied.removed);
    }
    if let Some(Verified { accounts, records, files }) = verified {
        text += &format!("\nread back whole: {files} files, {accounts} accounts, {records} records");
    }
    text
}

/// No server runs.
fn copy(data: &Path, to: &Path, args: &BackupArgs, keep: Option<u32>) -> Result<Copied, Problem> {
    let problem = |error: &dyn std::fmt::Display| Problem::new(error.to_string());
    data::examine(data).map_err(|error| problem(&error))?;
    let folder = data.join(data::DIRECTORY);
    if !folder.join("data.mdb").exists() {
        let whole = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
        return Err(Problem::new(format!(
            "there is no server's data in {}; is --data right?",
            whole.display()
        )));
    }
    // It tells its domain when that is another one.
    let (directory, _) = open_directory(&folder, "localhost")?;
    let mut pace = Pace::new(args.mib_per_second.map(|mib| u64::from(mib) << 20));
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let done = if args.into.is_some() {
        let place = Place { folder: to, now_ms, keep: keep.map(|keep| keep as usize) };
        data::backup_into(data, &directory, &place, &mut pace)
    } else {
        data::backup(data, &directory, to, now_ms, &mut pace).map(|done| Increment {
            folder: to.to_owned(),
            done,
            removed: 0,
        })
    };
    let Increment { folder, done, removed } = done.map_err(|error| problem(&error))?;
    Ok(Copied {
        folder,
        segments: done.segments,
        bytes: done.bytes,
        linked: done.linked,
        linked_bytes: done.linked_bytes,
        uploads: done.uploads.files,
        uploads_bytes: done.uploads.bytes,
        uploads_linked: done.uploads.linked,
        uploads_objects: done.uploads.objects,
        removed,
        positions: done.ends.iter().map(|end| end.0).collect(),
    })
}

/// Reads a copy back. Only then do older ones go; when it is damaged, the next shares no file with those that are there.
fn verify(copied: &mut Copied, to: &Path, args: &BackupArgs) -> Result<Verified, Problem> {
    let failed = |error: DataError| Problem::new(error.to_string());
    let verified = read_back(&copied.folder);
    if args.into.is_some() && verified.as_ref().is_err_and(|problem| problem.kind == DAMAGED) {
        data::distrust(to).map_err(failed)?;
    }
    if let (Ok(_), Some(keep)) = (&verified, args.keep) {
        copied.removed = data::keep_newest(to, keep as usize).map_err(failed)?;
    }
    verified
}

/// Reads everything in a copy: each record of the log, and of the directory its pages and each value with its checksum.
fn read_back(copy: &Path) -> Result<Verified, Problem> {
    let damaged = |error: &dyn std::fmt::Display| {
        Problem::of_kind(DAMAGED, format!("the copy in {} is of no use: {error}", copy.display()))
    };
    // Files that root makes there would be in the way of the server's user.
    refuse_other_owner(copy)?;
    let (directory, _) =
        open_directory(&copy.join(data::DIRECTORY), "localhost").map_err(|error| damaged(&error))?;
    data::check_tie(copy, &directory).map_err(|error| damaged(&error))?;
    let whole = data::verify_backup(copy, &directory).map_err(|error| damaged(&error))?;
    let accounts = read_accounts(&directory).map_err(|error| damaged(&error))?;
    let mut records = 0;
    // A directory that was never served has no log.
    if directory.has_log().map_err(|error| damaged(&error))? {
        let found = log::verify(&copy.join(data::LOG)).map_err(|error| damaged(&error))?;
        if let Some(damage) = found.damage.first() {
            return Err(damaged(damage));
        }
        records = found.logs.iter().map(|log| log.records).sum();
    }
    Ok(Verified { accounts, records, files: whole.files })
}

fn read_accounts(directory: &Directory) -> Result<u64, whimbrel_storage::directory::DirectoryError> {
    let mut accounts = 0;
    let mut after: Option<String> = None;
    loop {
        let page = directory.accounts(after.as_deref(), PAGE)?;
        let Some(last) = page.last() else { return Ok(accounts) };
        for local in &page {
            directory.credentials(local)?;
            directory.roster_items(local)?;
            directory.blocked(local)?;
            directory.vcard(local)?;
            accounts += 1;
        }
        after = Some(last.clone());
    }
}

/// Shows a bar on a terminal while the copy grows: as far as it has come, of what the original takes.
fn with_progress<T>(data: &Path, to: &Path, work: impl FnOnce() -> T) -> T {
    let parts = [data::DIRECTORY, data::LOG, UPLOADS];
    let total = parts.iter().map(|part| bytes_on_disk(&data.join(part))).sum();
    if !std::io::stderr().is_terminal() || total == 0 {
        return work();
    }
    let style = "{bar:40} {bytes} of about {total_bytes}, {bytes_per_sec}, {eta} left";
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5))
        .with_style(ProgressStyle::with_template(style).expect("the template is well formed"));
    std::thread::scope(|scope| {
        let (done, is_done) = channel::<()>();
        let bar = &bar;
        scope.spawn(move || {
            while is_done.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                bar.set_position(bytes_on_disk(to).min(total));
            }
            bar.finish_and_clear();
        });
        let result = work();
        drop(done);
        result
    })
}

/// What the files in a folder take on disk; nothing for what cannot be looked at.
fn bytes_on_disk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of_entry = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_on_disk(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(of_entry).sum()
}
