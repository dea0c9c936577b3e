//! `backup`: a copy of directory and message log that a server can be started on.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use whimbrel_storage::data;

use crate::accounts::open_directory;
use crate::control::Client;
use crate::problem::Problem;
use crate::report::Report;

/// What was copied.
#[derive(Deserialize)]
struct Copied {
    segments: u64,
    bytes: u64,
    positions: Vec<u64>,
}

/// Copies through the running server, or by itself when none runs.
pub(crate) fn run(data: &Path, dir: &Path, report: &Report) -> Result<(), Problem> {
    let absolute = std::path::absolute(dir)
        .map_err(|error| Problem::new(format!("cannot use {}: {error}", dir.display())))?;
    let copied = match Client::connect(data)? {
        Some(mut client) => client.ask("backup", json!({ "folder": absolute }))?,
        None => copy(data, &absolute)?,
    };
    let value: Value = json!({
        "folder": absolute,
        "segments": copied.segments,
        "bytes": copied.bytes,
        "positions": copied.positions,
    });
    report.result(&value, || {
        format!(
            "directory and message log ({} files, {} bytes read) copied to {}",
            copied.segments,
            copied.bytes,
            absolute.display()
        )
    });
    Ok(())
}

/// No server runs.
fn copy(data: &Path, to: &Path) -> Result<Copied, Problem> {
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
    let done = data::backup(data, &directory, to).map_err(|error| problem(&error))?;
    Ok(Copied {
        segments: done.segments,
        bytes: done.bytes,
        positions: done.ends.iter().map(|end| end.0).collect(),
    })
}
