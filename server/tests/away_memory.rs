//! What a session without a connection holds of what is said in its room, counted by the allocator over the whole process.
//!
//! Clients log in, enter a room, and lose their connections; then one of them speaks. What is allocated and not freed while it does is
//! what the others' sessions keep, with what the room and its archive have of each message once.
//!
//! `WHIMBREL_SEATS` and `WHIMBREL_MESSAGES` change how many there are of each, `WHIMBREL_DETACHED_BYTES` up to what copies are kept
//! (`limits.detached_bytes`; a sixteenth of it).
#![expect(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use whimbrel_server::boot::Server;
use whimbrel_server::config::{Config, HttpConfig};
use whimbrel_server::metrics;
use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::run_inline;

/// Bytes that a session may hold for what was said: references, and the copies that let it go on at once after a moment.
const SEAT_BYTES_MAX: i64 = 16 * 1024;

/// Bytes of a body.
const BODY: usize = 800;

const PATIENCE: Duration = Duration::from_secs(120);
const PASSWORD: &str = "wherefore art thou";

struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);

fn count(bytes: i64) {
    LIVE.fetch_add(bytes, Ordering::Relaxed);
}

// SAFETY: everything is left to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn number_of(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap())
}

fn name(number: usize) -> String {
    format!("user{number}")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().chain([&0, &0]).take(3).fold(0, |group, byte| group << 8 | u32::from(*byte));
        for at in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * at) & 63) as usize] as char;
            text.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

/// A client that knows no more of XML than where texts end that it waits for.
struct Client {
    wire: TcpStream,
    heard: Vec<u8>,
}

impl Client {
    fn log_in(address: SocketAddr, name: &str) -> Client {
        let wire = TcpStream::connect(address).unwrap();
        wire.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client { wire, heard: Vec::new() };
        let header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>";
        client.say(header, "</stream:features>");
        let auth = base64(format!("\0{name}\0{PASSWORD}").as_bytes());
        client.say(
            &format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{auth}</auth>"),
            "<success",
        );
        client.say(header, "</stream:features>");
        let bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind>";
        client.say(&format!("<iq type='set' id='bind'>{bind}</iq>"), "</iq>");
        client.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>", "<enabled");
        let x = "<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x>";
        client.say(&format!("<presence to='hall@conference.localhost/{name}'>{x}</presence>"), "<subject");
        client
    }

    /// Says something, and waits until it hears this.
    fn say(&mut self, text: &str, answer: &str) {
        self.wire.write_all(text.as_bytes()).unwrap();
        let since = Instant::now();
        let mut buffer = [0; 16 * 1024];
        loop {
            let found = self.heard.windows(answer.len()).position(|window| window == answer.as_bytes());
            if let Some(at) = found {
                self.heard.drain(..at + answer.len());
                return;
            }
            let length = self.wire.read(&mut buffer).unwrap();
            assert!(length > 0 && since.elapsed() < PATIENCE, "{}", String::from_utf8_lossy(&self.heard));
            self.heard.extend_from_slice(&buffer[..length]);
        }
    }
}

fn metric(server: &Server, name: &str) -> u64 {
    let totals = metrics::totals(&server.shared.metrics);
    totals.into_iter().find(|(description, _)| description.name == name).unwrap().1
}

fn await_metric(server: &Server, name: &str, wanted: u64) {
    let since = Instant::now();
    while metric(server, name) < wanted {
        assert!(since.elapsed() < PATIENCE, "{name} is {}, not {wanted}", metric(server, name));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_seat_without_a_connection_holds_little_of_what_is_said() {
    for archive in ["1", "0"] {
        let each = held_by_a_seat(archive);
        assert!(
            each <= SEAT_BYTES_MAX,
            "a seat holds {each} bytes of what was said, with archive: {archive}"
        );
    }
}

/// Bytes that a seat holds of what was said in a room with or without an archive.
fn held_by_a_seat(archive: &str) -> i64 {
    let (seats, messages) = (number_of("WHIMBREL_SEATS", 200), number_of("WHIMBREL_MESSAGES", 100));
    let data = tempfile::tempdir().unwrap();
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = Config {
        data: data.path().to_owned(),
        listen: vec![loopback],
        listen_tls: vec![loopback],
        http: HttpConfig { listen: Vec::new(), ..HttpConfig::default() },
        workers: 2,
        pin_workers: false,
        allow_plaintext: true,
        directory_gib_max: 1,
        ..Config::default()
    };
    config.rooms.occupants_max = 2000;
    config.rooms.occupant_messages_per_second = 10_000;
    config.rooms.room_messages_per_second = 10_000;
    let detached_bytes = number_of("WHIMBREL_DETACHED_BYTES", config.limits.detached_bytes as usize);
    config.limits.detached_bytes = u32::try_from(detached_bytes).unwrap();
    let server = Server::start(config).unwrap_or_else(|error| panic!("no server: {error}"));
    let credentials = Credentials::derive(PASSWORD, NonZeroU32::new(4096).unwrap()).unwrap();
    for number in 0..=seats {
        let (name, credentials) = (name(number), credentials.clone());
        let made = run_inline(
            &server.shared.directory,
            Box::new(move |transaction| transaction.create_account(&name, &credentials)),
        );
        assert!(made.unwrap());
    }
    let address = server.listening[0];
    let mut speaker = Client::log_in(address, &name(0));
    let form = format!(
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>\
         <value>http://jabber.org/protocol/muc#roomconfig</value></field>\
         <field var='muc#roomconfig_enablearchiving'><value>{archive}</value></field></x>"
    );
    let query = format!("<query xmlns='http://jabber.org/protocol/muc#owner'>{form}</query>");
    speaker.say(
        &format!("<iq type='set' id='open' to='hall@conference.localhost'>{query}</iq>"),
        "type='result'",
    );
    for number in 1..=seats {
        drop(Client::log_in(address, &name(number)));
    }
    await_metric(&server, "sm.detached", seats as u64);
    // What they were sent of one another comes to rest.
    std::thread::sleep(Duration::from_secs(2));
    let before = LIVE.load(Ordering::Relaxed);
    let delivered = metric(&server, "rooms.deliveries");
    let body = "x".repeat(BODY);
    for number in 0..messages {
        let message = format!("<message type='groupchat' to='hall@conference.localhost' id='m{number}'>");
        speaker.say(&format!("{message}<body>{body}</body></message>"), &format!("id='m{number}'"));
    }
    await_metric(&server, "rooms.deliveries", delivered + (messages * (seats + 1)) as u64);
    std::thread::sleep(Duration::from_secs(2));
    let held = LIVE.load(Ordering::Relaxed) - before;
    let each = held / seats as i64;
    println!(
        "{messages} messages of {BODY} bytes to {seats} seats without a connection: {held} bytes, {each} a seat; \
         {} references, {} texts spooled",
        metric(&server, "sm.references"),
        metric(&server, "sm.spooled")
    );
    assert_eq!(metric(&server, "rooms.seats_lost"), 0);
    each
}
