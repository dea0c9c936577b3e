//! The archives of messages: what is told of them, exported, erased and found again.

use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::{Client, Place, Server};

const ALICE: &str = "alice@localhost";
const BOB: &str = "bob@localhost";

fn place_with_accounts() -> Place {
    let place = Place::new();
    for name in [ALICE, BOB] {
        assert_eq!(place.ctl(&["user", "add", "--create", name, "--password", "p"]).code, 0);
    }
    place
}

/// Until the clock has gone on, so that no message has the time of the one before it.
fn pass_a_millisecond() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis();
    let begun = now();
    while now() <= begun + 1 {
        std::thread::yield_now();
    }
}

/// Alice says something to Bob, a message at a time.
fn say(place: &Place, texts: &[&str]) {
    let mut alice = Client::login(place, "alice", "p", "r").expect("the password is right");
    alice.say("<enable xmlns='urn:xmpp:sm:3'/>");
    for (n, text) in texts.iter().enumerate() {
        alice.say(&format!("<message to='{BOB}' type='chat'><body>{text}</body></message>"));
        alice.say("<r xmlns='urn:xmpp:sm:3'/>");
        alice.hear(&format!("h='{}'", n + 1));
        pass_a_millisecond();
    }
}

fn with_messages() -> (Place, Server) {
    let place = place_with_accounts();
    let server = place.server(&["--allow-plaintext"]);
    say(&place, &["one", "two &amp; &lt;2&gt;", "three"]);
    (place, server)
}

fn stop(mut server: Server) {
    server.signal("TERM");
    assert!(server.end().success());
}

/// The lines of an export.
#[track_caller]
fn exported(place: &Place, jid: &str) -> Vec<Value> {
    let done = place.ctl(&["archive", "export", jid]);
    assert_eq!(done.code, 0, "{done:?}");
    done.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn id(line: &Value) -> u64 {
    line["id"].as_str().expect("a text").parse().expect("a number")
}

/// The export has these messages, in this order.
#[track_caller]
fn has(lines: &[Value], texts: &[&str]) {
    assert_eq!(lines.len(), texts.len(), "{lines:#?}");
    for (line, text) in lines.iter().zip(texts) {
        let stanza = line["stanza"].as_str().expect("a text");
        assert!(stanza.starts_with("<message") && stanza.contains(&format!("<body>{text}</body>")), "{line}");
    }
    assert!(
        lines.is_sorted_by(|a, b| id(a) < id(b) && a["time"].as_str() < b["time"].as_str()),
        "{lines:#?}"
    );
}

#[test]
fn archives_are_counted_and_exported_whether_a_server_runs_or_not() {
    let (place, server) = with_messages();
    let texts = ["one", "two &amp; &lt;2&gt;", "three"];
    let look = || {
        let stats = place.json(&["archive", "stats"]);
        assert_eq!(stats["messages"], 6, "three in each archive: {stats}");
        let largest = stats["largest"].as_array().expect("a list");
        assert_eq!(largest.len(), 2, "{stats}");
        for jid in [ALICE, BOB] {
            let of_one = place.json(&["archive", "stats", jid]);
            let listed = largest.iter().find(|account| account["jid"] == jid).expect("it is listed");
            assert_eq!((&of_one["messages"], &listed["messages"]), (&json!(3), &json!(3)));
            assert_eq!(of_one["bytes"], listed["bytes"]);
            let lines = exported(&place, jid);
            has(&lines, &texts);
            assert_eq!(lines[0]["time"], of_one["oldest"], "{of_one}");
            assert_eq!(lines[2]["time"], of_one["newest"], "{of_one}");
        }
        (stats, exported(&place, BOB))
    };
    let running = look();
    let told = place.ctl(&["archive", "stats"]).out;
    assert!(told.contains("messages  6") && told.contains(ALICE) && told.contains("oldest"), "{told}");
    let told = place.ctl(&["archive", "stats", BOB]).out;
    assert!(told.contains("messages  3"), "{told}");
    stop(server);
    let stopped = look();
    assert_eq!(running.1, stopped.1);
    assert_eq!(running.0["bytes"], stopped.0["bytes"]);
    // After a crash, too.
    let mut server = place.server(&["--allow-plaintext"]);
    say(&place, &["four"]);
    server.signal("KILL");
    server.end();
    has(&exported(&place, BOB), &[&texts[..], &["four"]].concat());
}

#[test]
fn an_export_for_other_servers_is_xml_and_goes_into_a_new_private_file() {
    let (place, _server) = with_messages();
    let file = place.0.path().join("bob.xml");
    let path = file.to_str().expect("UTF-8");
    let export = ["archive", "export", BOB, "--format", "xep0227", "--output", path];
    let done = place.ctl(&export);
    assert_eq!((done.code, done.out), (0, format!("3 messages of {BOB} written to {path}\n")));
    assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).expect("UTF-8");
    let document = roxmltree::Document::parse(&text).expect("XML");
    let find = |namespace: &'static str, name: &'static str| {
        document.descendants().filter(move |node| node.has_tag_name((namespace, name)))
    };
    let archive = find("urn:xmpp:pie:0#mam", "archive").next().expect("an archive");
    let user = archive.parent().expect("a user");
    let host = user.parent().expect("a host");
    assert_eq!((user.attribute("name"), host.attribute("jid")), (Some("bob"), Some("localhost")));
    let lines = exported(&place, BOB);
    let results: Vec<_> = archive.children().filter(|node| node.is_element()).collect();
    assert_eq!(results.len(), lines.len());
    for (result, line) in results.iter().zip(&lines) {
        assert!(result.has_tag_name(("urn:xmpp:mam:2", "result")));
        assert_eq!(result.attribute("id"), line["id"].as_str());
    }
    let stamps: Vec<_> = find("urn:xmpp:delay", "delay").map(|delay| delay.attribute("stamp")).collect();
    assert_eq!(stamps, lines.iter().map(|line| line["time"].as_str()).collect::<Vec<_>>());
    let bodies: Vec<_> = find("jabber:client", "body").filter_map(|body| body.text()).collect();
    assert_eq!(bodies, ["one", "two & <2>", "three"]);
    // What is there already is left as it is.
    place.ctl(&export).fails(1, &["cannot write", path]);
    assert_eq!(std::fs::read_to_string(&file).expect("UTF-8"), text);
}

