//! `wsar serve` from outside.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use crate::support::{PATIENCE, Running, wsar};

/// A page's server without a server behind it, and its address.
pub(crate) fn serve(data: &Path) -> (Running, String) {
    serve_with(data, None)
}

/// The same, with a token.
pub(crate) fn serve_with(data: &Path, token: Option<&str>) -> (Running, String) {
    let mut command = wsar(data, &["serve", "--listen", "127.0.0.1:0", "--pages", "1"]);
    if let Some(token) = token {
        command.env("WSAR_TOKEN", token);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program runs");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let running = Running(child);
    let mut line = String::new();
    out.read_line(&mut line).expect("it says where it listens");
    let address = line.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix('/'));
    (running, address.expect("an address").to_owned())
}

/// Head and body of the answer to a request.
pub(crate) fn request(address: &str, line: &str, fields: &str) -> (String, String) {
    let text = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n");
    let mut heard = String::new();
    say(address, &text).read_to_string(&mut heard).expect("an answer");
    let (head, body) = heard.split_once("\r\n\r\n").expect("a head");
    (format!("{head}\r\n"), body.to_owned())
}

fn say(address: &str, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(text.as_bytes()).expect("it reads");
    stream
}

/// The whole answer to a request for `/metrics`.
fn metrics(address: &str, fields: &str) -> String {
    let mut stream = say(address, &format!("GET /metrics HTTP/1.1\r\n{fields}Connection: close\r\n\r\n"));
    let mut heard = String::new();
    stream.read_to_string(&mut heard).expect("an answer");
    heard
}

#[test]
fn half_requests_hold_nobody_up_and_ambiguous_ones_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let (_running, address) = serve(data.path());
    let _held: Vec<TcpStream> = (0..200).map(|_| say(&address, "GET /metrics HTTP/1.1\r\n")).collect();
    assert!(metrics(&address, "Host: localhost\r\n").starts_with("HTTP/1.1 200 "));
    for fields in ["", "Host: localhost\r\nHost: localhost\r\n", "Host: localhost\r\nHost: example.org\r\n"] {
        let heard = metrics(&address, fields);
        assert!(heard.starts_with("HTTP/1.1 400 ") && heard.contains("{\"error\":"), "{heard}");
    }
}

#[test]
fn metrics_come_in_the_format_that_is_wanted_most() {
    let data = tempfile::tempdir().unwrap();
    let (_running, address) = serve(data.path());
    for (accept, status, kind) in [
        ("Accept: application/openmetrics-text;q=0\r\nAccept: text/plain\r\n", "200 ", "text/plain;"),
        ("Accept: text/plain;q=0.9,application/openmetrics-text;q=0.1\r\n", "200 ", "text/plain;"),
        ("Accept: */*\r\n", "200 ", "application/openmetrics-text;"),
        ("Accept: image/png\r\n", "406 ", "application/json"),
    ] {
        let heard = metrics(&address, &format!("Host: localhost\r\n{accept}"));
        assert!(heard.starts_with(&format!("HTTP/1.1 {status}")), "{accept}: {heard}");
        assert!(heard.contains(&format!("content-type: {kind}")), "{accept}: {heard}");
    }
}

#[test]
fn a_series_that_does_not_exist_is_not_found_and_the_nearest_is_named() {
    let data = tempfile::tempdir().unwrap();
    let (_running, address) = serve(data.path());
    let history = |series: &str| request(&address, &format!("GET /api/history?series={series}"), "");
    for (series, near) in [
        ("cpu.all.usr", "did you mean `cpu.all.user`?"),
        ("cpu.al.user", "did you mean `cpu.all.user`?"),
        ("memory.available,memry.available", "no series `memry.available`; did you mean `memory.available`?"),
        ("server.conections", "did you mean `server.connections`?"),
        ("x", "there is no series `x`; /api/series"),
    ] {
        let (head, body) = history(series);
        assert!(head.starts_with("HTTP/1.1 404 ") && body.contains(near), "{series}: {head}{body}");
    }
    // Of a server that is away nothing is known; its figures exist.
    for series in ["server.connections", "workers.all.loop_p99", "queues.output.length", "cpu.all.user"] {
        let (head, body) = history(series);
        assert!(head.starts_with("HTTP/1.1 200 "), "{series}: {head}{body}");
    }
}
