//! WebSocket and BOSH in the real programs: live upgrades, and addresses that others have.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use crate::support::{PATIENCE, Place, Server, whimbreld};

const HANDSHAKE: &str = "GET /xmpp-websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n";

const OPEN: &str = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>";

/// A client that shows each byte of its frames.
struct Web {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Web {
    fn connect(place: &Place) -> Web {
        let address = http_address(place);
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut web = Web { stream, heard: Vec::new() };
        web.send(HANDSHAKE.as_bytes());
        web.hear("101 Switching Protocols");
        web.hear("\r\n\r\n");
        web
    }

    /// With account `alice` and password `p`.
    fn login(place: &Place) -> Web {
        let mut web = Web::connect(place);
        web.say(OPEN);
        web.hear("</stream:features>");
        // \0alice\0p
        web.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGFsaWNlAHA=</auth>");
        web.hear("<success");
        web.say(OPEN);
        web.hear("</stream:features>");
        web.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>w</resource></bind></iq>");
        web.hear("</jid>");
        web
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    fn say(&mut self, text: &str) {
        let bytes = frame(text);
        self.send(&bytes);
    }

    /// Waits for a text, and forgets what has come up to its end.
    fn hear(&mut self, text: &str) {
        loop {
            let found = self.heard.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                self.heard.drain(..at + text.len());
                return;
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).expect("something comes");
            assert!(count > 0, "waited for {text:?}: {}", self.heard.escape_ascii());
            self.heard.extend_from_slice(&buffer[..count]);
        }
    }
}

/// A frame whose mask changes nothing.
fn frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    let [high, low] = length.to_be_bytes();
    let head: &[u8] = match length {
        0..=125 => &[0x81, 0x80 | low, 0, 0, 0, 0],
        _ => &[0x81, 0xFE, high, low, 0, 0, 0, 0],
    };
    [head, text.as_bytes()].concat()
}

fn http_address(place: &Place) -> String {
    place.json(&["status"])["listen_http"][0].as_str().expect("an address").to_owned()
}

fn start(place: &Place, more: &str) -> Server {
    let text = format!(
        "workers = 2\nallow_plaintext = true\npin_workers = false\nlisten = ['127.0.0.1:0']\n\
         listen_tls = ['127.0.0.1:0']\nlog_segment_mib = 2\ndirectory_gib_max = 1\n[http]\n\
         listen = ['127.0.0.1:0']\ntls = false\n{more}"
    );
    let config = place.file("w.toml", text);
    let mut command = Command::new(whimbreld());
    command.arg("--data").arg(place.data()).arg("--config").arg(config);
    Server::start(command)
}

