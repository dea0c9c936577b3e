//! Backups of a server that goes on, one after another: what is restored answers as the server did.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::{Client, PATIENCE, Place, Server, whimbrelctl};

const ALICE: &str = "alice@localhost";
const BOB: &str = "bob@localhost";

/// Small files, which no gathering takes away while they are counted, and a mailbox that one sender may fill.
const CONFIG: &str = "log_segment_mib = 2\n[archive]\ngather = false\n\
    [limits]\noffline_percent_per_stranger = 100\noffline_percent_strangers = 100\n";

/// Texts of so many bytes: some hundred fill a file.
const TEXT: usize = 20_000;

/// Texts that are acknowledged together.
const ROUND: usize = 20;

/// A node of the publish-subscribe service, and one of an account.
const NODES: [(&str, &str); 2] = [("news", " to='pubsub.localhost'"), ("urn:example:notes", "")];

/// A server's place, and one for backups beside it.
struct Scene {
    place: Place,
    server: Option<Server>,
    said: usize,
    published: usize,
}

impl Scene {
    fn new() -> Scene {
        let place = Place::new();
        for name in [ALICE, BOB] {
            assert_eq!(place.ctl(&["user", "add", "--create", name, "--password", "p"]).code, 0);
        }
        let mut scene = Scene { place, server: None, said: 0, published: 0 };
        scene.start();
        let [(node, _), _] = NODES;
        assert_eq!(scene.place.ctl(&["node", "create", node, "--owner", ALICE]).code, 0);
        scene
    }

    fn start(&mut self) {
        self.server = Some(serve(&self.place));
    }

    fn end_with(&mut self, signal: &str) {
        let mut server = self.server.take().expect("it runs");
        server.signal(signal);
        server.end();
    }

    fn backups(&self) -> PathBuf {
        self.place.0.path().join("backups")
    }

    /// Alice says so much to Bob, all of which is acknowledged.
    fn say(&mut self, texts: usize) {
        let mut alice = Client::login(&self.place, "alice", "p", "r").expect("the password is right");
        alice.say("<enable xmlns='urn:xmpp:sm:3'/>");
        let filling = "x".repeat(TEXT);
        for n in 1..=texts {
            let text = format!("text {} {filling}", self.said);
            self.said += 1;
            alice.say(&format!("<message to='{BOB}' type='chat'><body>{text}</body></message>"));
            if n % ROUND == 0 || n == texts {
                alice.say("<r xmlns='urn:xmpp:sm:3'/>");
                alice.hear(&format!("h='{n}'"));
            }
        }
    }

    /// Alice publishes another item to each node.
    fn publish(&mut self) {
        let mut alice = Client::login(&self.place, "alice", "p", "r").expect("the password is right");
        self.published += 1;
        for (node, to) in NODES {
            let item = format!("<item id='item{}'><note xmlns='urn:example:note'/></item>", self.published);
            let config = "<publish-options><x xmlns='jabber:x:data' type='submit'>\
                <field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#publish-options</value></field>\
                <field var='pubsub#max_items'><value>max</value></field></x></publish-options>";
            let config = if to.is_empty() { config } else { "" };
            alice.say(&format!(
                "<iq type='set' id='{node}'{to}><pubsub xmlns='http://jabber.org/protocol/pubsub'>\
                 <publish node='{node}'>{item}</publish>{config}</pubsub></iq>"
            ));
            alice.hear("type='result'");
            alice.forget();
        }
    }

    fn back_up(&self, more: &[&str]) -> Value {
        let backups = self.backups();
        let args = ["backup", "--into", backups.to_str().expect("UTF-8"), "--verify"];
        let done = self.place.json(&[&args, more].concat());
        assert!(done["verified"]["files"].as_u64() > Some(1), "{done}");
        done
    }

    /// A backup where nobody else has its files.
    fn restored(&self, done: &Value) -> Place {
        let from = done["folder"].as_str().expect("a folder");
        let place = Place::new();
        let copied = Command::new("cp").arg("-a").arg(from).arg(place.data()).status();
        assert!(copied.expect("cp runs").success());
        place
    }
}

fn serve(place: &Place) -> Server {
    let config = place.file("w.toml", CONFIG);
    place.server(&["--allow-plaintext", "--config", config.to_str().expect("UTF-8")])
}

