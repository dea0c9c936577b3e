//! The contract of a driver, held against the simulated one.

use super::*;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

use std::net::{IpAddr, Ipv4Addr};

/// What happened, without borrowed bytes.
#[derive(Debug, Default)]
struct Seen {
    accepted: Vec<ConnId>,
    received: Vec<u8>,
    ended: usize,
    drained: usize,
    closed: Vec<CloseCause>,
    detached: Vec<Detached>,
    paused: usize,
}

struct Bench {
    network: Network,
    now: u64,
    seen: Vec<Seen>,
    drivers: Vec<Sim>,
}

impl Bench {
    fn new(seed: u64, workers: usize, weather: Weather) -> Bench {
        let network = Network::new(workers, seed, weather);
        let drivers = (0..workers).map(|n| Sim::new(&network, n, Tuning::default())).collect();
        Bench { network, now: 0, seen: (0..workers).map(|_| Seen::default()).collect(), drivers }
    }

    fn poll(&mut self) {
        self.now += 3;
        self.network.advance(Millis(self.now));
        for (driver, seen) in self.drivers.iter_mut().zip(&mut self.seen) {
            let sink = &mut |event: Event<'_>| match event {
                Event::Accepted { conn, .. } => seen.accepted.push(conn),
                Event::Received { bytes, .. } => {
                    assert!(!bytes.is_empty());
                    seen.received.extend_from_slice(bytes);
                }
                Event::Ended { .. } => seen.ended += 1,
                Event::Drained { .. } => seen.drained += 1,
                Event::Closed { cause, .. } => seen.closed.push(cause),
                Event::Detached { socket, .. } => seen.detached.push(socket),
                Event::AcceptPaused { .. } => seen.paused += 1,
                Event::Woken => {}
            };
            driver.poll(None, sink).unwrap();
        }
    }

    fn polls(&mut self, count: usize) {
        for _ in 0..count {
            self.poll();
        }
    }

    fn connect(&mut self) -> (LinkId, ConnId) {
        let link = self.network.connect(0, PEER).unwrap();
        self.polls(20);
        (link, self.seen[0].accepted.pop().expect("accepted within twenty polls"))
    }

    fn read_all(&mut self, link: LinkId, into: &mut Vec<u8>) -> Read {
        loop {
            match self.network.client_read(link, 37, into) {
                Read::Bytes(_) => {}
                other => return other,
            }
        }
    }
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

#[test]
fn bytes_arrive_in_order_and_leave_in_order_whatever_the_pieces() {
    for seed in 0..20 {
        let mut bench = Bench::new(seed, 1, Weather::default());
        let (link, conn) = bench.connect();
        let sent = text(40_000);
        let (mut up, mut back) = (0, Vec::new());
        assert_ne!(bench.drivers[0].send(conn, sent.clone()), 0, "more than any window");
        for _ in 0..2000 {
            up += bench.network.client_write(link, &sent[up..]);
            bench.poll();
            bench.read_all(link, &mut back);
        }
        assert_eq!(bench.seen[0].received, sent, "seed {seed}");
        assert_eq!(back, sent, "seed {seed}");
        assert_eq!(bench.seen[0].drained, 1, "seed {seed}");
    }
}

#[test]
fn a_paused_connection_is_not_read_and_goes_on_where_it_was() {
    let mut bench = Bench::new(1, 1, Weather::default());
    let (link, conn) = bench.connect();
    bench.drivers[0].pause_reading(conn);
    bench.network.client_write(link, b"hello");
    bench.network.client_end(link);
    bench.polls(100);
    assert!(bench.seen[0].received.is_empty());
    bench.drivers[0].resume_reading(conn);
    bench.polls(100);
    assert_eq!((bench.seen[0].received.as_slice(), bench.seen[0].ended), (&b"hello"[..], 1));
}

#[test]
fn a_flushing_close_delivers_everything_and_waits_for_the_peer() {
    let mut bench = Bench::new(2, 1, Weather::default());
    let (link, conn) = bench.connect();
    let sent = text(60_000);
    bench.drivers[0].send(conn, sent.clone());
    bench.drivers[0].close(conn, CloseHow::Flush);
    bench.network.client_write(link, b"discarded");
    let mut got = Vec::new();
    let mut last = Read::Nothing;
    for _ in 0..800 {
        bench.poll();
        last = bench.read_all(link, &mut got);
        if last == Read::Ended {
            break;
        }
    }
    assert_eq!((got, last), (sent, Read::Ended));
    assert!(bench.seen[0].received.is_empty() && bench.seen[0].closed.is_empty());
    bench.network.client_end(link);
    bench.polls(100);
    assert_eq!(bench.seen[0].closed, [CloseCause::Local]);
    bench.network.client_close(link, false);
    assert_eq!(
        (bench.drivers[0].connections(), bench.network.links(), bench.network.descriptors()),
        (0, 0, 0)
    );
}

