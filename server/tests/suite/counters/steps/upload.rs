//! Uploads.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use whimbrel_server::config::Config;
use whimbrel_storage::directory::run_inline;

use super::{PLAIN, Verona};
use crate::counters::stage::Step;
use crate::support::Client;
use crate::support::answers::payload;
use crate::support::with_http;

fn on(config: &mut Config) {
    with_http(config, false);
    config.upload.mib_left_free = 0;
    config.upload.file_mib_max = 1;
    config.upload.account_files_per_day = 20;
}

fn ask(client: &mut Client, bytes: usize) -> whimbrel_server::xml::Element {
    let request = format!("<request xmlns='urn:xmpp:http:upload:0' filename='a' size='{bytes}'/>");
    client.ask("get", Some("upload.localhost"), &request)
}

/// Path and query of a new slot for five bytes.
fn slot(client: &mut Client) -> String {
    let answer = ask(client, 5);
    let put = payload(&answer).find("put", "urn:xmpp:http:upload:0").unwrap().attribute("url").unwrap();
    put[put.find("/upload/").unwrap()..].to_owned()
}

/// Sends a request and waits for the beginning of the answer; the connection goes on.
fn send(server: &Verona, head: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.http_address()).unwrap();
    write!(stream, "{head}\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", 5).unwrap();
    stream
}

fn put(server: &Verona, path: &str, body: &str) -> TcpStream {
    send(server, &format!("PUT {path} HTTP/1.1"), body)
}

/// An object store with an upload that nobody finishes, which takes no object.
fn refusing_store() -> SocketAddr {
    const UNFINISHED: &str = "<ListMultipartUploadsResult><Upload><Key>uploads/07/000000000000000007\
        070707070707070707070707070707</Key><UploadId>7</UploadId></Upload></ListMultipartUploadsResult>";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |stream: TcpStream| -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let (mut method, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if method.is_empty() {
                method = line.split(' ').next().unwrap_or_default().to_owned();
            }
            if let Some(field) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = field.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        reader.read_exact(&mut vec![0; length])?;
        let (status, body) = match &*method {
            "GET" => ("200 OK", UNFINISHED),
            "DELETE" => ("204 No Content", ""),
            _ => ("503 Slow Down", ""),
        };
        let length = body.len();
        let stream = reader.get_mut();
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that has gone hears nothing.
            let _ = answer(stream);
        }
    });
    address
}

/// The steps.
pub(super) const STEPS: &[Step<Verona>] = &[
    Step {
        what: "a file comes and goes",
        configure: on,
        act: |stage, server| {
            let mut juliet = server.login("juliet", "balcony");
            let path = slot(&mut juliet);
            stage.until("upload.slots");
            let mut slow = put(server, &path, "he");
            stage.until("upload.transfers");
            let again = put(server, &path, "hello");
            stage.until("upload.refused.slot");
            drop(again);
            slow.write_all(b"llo").unwrap();
            stage.until("upload.files");
            stage.until("upload.bytes");
            stage.until("upload.received");
            let file = path.split('?').next().unwrap();
            let got = send(server, &format!("GET {file} HTTP/1.1"), "hello");
            stage.until("upload.sent");
            drop(got);
            let directory = &server.server.shared.directory;
            // While somebody copies, nothing is removed from the disk.
            let kept = directory.keep_uploads();
            let ended = run_inline(directory, Box::new(|t| t.end_uploads(0, u64::MAX, 10))).unwrap();
            assert_eq!(ended, (0, 1));
            stage.until("upload.erasures");
            drop(kept);
            stage.until("upload.erased");
        },
        moves: &[
            "upload.slots",
            "upload.transfers",
            "upload.refused.slot",
            "upload.stored",
            "upload.files",
            "upload.bytes",
            "upload.received",
            "upload.served",
            "upload.sent",
            "upload.erasures",
            "upload.erased",
        ],
        ..PLAIN
    },
    Step {
        what: "slots end that nobody has used",
        configure: |config| {
            on(config);
            config.upload.slot_seconds = 1;
            config.upload.transfer_seconds = 1;
        },
        act: |stage, server| {
            let mut juliet = server.login("juliet", "balcony");
            slot(&mut juliet);
            stage.until("upload.ended");
        },
        moves: &["upload.ended"],
        ..PLAIN
    },
    Step {
        what: "uploads are not what they were to be",
        configure: |config| {
            on(config);
            config.upload.transfers_per_address = 1;
        },
        act: |stage, server| {
            let mut juliet = server.login("juliet", "balcony");
            let (path, other) = (slot(&mut juliet), slot(&mut juliet));
            let _unknown = put(server, path.split('?').next().unwrap(), "hello");
            stage.until("upload.refused.url");
            let mut stream = TcpStream::connect(server.http_address()).unwrap();
            write!(stream, "PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nhell")
                .unwrap();
            stage.until("upload.refused.unlike");
            let slow = put(server, &path, "he");
            stage.until("upload.received");
            let _second = put(server, &other, "hello");
            stage.until("upload.refused.busy");
            drop(slow);
            stage.until("upload.broken");
        },
        moves: &["upload.refused.url", "upload.refused.unlike", "upload.refused.busy", "upload.broken"],
        ..PLAIN
    },
    Step {
        what: "the disk has no room",
        configure: |config| {
            on(config);
            config.upload.mib_left_free = u32::MAX;
        },
        act: |stage, server| {
            let mut juliet = server.login("juliet", "balcony");
            let path = slot(&mut juliet);
            let _full = put(server, &path, "hello");
            stage.until("upload.refused.disk");
        },
        moves: &["upload.refused.disk"],
        ..PLAIN
    },
    Step {
        what: "the object store takes its time, and then refuses",
        configure: |config| {
            on(config);
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("s3-key");
            std::fs::write(&file, "not-a-secret").unwrap();
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            config.upload.s3.bucket = "files".into();
            config.upload.s3.allow_http = true;
            config.upload.s3.endpoint = format!("http://{}", refusing_store());
            config.upload.s3.access_key_file = file.clone();
            config.upload.s3.secret_key_file = file;
        },
        act: |stage, server| {
            let mut juliet = server.login("juliet", "balcony");
            let path = slot(&mut juliet);
            let mut slow = put(server, &path, "he");
            stage.until("upload.s3.held");
            stage.until("upload.s3.aborted");
            slow.write_all(b"llo").unwrap();
            stage.until("upload.s3.failed");
        },
        moves: &["upload.s3.held", "upload.s3.requests", "upload.s3.failed", "upload.s3.aborted"],
        ..PLAIN
    },
    Step {
        what: "slots are refused",
        configure: |config| {
            on(config);
            config.upload.account_files_per_day = 1;
        },
        act: |stage, server| {
            let mut juliet = server.login("juliet", "balcony");
            ask(&mut juliet, 2 << 20);
            ask(&mut juliet, 5);
            ask(&mut juliet, 5);
            stage.until("refused.upload_limits");
        },
        moves: &["refused.upload_bytes", "refused.upload_limits"],
        ..PLAIN
    },
];
