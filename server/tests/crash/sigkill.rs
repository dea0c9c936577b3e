//! Killed at random moments.
//!
//! Several senders with stream management write to two recipients, one who reads and one who is away until the end.
//! `whimbreld` is killed with SIGKILL and started again on the same data; senders send again what was not
//! acknowledged. Odd senders first try to resume, and believe the `h` of the refusal. At the end every acknowledged
//! message must have arrived, each sender's messages in order, and each must be in the archives of both sides. A
//! [keeper](crate::keeper) writes to the directory at the same time; after each kill the directory is compared with what was
//! acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::archives;
use crate::client::{Client, attribute};
use crate::keeper::{self, Keeper};
use crate::server::{Server, create_accounts, free_address, open_directory};
use crate::{PATIENCE, SM, wait_until};

/// Kills of an ordinary run.
const CYCLES: u64 = 20;

/// Kills in the middle of upgrades of an ordinary run.
const UPGRADES: u64 = 15;

/// Clients that write.
const SENDERS: usize = 4;

/// Messages of one sender that may be unacknowledged.
const WINDOW: usize = 200;

/// The absent one misses half of everything: no quota is to end that before the test does.
const CONFIG: &str = "[limits]\noffline_messages = 10000000\noffline_bytes = 4000000000\n\
     account_memory_kib = 2000000\noffline_percent_per_stranger = 100\noffline_percent_strangers = 100\n\
     [archive]\nmib_per_account = 100000\n";

/// What all threads of a run share.
pub(crate) struct Run {
    pub(crate) address: SocketAddr,
    /// Nobody writes anything new.
    pub(crate) calm: AtomicBool,
    /// Everybody leaves.
    pub(crate) over: AtomicBool,
    /// The keeper has nothing unacknowledged, and is calm.
    pub(crate) kept: AtomicBool,
    /// Connections of the keeper that have broken, or did not come about.
    broken: AtomicU64,
    /// Messages that were acknowledged: how many of each sender, which are the first ones.
    acknowledged: [AtomicU64; SENDERS],
    /// Senders that have nothing unacknowledged, and are calm.
    settled: [AtomicBool; SENDERS],
    /// Each sender's messages as they arrived, duplicates included.
    arrived: Mutex<BTreeMap<usize, Vec<u64>>>,
    /// Errors that came back.
    refused: AtomicU64,
}

/// One sender, through all its connections.
struct Sender {
    number: usize,
    /// The first message that is not acknowledged, and how many follow that were sent on this stream.
    acknowledged: u64,
    /// Messages sent on the present or last stream that are not acknowledged.
    unacknowledged: VecDeque<u64>,
    next: u64,
    stream: Option<String>,
    /// The last `h` of that stream.
    h: u32,
}

impl Sender {
    fn acknowledge(&mut self, run: &Run, h: u32) {
        for _ in self.h..h {
            let n = self.unacknowledged.pop_front().expect("no more is acknowledged than was sent");
            assert_eq!(n, self.acknowledged, "messages are acknowledged in order");
            self.acknowledged += 1;
        }
        self.h = self.h.max(h);
        run.acknowledged[self.number].store(self.acknowledged, Ordering::SeqCst);
    }

    fn write(&self, client: &mut Client, n: u64) -> io::Result<()> {
        let to = if n.is_multiple_of(2) { "reader" } else { "absent" };
        client.say(&format!(
            "<message to='{to}@localhost' type='chat' id='{}-{n}'><body>message {n}</body></message>",
            self.number
        ))
    }

