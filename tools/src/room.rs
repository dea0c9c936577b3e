//! `room list`, `show`, `create`, `destroy`, `member`, `hat`, `config`: asked of the running server.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{HatCommand, MemberCommand, RoomCommand, RoomCreateArgs};
use crate::control::Client;
use crate::problem::Problem;
use crate::report::{Report, table};

/// Rooms or members of one request.
const PAGE: usize = 1000;

pub(crate) fn run(data: &Path, command: &RoomCommand, report: &Report) -> Result<(), Problem> {
    let mut client = Client::to_running(data)?;
    match command {
        RoomCommand::List => list(&mut client, report),
        RoomCommand::Show { jid } => show(&mut client, jid, report),
        RoomCommand::Create(args) => create(&mut client, args, report),
        RoomCommand::Destroy { jid, reason, alternate } => {
            let body = json!({ "jid": jid, "reason": reason, "alternate": alternate });
            done(&client.ask::<Value>("room-destroy", body)?, report);
            Ok(())
        }
        RoomCommand::Member { command } => member(&mut client, command, report),
        RoomCommand::Hat { command } => hat(&mut client, command, report),
        RoomCommand::Config { jid, set } => {
            let result: Value = client.ask("room-config", json!({ "jid": jid, "set": settings(set) }))?;
            let is_asked = set.is_empty();
            report.result(
                &result,
                || if is_asked { settings_text(&result["settings"]) } else { String::new() },
            );
            Ok(())
        }
    }
}

/// Quiet, as a change is.
fn done(result: &Value, report: &Report) {
    report.result(result, String::new);
}

fn settings(set: &[(String, String)]) -> Value {
    set.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<serde_json::Map<_, _>>().into()
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text_of).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn settings_text(settings: &Value) -> String {
    let settings = settings.as_object().into_iter().flatten();
    settings.map(|(name, value)| format!("{name}={}\n", text_of(value))).collect()
}

/// All pages of a list under `key`, each asked for with what `next` takes from the one before.
fn pages(
    client: &mut Client,
    (request, key): (&str, &str),
    mut body: Value,
    next: impl Fn(&Value) -> Value,
) -> Result<Vec<Value>, Problem> {
    let mut all = Vec::new();
    body["max"] = json!(PAGE);
    loop {
        let mut page: Value = client.ask(request, body.clone())?;
        let after = next(&page);
        if let Value::Array(found) = page[key].take() {
            all.extend(found);
        }
        if page["more"] != true {
            return Ok(all);
        }
        body["after"] = after;
    }
}

fn list(client: &mut Client, report: &Report) -> Result<(), Problem> {
    let rooms = pages(client, ("room-list", "rooms"), json!({}), |page| page["last"].clone())?;
    report.result(&json!({ "rooms": rooms }), || {
        if rooms.is_empty() {
            return String::new();
        }
        let kind = |room: &Value| {
            let words = [
                ("public", "public", "hidden"),
                ("members_only", "members", "open"),
                ("persistent", "kept", "temporary"),
            ];
            words.map(|(key, yes, no)| if room[key] == true { yes } else { no }).join(" ")
        };
        let belonging = |room: &Value| {
            let sum: u64 = ["owners", "admins", "members"].iter().filter_map(|key| room[key].as_u64()).sum();
            sum.to_string()
        };
        let rows: Vec<Vec<String>> = rooms
            .iter()
            .map(|room| vec![text_of(&room["jid"]), belonging(room), kind(room), text_of(&room["title"])])
            .collect();
        table(&["room", "members", "kind", "title"], &rows)
    });
    if rooms.is_empty() {
        report.nothing("there are no rooms yet");
    }
    Ok(())
}

fn show(client: &mut Client, jid: &str, report: &Report) -> Result<(), Problem> {
    let room: Value = client.ask("room-show", json!({ "jid": jid }))?;
    report.result(&room, || {
        let keys = ["jid", "actor", "created", "owners", "admins", "members", "outcasts"];
        let mut text: String =
            keys.iter().map(|key| format!("{key:<10} {}\n", text_of(&room[key]))).collect();
        let subject = &room["subject"];
        if !subject.is_null() {
            let (said, nick) = (text_of(&subject["text"]), text_of(&subject["nick"]));
            text += &format!("{:<10} {said} ({nick}, {})\n", "subject", text_of(&subject["set"]));
        }
        for occupant in room["occupants"].as_array().into_iter().flatten() {
            let (nick, jid) = (text_of(&occupant["nick"]), text_of(&occupant["jids"]));
            text += &format!("{:<10} {nick} ({jid}, {})\n", "occupant", text_of(&occupant["role"]));
        }
        text + &settings_text(&room["settings"])
    });
    Ok(())
}

