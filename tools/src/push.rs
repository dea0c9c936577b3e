//! `push list`, `test`, `remove`: asked of the running server.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::PushCommand;
use crate::control::Client;
use crate::problem::Problem;
use crate::report::{Report, table};

pub(crate) fn run(data: &Path, command: &PushCommand, report: &Report) -> Result<(), Problem> {
    let mut client = Client::to_running(data)?;
    match command {
        PushCommand::List { jid } => {
            let found: Value = client.ask("push-list", json!({ "jid": jid }))?;
            report.result(&found, || list_text(&found));
        }
        PushCommand::Test { jid, device } => {
            let done: Value = client.ask("push-test", json!({ "jid": jid, "node": device }))?;
            report.result(&done, || test_text(&done));
            if rows(&done).any(|row| row["sent"] != true) {
                return Err(Problem::new("not every device was reached"));
            }
        }
        PushCommand::Remove { jid, device } => {
            let done: Value = client.ask("push-remove", json!({ "jid": jid, "node": device }))?;
            report.result(&done, || match done["removed"].as_u64() {
                Some(1) => "1 device is not told any more".to_owned(),
                count => format!("{} devices are not told any more", count.unwrap_or_default()),
            });
        }
    }
    Ok(())
}

fn list_text(found: &Value) -> String {
    let cells: Vec<Vec<String>> = rows(found)
        .map(|row| ["node", "resource", "service", "token", "topic"].map(|key| text(row, key)).to_vec())
        .collect();
    match cells.is_empty() {
        true => "no device".to_owned(),
        false => table(&["node", "resource", "service", "token begins with", "topic"], &cells),
    }
}

fn test_text(done: &Value) -> String {
    let cells: Vec<Vec<String>> =
        rows(done).map(|row| ["node", "service", "outcome"].map(|key| text(row, key)).to_vec()).collect();
    table(&["node", "service", "outcome"], &cells)
}

fn rows(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["devices"].as_array().into_iter().flatten()
}

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_default().to_owned()
}
