//! hyper and a few routes behind the door, over a pipe, with a clock that stands still unless everybody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::routing::post;
use axum::{Extension, Router, middleware};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use whimbrel_http::places::Limits;
use whimbrel_http::{Block, Deadlines, Door, Places, Turn, turn};

const DEADLINES: Deadlines = Deadlines {
    idle: Duration::from_secs(30),
    head: Duration::from_secs(10),
    body: Some(Duration::from_secs(20)),
    write: Duration::from_secs(5),
};

/// What the routes have seen, and what they wait for.
#[derive(Clone)]
struct Seen {
    requests: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    go: Arc<Semaphore>,
}

struct World {
    seen: Seen,
    client: DuplexStream,
}

impl World {
    /// A connection; the pipe has room for so many bytes.
    fn with(room: usize) -> World {
        let (client, server) = duplex(room);
        let seen =
            Seen { requests: Arc::default(), dropped: Arc::default(), go: Arc::new(Semaphore::new(0)) };
        let places = Places::default();
        // Most are free, so that clients have all their time.
        let limits = Limits { all: 16, of_block: 16 };
        let place = places.enter(Block::of([127, 0, 0, 1].into()), false, limits).expect("there is room");
        let routes = Router::new()
            .route("/echo", post(|body: String| async move { body }))
            .route("/wait", post(wait))
            .route("/keep", post(keep))
            .route("/keep-and-wait", post(keep_and_wait))
            .layer(middleware::from_fn(turn::answered))
            .layer(Extension(seen.clone()));
        places.serve(place, |turn| async move {
            let refuse =
                Arc::new(|bad: whimbrel_http::Bad| format!("{}: {}", bad.status(), bad.text()).into_bytes());
            let service = TowerToHyperService::new(routes.layer(Extension(turn.clone())));
            let door = Door::new(server, turn, DEADLINES, refuse);
            let _ = http1::Builder::new().serve_connection(TokioIo::new(door), service).await;
        });
        World { seen, client }
    }

    fn new() -> World {
        World::with(1 << 16)
    }

    async fn say(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.expect("the server reads");
    }

    /// Reads until a text comes.
    async fn hear(&mut self, expected: &str) -> String {
        let mut heard = String::new();
        while !heard.contains(expected) {
            let mut chunk = [0; 1024];
            let count = self.client.read(&mut chunk).await.expect("a pipe");
            assert!(count > 0, "`{expected}` does not come: {heard}");
            heard += &String::from_utf8_lossy(&chunk[..count]);
        }
        heard
    }

    /// What comes until the end, and the seconds until then.
    async fn hear_all(&mut self) -> (String, u64) {
        let (begun, mut heard) = (Instant::now(), String::new());
        let _ = self.client.read_to_string(&mut heard).await;
        (heard, begun.elapsed().as_secs())
    }

    fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::Relaxed)
    }
}

/// Answers when the test says so.
async fn wait(Extension(seen): Extension<Seen>) -> String {
    let number = seen.requests.fetch_add(1, Ordering::Relaxed);
    seen.go.acquire().await.expect("it is open").forget();
    format!("answer {number}")
}

/// Answers with the body, and keeps something until that is written.
async fn keep(Extension(seen): Extension<Seen>, Extension(turn): Extension<Turn>, body: String) -> String {
    turn.keep_until_written(Box::new(Kept(seen.dropped.clone())));
    seen.requests.fetch_add(1, Ordering::Relaxed);
    body + "!"
}

async fn keep_and_wait(seen: Extension<Seen>, Extension(turn): Extension<Turn>) -> String {
    turn.keep_until_written(Box::new(Kept(seen.dropped.clone())));
    wait(seen).await
}