fn create(client: &mut Client, args: &RoomCreateArgs, report: &Report) -> Result<(), Problem> {
    let body = json!({ "jid": args.jid, "owners": args.owner, "set": settings(&args.set) });
    done(&client.ask::<Value>("room-create", body)?, report);
    Ok(())
}

fn member(client: &mut Client, command: &MemberCommand, report: &Report) -> Result<(), Problem> {
    let (jid, member, affiliation, reason) = match command {
        MemberCommand::List { jid } => return members(client, jid, report),
        MemberCommand::Add { jid, member, affiliation, reason } => {
            (jid, member, affiliation.name(), reason.as_str())
        }
        MemberCommand::Remove { jid, member, reason } => (jid, member, "none", reason.as_str()),
    };
    let body = json!({ "jid": jid, "member": member, "affiliation": affiliation, "reason": reason });
    done(&client.ask::<Value>("room-affiliate", body)?, report);
    Ok(())
}

fn hat(client: &mut Client, command: &HatCommand, report: &Report) -> Result<(), Problem> {
    let body = match command {
        HatCommand::List { jid } => return hats(client, jid, report),
        HatCommand::Add { jid, member, uri, title } => {
            json!({ "jid": jid, "member": member, "uri": uri, "title": title })
        }
        HatCommand::Remove { jid, member, uri } => json!({ "jid": jid, "member": member, "uri": uri }),
    };
    done(&client.ask::<Value>("room-hat", body)?, report);
    Ok(())
}

fn hats(client: &mut Client, jid: &str, report: &Report) -> Result<(), Problem> {
    let mut hats = Vec::new();
    for member in all_members(client, jid)? {
        for hat in member["hats"].as_array().into_iter().flatten() {
            hats.push(json!({ "member": member["jid"], "uri": hat["uri"], "title": hat["title"] }));
        }
    }
    report.result(&json!({ "hats": hats }), || {
        if hats.is_empty() {
            return String::new();
        }
        let keys = ["member", "uri", "title"];
        let rows: Vec<Vec<String>> =
            hats.iter().map(|hat| keys.map(|key| text_of(&hat[key])).to_vec()).collect();
        table(&keys, &rows)
    });
    if hats.is_empty() {
        report.nothing(&format!("nobody has a hat in {jid}"));
    }
    Ok(())
}

fn all_members(client: &mut Client, jid: &str) -> Result<Vec<Value>, Problem> {
    let next = |page: &Value| {
        let last = page["members"].as_array().and_then(|members| members.last());
        last.map(|last| last["jid"].clone()).unwrap_or_default()
    };
    pages(client, ("room-members", "members"), json!({ "jid": jid }), next)
}

fn members(client: &mut Client, jid: &str, report: &Report) -> Result<(), Problem> {
    let members = all_members(client, jid)?;
    report.result(&json!({ "members": members }), || {
        if members.is_empty() {
            return String::new();
        }
        let keys = ["jid", "affiliation", "nick", "since", "reason"];
        let rows: Vec<Vec<String>> =
            members.iter().map(|member| keys.map(|key| text_of(&member[key])).to_vec()).collect();
        table(&["member", "affiliation", "nick", "since", "reason"], &rows)
    });
    if members.is_empty() {
        report.nothing(&format!("nobody belongs to {jid}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_shown_as_they_are_given() {
        let shown = settings_text(
            &json!({ "roomname": "A", "getmemberlist": ["moderator", "visitor"], "maxusers": "50" }),
        );
        assert_eq!(shown, "getmemberlist=moderator,visitor\nmaxusers=50\nroomname=A\n");
        let given = settings(&[("roomname".into(), "A".into())]);
        assert_eq!(given, json!({ "roomname": "A" }));
    }
}