    /// One connection, from the login to its end.
    fn connection(&mut self, run: &Run) -> io::Result<()> {
        let mut client = Client::log_in(run.address, &format!("sender{}", self.number))?;
        if let (Some(stream), 1) = (&self.stream, self.number % 2) {
            client.say(&format!("<resume xmlns='{SM}' previd='{stream}' h='0'/>"))?;
            let failed = client.element()?;
            assert!(failed.starts_with("<failed"), "a stream survives the death of its server: {failed}");
            if let Some(h) = attribute(&failed, "h") {
                self.acknowledge(run, h.parse().unwrap());
            }
        }
        client.bind()?;
        self.stream = Some(client.enable()?);
        self.h = 0;
        for &n in &self.unacknowledged {
            self.write(&mut client, n)?;
        }
        while !run.over.load(Ordering::SeqCst) {
            let calm = run.calm.load(Ordering::SeqCst);
            if !calm {
                for _ in 0..10 {
                    if self.unacknowledged.len() < WINDOW {
                        self.unacknowledged.push_back(self.next);
                        self.next += 1;
                        self.write(&mut client, self.next - 1)?;
                    }
                }
            }
            let settled = calm && self.unacknowledged.is_empty();
            run.settled[self.number].store(settled, Ordering::SeqCst);
            client.say(&format!("<r xmlns='{SM}'/>"))?;
            while let Some(element) = client.element_soon()? {
                if element.starts_with("<a ") {
                    self.acknowledge(run, attribute(&element, "h").unwrap().parse().unwrap());
                    break;
                }
                if element.starts_with("<message") && element.contains("type='error'") {
                    run.refused.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
        client.say("</stream:stream>")
    }
}

/// A recipient's connection: writes down what arrives, and acknowledges it.
fn receive(run: &Run, name: &str) -> io::Result<()> {
    let mut client = Client::log_in(run.address, name)?;
    client.bind()?;
    client.enable()?;
    client.say("<presence/>")?;
    let mut handled = 0;
    while !run.over.load(Ordering::SeqCst) {
        let Some(element) = client.element_soon()? else { continue };
        if element.starts_with("<message") {
            let (sender, n) = attribute(&element, "id").unwrap().split_once('-').unwrap();
            let mut arrived = run.arrived.lock().unwrap();
            arrived.entry(sender.parse().unwrap()).or_default().push(n.parse().unwrap());
        }
        if ["<message", "<presence", "<iq"].iter().any(|name| element.starts_with(name)) {
            handled += 1;
        }
        if element.starts_with("<r ") {
            client.say(&format!("<a xmlns='{SM}' h='{handled}'/>"))?;
        }
    }
    client.say("</stream:stream>")
}

/// Does something again and again until the run is over: the server dies now and then.
pub(crate) fn again_and_again(over: &AtomicBool, mut connection: impl FnMut() -> io::Result<()>) {
    while !over.load(Ordering::SeqCst) {
        if connection().is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Asks the server to become its own program anew. Nobody waits for the answer: it may be dead before.
pub(crate) fn begin_upgrade(data: &Path) -> Option<UnixStream> {
    let mut control = UnixStream::connect(data.join("control.sock")).ok()?;
    control.write_all(b"{\"v\":1,\"request\":\"upgrade\"}\n").ok()?;
    Some(control)
}

#[test]
fn what_was_acknowledged_survives_sigkill() {
    survive(CYCLES, |server, _, chance| {
        std::thread::sleep(Duration::from_millis(100 + chance % 900));
        server.kill();
    });
}

#[test]
fn what_was_acknowledged_survives_sigkill_at_any_point_of_an_upgrade() {
    survive(UPGRADES, |server, data, chance| {
        std::thread::sleep(Duration::from_millis(100 + chance % 400));
        let control = begin_upgrade(data);
        // An upgrade of this build takes some 200 ms on an idle machine: before, in the middle of it, and after.
        std::thread::sleep(Duration::from_millis((chance >> 10) % 400));
        server.kill();
        drop(control);
    });
}

/// Compares the directory with what the keeper knows, once it has read all that the killed server has told it.
fn compare(run: &Run, keeper: &Keeper, data: &Path) {
    let broken = run.broken.load(Ordering::SeqCst);
    wait_until("the keeper notices that the server is gone", || run.broken.load(Ordering::SeqCst) > broken);
    keeper.compare(&open_directory(data));
}

/// Every acknowledged message is in the archives of both sides, in order; those that were sent again may be there twice.
fn look_into_archives(data: &Path, count: impl Fn(usize) -> u64) {
    let (mut missing, mut twice) = (0, 0);
    let mut look = |found: &[u64], count: u64, is_meant: &dyn Fn(u64) -> bool| {
        let (lost, again) = archives::compare(found, count, is_meant);
        (missing, twice) = (missing + lost, twice + again);
    };
    for (name, rest) in [("reader", 0), ("absent", 1)] {
        let of_all = archives::numbers(data, name);
        for sender in 0..SENDERS {
            let found = of_all.get(&sender).map_or(&[][..], Vec::as_slice);
            look(found, count(sender), &|n| n % 2 == rest);
        }
    }
    for sender in 0..SENDERS {
        let own = archives::numbers(data, &format!("sender{sender}"));
        look(own.get(&sender).map_or(&[][..], Vec::as_slice), count(sender), &|_| true);
    }
    let all: u64 = (0..SENDERS).map(count).sum();
    println!(
        "of the archives: {} copies of acknowledged messages, {missing} missing, {twice} twice",
        2 * all
    );
    assert_eq!(missing, 0);
}

/// Lets clients talk while `disturb` kills the server, which is then started again, so many times.
#[expect(clippy::too_many_lines, reason = "a test that is one story")]
fn survive(cycles: u64, disturb: impl Fn(&mut Server, &Path, u64)) {
    let cycles = std::env::var("WHIMBREL_CRASH_CYCLES").map_or(cycles, |n| n.parse().unwrap());
    let data = tempfile::tempdir().unwrap();
    let names = (0..SENDERS).map(|n| format!("sender{n}")).chain(["reader".into(), "absent".into()]);
    let names = names.chain([keeper::NAME.into()]).chain((0..keeper::ASKED as u64).map(keeper::asked));
    create_accounts(data.path(), names);
    let run = Arc::new(Run {
        address: free_address(),
        calm: AtomicBool::new(false),
        over: AtomicBool::new(false),
        kept: AtomicBool::new(false),
        broken: AtomicU64::new(0),
        acknowledged: Default::default(),
        settled: Default::default(),
        arrived: Mutex::default(),
        refused: AtomicU64::new(0),
    });
    let mut server = Server::start(data.path(), run.address, CONFIG, None);
    let mut threads: Vec<_> = (0..SENDERS)
        .map(|number| {
            let run = run.clone();
            let mut sender = Sender {
                number,
                acknowledged: 0,
                unacknowledged: VecDeque::new(),
                next: 0,
                stream: None,
                h: 0,
            };
            std::thread::spawn(move || again_and_again(&run.over, || sender.connection(&run)))
        })
        .collect();
    let reader = run.clone();
    threads.push(std::thread::spawn(move || again_and_again(&reader.over, || receive(&reader, "reader"))));
    let keeper = Arc::new(Keeper::default());
    let (kept, its_run) = (keeper.clone(), run.clone());
    threads.push(std::thread::spawn(move || {
        again_and_again(&its_run.over, || {
            let ended = kept.connection(&its_run);
            its_run.broken.fetch_add(1, Ordering::SeqCst);
            ended
        });
    }));
    let mut chance = u64::from(std::process::id());
    for _ in 0..cycles {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        disturb(&mut server, data.path(), chance >> 33);
        compare(&run, &keeper, data.path());
        server = Server::start(data.path(), run.address, CONFIG, None);
    }
    run.calm.store(true, Ordering::SeqCst);
    wait_until("everything is acknowledged in the end", || {
        run.settled.iter().chain([&run.kept]).all(|settled| settled.load(Ordering::SeqCst))
    });
    let absent = run.clone();
    threads.push(std::thread::spawn(move || again_and_again(&absent.over, || receive(&absent, "absent"))));
    let count = |sender: usize| run.acknowledged[sender].load(Ordering::SeqCst);
    let missing = |run: &Run| -> u64 {
        let arrived = run.arrived.lock().unwrap();
        (0..SENDERS)
            .map(|sender| {
                let mut got = arrived.get(&sender).cloned().unwrap_or_default();
                got.sort_unstable();
                got.dedup();
                count(sender) - got.iter().filter(|n| **n < count(sender)).count() as u64
            })
            .sum()
    };
    // As long as something comes, more may come. Counting what is missing holds up those who receive, so it is done
    // when nothing has come for a moment.
    let arrivals = || run.arrived.lock().unwrap().values().map(Vec::len).sum::<usize>();
    let (mut seen, mut since) = (arrivals(), Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let now = arrivals();
        if now > seen {
            (seen, since) = (now, Instant::now());
        } else if missing(&run) == 0 || since.elapsed() > PATIENCE {
            break;
        }
    }
    run.over.store(true, Ordering::SeqCst);
    for thread in threads {
        thread.join().unwrap();
    }
    server.kill();
    keeper.compare(&open_directory(data.path()));
    look_into_archives(data.path(), count);
    let acknowledged: u64 = (0..SENDERS).map(count).sum();
    let (lost, refused) = (missing(&run), run.refused.load(Ordering::SeqCst));
    let arrived = run.arrived.lock().unwrap();
    let (mut delivered, mut duplicated) = (0, 0);
    for (sender, numbers) in arrived.iter() {
        // Reader and absent one have the even and the odd ones; each has them in order when each first comes.
        let mut newest = [None; 2];
        for &n in numbers {
            let newest = &mut newest[n as usize % 2];
            match *newest {
                Some(before) if n <= before => duplicated += 1,
                before => {
                    let next = before.map_or(n % 2, |before: u64| before + 2);
                    assert_eq!(n, next, "sender {sender}: a message was overtaken");
                    *newest = Some(n);
                    delivered += 1;
                }
            }
        }
    }
    println!(
        "{cycles} kills: {acknowledged} acknowledged, {delivered} delivered, {lost} lost, {duplicated} duplicated, \
         {refused} refused"
    );
    let (written, missing, errors) = keeper.outcome();
    println!("of the directory: {written} writes acknowledged, {} lost, {errors} refused", missing.len());
    assert_eq!(missing, [""; 0]);
    assert_eq!(errors, 0);
    // How much depends on what else the machine does.
    assert!(written > 0, "nothing was written");
    assert_eq!(lost, 0);
    assert_eq!(refused, 0);
    assert!(acknowledged > cycles, "hardly anything happened");
}