/// The archives of both, message by message with their ids.
#[track_caller]
fn exported(place: &Place) -> Vec<String> {
    [ALICE, BOB]
        .map(|jid| {
            let done = place.ctl(&["archive", "export", jid]);
            assert_eq!(done.code, 0, "{done:?}");
            done.out
        })
        .into()
}

/// The items of each node, as its owner gets them.
fn items(place: &Place) -> [Vec<String>; 2] {
    let mut alice = Client::login(place, "alice", "p", "r").expect("the password is right");
    NODES.map(|(node, to)| {
        alice.say(&format!(
            "<iq type='get' id='{node}'{to}><pubsub xmlns='http://jabber.org/protocol/pubsub'>\
             <items node='{node}'/></pubsub></iq>"
        ));
        alice.hear("</iq>");
        let found = alice.heard().split("'item").skip(1);
        let mut ids: Vec<String> =
            found.map(|rest| rest.split('\'').next().expect("an id").to_owned()).collect();
        alice.forget();
        ids.sort();
        ids
    })
}

/// What a client is told of the newest messages: their ids, and the text of the last.
fn last_page(place: &Place) -> (Vec<String>, String) {
    let mut bob = Client::login(place, "bob", "p", "r").expect("the password is right");
    bob.say(
        "<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'>\
         <set xmlns='http://jabber.org/protocol/rsm'><max>5</max><before/></set></query></iq>",
    );
    bob.hear("</fin>");
    let results = bob.heard().split("<result ").skip(1);
    let ids = results.clone().map(|result| result.split(" id='").nth(1).or(result.split("id='").nth(1)));
    let ids = ids.map(|id| id.and_then(|id| id.split('\'').next()).expect("it has an id").to_owned());
    let last = results.last().expect("there are some").split("<body>").nth(1).expect("a body");
    (ids.collect(), last.chars().take(12).collect())
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis() as u64
}

/// When a backup began; `None` for one that has gone by now.
fn taken_ms(backup: &Path) -> Option<u64> {
    let text = fs::read_to_string(backup.join("backup-manifest")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("taken ")?.parse().ok())
}

fn segments(data: &Path) -> usize {
    let folder = data.join("log/generation-1");
    let logs = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let names = logs.flat_map(|log| fs::read_dir(log).expect("a folder"));
    names
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().extension() == Some("seg".as_ref())))
        .count()
}