#[test]
fn a_retracted_message_is_exported_as_what_stands_for_it() {
    let place = place_with_accounts();
    let server = place.server(&["--allow-plaintext"]);
    let mut alice = Client::login(&place, "alice", "p", "r").expect("the password is right");
    alice.say("<enable xmlns='urn:xmpp:sm:3'/>");
    alice.say(&format!("<message to='{BOB}' type='chat' id='m'><body>secret</body></message>"));
    let retract = "<retract xmlns='urn:xmpp:message-retract:1' id='m'/>";
    alice.say(&format!("<message to='{BOB}' type='chat' id='r'>{retract}</message>"));
    alice.say("<r xmlns='urn:xmpp:sm:3'/>");
    alice.hear("h='2'");
    // Once the archive can be read, the retraction has taken effect there; Bob's is read by Bob.
    for (name, mut client) in
        [("alice", alice), ("bob", Client::login(&place, "bob", "p", "r").expect("the password is right"))]
    {
        client.say("<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'/></iq>");
        client.hear("<fin");
        let lines = exported(&place, &format!("{name}@localhost"));
        assert_eq!(lines.len(), 2, "{lines:#?}");
        let stanza = lines[0]["stanza"].as_str().expect("a text");
        assert!(
            stanza.contains("<retracted") && stanza.contains("id='m'") && !stanza.contains("secret"),
            "{stanza}"
        );
        assert!(lines[0]["erased"].is_string() && lines[1]["erased"].is_null(), "{lines:#?}");
    }
    stop(server);
}

#[test]
fn messages_are_erased_from_one_archive_and_the_account_goes_on() {
    let (place, server) = with_messages();
    place.ctl(&["archive", "erase", BOB, "--yes"]).fails(1, &["a server runs in", "stop it first"]);
    stop(server);
    let all = exported(&place, BOB);
    let alice = exported(&place, ALICE);
    let third = all[2]["time"].as_str().expect("a text");
    place
        .ctl(&["archive", "erase", BOB])
        .fails(1, &["3 messages of bob@localhost", "nothing was changed", "--yes"]);
    place.ctl(&["archive", "erase", BOB, "--before", third]).fails(1, &["2 messages", third]);
    assert_eq!(exported(&place, BOB), all);

    let done = place.json(&["archive", "erase", BOB, "--before", third, "--yes"]);
    assert_eq!(done["erased"], 2, "{done}");
    assert_eq!(exported(&place, BOB), all[2..]);
    assert_eq!(place.json(&["archive", "stats", BOB])["messages"], 1);
    // Nothing is left from before that.
    let done = place.ctl(&["archive", "erase", BOB, "--before", third, "--yes"]);
    assert!(done.code == 0 && done.out.is_empty() && done.err.contains("nothing is archived of"), "{done:?}");

    // A time that has not come yet does not reach what is said later.
    let done = place.ctl(&["archive", "erase", BOB, "--before", "9000-01-01", "--yes"]);
    assert!(done.code == 0 && done.out.starts_with("1 messages of bob@localhost"), "{done:?}");
    has(&exported(&place, BOB), &[]);
    assert_eq!(exported(&place, ALICE), alice, "another's archive is untouched");
    let server = place.server(&["--allow-plaintext"]);
    say(&place, &["four"]);
    let later = exported(&place, BOB);
    has(&later, &["four"]);
    assert!(id(&later[0]) > id(&all[2]));
    stop(server);
    // Without a time, everything.
    assert_eq!(place.json(&["archive", "erase", BOB, "--yes"])["erased"], 1);
    has(&exported(&place, BOB), &[]);
}

