//! The real program, killed at random moments: nothing that it has acknowledged is lost.
//!
//! Several senders with stream management write to two recipients, one who reads and one who is away until the end.
//! `whimbreld` is killed with SIGKILL and started again on the same data; senders send again what was not
//! acknowledged. Odd senders first try to resume, and believe the `h` of the refusal. At the end every acknowledged
//! message must have arrived, and each sender's messages in order.
//!
//! ```text
//! cargo test -p whimbrel-server --test crash -- --nocapture                  twenty kills
//! WHIMBREL_CRASH_CYCLES=200 cargo test -p whimbrel-server --test crash …     more of them
//! ```
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::{Directory, Options, run_inline};

/// Kills of an ordinary run.
const CYCLES: u64 = 20;

/// Clients that write.
const SENDERS: usize = 4;

/// Messages of one sender that may be unacknowledged.
const WINDOW: usize = 200;

/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

const SM: &str = "urn:xmpp:sm:3";

/// What all threads of a run share.
struct Run {
    address: SocketAddr,
    /// Senders write nothing new.
    calm: AtomicBool,
    /// Everybody leaves.
    over: AtomicBool,
    /// Messages that were acknowledged: how many of each sender, which are his first ones.
    acknowledged: [AtomicU64; SENDERS],
    /// Senders that have nothing unacknowledged, and are calm.
    settled: [AtomicBool; SENDERS],
    /// Each sender's messages as they arrived, duplicates included.
    arrived: Mutex<BTreeMap<usize, Vec<u64>>>,
    /// Errors that came back.
    refused: AtomicU64,
}

/// A connection that speaks just enough XMPP.
struct Client {
    socket: TcpStream,
    input: Vec<u8>,
}