#[track_caller]
fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let since = Instant::now();
    while !reached() {
        assert!(since.elapsed() < PATIENCE, "not reached: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn each_backup_answers_as_the_server_did_then_and_shares_what_has_not_changed() {
    let mut scene = Scene::new();
    let mut made: Vec<(Value, Vec<String>, usize)> = Vec::new();
    let back_up = |scene: &mut Scene, made: &mut Vec<(Value, Vec<String>, usize)>| {
        scene.publish();
        let done = scene.back_up(&[]);
        made.push((done.clone(), exported(&scene.place), scene.published));
        done
    };
    scene.say(240);
    assert_eq!(back_up(&mut scene, &mut made)["linked"], 0);
    scene.say(240);
    let second = back_up(&mut scene, &mut made);
    assert!(second["linked"].as_u64() >= Some(1), "{second}");
    assert!(second["bytes"].as_u64() < Some(2 * 240 * 2 * TEXT as u64), "{second}");
    let page = last_page(&scene.place);

    // A server that was started again has the same files. Then the oldest of them go: what is read and erased is kept by none.
    scene.end_with("TERM");
    scene.start();
    let third = back_up(&mut scene, &mut made);
    assert!(third["linked"].as_u64() >= second["linked"].as_u64(), "{second} {third}");
    let mut bob = Client::login(&scene.place, "bob", "p", "r").expect("the password is right");
    bob.say("<presence/>");
    for n in 0..scene.said {
        bob.hear(&format!("text {n} "));
        bob.forget();
    }
    drop(bob);
    scene.end_with("TERM");
    for jid in [ALICE, BOB] {
        let erased = scene.place.ctl(&["archive", "erase", jid, "--before", "2999-01-01", "--yes"]);
        assert_eq!(erased.code, 0, "{erased:?}");
    }
    let before = segments(&scene.place.data());
    scene.start();
    scene.say(60);
    until("files of the log go", || segments(&scene.place.data()) < before);
    let last = back_up(&mut scene, &mut made);
    assert_eq!(exported(&scene.place)[0].lines().count(), 60);

    for (done, expected, published) in &made {
        let place = scene.restored(done);
        assert_eq!(&exported(&place), expected, "{done}");
        let server = serve(&place);
        assert_eq!(&exported(&place), expected, "when it is served, too: {done}");
        let ids: Vec<String> = (1..=*published).map(|n| n.to_string()).collect();
        assert_eq!(items(&place), [ids.clone(), ids], "{done}");
        if done == &second {
            assert_eq!(last_page(&place), page);
        }
        drop(server);
    }
    // Where they are they are not served, and the newest are kept.
    let folder = last["folder"].as_str().expect("a folder").to_owned();
    scene.back_up(&[]);
    let mut command = Command::new(crate::support::whimbreld());
    command.args([
        "--data",
        &folder,
        "--listen",
        "127.0.0.1:0",
        "--listen-tls",
        "127.0.0.1:0",
        "--listen-http",
        "none",
    ]);
    crate::support::Done::of(command, "").fails(1, &["share files", "cp -a"]);
    assert_eq!(scene.back_up(&["--keep", "2"])["removed"], 4);
    assert_eq!(fs::read_dir(scene.backups()).expect("a folder").count(), 2);
}

#[test]
fn a_backup_that_is_cut_off_by_the_servers_end_is_gone_on_with() {
    let mut scene = Scene::new();
    scene.say(300);
    let first = scene.back_up(&[]);
    let backups = scene.backups().to_str().expect("UTF-8").to_owned();
    scene.say(300);
    let mut command = Command::new(whimbrelctl());
    command.arg("--data").arg(scene.place.data()).args([
        "backup",
        "--into",
        &backups,
        "--mib-per-second",
        "1",
    ]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let child = child.expect("the program runs");
    let noted = scene.backups().join("unfinished/backup-manifest.partial");
    let linked = first["segments"].as_u64().expect("a number") as usize;
    let has_copied = || {
        let text = fs::read_to_string(&noted).unwrap_or_default();
        text.lines().filter(|line| line.ends_with("sealed")).count() > linked
    };
    until("a file is copied", has_copied);
    scene.end_with("KILL");
    let told = child.wait_with_output().expect("it ends");
    assert!(!told.status.success(), "{told:?}");
    let names = || {
        let entries = fs::read_dir(&backups).expect("a folder").map(|entry| entry.expect("an entry"));
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into()).collect();
        names.sort();
        names
    };
    assert_eq!(names().len(), 2, "the first, and one that is not whole");
    assert_eq!(names()[1], "unfinished");
    scene.start();
    let expected = exported(&scene.place);
    let second = scene.back_up(&[]);
    assert!(second["linked"].as_u64() > Some(linked as u64), "what was copied is of use: {second}");
    assert_eq!(names().len(), 2, "{:?}", names());
    assert_eq!(exported(&scene.restored(&second)), expected);
    assert_eq!(exported(&scene.restored(&first))[0].lines().count(), 300);
    // The same without a server.
    scene.end_with("TERM");
    let third = scene.back_up(&[]);
    assert!(third["linked"].as_u64() >= second["linked"].as_u64(), "{third}");
    assert_eq!(exported(&scene.restored(&third)), expected);
}

#[test]
fn a_second_server_goes_on_with_all_that_was_acknowledged_before_the_newest_backup_began() {
    let mut scene = Scene::new();
    let backups = scene.backups().to_str().expect("UTF-8").to_owned();
    let mut command = Command::new(whimbrelctl());
    command.arg("--data").arg(scene.place.data());
    command.args(["--json", "backup", "--into", &backups, "--every", "1", "--keep", "3"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program runs");
    let mut told = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    // How much had been acknowledged by when; until a backup has begun after three rounds were.
    let mut acknowledged: Vec<(u64, usize)> = Vec::new();
    let mut is_enough = false;
    while !is_enough {
        scene.say(ROUND);
        acknowledged.push((now_ms(), scene.said));
        let line = told.next().expect("it goes on").expect("UTF-8");
        let done: Value = serde_json::from_str(&line).expect("JSON");
        let taken = taken_ms(Path::new(done["folder"].as_str().expect("a folder")));
        is_enough = acknowledged.get(2).is_some_and(|(at, _)| taken > Some(*at));
    }
    scene.end_with("KILL");
    child.kill().expect("it is ours");
    child.wait().expect("it ends");
    let mut names: Vec<String> = fs::read_dir(&backups)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path().to_str().expect("UTF-8").to_owned())
        .filter(|path| !path.ends_with("unfinished") && !path.ends_with("interrupted"))
        .collect();
    names.sort();
    // It may have made another one, that it has not told of, at the end.
    assert!((1..=4).contains(&names.len()), "three are kept: {names:?}");
    let newest = names.last().expect("some");
    let taken = taken_ms(Path::new(newest)).expect("it is whole");
    let before = acknowledged.iter().rfind(|(at, _)| *at < taken);
    let before = before.expect("three rounds were").1;
    assert!(before >= 3 * ROUND);
    let place = scene.restored(&serde_json::json!({ "folder": newest }));
    let _server = serve(&place);
    for archive in exported(&place) {
        let found = archive.lines().count();
        assert!((before..=scene.said).contains(&found), "{found} of {before} and more");
        let is_next = |(n, line): (usize, &str)| line.contains(&format!("<body>text {n} "));
        assert!(archive.lines().enumerate().all(is_next), "one after another, with no hole");
    }
    let pending = place.json(&["status"])["metrics"]["log.pending"].as_u64().expect("a number") as usize;
    assert!(pending >= before, "{pending} of {before} wait for Bob");
}

#[test]
fn a_damaged_backup_costs_no_older_one_and_the_next_is_whole() {
    let mut scene = Scene::new();
    scene.say(300);
    let first = scene.back_up(&[]);
    // The disk of the place forgets: in a file that all later backups would share.
    let folder = Path::new(first["folder"].as_str().expect("a folder"));
    let manifest = fs::read_to_string(folder.join("backup-manifest")).expect("it reads");
    let sealed = manifest.lines().find(|line| line.ends_with(" sealed")).expect("there is one");
    let segment = folder.join("log").join(sealed.split(' ').nth(2).expect("a path"));
    let mut bytes = fs::read(&segment).expect("it reads");
    bytes[5000] ^= 1;
    fs::write(&segment, bytes).expect("it is ours");
    let backups = scene.backups().to_str().expect("UTF-8").to_owned();
    let args = ["backup", "--into", &backups, "--verify", "--keep", "1"];
    scene.place.ctl(&args).fails(1, &["of no use"]);
    assert!(folder.exists(), "what is older stays until the new one is known to be whole");
    let third = scene.back_up(&["--keep", "1"]);
    assert_eq!((&third["linked"], &third["removed"]), (&0.into(), &2.into()), "{third}");
    let fourth = scene.back_up(&["--keep", "1"]);
    assert!(fourth["linked"].as_u64() > Some(0), "{fourth}");
    assert_eq!(exported(&scene.restored(&fourth)), exported(&scene.place));
}

#[test]
fn the_command_line_tells_a_place_from_a_folder() {
    let place = Place::new();
    assert_eq!(place.ctl(&["user", "add", "--create", ALICE, "--password", "p"]).code, 0);
    let folder = |name: &str| place.0.path().join(name).to_str().expect("UTF-8").to_owned();
    place.ctl(&["backup"]).fails(2, &["DIR"]);
    place.ctl(&["backup", &folder("a"), "--into", &folder("b")]).fails(2, &["cannot be used with"]);
    place.ctl(&["backup", &folder("a"), "--keep", "2"]).fails(1, &["--into"]);
    place.ctl(&["backup", &folder("a"), "--every", "2"]).fails(1, &["--into"]);
    place.ctl(&["backup", "--into", &folder("b"), "--keep", "0"]).fails(2, &["0"]);
    let alone = place.json(&["backup", &folder("a"), "--verify"]);
    assert_eq!(alone["folder"], folder("a").as_str());
    let named = place.ctl(&["backup", "--into", &folder("b"), "--mib-per-second", "1000"]);
    assert!(named.out.contains("/b/000001-"), "{named:?}");
    let odd = place.0.path().join(std::ffi::OsStr::from_bytes(b"b\xff"));
    let mut command = Command::new(whimbrelctl());
    command.arg("--data").arg(place.data()).arg("backup").arg(&odd);
    crate::support::Done::of(command, "").fails(1, &["not UTF-8"]);
    assert!(!odd.exists(), "nothing is made");
    // A backup that stands alone is no place.
    place.ctl(&["backup", "--into", &folder("a")]).fails(1, &["a folder of its own"]);
}
