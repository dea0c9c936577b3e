//! The HTTP server with a second feature beside registration: routes, shares, and its drain.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use axum::extract::{Path, Request};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use whimbrel_server::http::front::{Event, Host, HttpServer, Settings, Setup};
use whimbrel_server::http::request;
use whimbrel_server::http::routes::Routes;

use crate::support::PATIENCE;
use crate::support::api::{DEVICES, PHONE, kind, with_office};

/// Bytes of an answer that no pair of sockets holds.
const LARGE: usize = 32 << 20;

/// The owner of the test's listeners.
#[derive(Default)]
struct Owner {
    open: AtomicI64,
    requests: AtomicU64,
    refused: AtomicU64,
}

impl Host for Owner {
    fn settings(&self) -> Settings {
        Settings {
            trusted_proxies: Vec::new(),
            connections_per_address: 64,
            requests_per_minute: 100_000,
            wait: PATIENCE,
            idle: PATIENCE,
        }
    }

    fn count(&self, event: Event) {
        match event {
            Event::Opened => drop(self.open.fetch_add(1, Ordering::SeqCst)),
            Event::Closed => drop(self.open.fetch_sub(1, Ordering::SeqCst)),
            Event::Request => drop(self.requests.fetch_add(1, Ordering::SeqCst)),
            Event::Refused => drop(self.refused.fetch_add(1, Ordering::SeqCst)),
            Event::Displaced(count) => assert_eq!(count, 0, "there is room for everybody"),
        }
    }
}

/// A feature of the test: `/second/SIZE` answers so many bytes once the test lets it.
struct Second {
    begun: Receiver<()>,
    go: Arc<Semaphore>,
}

impl Second {
    fn new(share: usize) -> (Second, Routes) {
        let (begin, begun) = channel();
        let go = Arc::new(Semaphore::new(0));
        let waits = go.clone();
        let wait = move |size: Path<usize>| answer_when_told(size.0, begin.clone(), waits.clone());
        let routes = Routes::new("second", move || share).at("/second/{size}", "GET", get(wait)).at(
            "/second/echo/json",
            "POST",
            post(echo),
        );
        (Second { begun, go }, routes)
    }

    fn wait_until_begun(&self, count: usize) {
        for _ in 0..count {
            self.begun.recv_timeout(PATIENCE).expect("the handler runs");
        }
    }
}

async fn answer_when_told(size: usize, begun: Sender<()>, go: Arc<Semaphore>) -> Vec<u8> {
    let _ = begun.send(());
    go.acquire().await.expect("it is open").forget();
    vec![b'x'; size]
}

