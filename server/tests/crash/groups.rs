//! Rooms whose server is killed at random moments.
//!
//! Several members with stream management are in two rooms, a private group and an open one, and speak in both, as fast as their
//! server takes it. `whimbreld` is killed with SIGKILL, every third time in the middle of an upgrade, and started again on the
//! same data; members enter again and send again what was not acknowledged. Odd ones first try to resume, and believe the `h` of the
//! refusal. At the end every acknowledged message must be in the archive of its room, each member's in order. What a member has heard on
//! one connection must be what the archive has between the first and the last of it: each message once, in the archive's order.
//! What it has heard and the archive lacks had not been acknowledged, and can only be the last before a kill.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use whimbrel_server::proto::archive::ids::ArchiveIds;
use whimbrel_storage::directory::rooms::{Affiliation, AffiliationChange, NewRoom, RoomConfig, RoomFlags};
use whimbrel_storage::directory::{WriteTransaction, run_inline};

use crate::archives;
use crate::client::{Client, attribute};
use crate::server::{Server, create_accounts, free_address, open_directory};
use crate::sigkill::{again_and_again, begin_upgrade};
use crate::{SM, wait_until};

/// Kills of an ordinary run.
const CYCLES: u64 = 12;

/// Members of the rooms.
const MEMBERS: usize = 4;

/// The rooms. Message `n` of a member is said in room `n mod 2`.
const ROOMS: [&str; 2] = ["den", "hall"];

/// Stanzas that come before the first message of a stream: a member enters the rooms.
const JOINS: u32 = ROOMS.len() as u32;

/// Messages of one member that may be unacknowledged.
const WINDOW: usize = 100;

/// Nobody is to be slowed, and nothing is to leave an archive.
const CONFIG: &str = "[rooms]\noccupant_messages_per_second = 1000000\nroom_messages_per_second = 1000000\n\
     [archive]\nmib_per_account = 100000\n";

/// What a member has heard of a room on one connection: the journal's ids.
struct Heard {
    room: usize,
    ids: Vec<u64>,
}

/// What all threads share.
struct Run {
    address: SocketAddr,
    ids: ArchiveIds,
    /// Nobody says anything new.
    calm: AtomicBool,
    /// Everybody leaves.
    over: AtomicBool,
    /// Messages that were acknowledged: how many of each member, which are the first ones.
    acknowledged: [AtomicU64; MEMBERS],
    /// Members that have nothing unacknowledged, and are calm.
    settled: [AtomicBool; MEMBERS],
    heard: Mutex<Vec<Heard>>,
    /// Messages that were answered with an error.
    refused: AtomicU64,
}

/// One member, through all its connections.
struct Member {
    number: usize,
    /// Messages said on the present or last stream that are not acknowledged, the oldest first.
    unacknowledged: VecDeque<u64>,
    acknowledged: u64,
    next: u64,
    stream: Option<String>,
    /// The last `h` of that stream, or [`JOINS`].
    h: u32,
}

/// A connection of a member.
struct Talk<'a> {
    run: &'a Run,
    client: Client,
    /// Stanzas received since management is on.
    handled: u32,
    inside: [bool; 2],
    heard: [Vec<u64>; 2],
}

impl Drop for Talk<'_> {
    fn drop(&mut self) {
        let mut heard = self.run.heard.lock().unwrap();
        for (room, ids) in std::mem::take(&mut self.heard).into_iter().enumerate() {
            if !ids.is_empty() {
                heard.push(Heard { room, ids });
            }
        }
    }
}

fn jid(room: usize) -> String {
    format!("{}@conference.localhost", ROOMS[room])
}

