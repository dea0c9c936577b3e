//! `node list`, `show`, `create`, `config`, `delete`, `affiliation`: asked of the running server.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{NodeCommand, NodeCreateArgs};
use crate::control::Client;
use crate::problem::Problem;
use crate::report::{Report, table};
use crate::room::{done, pages, settings, settings_text, text_of};

pub(crate) fn run(data: &Path, command: &NodeCommand, report: &Report) -> Result<(), Problem> {
    let mut client = Client::to_running(data)?;
    match command {
        NodeCommand::List => list(&mut client, report),
        NodeCommand::Show { node } => show(&mut client, node, report),
        NodeCommand::Create(args) => create(&mut client, args, report),
        NodeCommand::Config { node, set } => {
            let result: Value = client.ask("node-config", json!({ "node": node, "set": settings(set) }))?;
            let is_asked = set.is_empty();
            report.result(
                &result,
                || if is_asked { settings_text(&result["settings"]) } else { String::new() },
            );
            Ok(())
        }
        NodeCommand::Delete { node } => {
            done(&client.ask::<Value>("node-delete", json!({ "node": node }))?, report);
            Ok(())
        }
        NodeCommand::Affiliation { node, member: Some(member), kind: Some(kind) } => {
            let body = json!({ "node": node, "member": member, "affiliation": kind.name() });
            done(&client.ask::<Value>("node-affiliate", body)?, report);
            Ok(())
        }
        NodeCommand::Affiliation { node, .. } => members(&mut client, node, report),
    }
}

fn list(client: &mut Client, report: &Report) -> Result<(), Problem> {
    let nodes = pages(client, ("node-list", "nodes"), json!({}), |page| page["last"].clone())?;
    report.result(&json!({ "nodes": nodes }), || {
        if nodes.is_empty() {
            return String::new();
        }
        let keys = ["node", "access", "publish", "items", "members", "title"];
        let rows: Vec<Vec<String>> =
            nodes.iter().map(|node| keys.map(|key| text_of(&node[key])).to_vec()).collect();
        table(&keys, &rows)
    });
    if nodes.is_empty() {
        report.nothing("there are no nodes yet");
    }
    Ok(())
}

fn show(client: &mut Client, node: &str, report: &Report) -> Result<(), Problem> {
    let node: Value = client.ask("node-show", json!({ "node": node }))?;
    report.result(&node, || {
        let keys = ["node", "jid", "created", "items", "bytes", "members", "owners"];
        let facts: String = keys.iter().map(|key| format!("{key:<10} {}\n", text_of(&node[key]))).collect();
        facts + &settings_text(&node["settings"])
    });
    Ok(())
}

fn create(client: &mut Client, args: &NodeCreateArgs, report: &Report) -> Result<(), Problem> {
    let body = json!({ "node": args.node, "owners": args.owner, "set": settings(&args.set) });
    done(&client.ask::<Value>("node-create", body)?, report);
    Ok(())
}

fn members(client: &mut Client, node: &str, report: &Report) -> Result<(), Problem> {
    let next = |page: &Value| {
        let last = page["members"].as_array().and_then(|members| members.last());
        last.map(|last| last["jid"].clone()).unwrap_or_default()
    };
    let members = pages(client, ("node-members", "members"), json!({ "node": node }), next)?;
    report.result(&json!({ "members": members }), || {
        if members.is_empty() {
            return String::new();
        }
        let keys = ["jid", "affiliation", "subscription"];
        let rows: Vec<Vec<String>> =
            members.iter().map(|member| keys.map(|key| text_of(&member[key])).to_vec()).collect();
        table(&["member", "affiliation", "subscription"], &rows)
    });
    if members.is_empty() {
        report.nothing(&format!("nobody is affiliated with {node} or subscribed to it"));
    }
    Ok(())
}