async fn echo(request: Request) -> axum::response::Response {
    use axum::response::IntoResponse;
    match request::json::<Value>(request, 100, PATIENCE).await {
        Ok(value) => value.to_string().into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// The server under test, without TLS.
fn serve(owner: &Arc<Owner>, routes: Vec<Routes>) -> HttpServer {
    let listeners = vec![TcpListener::bind("127.0.0.1:0").unwrap()];
    let setup = Setup { name: "second", listeners, tls: None, host: owner.clone(), routes, open: true };
    HttpServer::start(setup).unwrap()
}

fn send(server: &HttpServer, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.listening[0]).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

fn get_text(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

fn post_text(path: &str, body: &str) -> String {
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Status, head and body of the answer that a connection gets before its end.
fn heard(mut stream: TcpStream) -> (u16, String, Vec<u8>) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head, bytes[end..].to_vec())
}

fn status(server: &HttpServer, text: &str) -> u16 {
    heard(send(server, text)).0
}

fn problem(server: &HttpServer, text: &str) -> (u16, String) {
    let (status, _, body) = heard(send(server, text));
    (status, kind(&serde_json::from_slice(&body).unwrap()).to_owned())
}

fn ask_text(phone: &str) -> String {
    post_text("/v1/registration", &json!({ "phone": phone, "device": DEVICES[0] }).to_string())
}

#[test]
fn a_second_feature_has_its_paths_beside_registrations() {
    with_office(
        |_| {},
        |office| {
            let owner = Arc::new(Owner::default());
            let (second, routes) = Second::new(4);
            let registration = office.server.server.registration.as_ref().unwrap();
            let server = serve(&owner, vec![registration.routes(), routes]);
            second.go.add_permits(1);
            assert_eq!(heard(send(&server, &get_text("/second/3"))).2, b"xxx");
            assert_eq!(status(&server, &ask_text(PHONE)), 202);
            assert_eq!(office.provider.next().pin().len(), 5);
            let (status, _, body) = heard(send(&server, &post_text("/second/echo/json", "{\"a\":1}")));
            assert_eq!((status, &body[..]), (200, &b"{\"a\":1}"[..]));
            let not_allowed = heard(send(&server, &post_text("/second/3", "{}")));
            assert_eq!(not_allowed.0, 405);
            assert!(not_allowed.1.contains("allow: GET\r\n"), "{}", not_allowed.1);
            assert_eq!(problem(&server, &get_text("/second")), (404, "no-such-path".into()));
            assert!(server.stop(PATIENCE));
            assert_eq!(owner.requests.load(Ordering::SeqCst), 5);
            assert_eq!(owner.open.load(Ordering::SeqCst), 0, "each connection is counted off");
        },
    );
}

#[test]
fn two_features_with_one_path_do_not_start() {
    let one = Routes::new("one", || 1).at("/files/{name}", "GET", get(|| async { "one" }));
    let other = Routes::new("other", || 1).at("/files/{id}", "PUT", get(|| async { "other" }));
    let setup = Setup {
        name: "second",
        listeners: Vec::new(),
        tls: None,
        host: Arc::new(Owner::default()),
        routes: vec![one, other],
        open: true,
    };
    let error = HttpServer::start(setup).err().expect("it does not start").to_string();
    assert_eq!(error, "other and one both answer /files/{id}");
}

#[test]
fn a_feature_that_uses_up_its_share_takes_nothing_of_registrations() {
    with_office(
        |_| {},
        |office| {
            let owner = Arc::new(Owner::default());
            let (second, routes) = Second::new(2);
            let registration = office.server.server.registration.as_ref().unwrap();
            let server = serve(&owner, vec![registration.routes(), routes]);
            let under_way: Vec<_> = (0..2).map(|_| send(&server, &get_text("/second/1"))).collect();
            second.wait_until_begun(2);
            for _ in 0..3 {
                let (status, head, body) = heard(send(&server, &get_text("/second/1")));
                let body: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!((status, kind(&body)), (503, "busy"));
                assert!(head.contains("retry-after: 5\r\n"), "{head}");
            }
            assert_eq!(owner.refused.load(Ordering::SeqCst), 3);
            assert_eq!(status(&server, &ask_text(PHONE)), 202, "registration has its own share");
            second.go.add_permits(2);
            for stream in under_way {
                assert_eq!(heard(stream).0, 200);
            }
            // What is over has given its place back.
            second.go.add_permits(1);
            assert_eq!(status(&server, &get_text("/second/1")), 200);
        },
    );
}

#[test]
fn registration_that_uses_up_its_share_takes_nothing_of_another_feature() {
    with_office(
        |config| {
            config.registration.http_connections = 2;
            config.registration.gateway_threads = 2;
            config.registration.gateway_seconds = 60;
        },
        |office| {
            office.provider.answer(0);
            let (second, routes) = Second::new(1);
            let registration = office.server.server.registration.as_ref().unwrap();
            let server = serve(&Arc::default(), vec![registration.routes(), routes]);
            let numbers = ["+4915112345671", "+4915112345672"];
            let under_way: Vec<_> = numbers.iter().map(|phone| send(&server, &ask_text(phone))).collect();
            let _silent = [office.provider.next(), office.provider.next()];
            assert_eq!(problem(&server, &ask_text("+4915112345673")), (503, "busy".into()));
            second.go.add_permits(1);
            assert_eq!(status(&server, &get_text("/second/1")), 200);
            // The provider stays silent: both are told to come back, and neither is cut off.
            assert!(!registration.stop(Duration::ZERO), "attempts are under way");
            for stream in under_way {
                assert_eq!(heard(stream).0, 503);
            }
            assert!(server.stop(PATIENCE));
        },
    );
}

#[test]
fn a_drain_writes_all_answers_that_were_begun() {
    let owner = Arc::new(Owner::default());
    let (second, routes) = Second::new(8);
    let server = serve(&owner, vec![routes]);
    let clients: Vec<_> = (0..4).map(|_| send(&server, &get_text(&format!("/second/{LARGE}")))).collect();
    second.wait_until_begun(4);
    server.shut();
    assert_eq!(problem(&server, &get_text("/second/1")), (503, "busy".into()));
    assert!(!server.wait_until_written(Instant::now()), "four are being made");
    second.go.add_permits(4);
    // No client reads, and no socket holds so much.
    assert!(!server.wait_until_written(Instant::now()), "four are being written");
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| server.stop(PATIENCE));
        for stream in clients {
            let (status, _, body) = heard(stream);
            assert_eq!((status, body.len()), (200, LARGE));
        }
        assert!(stop.join().unwrap(), "nothing was cut off");
    });
    assert!(TcpStream::connect(server.listening[0]).is_err(), "nobody listens any more");
}