impl Talk<'_> {
    /// Takes an element that has come; the `h` of an acknowledgement.
    fn take(&mut self, element: &str) -> io::Result<Option<u32>> {
        if element.starts_with("<a ") {
            return Ok(attribute(element, "h").map(|h| h.parse().unwrap()));
        }
        if element.starts_with("<r ") {
            self.client.say(&format!("<a xmlns='{SM}' h='{}'/>", self.handled))?;
            return Ok(None);
        }
        self.handled += 1;
        let from = attribute(element, "from").unwrap_or_default();
        let Some(room) = (0..2).find(|room| from.starts_with(&jid(*room))) else { return Ok(None) };
        let is_error = attribute(element, "type") == Some("error");
        if element.starts_with("<presence") {
            assert!(!is_error, "a member may enter: {element}");
            self.inside[room] |= element.contains("code='110'") || element.contains("code=\"110\"");
        } else if is_error {
            self.run.refused.fetch_add(1, Ordering::SeqCst);
        } else if element.contains("<body>") {
            let (_, rest) = element.split_once("<stanza-id").expect("what is archived has an id");
            let id =
                attribute(&format!("<stanza-id{rest}"), "id").and_then(|id| self.run.ids.open(id)).unwrap();
            let heard = &mut self.heard[room];
            assert!(
                heard.last().is_none_or(|last| *last < id),
                "{} says something twice, or too late",
                jid(room)
            );
            heard.push(id);
        }
        Ok(None)
    }

    /// Enters both rooms.
    fn enter(&mut self, number: usize) -> io::Result<()> {
        for room in 0..2 {
            let x = "<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x>";
            self.client.say(&format!("<presence to='{}/m{number}'>{x}</presence>", jid(room)))?;
        }
        while self.inside != [true; 2] {
            let element = self.client.element()?;
            self.take(&element)?;
        }
        Ok(())
    }

    fn write(&mut self, number: usize, n: u64) -> io::Result<()> {
        let to = jid(n as usize % 2);
        self.client.say(&format!(
            "<message to='{to}' type='groupchat' id='{number}-{n}'><body>message {n}</body></message>"
        ))
    }
}

impl Member {
    /// The server has handled so many stanzas of the stream.
    fn acknowledge(&mut self, run: &Run, h: u32) {
        for _ in self.h..h {
            let n = self.unacknowledged.pop_front().expect("no more is acknowledged than was said");
            assert_eq!(n, self.acknowledged, "messages are acknowledged in order");
            self.acknowledged += 1;
        }
        self.h = self.h.max(h);
        run.acknowledged[self.number].store(self.acknowledged, Ordering::SeqCst);
    }

    /// One connection, from the login to its end.
    fn connection(&mut self, run: &Run) -> io::Result<()> {
        let mut client = Client::log_in(run.address, &format!("member{}", self.number))?;
        if let (Some(stream), 1) = (self.stream.take(), self.number % 2) {
            client.say(&format!("<resume xmlns='{SM}' previd='{stream}' h='0'/>"))?;
            let failed = client.element()?;
            assert!(failed.starts_with("<failed"), "a stream survives the death of its server: {failed}");
            if let Some(h) = attribute(&failed, "h") {
                self.acknowledge(run, h.parse().unwrap());
            }
        }
        client.bind()?;
        self.stream = Some(client.enable()?);
        self.h = JOINS;
        let mut talk = Talk { run, client, handled: 0, inside: [false; 2], heard: Default::default() };
        talk.enter(self.number)?;
        for &n in &self.unacknowledged {
            talk.write(self.number, n)?;
        }
        while !run.over.load(Ordering::SeqCst) {
            let calm = run.calm.load(Ordering::SeqCst);
            for _ in 0..10 {
                if !calm && self.unacknowledged.len() < WINDOW {
                    self.unacknowledged.push_back(self.next);
                    self.next += 1;
                    talk.write(self.number, self.next - 1)?;
                }
            }
            run.settled[self.number].store(calm && self.unacknowledged.is_empty(), Ordering::SeqCst);
            talk.client.say(&format!("<r xmlns='{SM}'/>"))?;
            while let Some(element) = talk.client.element_soon()? {
                if let Some(h) = talk.take(&element)? {
                    self.acknowledge(run, h);
                    break;
                }
            }
        }
        talk.client.say("</stream:stream>")
    }
}

/// Makes the rooms with their members. No server runs.
fn make_rooms(data: &Path) {
    let hall =
        RoomConfig { flags: RoomFlags::default().with(RoomFlags::PERSISTENT), ..RoomConfig::default() };
    let configs = [RoomConfig::private_group(), hall];
    let job = Box::new(move |transaction: &mut WriteTransaction<'_>| {
        for (name, config) in ROOMS.into_iter().zip(configs) {
            let new = NewRoom { name, config, secret: [7; 32], now_ms: 0 };
            let mut room = transaction.create_room(new)?.expect("a new room");
            for member in 0..MEMBERS {
                let (jid, local) = (format!("member{member}@localhost"), format!("member{member}"));
                let affiliation = if member == 0 { Affiliation::Owner } else { Affiliation::Member };
                let localpart = Some(local.as_str());
                let change = AffiliationChange { jid: &jid, localpart, affiliation, reason: "", now_ms: 0 };
                transaction.affiliate(&mut room, &change)?;
            }
        }
        Ok(())
    });
    run_inline(&open_directory(data), job).unwrap();
}

