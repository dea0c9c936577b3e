//! Connections that move between drivers, of the same or of another kind.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::for_each_driver;
use super::world::{self, Make, Random, World, assert_pattern, pattern};
use crate::driver::{CloseCause, CloseHow, Detached, Tuning};

for_each_driver!(
    a_moved_connection_goes_on,
    a_connection_moves_with_what_is_unread_and_unsent,
    a_moving_stream_stays_whole_in_both_directions,
    an_end_is_told_once,
    a_dropped_detached_connection_closes,
    a_broken_connection_closes_instead_of_moving,
    a_socket_from_elsewhere_is_attached,
);

/// The given kind as origin, and each kind as destination; then the other way round.
fn pairs(make: Make) -> Vec<(World, World)> {
    let mut others: Vec<Make> = vec![world::mio];
    #[cfg(target_os = "linux")]
    if world::uring_may_run() {
        others.push(world::uring);
    }
    let small = Tuning { ring_entries: 64, ring_buffers: 64, ..Tuning::default() };
    others
        .into_iter()
        .flat_map(|other| [(make, other), (other, make)])
        .map(|(from, to)| (World::tuned(from, small), World::tuned(to, small)))
        .collect()
}

fn a_moved_connection_goes_on(make: Make) {
    for (mut from, mut to) in pairs(make) {
        let (conn, mut client) = from.connect();
        client.write_all(b"one").unwrap();
        from.until("received", |world| world.story(conn).received == b"one");
        let socket = from.detach(conn);
        assert_eq!((socket.unread_bytes(), socket.unsent_bytes()), (0, 0));
        assert_eq!(from.driver.connections(), 0);
        let conn = to.attach(socket);
        client.write_all(b"two").unwrap();
        to.until("received", |world| world.story(conn).received == b"two");
        to.driver.send(conn, b"three".to_vec());
        assert_eq!(to.client_reads(&mut client, 5), b"three");
        assert_eq!(to.story(conn).drained, 0);
    }
}

fn a_connection_moves_with_what_is_unread_and_unsent(make: Make) {
    for (mut from, mut to) in pairs(make) {
        let (conn, mut client) = from.connect();
        // More than one receive buffer, on its way while the pause comes.
        client.write_all(&pattern(0, 30_000)).unwrap();
        from.pause(conn);
        from.let_pass(2);
        client.write_all(&pattern(30_000, 100)).unwrap();
        let sent = from.fill(conn);
        let before = std::mem::take(&mut from.stories.get_mut(&conn).unwrap().received);
        let socket = from.detach(conn);
        assert!(socket.unsent_bytes() > 0);
        let conn = to.attach(socket);
        to.driver.pause_reading(conn);
        to.driver.resume_reading(conn);
        let sent_later = pattern(sent.len(), 5000);
        assert!(to.driver.send(conn, sent_later) > 0);
        to.until("received", |world| before.len() + world.story(conn).received.len() == 30_100);
        assert_pattern(&[&before[..], &to.story(conn).received].concat());
        assert_pattern(&to.client_reads(&mut client, sent.len() + 5000));
        to.until("drained", |world| world.story(conn).drained == 1);
    }
}

/// A client that writes and reads the pattern at once, in random pieces.
fn talk(mut client: TcpStream, total: usize, seed: u64) -> std::thread::JoinHandle<()> {
    client.set_nonblocking(false).unwrap();
    let mut reader = client.try_clone().unwrap();
    std::thread::spawn(move || {
        let writer = std::thread::spawn(move || {
            let mut random = Random::new(seed);
            let mut written = 0;
            while written < total {
                let count = (1 + random.below(9000)).min(total - written);
                client.write_all(&pattern(written, count)).unwrap();
                written += count;
            }
        });
        let mut bytes = vec![0; total];
        reader.read_exact(&mut bytes).unwrap();
        assert_pattern(&bytes);
        writer.join().unwrap();
        reader.shutdown(Shutdown::Write).unwrap();
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    })
}

fn a_moving_stream_stays_whole_in_both_directions(make: Make) {
    const TOTAL: usize = 2 << 20;
    for (seed, (mut from, mut to)) in pairs(make).into_iter().enumerate() {
        let mut random = Random::new(seed as u64);
        let (mut conn, client) = from.connect();
        let client = talk(client, TOTAL, seed as u64);
        let mut heard = Vec::new();
        let mut given = 0;
        let mut moves = 0;
        while heard.len() < TOTAL || given < TOTAL || moves < 20 {
            for _ in 0..random.below(6) {
                let count = random.below(40_000).min(TOTAL - given);
                from.driver.send(conn, pattern(given, count));
                given += count;
                if random.below(4) == 0 {
                    from.pause(conn);
                }
                from.poll(Duration::from_millis(1));
                from.resume(conn);
            }
            if random.below(4) == 0 {
                from.pause(conn);
            }
            heard.append(&mut from.stories.get_mut(&conn).unwrap().received);
            let socket = from.detach(conn);
            conn = to.attach(socket);
            std::mem::swap(&mut from, &mut to);
            moves += 1;
        }
        assert_pattern(&heard);
        assert_eq!(heard.len(), TOTAL);
        from.until("ended", |world| world.story(conn).ended);
        from.close(conn, CloseHow::Flush);
        from.expect_closed(conn, CloseCause::Local);
        client.join().unwrap();
    }
}

fn an_end_is_told_once(make: Make) {
    for (mut from, mut to) in pairs(make) {
        // Told before the move.
        let (conn, mut client) = from.connect();
        client.shutdown(Shutdown::Write).unwrap();
        from.until("ended", |world| world.story(conn).ended);
        let socket = from.detach(conn);
        assert!(socket.has_ended());
        let conn = to.attach(socket);
        to.driver.send(conn, b"still sending".to_vec());
        assert_eq!(to.client_reads(&mut client, 13), b"still sending");
        to.let_pass(2);
        // Not told before the move: behind a pause.
        let (conn, mut client) = from.connect();
        from.pause(conn);
        client.write_all(b"bytes first").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        from.let_pass(2);
        let socket = from.detach(conn);
        assert!(!socket.has_ended());
        let conn = to.attach(socket);
        to.until("ended", |world| world.story(conn).ended);
        assert_eq!(to.story(conn).received, b"bytes first");
    }
}

fn a_dropped_detached_connection_closes(make: Make) {
    let mut world = World::new(make);
    let (conn, mut client) = world.connect();
    drop(world.detach(conn));
    assert!(world.client_reads_to_the_end(&mut client).0.is_empty());
}

fn a_broken_connection_closes_instead_of_moving(make: Make) {
    let mut world = World::new(make);
    let (conn, client) = world.connect();
    world.fill(conn);
    world.let_pass(1);
    // Unread bytes make this a reset.
    drop(client);
    world.expect_closed(conn, CloseCause::Reset);
    world.driver.detach(conn);
    world.let_pass(1);
}

fn a_socket_from_elsewhere_is_attached(make: Make) {
    for nonblocking in [false, true] {
        let mut world = World::new(make);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(nonblocking).unwrap();
        let conn = world.attach(Detached::from_socket(OwnedFd::from(socket)));
        client.write_all(b"hello").unwrap();
        world.until("received", |world| world.story(conn).received == b"hello");
        client.set_nonblocking(true).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let sent = world.fill(conn);
        assert_pattern(&world.client_reads(&mut client, sent.len()));
    }
}