#[test]
fn a_flushing_close_to_a_peer_that_does_not_read_ends_at_its_deadline() {
    let mut bench = Bench::new(3, 1, Weather::default());
    let (link, conn) = bench.connect();
    bench.drivers[0].send(conn, text(60_000));
    bench.drivers[0].close(conn, CloseHow::Flush);
    bench.polls(100);
    assert!(bench.seen[0].closed.is_empty());
    bench.now += 6_000;
    bench.polls(50);
    assert_eq!(bench.seen[0].closed, [CloseCause::FlushTimedOut]);
    assert_eq!(bench.read_all(link, &mut Vec::new()), Read::Reset);
}

#[test]
fn a_reset_is_reported_once_and_the_id_is_dead() {
    let mut bench = Bench::new(4, 1, Weather::default());
    let (link, conn) = bench.connect();
    bench.network.client_close(link, true);
    bench.polls(100);
    assert_eq!(bench.seen[0].closed, [CloseCause::Reset]);
    assert_eq!(bench.drivers[0].send(conn, text(10)), 0);
    bench.drivers[0].close(conn, CloseHow::Flush);
    bench.polls(10);
    assert_eq!((bench.seen[0].closed.len(), bench.network.links()), (1, 0));
}

#[test]
fn a_connection_moves_to_another_worker_with_everything_that_belongs_to_it() {
    for seed in 0..30 {
        let mut bench = Bench::new(seed, 2, Weather::default());
        let link = bench.network.connect(0, PEER).unwrap();
        bench.polls(20);
        let from = usize::from(bench.seen[0].accepted.is_empty());
        let to = 1 - from;
        let conn = bench.seen[from].accepted.pop().unwrap();
        let sent = text(20_000);
        bench.drivers[from].send(conn, sent.clone());
        let mut up = bench.network.client_write(link, &sent[..5_000]);
        bench.polls(3);
        bench.drivers[from].detach(conn);
        while bench.seen[from].detached.is_empty() {
            bench.poll();
        }
        let socket = bench.seen[from].detached.pop().unwrap();
        assert!(bench.seen[from].closed.is_empty());
        bench.polls(3);
        let unsent = socket.unsent_bytes();
        bench.drivers[to].attach(socket);
        let mut back = Vec::new();
        for _ in 0..2000 {
            up += bench.network.client_write(link, &sent[up..]);
            bench.poll();
            bench.read_all(link, &mut back);
        }
        let mut received = std::mem::take(&mut bench.seen[from].received);
        received.extend_from_slice(&bench.seen[to].received);
        assert_eq!(received, sent, "seed {seed}");
        assert_eq!(back, sent, "seed {seed}");
        assert_eq!(bench.seen[to].drained, usize::from(unsent > 0), "seed {seed}");
    }
}

#[test]
fn a_dropped_socket_resets_its_connection() {
    let mut bench = Bench::new(5, 1, Weather::default());
    let (link, conn) = bench.connect();
    bench.drivers[0].detach(conn);
    while bench.seen[0].detached.is_empty() {
        bench.poll();
    }
    bench.seen[0].detached.clear();
    bench.polls(20);
    assert_eq!(bench.read_all(link, &mut Vec::new()), Read::Reset);
    assert_eq!(bench.network.descriptors(), 0);
}

#[test]
fn without_descriptors_a_client_is_turned_away_and_accepting_rests() {
    let mut bench = Bench::new(6, 1, Weather { descriptors_max: 2, ..Weather::default() });
    let links: Vec<LinkId> = (0..5).map(|n| bench.network.connect(n, PEER).unwrap()).collect();
    bench.polls(200);
    assert_eq!((bench.seen[0].accepted.len(), bench.network.descriptors()), (2, 2));
    assert_eq!(bench.seen[0].paused, 1, "reported once a second");
    for &link in &links[2..] {
        assert_eq!(bench.read_all(link, &mut Vec::new()), Read::Reset);
    }
    bench.network.client_close(links[0], true);
    bench.polls(50);
    bench.network.connect(9, PEER).unwrap();
    bench.polls(100);
    assert_eq!(bench.seen[0].accepted.len(), 3);
}

#[test]
fn a_full_accept_queue_and_a_closed_listener_refuse() {
    let mut bench = Bench::new(7, 1, Weather { accept_queue_max: 1, ..Weather::default() });
    bench.drivers[0].pause_accepting();
    let first = bench.network.connect(0, PEER).unwrap();
    assert_eq!(bench.network.connect(1, PEER), None);
    bench.polls(50);
    assert!(bench.seen[0].accepted.is_empty());
    bench.drivers[0].stop_accepting();
    bench.polls(20);
    assert_eq!(bench.read_all(first, &mut Vec::new()), Read::Reset);
    assert_eq!(bench.network.connect(2, PEER), None);
}
