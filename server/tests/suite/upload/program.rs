//! The real program: killed while files come, and replaced by another while they do.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};

use serde_json::json;

use super::*;
use crate::support::program::{Program, Start};

const CONFIG: &str = "[http]\nlisten = ['127.0.0.1:0']\ntls = false\nrequests_per_minute = 1000000\n\
    [upload]\nmib_left_free = 0\naccount_files_per_day = 1000000\naccount_slots_max = 1000\n";

/// The slot, and where the program's HTTP server is.
fn slot_of(client: &mut Client, bytes: usize) -> (SocketAddr, Slot) {
    let answer = ask(client, "a.bin", bytes, "");
    let url = |part: &str| {
        let found = payload(&answer).find(part, "urn:xmpp:http:upload:0").unwrap();
        found.attribute("url").unwrap().strip_prefix("http://localhost:").expect("its address").to_owned()
    };
    let cut = |url: String| url[url.find('/').unwrap()..].to_owned();
    let port = url("get").split('/').next().unwrap().parse().unwrap();
    (SocketAddr::from(([127, 0, 0, 1], port)), Slot { put: cut(url("put")), get: cut(url("get")) })
}

fn head_of(slot: &Slot, bytes: usize) -> String {
    put_head(&slot.put, &format!("Content-Length: {bytes}\r\n"))
}

/// The answer, if there is one before the connection ends.
fn try_send(address: SocketAddr, head: &str, body: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    Answer::read(&bytes)
}

fn get_from(address: SocketAddr, slot: &Slot) -> Answer {
    let head = format!("GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", slot.get);
    try_send(address, &head, b"").expect("an answer")
}

/// Uploads one file after another until the program is gone; tells of those that were acknowledged.
fn upload_on(program_port: SocketAddr, slots: Vec<(Slot, usize)>, acknowledged: &Sender<(Slot, usize)>) {
    for (slot, bytes) in slots {
        match try_send(program_port, &head_of(&slot, bytes), &content(bytes)) {
            Some(answer) if answer.status == 201 => acknowledged.send((slot, bytes)).unwrap(),
            Some(answer) => panic!("{answer:?}"),
            None => return,
        }
    }
}

/// Files of the folder, and of that which come.
fn in_folder(data: &Path) -> (usize, usize) {
    let (mut whole, mut coming) = (0, 0);
    for entry in std::fs::read_dir(data.join("uploads")).unwrap() {
        let entry = entry.unwrap();
        let count = std::fs::read_dir(entry.path()).unwrap().count();
        if entry.file_name() == "incoming" { coming += count } else { whole += count }
    }
    (whole, coming)
}

/// Kills the program after so many files were acknowledged, while others come.
fn kill_after(start: &Start, program: Program, files: usize) -> Vec<(Slot, usize)> {
    let mut juliet = program.login("juliet", "balcony");
    let mut all: Vec<Vec<(Slot, usize)>> = vec![Vec::new(); 3];
    let mut address = None;
    for number in 0..18 {
        let bytes = [1, 5_000, 300_000, 2_000_000][number % 4];
        let (at, slot) = slot_of(&mut juliet, bytes);
        address = Some(at);
        all[number % 3].push((slot, bytes));
    }
    let address = address.unwrap();
    let (told, acknowledged) = channel();
    let mut kept = Vec::new();
    std::thread::scope(|scope| {
        for slots in all {
            let told = told.clone();
            scope.spawn(move || upload_on(address, slots, &told));
        }
        drop(told);
        while kept.len() < files {
            kept.push(acknowledged.recv_timeout(PATIENCE).expect("files are taken"));
        }
        program.kill();
        // What was acknowledged and read before the end counts as well.
        kept.extend(acknowledged.iter());
    });
    assert!(start.data().join("uploads").exists());
    kept
}

#[test]
fn a_kill_leaves_whole_files_and_no_others() {
    let start = Start::new(&["juliet"]).with_config(CONFIG);
    let mut kept = Vec::new();
    for files in [1, 4, 7] {
        kept.extend(kill_after(&start, start.run(), files));
        let program = start.run();
        assert_eq!(in_folder(&start.data()).1, 0, "no half file is there after a start");
        let mut juliet = program.login("juliet", "garden");
        let (address, slot) = slot_of(&mut juliet, 1000);
        for (file, bytes) in &kept {
            let answer = get_from(address, file);
            assert!(answer.status == 200 && answer.body == content(*bytes), "{file:?}: {}", answer.status);
        }
        let answer = try_send(address, &head_of(&slot, 1000), &content(1000)).unwrap();
        assert_eq!(answer.status, 201);
        kept.push((slot, 1000));
        let listed = program.control(&json!({ "request": "upload-list", "jid": "juliet@localhost" }));
        // One whose answer was lost with the kill is a file as well.
        assert!(listed["result"]["files"].as_u64().unwrap() >= kept.len() as u64, "{listed}");
        program.kill();
    }
}

