//! `registration status`, `pending`, `revoke`, `test-sms`: asked of the running server.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::cli::RegistrationCommand;
use crate::control::Client;
use crate::problem::Problem;
use crate::report::{Report, table};

pub(crate) fn run(data: &Path, command: &RegistrationCommand, report: &Report) -> Result<(), Problem> {
    let mut client = Client::to_running(data)?;
    match command {
        RegistrationCommand::Status => {
            let status: Value = client.ask("registration-status", json!({}))?;
            report.result(&status, || status_text(&status));
        }
        RegistrationCommand::Pending => pending(&mut client, report)?,
        RegistrationCommand::Revoke { number } => {
            let done: Value = client.ask("registration-revoke", json!({ "number": number }))?;
            report.result(&done, || revoked_text(&done));
        }
        RegistrationCommand::TestSms { number } => {
            let done: Value = client.ask("registration-test-sms", json!({ "number": number }))?;
            report.result(&done, || "the gateway has taken the message".into());
        }
    }
    Ok(())
}

fn status_text(status: &Value) -> String {
    if status["on"] != true {
        return "registration by phone number is off".into();
    }
    let texts = |key: &str| {
        let list = status[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        list.collect::<Vec<_>>().join(", ")
    };
    let queue = &status["queue"];
    let tls = if status["tls"] == true { "" } else { ", without TLS" };
    let rows = [
        ("HTTP API", format!("{}{tls}", texts("listen"))),
        ("in-band", if status["in_band"] == true { "yes" } else { "no" }.to_owned()),
        ("gateway", status["gateway"].as_str().unwrap_or_default().to_owned()),
        (
            "queue",
            format!("{} now, {} at most, room for {}", queue["length"], queue["high_water"], queue["limit"]),
        ),
    ];
    let mut text: String = rows.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect();
    let metrics = status["metrics"].as_object().cloned().unwrap_or_else(Map::new);
    for (name, value) in metrics {
        if let (Some(short), Some(1..)) = (name.strip_prefix("registration."), value.as_u64()) {
            text.push_str(&format!("{short:<40} {value}\n"));
        }
    }
    text
}

/// All of them, page by page.
fn pending(client: &mut Client, report: &Report) -> Result<(), Problem> {
    let mut rows: Vec<Value> = Vec::new();
    let mut after = Value::Null;
    loop {
        let mut page: Value = client.ask("registration-pending", json!({ "after": after }))?;
        if let Value::Array(found) = page["pending"].take() {
            rows.extend(found);
        }
        if page["more"] != true {
            break;
        }
        after = page["last"].take();
    }
    report.result(&json!({ "pending": rows }), || {
        if rows.is_empty() {
            return String::new();
        }
        let cell = |row: &Value, key: &str| match &row[key] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let keys =
            ["number", "asked_seconds_ago", "expires_in_seconds", "tries_left", "locked_seconds", "strikes"];
        let cells: Vec<Vec<String>> =
            rows.iter().map(|row| keys.iter().map(|key| cell(row, key)).collect()).collect();
        table(&["number", "asked s ago", "expires in s", "tries left", "locked s", "strikes"], &cells)
    });
    if rows.is_empty() {
        report.nothing("no PIN is under way, and no number is locked");
    }
    Ok(())
}

fn revoked_text(done: &Value) -> String {
    let mut parts = Vec::new();
    if done["pin"] == true {
        parts.push("the PIN under way is void".to_owned());
    }
    if done["account"] == true {
        parts.push(format!("the account's key is void, sessions ended: {}", done["kicked"]));
    }
    if parts.is_empty() {
        parts.push("there is neither a PIN under way nor an account".to_owned());
    }
    parts.join("; ")
}