impl Client {
    /// Connects, logs in and stands before binding a resource.
    fn log_in(address: SocketAddr, name: &str) -> io::Result<Client> {
        let socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.set_write_timeout(Some(Duration::from_secs(10)))?;
        let mut client = Client { socket, input: Vec::new() };
        client.open()?;
        let secret = STANDARD.encode(format!("\0{name}\0secret"));
        client.say(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"
        ))?;
        let answer = client.element()?;
        if !answer.starts_with("<success") {
            return Err(io::Error::other(answer));
        }
        client.open()?;
        Ok(client)
    }

    fn open(&mut self) -> io::Result<()> {
        self.say(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>",
        )?;
        while !self.element()?.starts_with("<stream:features") {}
        Ok(())
    }

    fn bind(&mut self) -> io::Result<()> {
        self.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")?;
        while !self.element()?.contains("<jid") {}
        Ok(())
    }

    /// Enables stream management; the stream's name.
    fn enable(&mut self) -> io::Result<String> {
        self.say(&format!("<enable xmlns='{SM}' resume='true'/>"))?;
        let enabled = self.element()?;
        attribute(&enabled, "id").map(str::to_owned).ok_or_else(|| io::Error::other(enabled))
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.socket.write_all(text.as_bytes())
    }

    /// The next first-level element as text. Knows only what the server says in these tests: no element is nested in
    /// one of the same name.
    fn element(&mut self) -> io::Result<String> {
        loop {
            if let Some(element) = take_element(&mut self.input) {
                return Ok(element);
            }
            let mut buffer = [0; 16 * 1024];
            match self.socket.read(&mut buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => self.input.extend_from_slice(&buffer[..n]),
            }
        }
    }

    /// As [`Client::element`]; `None` when nothing comes for a moment.
    fn element_soon(&mut self) -> io::Result<Option<String>> {
        self.socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        match self.element() {
            Ok(element) => Ok(Some(element)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn take_element(input: &mut Vec<u8>) -> Option<String> {
    let text = std::str::from_utf8(input).expect("these tests speak ASCII");
    let begin = text.find('<')?;
    let rest = &text[begin..];
    let tag_end = rest.find('>')?;
    let name = rest[1..].split([' ', '>', '/']).next()?;
    let length = if rest.starts_with("<?") || name == "stream:stream" || rest[..tag_end].ends_with('/') {
        tag_end + 1
    } else {
        let close = format!("</{name}>");
        rest.find(&close)? + close.len()
    };
    let element = rest[..length].to_owned();
    input.drain(..begin + length);
    Some(element)
}

/// The value of an attribute of a start tag.
fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let tag = &element[..element.find('>')?];
    let (_, rest) = tag.split_once(&format!(" {name}="))?;
    let quote = rest.chars().next()?;
    rest[1..].split(quote).next()
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
fn again_and_again(run: &Run, mut connection: impl FnMut(&Run) -> io::Result<()>) {
    while !run.over.load(Ordering::SeqCst) {
        if connection(run).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn create_accounts(data: &Path) {
    let options = Options { domain: "localhost".into(), map_bytes_max: 1 << 30, ..Options::default() };
    let directory = Directory::open(&data.join("directory"), &options).unwrap();
    let names = (0..SENDERS).map(|n| format!("sender{n}")).chain(["reader".into(), "absent".into()]);
    for name in names {
        let credentials = Credentials::derive("secret", NonZeroU32::new(1024).unwrap()).unwrap();
        let job = Box::new(move |transaction: &mut whimbrel_storage::directory::WriteTransaction<'_>| {
            transaction.create_account(&name, &credentials)
        });
        assert!(run_inline(&directory, job).unwrap());
    }
}

/// A port that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running server; killed when the test is over, however it ends.
struct Server(Child);

impl Server {
    fn kill(&mut self) {
        // It may have ended by itself; whether it should have shows elsewhere.
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn start(data: &Path, address: SocketAddr) -> Server {
    let config = data.join("whimbrel.toml");
    // The absent one misses half of everything: no quota is to end that before the test does.
    let text = "log_segment_mib = 2\ndirectory_gib_max = 1\npin_workers = false\n\
                [limits]\noffline_messages = 10000000\noffline_bytes = 4000000000\n";
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_whimbreld"))
        .arg("--config")
        .arg(config)
        .arg("--data")
        .arg(data)
        .args(["--workers", "2", "--allow-plaintext", "--listen", &address.to_string()])
        .args(["--listen-tls", &format!("127.0.0.1:{}", free_port())])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let since = Instant::now();
    while TcpStream::connect(address).is_err() {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("the server did not start: {status}");
        }
        assert!(since.elapsed() < PATIENCE, "the server does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    Server(child)
}

fn wait_until(what: &str, reached: impl Fn() -> bool) {
    let since = Instant::now();
    while !reached() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_was_acknowledged_survives_sigkill() {
    let cycles = std::env::var("WHIMBREL_CRASH_CYCLES").map_or(CYCLES, |n| n.parse().unwrap());
    let data = tempfile::tempdir().unwrap();
    create_accounts(data.path());
    let run = Arc::new(Run {
        address: SocketAddr::from(([127, 0, 0, 1], free_port())),
        calm: AtomicBool::new(false),
        over: AtomicBool::new(false),
        acknowledged: Default::default(),
        settled: Default::default(),
        arrived: Mutex::default(),
        refused: AtomicU64::new(0),
    });
    let mut server = start(data.path(), run.address);
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
            std::thread::spawn(move || again_and_again(&run, |run| sender.connection(run)))
        })
        .collect();
    let reader = run.clone();
    threads.push(std::thread::spawn(move || again_and_again(&reader, |run| receive(run, "reader"))));
    let mut chance = u64::from(std::process::id());
    for _ in 0..cycles {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(100 + (chance >> 33) % 900));
        server.kill();
        server = start(data.path(), run.address);
    }
    run.calm.store(true, Ordering::SeqCst);
    wait_until("everything is acknowledged in the end", || {
        run.settled.iter().all(|settled| settled.load(Ordering::SeqCst))
    });
    let absent = run.clone();
    threads.push(std::thread::spawn(move || again_and_again(&absent, |run| receive(run, "absent"))));
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
    assert_eq!(lost, 0);
    assert_eq!(refused, 0);
    assert!(acknowledged > 100 * cycles, "hardly anything happened");
}