/// Compares what was heard of a room with its archive; how many messages were heard, and how many of them it lacks.
fn compare_heard(archive: &[u64], heard: &[Heard], room: usize) -> (u64, u64) {
    let (mut all, mut missing) = (0, 0);
    for one in heard.iter().filter(|heard| heard.room == room) {
        all += one.ids.len() as u64;
        let kept = one.ids.iter().take_while(|id| archive.binary_search(id).is_ok()).count();
        let (kept, lost) = one.ids.split_at(kept);
        assert!(
            lost.iter().all(|id| archive.binary_search(id).is_err()),
            "the archive of {} lacks something in the middle of what was heard",
            ROOMS[room]
        );
        missing += lost.len() as u64;
        let (Some(first), Some(last)) = (kept.first(), kept.last()) else { continue };
        let from = archive.binary_search(first).unwrap();
        let to = archive.binary_search(last).unwrap();
        assert_eq!(kept, &archive[from..=to], "a member has not heard all that was said in {}", ROOMS[room]);
    }
    (all, missing)
}

#[test]
fn what_was_acknowledged_in_rooms_survives_sigkill() {
    let cycles = std::env::var("WHIMBREL_CRASH_CYCLES").map_or(CYCLES, |n| n.parse().unwrap());
    let data = tempfile::tempdir().unwrap();
    create_accounts(data.path(), (0..MEMBERS).map(|n| format!("member{n}")));
    make_rooms(data.path());
    let run = Arc::new(Run {
        address: free_address(),
        ids: ArchiveIds::of_server(&open_directory(data.path()).server_secret()),
        calm: AtomicBool::new(false),
        over: AtomicBool::new(false),
        acknowledged: Default::default(),
        settled: Default::default(),
        heard: Mutex::default(),
        refused: AtomicU64::new(0),
    });
    let mut server = Server::start(data.path(), run.address, CONFIG, None);
    let threads: Vec<_> = (0..MEMBERS)
        .map(|number| {
            let run = run.clone();
            let mut member = Member {
                number,
                unacknowledged: VecDeque::new(),
                acknowledged: 0,
                next: 0,
                stream: None,
                h: JOINS,
            };
            std::thread::spawn(move || again_and_again(&run.over, || member.connection(&run)))
        })
        .collect();
    let mut chance = u64::from(std::process::id());
    for cycle in 0..cycles {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(100 + (chance >> 33) % 900));
        let control = (cycle % 3 == 2).then(|| begin_upgrade(data.path()));
        if control.is_some() {
            std::thread::sleep(Duration::from_millis((chance >> 43) % 400));
        }
        server.kill();
        drop(control);
        server = Server::start(data.path(), run.address, CONFIG, None);
    }
    run.calm.store(true, Ordering::SeqCst);
    wait_until("everything is acknowledged in the end", || {
        run.settled.iter().all(|settled| settled.load(Ordering::SeqCst))
    });
    run.over.store(true, Ordering::SeqCst);
    for thread in threads {
        thread.join().unwrap();
    }
    server.kill();
    report(&run, data.path(), cycles);
}

/// Reads the archives, compares and prints.
fn report(run: &Run, data: &Path, cycles: u64) {
    let count = |member: usize| run.acknowledged[member].load(Ordering::SeqCst);
    let heard = run.heard.lock().unwrap();
    let (mut missing, mut twice) = (0, 0);
    for (room, name) in ROOMS.into_iter().enumerate() {
        let archive = archives::of_room(data, name);
        for member in 0..MEMBERS {
            let found: Vec<u64> =
                archive.iter().filter(|one| one.sender == member).map(|one| one.number).collect();
            let (lost, again) = archives::compare(&found, count(member), |n| n as usize % 2 == room);
            (missing, twice) = (missing + lost, twice + again);
        }
        let ids: Vec<u64> = archive.iter().map(|one| one.id).collect();
        let (all, unkept) = compare_heard(&ids, &heard, room);
        println!(
            "{name}: {} archived, {all} heard, {unkept} heard last before a kill and not kept",
            ids.len()
        );
        assert!(all > 0, "nobody has heard anything in {name}");
    }
    let acknowledged: u64 = (0..MEMBERS).map(count).sum();
    let refused = run.refused.load(Ordering::SeqCst);
    println!(
        "{cycles} kills: {acknowledged} messages to rooms acknowledged, {missing} missing in archives, {twice} twice, \
         {refused} refused"
    );
    assert_eq!((missing, refused), (0, 0));
    assert!(acknowledged > cycles, "hardly anything happened");
}