#[test]
fn the_index_is_made_anew_from_the_log() {
    let (place, server) = with_messages();
    place.ctl(&["archive", "rebuild"]).fails(1, &["a server runs in", "stop it first"]);
    stop(server);
    assert_eq!(place.json(&["archive", "erase", BOB, "--yes"])["erased"], 3);
    let before = exported(&place, ALICE);
    let done = place.json(&["archive", "rebuild"]);
    assert_eq!(
        (&done["messages"], &done["journals"]),
        (&json!(3), &json!(3)),
        "two logs, and the gathered one: {done}"
    );
    assert_eq!(exported(&place, ALICE), before);
    has(&exported(&place, BOB), &[]);
    let rows = place.json(&["archive", "stats", ALICE])["rows"].as_u64();
    assert_eq!(rows, Some(1), "the messages are in rows now");
    let told = place.ctl(&["archive", "rebuild"]);
    assert!(told.code == 0 && told.out.contains("3 of 3 journals"), "{told:?}");
    // A server goes on with it, and nothing is there twice.
    let server = place.server(&["--allow-plaintext"]);
    say(&place, &["four"]);
    stop(server);
    has(&exported(&place, ALICE), &["one", "two &amp; &lt;2&gt;", "three", "four"]);
    has(&exported(&place, BOB), &["four"]);
}

#[test]
fn where_nothing_is_archived_that_is_said_and_programs_get_an_empty_answer() {
    let place = Place::new();
    for command in [&["stats"][..], &["export", BOB], &["erase", BOB, "--yes"], &["rebuild"]] {
        place.ctl(&[&["archive"], command].concat()).fails(1, &["there are no accounts in"]);
    }
    assert!(!place.data().exists());
    let place = place_with_accounts();
    let empty = |said: &[(&[&str], &str)]| {
        for (args, text) in said {
            let args = [&["archive"], *args].concat();
            let done = place.ctl(&args);
            assert!(done.code == 0 && done.out.is_empty() && done.err.contains(text), "{args:?}: {done:?}");
            let done = place.ctl(&[&args[..], &["--json"]].concat());
            assert!(done.code == 0 && done.err.is_empty(), "{args:?}: {done:?}");
        }
    };
    let of_bob = "nothing is archived of bob@localhost";
    empty(&[
        (&["stats"], "nothing is archived"),
        (&["stats", BOB], of_bob),
        (&["export", BOB], of_bob),
        (&["erase", BOB], of_bob),
        (&["rebuild"], "no message log yet"),
    ]);
    let _server = place.server(&[]);
    empty(&[(&["stats"], "nothing is archived"), (&["stats", BOB], of_bob), (&["export", BOB], of_bob)]);
    let nothing = place.json(&["archive", "stats"]);
    assert_eq!((&nothing["messages"], &nothing["oldest"]), (&json!(0), &Value::Null));
    assert_eq!(nothing["largest"], json!([]));
    place.ctl(&["archive", "stats", "eve@localhost"]).fails(1, &["there is no account eve@localhost"]);
    place.ctl(&["archive", "export", "bob@other.example"]).fails(1, &["not of other.example"]);
    place.ctl(&["archive", "export", "localhost"]).fails(1, &["names no account"]);
    place.ctl(&["archive", "erase", BOB, "--before", "yesterday"]).fails(2, &["2026-01-31T12:05:59Z"]);
    place.ctl(&["archive", "export", BOB, "--format", "mbox"]).fails(2, &["jsonl", "xep0227"]);
}
