//! Registration by phone number in the real programs: what a live upgrade does with a request under way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::support::{PATIENCE, Place, Server, whimbreld};

/// The answer to a request, from its first line on.
fn answer(mut stream: TcpStream) -> String {
    let mut heard = String::new();
    stream.read_to_string(&mut heard).expect("the answer comes whole");
    heard
}

fn send(address: &str, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the API listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(text.as_bytes()).expect("the API reads");
    stream
}

fn description(address: &str) -> String {
    let head = "GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    answer(send(address, head)).get(..12).unwrap_or_default().to_owned()
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "{what}");
    }
}

/// A program that has begun when `began` is there, and ends well when `go` is.
fn gateway(place: &Place, began: &Path, go: &Path) -> String {
    let text = format!(
        "#!/bin/sh\n: >'{}'\nwhile [ ! -e '{}' ]; do sleep 0.05; done\n",
        began.display(),
        go.display()
    );
    let path = place.file("gateway", text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    path.to_str().expect("a path of ours").to_owned()
}

#[test]
fn an_upgrade_waits_for_the_answer_to_a_request_under_way() {
    let place = Place::new();
    let (began, go) = (place.0.path().join("began"), place.0.path().join("go"));
    let gateway = gateway(&place, &began, &go);
    let config = place.file(
        "w.toml",
        format!(
            "pin_workers = false\nlisten = ['127.0.0.1:0']\nlisten_tls = []\nhttp.listen = []\nlog_segment_mib = 2\n\
             directory_gib_max = 1\n[limits]\nupgrade_seconds = 300\n[registration]\n\
             listen = ['127.0.0.1:0']\ntls = false\nhttp_requests_per_minute = 100000\ngateway = 'command'\n\
             command = ['{gateway}', '{{phone}}']\ngateway_seconds = 60\n"
        ),
    );
    let mut command = Command::new(whimbreld());
    command.arg("--data").arg(place.data()).arg("--config").arg(config);
    let mut server = Server::start(command);
    let status = place.json(&["registration", "status"]);
    let address = status["listen"][0].as_str().expect("it listens").to_owned();
    let body = "{\"phone\":\"+4915112345678\",\"device\":\"device-one\"}";
    let asked = send(
        &address,
        &format!(
            "POST /v1/registration HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    await_that("the message is not sent", || began.exists());
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| place.json(&["upgrade"]));
        await_that("requests are still taken", || description(&address) == "HTTP/1.1 503");
        assert!(!upgrade.is_finished(), "it has not waited for the message");
        std::fs::write(&go, "").expect("it is ours");
        let heard = answer(asked);
        assert!(heard.starts_with("HTTP/1.1 202 ") && heard.ends_with('}'), "{heard}");
        let upgraded = upgrade.join().expect("the upgrade is done");
        assert_eq!(upgraded["pid"], server.pid(), "{upgraded}");
    });
    // The listener is the same one, and the new program takes requests.
    await_that("the API does not come back", || description(&address) == "HTTP/1.1 200");
    assert_eq!(place.ctl(&["stop"]).code, 0);
    assert!(server.end().success());
}
