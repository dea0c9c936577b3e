//! The control socket as docs/control.md describes it, spoken by hand.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::support::{PATIENCE, Place};

struct Tool(BufReader<UnixStream>);

impl Tool {
    fn connect(place: &Place) -> Tool {
        let stream = UnixStream::connect(place.data().join("control.sock")).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Tool(BufReader::new(stream))
    }

    fn read(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(n) if n > 0 => Some(serde_json::from_str(&line).expect("JSON")),
            _ => None,
        }
    }

    fn ask(&mut self, line: &str) -> Value {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).expect("the server reads");
        self.read().expect("an answer")
    }
}

#[test]
fn the_example_of_the_documentation_is_what_the_server_says() {
    let place = Place::new();
    let _server = place.server(&["--domain", "example.org"]);
    let text = include_str!("../../../docs/control.md");
    let example = text.split("```").nth(1).expect("the first block");
    let mut lines = example.trim().lines().skip(2);
    let (request, answer) = (lines.next().expect("a request"), lines.next().expect("an answer"));
    let answer: Value = serde_json::from_str(answer).expect("JSON");
    assert_eq!(Tool::connect(&place).ask(request), answer);
}

#[test]
fn every_documented_request_is_known_and_every_documented_member_is_there() {
    let place = Place::new();
    let _server = place.server(&[]);
    let mut tool = Tool::connect(&place);
    let text = include_str!("../../../docs/control.md");
    let table = text.split("## Requests").nth(1).expect("the section");
    let mut seen = 0;
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`');
        seen += 1;
        let body = match name {
            "stop" | "drain" => continue,
            "kick" | "user-del" => json!({ "jid": "nobody@localhost" }),
            "backup" => json!({ "folder": place.data().with_file_name("copy") }),
            "user-add" => json!({ "accounts": [] }),
            "user-passwd" => json!({ "account": { "jid": "nobody@localhost", "credentials": "AAAA" } }),
            "user-config" => json!({ "jid": "nobody@localhost", "set": { "groups.add": "nobody" } }),
            "user-exists" => json!({ "jids": ["nobody@localhost"] }),
            _ => json!({}),
        };
        let mut request = body;
        request["v"] = json!(1);
        request["request"] = json!(name);
        let mut answer = tool.ask(&request.to_string());
        while answer.get("progress").is_some() {
            answer = tool.read().expect("an answer after the progress");
        }
        if answer["ok"] == false {
            let kind = answer["error"]["kind"].as_str().expect("a kind");
            assert!(["not-found", "bad-request"].contains(&kind), "{name}: {answer}");
            assert!(
                !answer["error"]["message"].as_str().expect("text").contains("unknown variant"),
                "{answer}"
            );
            continue;
        }
        let result = answer["result"].as_object().expect("an object");
        for member in result.keys() {
            assert!(cells[2].contains(&format!("`{member}`")), "{name}: {member} is not documented");
        }
    }
    assert_eq!(seen, 43, "the table of requests has lost its rows");
}

#[test]
fn what_is_no_request_is_answered_and_the_conversation_goes_on() {
    let place = Place::new();
    let _server = place.server(&[]);
    let mut tool = Tool::connect(&place);
    for (line, kind) in [
        ("nonsense", "bad-request"),
        ("{\"v\":1,\"request\":\"dance\"}", "bad-request"),
        ("{\"v\":9,\"request\":\"status\"}", "unsupported-version"),
        ("{\"v\":1,\"request\":\"user-del\",\"jid\":\"a@other.example\"}", "foreign-domain"),
        (
            "{\"v\":1,\"request\":\"user-add\",\"accounts\":[{\"jid\":\"a@localhost\",\"credentials\":\"AAAA\"}]}",
            "bad-request",
        ),
    ] {
        let answer = tool.ask(line);
        assert_eq!(
            (&answer["ok"], &answer["error"]["kind"]),
            (&json!(false), &json!(kind)),
            "{line}: {answer}"
        );
    }
    assert_eq!(tool.ask("{\"v\":1,\"request\":\"status\"}")["ok"], true);
}

#[test]
fn a_request_that_is_too_long_and_a_tool_too_many_are_refused() {
    let place = Place::new();
    let _server = place.server(&[]);
    let mut long = Tool::connect(&place);
    // The server may close before it has taken everything.
    let _ = long.0.get_mut().write_all(&vec![b'x'; 65_536]);
    assert_eq!(long.read().expect("an answer")["error"]["kind"], "too-large");
    assert!(long.read().is_none(), "the connection stays open");
    drop(long);

    let mut tools: Vec<Tool> = Vec::new();
    let refused = loop {
        let mut tool = Tool::connect(&place);
        if tool.0.get_mut().write_all(b"{\"v\":1,\"request\":\"status\"}\n").is_err() {
            break tool.read();
        }
        let answer = tool.read().expect("an answer");
        if answer["ok"] == false {
            break Some(answer);
        }
        tools.push(tool);
        assert!(tools.len() <= 8, "there is no limit");
    };
    assert_eq!(refused.expect("a reason")["error"]["kind"], "busy");
    assert!(tools.len() >= 7, "only {} tools", tools.len());
    assert_eq!(tools[0].ask("{\"v\":1,\"request\":\"status\"}")["ok"], true, "the others go on");
}