#[test]
fn an_upgrade_waits_for_an_upload_and_cuts_one_that_stands_still() {
    let config = format!("{CONFIG}[limits]\nupgrade_seconds = 4\n");
    let start = Start::new(&["juliet"]).with_config(&config);
    let program = start.run();
    let mut juliet = program.login("juliet", "balcony");
    let body = content(600_000);
    let (address, finished) = slot_of(&mut juliet, body.len());
    let (_, stands) = slot_of(&mut juliet, body.len());
    let begin = |slot: &Slot| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head_of(slot, body.len()).as_bytes()).unwrap();
        stream.write_all(&body[..300_000]).unwrap();
        stream
    };
    let (mut goes_on, still) = (begin(&finished), begin(&stands));
    until("both have begun", || in_folder(&start.data()).1 == 2);
    let is_shut = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // New ones are told to come back while the server waits.
            until("the server waits", || {
                let head =
                    format!("GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", stands.get);
                let answer = try_send(address, &head, b"");
                answer.is_some_and(|answer| answer.status == 503 && answer.field("retry-after").is_some())
            });
            is_shut.store(true, Ordering::SeqCst);
            goes_on.write_all(&body[300_000..]).unwrap();
            assert_eq!(Answer::of(goes_on).status, 201);
        });
        let upgraded = program.control(&json!({ "request": "upgrade" }));
        assert_eq!(upgraded["ok"], true, "{upgraded}");
    });
    assert!(is_shut.load(Ordering::SeqCst));
    drop(still);
    let answer = get_from(address, &finished);
    assert!(answer.status == 200 && answer.body == body);
    assert_eq!(get_from(address, &stands).status, 404);
    assert_eq!(in_folder(&start.data()), (1, 0), "nothing is left of the one that was cut");
    let again = try_send(address, &head_of(&stands, body.len()), &body).unwrap();
    assert_eq!(again.status, 201, "its slot is good still");
    // The session is the one of before, and slots go on.
    let (_, slot) = slot_of(&mut juliet, 5);
    assert_eq!(try_send(address, &head_of(&slot, 5), b"hello").unwrap().status, 201);
}

/// A small disk at a folder, unmounted at the end.
struct Disk(std::path::PathBuf);

impl Disk {
    /// `None`: only root may mount one, which is said.
    fn at(folder: &Path, bytes: u64) -> Option<Disk> {
        std::fs::create_dir(folder).unwrap();
        let mut command = std::process::Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(folder);
        let is_mounted = command.output().is_ok_and(|output| output.status.success());
        if !is_mounted {
            assert!(std::env::var_os("WHIMBREL_REQUIRE_MOUNTS").is_none(), "a disk must be mounted");
            let _ = writeln!(std::io::stderr(), "SKIPPED: no disk can be mounted");
        }
        is_mounted.then(|| Disk(folder.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_fills_in_the_middle_of_an_upload_is_told() {
    let start = Start::new(&["juliet", "romeo"]).with_config(CONFIG);
    let Some(disk) = Disk::at(&start.data().join("uploads"), 8 << 20) else { return };
    let program = start.run();
    let (mut juliet, mut romeo) = (program.login("juliet", "balcony"), program.login("romeo", "orchard"));
    let body = content(4 << 20);
    let (address, slot) = slot_of(&mut juliet, body.len());
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head_of(&slot, body.len()).as_bytes()).unwrap();
    stream.write_all(&body[..1 << 20]).unwrap();
    until("the upload begins", || in_folder(&start.data()).1 == 1);
    let ballast = disk.0.join("00/ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let _ = stream.write_all(&body[1 << 20..]);
    let answer = Answer::of(stream);
    assert_eq!((answer.status, answer.problem().as_str()), (507, "disk-full"));
    until("nothing is left of it", || in_folder(&start.data()) == (1, 0));
    juliet.send("<message to='romeo@localhost/orchard' type='chat'><body>still here</body></message>");
    assert_eq!(romeo.expect("message").find("body", "jabber:client").unwrap().content(), "still here");
    drop(file);
    std::fs::remove_file(ballast).unwrap();
    let again = try_send(address, &head_of(&slot, body.len()), &body).unwrap();
    assert_eq!(again.status, 201, "there is room again, and the slot is good still");
    program.kill();
}
