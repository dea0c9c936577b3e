//! `room invite create`, `list`, `revoke`.

use serde_json::{Value, json};

use super::{done, text_of};
use crate::cli::InviteCommand;
use crate::control::Client;
use crate::problem::Problem;
use crate::report::{Report, table};

pub(super) fn run(client: &mut Client, command: &InviteCommand, report: &Report) -> Result<(), Problem> {
    match command {
        InviteCommand::Create { jid, uses, expires, note } => {
            let body = json!({ "jid": jid, "uses": uses, "seconds": expires.0, "note": note });
            let made: Value = client.ask("room-invite-create", body)?;
            report.result(&made, || format!("{}\n", text_of(&made["uri"])));
            Ok(())
        }
        InviteCommand::List { jid } => list(client, jid, report),
        InviteCommand::Revoke { jid, ids, all } => {
            if *all {
                done(&client.ask::<Value>("room-invite-revoke", json!({ "jid": jid }))?, report);
                return Ok(());
            }
            let mut revoked = 0;
            for id in ids {
                let answer: Value = client.ask("room-invite-revoke", json!({ "jid": jid, "id": id }))?;
                revoked += answer["revoked"].as_u64().unwrap_or(0);
            }
            done(&json!({ "revoked": revoked }), report);
            Ok(())
        }
    }
}

fn list(client: &mut Client, jid: &str, report: &Report) -> Result<(), Problem> {
    let found: Value = client.ask("room-invite-list", json!({ "jid": jid }))?;
    let links = found["links"].as_array().cloned().unwrap_or_default();
    report.result(&found, || {
        if links.is_empty() {
            return String::new();
        }
        let row = |link: &Value| {
            let most = link["uses_max"].as_u64().filter(|most| *most > 0);
            let uses = most.map_or(text_of(&link["uses"]), |most| format!("{} of {most}", link["uses"]));
            let expires = Some(text_of(&link["expires"])).filter(|time| !time.is_empty());
            vec![
                text_of(&link["id"]),
                uses,
                expires.unwrap_or_else(|| "never".into()),
                text_of(&link["created"]),
                text_of(&link["note"]),
            ]
        };
        let rows: Vec<Vec<String>> = links.iter().map(row).collect();
        table(&["link", "uses", "expires", "created", "note"], &rows)
    });
    if links.is_empty() {
        report.nothing(&format!("{jid} has no links"));
    }
    Ok(())
}
