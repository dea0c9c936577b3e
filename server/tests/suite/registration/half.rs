//! Half requests, and heads that can be understood in two ways.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::PATIENCE;
use crate::support::api::{DEVICES, Office, PHONE, with_office};

fn address(office: &Office) -> SocketAddr {
    office.server.server.http.as_ref().unwrap().listening[0]
}

fn say(office: &Office, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address(office)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// As [`say`], from an address of the loopback network, which Linux has; what has been ended meanwhile is no error.
fn say_from(office: &Office, source: [u8; 4], text: &str) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&address(office).into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(text.as_bytes());
    stream
}

const HEAD: &str = "POST /v1/registration HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

#[test]
fn half_requests_make_room_for_whole_ones() {
    let half_body = format!("{HEAD}Content-Length: 100\r\n\r\n{{\"phone\":");
    for half in ["", HEAD, &half_body] {
        with_office(
            |config| {
                let registration = &mut config.registration;
                registration.tls = false;
                registration.http_connections = 8;
                // Longer than this test may take: they do not go by themselves.
                registration.http_seconds = 60;
                registration.http_idle_seconds = 300;
            },
            |office| {
                let mut held: Vec<TcpStream> = (0..30).map(|_| say(office, half)).collect();
                assert_eq!(office.ask_for_status(PHONE, DEVICES[0]), Some(202), "{half}");
                let displaced = office.server.server.shared.stats.registration[0].http_displaced.get();
                assert!(displaced >= 23, "{displaced} of {half}");
                // The longest waiting went first.
                let mut heard = [0];
                assert!(matches!(held[0].read(&mut heard), Ok(0) | Err(_)));
            },
        );
    }
}

/// An address of its own for each: none of them has more than another. Anything that is promised to one that comes whole is promised
/// to no client that is put to sleep between its connection and its request, so nobody connects in between.
#[cfg(target_os = "linux")]
#[test]
fn half_requests_of_hundreds_of_addresses_do_not_keep_out_a_whole_one() {
    let half_body = format!("{HEAD}Content-Length: 100\r\n\r\n{{\"phone\":");
    let whole = "GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for half in ["", HEAD, &half_body] {
        with_office(
            |config| {
                let registration = &mut config.registration;
                registration.tls = false;
                registration.http_connections = 32;
                registration.http_seconds = 60;
                registration.http_idle_seconds = 300;
            },
            |office| {
                let source = |n: usize| [127, 1, (n / 200) as u8, (n % 200) as u8 + 1];
                let (is_over, queue, door) = (AtomicBool::new(false), Mutex::new(()), Mutex::new(()));
                let _held: Vec<TcpStream> = (0..400).map(|n| say_from(office, source(n), half)).collect();
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        let mut held = VecDeque::new();
                        for n in 400.. {
                            if is_over.load(Ordering::Relaxed) {
                                return;
                            }
                            // Behind one that waits for the door: a lock alone is not fair.
                            drop(queue.lock().unwrap());
                            let _alone = door.lock().unwrap();
                            held.push_back(say_from(office, source(n % 4000), half));
                            if held.len() > 200 {
                                held.pop_front();
                            }
                        }
                    });
                    let answers = (0..30).map(|_| {
                        let mut heard = String::new();
                        let alone = (queue.lock().unwrap(), door.lock().unwrap());
                        let mut client = say_from(office, [127, 0, 0, 1], whole);
                        drop(alone);
                        let read = client.read_to_string(&mut heard);
                        (read.is_ok(), heard.get(..15).unwrap_or_default().to_owned())
                    });
                    let answers: Vec<_> = answers.collect();
                    is_over.store(true, Ordering::Relaxed);
                    assert_eq!(answers, vec![(true, "HTTP/1.1 200 OK".to_owned()); 30], "beside `{half}`");
                });
            },
        );
    }
}

#[test]
fn a_head_that_can_be_understood_in_two_ways_is_refused() {
    with_office(
        |config| config.registration.tls = false,
        |office| {
            for (fields, status) in [
                ("Host: localhost\r\nHost: localhost\r\n", 400),
                ("", 400),
                ("Host: localhost\r\nContent-Length: 2\r\nContent-Length: 2\r\n", 400),
                ("Host: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n", 400),
                ("Host: localhost\r\nTransfer-Encoding: gzip\r\n", 501),
            ] {
                let mut stream = say(office, &format!("GET /v1/openapi.json HTTP/1.1\r\n{fields}\r\n"));
                let mut heard = String::new();
                stream.read_to_string(&mut heard).unwrap();
                assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{fields}: {heard}");
                assert!(heard.contains("application/problem+json") && heard.ends_with('}'), "{heard}");
            }
        },
    );
}