fn ping(id: &str) -> String {
    format!("<iq type='get' id='{id}' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
}

#[test]
fn a_websocket_lives_through_upgrades_in_the_midst_of_frames() {
    let place = Place::new();
    assert_eq!(place.ctl(&["user", "add", "--create", "alice@localhost", "--password", "p"]).code, 0);
    let mut server = start(&place, "");
    let address = http_address(&place);
    let mut alice = Web::login(&place);
    // One that has not logged in goes along as well.
    let mut stranger = Web::connect(&place);
    stranger.say(OPEN);
    stranger.hear("</stream:features>");
    let whole = frame(&ping("cut"));
    // In the head, behind the head, in the element, before the end, and between two frames.
    for cut in [1, 4, 8, 20, whole.len() - 1, whole.len()] {
        alice.send(&whole[..cut]);
        let answer = place.json(&["upgrade"]);
        let carried = ["sessions", "negotiating", "closed"].map(|key| answer[key].clone());
        assert_eq!(carried, [1.into(), 1.into(), serde_json::json!({})], "{answer}");
        alice.send(&whole[cut..]);
        alice.hear("id='cut'");
        alice.say(&ping("after"));
        alice.hear("id='after'");
    }
    // A message in fragments, with a ping in the midst of it.
    let text = ping("fragments");
    let (front, back) = text.split_at(10);
    let fragment = |first, text: &str| [&[first], &frame(text)[1..]].concat();
    alice.send(&fragment(0x01, front));
    alice.send(&fragment(0x89, "one"));
    alice.hear("\u{3}one");
    assert_eq!(place.json(&["upgrade"])["sessions"], 1);
    alice.send(&fragment(0x89, "two"));
    alice.hear("\u{3}two");
    alice.send(&fragment(0x80, back));
    alice.hear("id='fragments'");
    stranger.say("<r xmlns='urn:xmpp:sm:3'/>");
    stranger.hear("<failed");
    // The listener is the same one, and the new program shakes hands.
    assert_eq!(http_address(&place), address);
    Web::login(&place).say(&ping("new"));
    let listed = place.json(&["sessions"]);
    let transports: Vec<_> =
        listed["sessions"].as_array().expect("a list").iter().map(|s| &s["transport"]).collect();
    assert!(transports.iter().all(|transport| *transport == "websocket"), "{listed}");
    drop((alice, stranger));
    assert_eq!(place.ctl(&["stop"]).code, 0);
    assert!(server.end().success());
}

/// A client of BOSH that makes one request after another, each on a connection of its own.
struct Bosh {
    address: String,
    sid: String,
    rid: u64,
    /// A request that is held.
    held: Option<TcpStream>,
    heard: String,
}

impl Bosh {
    fn login(place: &Place) -> Bosh {
        let address = http_address(place);
        let mut bosh = Bosh { address, sid: String::new(), rid: 7, held: None, heard: String::new() };
        let answer = bosh.ask("to='localhost' wait='60' hold='1' ver='1.6'", "");
        let (_, rest) = answer.split_once(" sid='").expect("a session");
        bosh.sid = rest.split_once('\'').expect("its id").0.to_owned();
        bosh.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGFsaWNlAHA=</auth>");
        bosh.hear("<success");
        let sid = bosh.sid.clone();
        let restart = format!("sid='{sid}' to='localhost' x:restart='true' xmlns:x='urn:xmpp:xbosh'");
        bosh.heard = bosh.ask(&restart, "");
        bosh.hear("</stream:features>");
        bosh.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>b</resource></bind></iq>");
        bosh.hear("</jid>");
        bosh
    }

    /// The request with this number.
    fn post(&self, rid: u64, attributes: &str, payload: &str) -> TcpStream {
        let xmlns = "xmlns='http://jabber.org/protocol/httpbind'";
        let body = format!("<body rid='{rid}' {attributes} {xmlns}>{payload}</body>");
        let mut stream = TcpStream::connect(&self.address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let head = "POST /http-bind HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        let text = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(text.as_bytes()).expect("the server reads");
        stream
    }

    fn ask(&mut self, attributes: &str, payload: &str) -> String {
        self.rid += 1;
        answer(self.post(self.rid, attributes, payload))
    }

    /// Sends something, and remembers what it is answered; what was held before is answered first.
    fn say(&mut self, payload: &str) {
        self.rid += 1;
        let request = self.post(self.rid, &format!("sid='{}'", self.sid), payload);
        if let Some(held) = self.held.replace(request) {
            self.heard += &answer(held);
        }
    }

    fn hear(&mut self, text: &str) {
        while !self.heard.contains(text) {
            match self.held.take() {
                Some(held) => self.heard += &answer(held),
                None => self.say(""),
            }
        }
        self.heard.clear();
    }
}

/// The body of an answer that is 200.
fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole answer");
    assert!(head.starts_with("HTTP/1.1 200 "), "{text}");
    body.to_owned()
}

#[test]
fn a_session_of_bosh_lives_through_upgrades_and_ends_with_a_restart() {
    let place = Place::new();
    assert_eq!(place.ctl(&["user", "add", "--create", "alice@localhost", "--password", "p"]).code, 0);
    let mut server = start(&place, "bosh_wait_seconds = 60");
    let mut alice = Bosh::login(&place);
    let mut other = Web::login(&place);
    for round in 0..3 {
        // A request that is held is answered before, one whose answer was lost is answered again after.
        alice.say("");
        let upgraded = place.json(&["upgrade"]);
        let carried = (&upgraded["sessions"], &upgraded["closed"]);
        assert_eq!(carried, (&2.into(), &serde_json::json!({})), "{upgraded}");
        let held = alice.held.take().expect("a request");
        let body = answer(held);
        assert!(!body.contains("terminate"), "round {round}: {body}");
        let again = answer(alice.post(alice.rid, &format!("sid='{}'", alice.sid), ""));
        assert_eq!(again, body, "round {round}");
        alice.say(&ping("after"));
        alice.hear("id='after'");
        // What comes for her while she asks for nothing goes along.
        other.say(&format!(
            "<message to='alice@localhost/b' type='chat' id='m{round}'><body>b</body></message>"
        ));
        other.say(&ping("sent"));
        other.hear("id='sent'");
        assert_eq!(place.json(&["upgrade"])["sessions"], 2);
        alice.hear(&format!("id='m{round}'"));
    }
    drop(other);
    assert_eq!(place.ctl(&["stop"]).code, 0);
    assert!(server.end().success());
    let mut server = start(&place, "");
    alice.address = http_address(&place);
    let sid = alice.sid.clone();
    let body = alice.ask(&format!("sid='{sid}'"), "");
    assert!(body.contains("condition='item-not-found'"), "{body}");
    Bosh::login(&place);
    assert_eq!(place.ctl(&["stop"]).code, 0);
    assert!(server.end().success());
}

#[test]
fn the_address_that_nobody_asked_for_may_be_anothers_and_any_other_may_not() {
    let place = Place::new();
    // Either this has it or another program does.
    let _taken = TcpListener::bind("127.0.0.1:5443");
    let mut command = Command::new(whimbreld());
    command.arg("--data").arg(place.data());
    command.args(["--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--workers", "1"]);
    let mut server = Server::start(command);
    assert_eq!(place.json(&["status"])["listen_http"], serde_json::json!([]));
    assert_eq!(place.ctl(&["stop"]).code, 0);
    assert!(server.end().success());
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it has one").to_string();
    let args = ["--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--listen-http", &address];
    let said = ["cannot listen on", &address, "`http.listen`", "--listen-http none"];
    place.no_server(&args).fails(1, &said);
    place.no_server(&[&args[..], &["--check"]].concat()).fails(1, &said);
}