fn request(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test(start_paused = true)]
async fn what_can_be_understood_in_two_ways_is_answered_here_and_ends_the_connection() {
    for head in [
        "POST /wait HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "POST /wait HTTP/1.1\r\n\r\n",
        "POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let mut world = World::new();
        world.say(&format!("{}{head}", request("/echo", "first"))).await;
        let (heard, _) = world.hear_all().await;
        assert!(heard.contains("first400: "), "{head}: {heard}");
        assert_eq!(world.requests(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_head_and_an_idle_connection_have_their_time() {
    let mut world = World::new();
    world.say("POST /echo HTTP/1.1\r\n").await;
    assert_eq!(world.hear_all().await, ("408: the head of the request did not come in time".into(), 10));
    let mut world = World::new();
    assert_eq!(world.hear_all().await, (String::new(), 10), "nothing was ever said");
    let mut world = World::new();
    world.say(&request("/echo", "one")).await;
    world.hear("one").await;
    assert_eq!(world.hear_all().await, (String::new(), 30));
    let mut world = World::new();
    world.say(&request("/echo", "one")).await;
    world.hear("one").await;
    tokio::time::sleep(Duration::from_secs(29)).await;
    world.say("POST ").await;
    let (heard, seconds) = world.hear_all().await;
    assert!(heard.starts_with("408") && seconds == 10, "{heard} {seconds}");
    // A byte now and then does not help.
    let mut world = World::new();
    for _ in 0..9 {
        world.say("P").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(world.hear_all().await.1, 1);
}

#[tokio::test(start_paused = true)]
async fn half_a_body_has_its_time() {
    let mut world = World::new();
    world.say("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").await;
    let (_, seconds) = world.hear_all().await;
    assert_eq!(seconds, 20);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_answered_has_all_the_time_it_needs() {
    let mut world = World::new();
    world.say(&request("/wait", "x")).await;
    tokio::time::sleep(Duration::from_secs(1000)).await;
    world.seen.go.add_permits(1);
    world.hear("answer 0").await;
}

/// Says when it is dropped.
struct Kept(Arc<AtomicUsize>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_an_answer_goes_when_it_is_written_and_not_before() {
    // The pipe has room for a part of the answer.
    let mut world = World::with(1 << 10);
    let body = "x".repeat(3 << 10);
    let (head, begun) = (request("/keep", ""), body.len());
    world.say(&head.replace("Content-Length: 0", &format!("Content-Length: {begun}"))).await;
    let (mut from, mut to) = tokio::io::split(world.client);
    let sent = tokio::spawn(async move {
        to.write_all(body.as_bytes()).await.expect("the server reads");
        to
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.seen.requests.load(Ordering::Relaxed), 1, "it is being answered");
    assert_eq!(world.seen.dropped.load(Ordering::Relaxed), 0);
    let mut heard = Vec::new();
    while !heard.ends_with(b"xx!") {
        let mut chunk = [0; 256];
        let count = from.read(&mut chunk).await.expect("a pipe");
        assert!(count > 0, "the answer ends too soon");
        heard.extend_from_slice(&chunk[..count]);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.seen.dropped.load(Ordering::Relaxed), 1);
    drop(sent.await.expect("it does not panic"));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_an_answer_goes_with_a_connection_that_ends() {
    let mut world = World::new();
    world.say(&request("/keep-and-wait", "x")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.seen.dropped.load(Ordering::Relaxed), 0);
    let dropped = world.seen.dropped.clone();
    drop(world);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn requests_ahead_of_their_turn_are_answered_one_after_another_and_the_rest_waits_outside() {
    let world = World::with(1 << 12);
    let (mut from, mut to) = tokio::io::split(world.client);
    let sender = tokio::spawn(async move {
        for _ in 0..1000 {
            to.write_all(request("/wait", "xyz").as_bytes()).await.expect("the server reads");
        }
        to
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.seen.requests.load(Ordering::Relaxed), 1);
    assert!(!sender.is_finished(), "all of it was taken before its turn");
    world.seen.go.add_permits(1000);
    let mut heard = String::new();
    while !heard.contains("answer 999") {
        let mut chunk = [0; 1024];
        let count = from.read(&mut chunk).await.expect("a pipe");
        assert!(count > 0, "{}", heard.len());
        heard += &String::from_utf8_lossy(&chunk[..count]);
    }
    drop(sender.await.expect("it does not panic"));
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_a_body_that_says_itself_where_it_ends() {
    let mut world = World::new();
    let chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    world.say(&format!("{chunked}{}", request("/echo", "second"))).await;
    let (heard, _) = world.hear_all().await;
    assert!(heard.ends_with("abc") && !heard.contains("second"), "{heard}");
}

#[tokio::test(start_paused = true)]
async fn a_head_without_end_is_refused_and_its_client_can_read_why() {
    let world = World::with(1 << 10);
    let (mut from, mut to) = tokio::io::split(world.client);
    tokio::spawn(async move {
        let _ = to.write_all(format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000)).as_bytes()).await;
        to
    });
    let mut heard = String::new();
    from.read_to_string(&mut heard).await.expect("a pipe");
    assert!(heard.starts_with("431"), "{heard}");
    world.seen.go.close();
}
