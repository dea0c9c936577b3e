//! `upload list`, `stats`, `remove`: asked of the running server.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::UploadCommand;
use crate::control::Client;
use crate::problem::Problem;
use crate::report::{Report, table};

/// Files that are asked for at once.
const PAGE: u64 = 1000;

pub(crate) fn run(data: &Path, command: &UploadCommand, report: &Report) -> Result<(), Problem> {
    let mut client = Client::to_running(data)?;
    match command {
        UploadCommand::List { jid } => {
            let found = list(&mut client, jid)?;
            report.result(&found, || list_text(&found));
        }
        UploadCommand::Stats => {
            let found: Value = client.ask("upload-stats", json!({}))?;
            report.result(&found, || stats_text(&found));
        }
        UploadCommand::Remove { upload, account } => {
            let done: Value = client.ask("upload-remove", json!({ "id": upload, "jid": account }))?;
            report.result(&done, || match number(&done, "removed") {
                1 => "1 file is removed".to_owned(),
                count => format!("{count} files are removed"),
            });
        }
    }
    Ok(())
}

/// All files of an account, page by page.
fn list(client: &mut Client, jid: &str) -> Result<Value, Problem> {
    let mut all: Vec<Value> = Vec::new();
    let mut after = Value::Null;
    loop {
        let mut page: Value =
            client.ask("upload-list", json!({ "jid": jid, "after": after, "max": PAGE }))?;
        after = page["next"].take();
        all.extend(page["uploads"].as_array_mut().map(std::mem::take).unwrap_or_default());
        if after.is_null() {
            page["uploads"] = Value::Array(all);
            if let Some(fields) = page.as_object_mut() {
                fields.remove("next");
            }
            return Ok(page);
        }
    }
}

fn number(answer: &Value, key: &str) -> u64 {
    answer[key].as_u64().unwrap_or_default()
}

fn list_text(found: &Value) -> String {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let rows = found["uploads"].as_array().into_iter().flatten();
    let cells: Vec<Vec<String>> = rows
        .map(|row| {
            vec![text(row, "id"), number(row, "bytes").to_string(), text(row, "media"), text(row, "name")]
        })
        .collect();
    let total = format!(
        "{} files, {} bytes, {} slots that wait",
        number(found, "files"),
        number(found, "bytes"),
        number(found, "slots")
    );
    match cells.is_empty() {
        true => total,
        false => format!("{}\n{total}", table(&["id", "bytes", "type", "name"], &cells)),
    }
}

fn stats_text(found: &Value) -> String {
    let mut text = String::new();
    if found["on"] != true {
        text += "uploads are off (upload.enabled, http.listen)\n";
    }
    text += &format!(
        "{} files, {} of {} bytes (upload.mib_max)\n{} slots that wait, for {} bytes\n{} transfers under way\n{} files to be \
         removed from the disk",
        number(found, "files"),
        number(found, "bytes"),
        number(found, "bytes_max"),
        number(found, "slots"),
        number(found, "slot_bytes"),
        number(found, "transfers"),
        number(found, "to_erase"),
    );
    text
}