#[test]
fn a_drain_waits_for_no_half_request_and_goes_back() {
    let (_second, routes) = Second::new(8);
    let server = serve(&Arc::default(), vec![routes]);
    let whole = post_text("/second/echo/json", "{\"a\":1}");
    let (head, body) = whole.split_at(whole.len() - 3);
    let mut half = send(&server, head);
    // The half request has come once a request behind it is answered.
    assert_eq!(status(&server, &whole), 200);
    server.shut();
    assert!(server.wait_until_written(Instant::now() + PATIENCE));
    half.write_all(body.as_bytes()).unwrap();
    assert_eq!(heard(half).0, 503, "its body has come too late");
    server.open();
    assert_eq!(status(&server, &whole), 200);
}

#[test]
fn an_idle_connection_does_not_hold_up_a_drain() {
    with_office(
        |_| {},
        |office| {
            // Over TLS, by a client that keeps its connection.
            let get = || office.agent().get(office.url("/v1/openapi.json")).call().unwrap().status().as_u16();
            assert_eq!((get(), get()), (200, 200));
            let http = office.server.server.http.as_ref().unwrap();
            http.shut();
            assert!(http.wait_until_written(Instant::now() + PATIENCE));
            let (status, body) = office.ask(PHONE, DEVICES[0]);
            assert_eq!((status, kind(&body)), (503, "busy"));
            http.open();
            assert_eq!(get(), 200);
        },
    );
}

#[test]
fn a_server_that_drains_sends_clients_of_the_api_away() {
    with_office(
        |_| {},
        |office| {
            office.server.accounts(&["juliet"]);
            // Her session keeps the server alive.
            let mut juliet = office.server.online("juliet", "balcony");
            office.server.server.drain(false);
            let (status, body) = office.ask(PHONE, DEVICES[0]);
            assert_eq!((status, kind(&body), &body["retry_after"]), (503, "busy", &json!(5)));
            assert!(office.provider.is_quiet());
            juliet.send("</stream:stream>");
        },
    );
}

#[test]
fn a_drain_that_is_out_of_patience_cuts_off_and_says_so() {
    let (second, routes) = Second::new(8);
    let server = serve(&Arc::default(), vec![routes]);
    let mut client = send(&server, &get_text("/second/1"));
    second.wait_until_begun(1);
    assert!(!server.stop(Duration::ZERO));
    assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)), "the connection has ended");
}
