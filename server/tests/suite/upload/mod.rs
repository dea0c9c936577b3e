//! HTTP upload (XEP-0363), against a real server: slots over XMPP, files over HTTP.

mod hostile;
mod limits;
mod program;
mod transfers;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use whimbrel_server::config::Config;
use whimbrel_server::http::metrics::UploadMetrics;
use whimbrel_server::xml::Element;
use whimbrel_stats::Block;

use crate::support::Client;
use crate::support::answers::payload;
use crate::support::{PATIENCE, TestServer, drivers, with_http};

/// A server that takes uploads, without TLS. The drivers of the workers have nothing to do with it.
fn with_server(configure: impl Fn(&mut Config), test: impl FnOnce(&TestServer)) {
    let server = TestServer::start(drivers()[0], |config| {
        with_http(config, false);
        config.upload.mib_left_free = 0;
        configure(config);
    });
    server.accounts(&["juliet", "romeo"]);
    test(&server);
}

/// What a client is given: the path and query of its URLs.
#[derive(Clone, Debug)]
struct Slot {
    put: String,
    get: String,
}

fn request(name: &str, bytes: usize, media: &str) -> String {
    let media = if media.is_empty() { String::new() } else { format!(" content-type='{media}'") };
    format!("<request xmlns='urn:xmpp:http:upload:0' filename='{name}' size='{bytes}'{media}/>")
}

fn ask(client: &mut Client, name: &str, bytes: usize, media: &str) -> Element {
    client.ask("get", Some("upload.localhost"), &request(name, bytes, media))
}

fn slot(client: &mut Client, name: &str, bytes: usize, media: &str) -> Slot {
    let answer = ask(client, name, bytes, media);
    let path = |part: &str| {
        let url = payload(&answer).find(part, "urn:xmpp:http:upload:0").unwrap().attribute("url").unwrap();
        let (_, rest) = url.split_once("://localhost:").expect("the server's domain and port");
        rest[rest.find('/').unwrap()..].to_owned()
    };
    Slot { put: path("put"), get: path("get") }
}

fn connect(server: &TestServer) -> TcpStream {
    let stream = TcpStream::connect(server.http_address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// An answer: status, head, body.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// Everything that comes until the server ends the connection.
    fn of(mut stream: TcpStream) -> Answer {
        let mut bytes = Vec::new();
        // What was not read when the server closed makes a reset of it.
        let _ = stream.read_to_end(&mut bytes);
        Answer::read(&bytes).expect("an answer")
    }

    fn read(bytes: &[u8]) -> Option<Answer> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, head, body: bytes[end..].to_vec() })
    }

    fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The end of a problem's type.
    fn problem(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let kind = problem["type"].as_str().and_then(|typ| typ.strip_prefix("urn:whimbrel:problem:"));
        kind.unwrap_or_default().to_owned()
    }
}

fn send(server: &TestServer, head: &str, body: &[u8]) -> Answer {
    let mut stream = connect(server);
    stream.write_all(head.as_bytes()).unwrap();
    // The server may have answered before all of it has come.
    let _ = stream.write_all(body);
    Answer::of(stream)
}

fn put_head(path: &str, fields: &str) -> String {
    format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n")
}

fn put(server: &TestServer, path: &str, media: &str, body: &[u8]) -> Answer {
    let media = if media.is_empty() { String::new() } else { format!("Content-Type: {media}\r\n") };
    send(server, &put_head(path, &format!("{media}Content-Length: {}\r\n", body.len())), body)
}

fn get(server: &TestServer, path: &str, fields: &str) -> Answer {
    ask_for(server, "GET", path, fields)
}

fn ask_for(server: &TestServer, method: &str, path: &str, fields: &str) -> Answer {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n");
    send(server, &head, b"")
}

/// Uploads a file; the path from which it is got.
fn upload(server: &TestServer, client: &mut Client, name: &str, media: &str, body: &[u8]) -> Slot {
    let slot = slot(client, name, body.len(), media);
    let answer = put(server, &slot.put, media, body);
    assert_eq!(answer.status, 201, "{answer:?}");
    slot
}

/// Waits for something that comes about in its own time.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: it does not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes that repeat at no power of two.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

/// Files in the folder of the server's uploads, those that come included.
fn files(server: &TestServer) -> (usize, usize) {
    let folder = server.server.config().data.join("uploads");
    let (mut whole, mut coming) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let count = std::fs::read_dir(entry.path()).unwrap().count();
        match entry.file_name() == "incoming" {
            true => coming += count,
            false => whole += count,
        }
    }
    (whole, coming)
}

/// A figure of uploads.
fn counted(server: &TestServer, name: &str) -> u64 {
    let at = UploadMetrics::DESCRIPTIONS.iter().position(|metric| metric.name == name).expect("a metric");
    server.server.shared.stats.upload[0].values()[at]
}
