//! Bytes in both directions, pauses, ends.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;

use super::for_each_driver;
use super::world::{Make, Random, World, assert_pattern, pattern};
use crate::driver::{CloseCause, Tuning};

for_each_driver!(
    bytes_arrive_in_the_order_they_were_sent,
    bytes_leave_in_the_order_they_were_given,
    what_is_submitted_leaves_before_the_next_poll,
    a_backlog_is_reported_and_so_is_its_end,
    what_is_under_way_counts_as_waiting_unless_it_is_little,
    nothing_is_received_in_a_pause_and_everything_after_it,
    pauses_at_any_moment_keep_the_stream_whole,
    pauses_keep_streams_whole_when_turns_are_scarce,
    a_paused_peer_is_slowed_down,
    the_end_in_a_pause_shows_after_the_bytes,
    after_the_peers_end_we_can_still_send,
    a_reset_by_the_peer_closes,
    a_reset_after_the_end_closes,
    a_reset_under_a_backlog_closes,
    an_empty_send_does_nothing,
    a_driver_that_is_dropped_ends_its_connections,
);

/// A client thread that writes `total` bytes of the pattern in pieces, then ends its side and gives the socket back.
fn write_in_pieces(
    client: &std::net::TcpStream,
    total: usize,
    seed: u64,
) -> std::thread::JoinHandle<std::net::TcpStream> {
    let mut client = client.try_clone().unwrap();
    client.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        let mut random = Random::new(seed);
        let data = pattern(0, total);
        let mut rest = &data[..];
        while !rest.is_empty() {
            let (piece, more) = rest.split_at((1 + random.below(20_000)).min(rest.len()));
            client.write_all(piece).unwrap();
            rest = more;
        }
        client.shutdown(Shutdown::Write).unwrap();
        client
    })
}

fn bytes_arrive_in_the_order_they_were_sent(make: Make) {
    let mut world = World::new(make);
    let (conn, client) = world.connect();
    let writer = write_in_pieces(&client, 5 << 20, 1);
    world.until("ended", |world| world.story(conn).ended);
    assert_eq!(world.story(conn).received.len(), 5 << 20);
    assert_pattern(&world.story(conn).received);
    writer.join().unwrap();
}

fn bytes_leave_in_the_order_they_were_given(make: Make) {
    let mut world = World::new(make);
    let (conn, mut client) = world.connect();
    let mut random = Random::new(2);
    let mut given = 0;
    while given < 8 << 20 {
        let count = random.below(30_000);
        world.driver.send(conn, pattern(given, count));
        given += count;
        if random.below(3) == 0 {
            world.poll(Duration::ZERO);
        }
    }
    assert_pattern(&world.client_reads(&mut client, given));
}

fn what_is_submitted_leaves_before_the_next_poll(make: Make) {
    let mut world = World::new(make);
    let (conn, mut client) = world.connect();
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut buffer = [0; 5];
    for _ in 0..3 {
        world.driver.send(conn, b"small".to_vec());
        world.driver.submit();
        client.read_exact(&mut buffer).expect("nobody polls, and it comes");
        assert_eq!(&buffer, b"small");
        // One write of a connection is under way at a time: until somebody looks, this one is.
        world.let_pass(1);
    }
    world.driver.submit();
    world.let_pass(3);
    assert_eq!(world.story(conn).drained, 0);
}

fn a_backlog_is_reported_and_so_is_its_end(make: Make) {
    let mut world = World::new(make);
    let (conn, mut client) = world.connect();
    assert_eq!(world.driver.send(conn, b"small".to_vec()), 0);
    world.client_reads(&mut client, 5);
    world.let_pass(3);
    assert_eq!(world.story(conn).drained, 0, "nothing was queued");
    for _ in 0..3 {
        let sent = world.fill(conn);
        let before = world.story(conn).drained;
        world.let_pass(3);
        assert_eq!(world.story(conn).drained, before, "the backlog is still there");
        assert_pattern(&world.client_reads(&mut client, sent.len()));
        world.until("drained", |world| world.story(conn).drained > before);
        assert_eq!(world.driver.send(conn, b"small".to_vec()), 0);
        world.client_reads(&mut client, 5);
        world.let_pass(3);
        assert_eq!(world.story(conn).drained, before + 1, "drained twice");
    }
}

fn what_is_under_way_counts_as_waiting_unless_it_is_little(make: Make) {
    let mut world = World::new(make);
    let (conn, mut client) = world.connect();
    for small in [5, 4000] {
        assert_eq!(world.driver.send(conn, pattern(0, small)), 0);
        assert_pattern(&world.client_reads(&mut client, small));
    }
    world.let_pass(3);
    assert_eq!(world.story(conn).drained, 0, "little is not reported");
    // One buffer, which a driver gives to the kernel as a whole.
    let large = 8 << 20;
    let waiting = world.driver.send(conn, pattern(0, large));
    assert!(waiting > large / 2, "{waiting} bytes of {large} wait for a client that does not read");
    assert_pattern(&world.client_reads(&mut client, large));
    world.until("drained", |world| world.story(conn).drained == 1);
    assert_eq!(world.driver.send(conn, b"small".to_vec()), 0);
}

fn nothing_is_received_in_a_pause_and_everything_after_it(make: Make) {
    let mut world = World::new(make);
    let (conn, mut client) = world.connect();
    let mut written = 0;
    for _ in 0..20 {
        client.write_all(&pattern(written, 1000)).unwrap();
        world.pause(conn);
        client.write_all(&pattern(written + 1000, 1000)).unwrap();
        written += 2000;
        world.let_pass(2);
        world.resume(conn);
        world.until("all of it", |world| world.story(conn).received.len() == written);
    }
    assert_pattern(&world.story(conn).received);
}

fn pauses_at_any_moment_keep_the_stream_whole(make: Make) {
    for seed in 0..4 {
        pause_at_random(make, Tuning::default(), 1, 3 << 20, seed);
    }
}

fn pauses_keep_streams_whole_when_turns_are_scarce(make: Make) {
    // What waits for its turn must not be overtaken by what arrives meanwhile.
    for seed in 0..4 {
        let tuning = Tuning { reads_per_poll_max: 1, receive_bytes: 8 << 10, ..Tuning::default() };
        pause_at_random(make, tuning, 4, 300 << 10, seed);
    }
}

fn pause_at_random(make: Make, tuning: Tuning, connections: usize, total: usize, seed: u64) {
    let mut world = World::tuned(make, tuning);
    let (conns, clients): (Vec<_>, Vec<_>) = (0..connections).map(|_| world.connect()).unzip();
    let writers: Vec<_> = clients.iter().map(|client| write_in_pieces(client, total, seed)).collect();
    let mut random = Random::new(seed);
    world.until("all ended", |world| {
        for conn in &conns {
            for _ in 0..random.below(4) {
                match random.below(2) {
                    0 => world.pause(*conn),
                    _ => world.resume(*conn),
                }
            }
            if random.below(3) == 0 {
                world.resume(*conn);
            }
        }
        conns.iter().all(|conn| world.story(*conn).ended)
    });
    for conn in conns {
        assert_eq!(world.story(conn).received.len(), total);
        assert_pattern(&world.story(conn).received);
    }
    for writer in writers {
        writer.join().unwrap();
    }
}

fn a_paused_peer_is_slowed_down(make: Make) {
    let mut world = World::new(make);
    let (conn, mut client) = world.connect();
    world.pause(conn);
    let data = vec![b'x'; 64 << 10];
    let mut written = 0;
    let mut refusals = 0;
    // The kernel's buffers fill up, and nothing makes room.
    while refusals < 20 {
        match client.write(&data) {
            Ok(count) => {
                written += count;
                refusals = 0;
            }
            Err(_) => refusals += 1,
        }
        assert!(written < 256 << 20, "the peer is not slowed down");
        world.poll(Duration::from_millis(1));
    }
    world.resume(conn);
    world.until("all of it", |world| world.story(conn).received.len() == written);
}

fn the_end_in_a_pause_shows_after_the_bytes(make: Make) {
    let mut world = World::new(make);
    let (conn, mut client) = world.connect();
    world.pause(conn);
    client.write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    world.let_pass(3);
    world.resume(conn);
    world.until("ended", |world| world.story(conn).ended);
    assert_eq!(world.story(conn).received, b"last words");
}

fn after_the_peers_end_we_can_still_send(make: Make) {
    let mut world = World::new(make);
    let (conn, mut client) = world.connect();
    client.shutdown(Shutdown::Write).unwrap();
    world.until("ended", |world| world.story(conn).ended);
    let sent = world.fill(conn);
    assert_pattern(&world.client_reads(&mut client, sent.len()));
    world.until("drained", |world| world.story(conn).drained >= 1);
    assert_eq!(world.story(conn).closed, None);
}

fn a_reset_by_the_peer_closes(make: Make) {
    let mut world = World::new(make);
    let (conn, client) = world.connect();
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    world.expect_closed(conn, CloseCause::Reset);
    assert_eq!(world.driver.connections(), 0);
}

fn a_reset_after_the_end_closes(make: Make) {
    let mut world = World::new(make);
    let (conn, client) = world.connect();
    client.shutdown(Shutdown::Write).unwrap();
    world.until("ended", |world| world.story(conn).ended);
    world.let_pass(3);
    assert_eq!(world.story(conn).closed, None);
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    world.expect_closed(conn, CloseCause::Reset);
}

fn a_reset_under_a_backlog_closes(make: Make) {
    let mut world = World::new(make);
    let (conn, client) = world.connect();
    world.fill(conn);
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    world.expect_closed(conn, CloseCause::Reset);
    assert_eq!(world.driver.send(conn, b"too late".to_vec()), 0);
}

fn an_empty_send_does_nothing(make: Make) {
    let mut world = World::new(make);
    let (conn, mut client) = world.connect();
    assert_eq!(world.driver.send(conn, Vec::new()), 0);
    world.driver.send(conn, b"a".to_vec());
    world.driver.send(conn, Vec::new());
    world.driver.send(conn, b"b".to_vec());
    assert_eq!(world.client_reads(&mut client, 2), b"ab");
}

fn a_driver_that_is_dropped_ends_its_connections(make: Make) {
    let mut world = World::new(make);
    let (conn, mut busy) = world.connect();
    let (_, mut idle) = world.connect();
    let sent = world.fill(conn);
    let address = world.address;
    drop(world);
    let mut other = World::new(make);
    let (bytes, _) = other.client_reads_to_the_end(&mut busy);
    assert!(bytes.len() <= sent.len());
    assert_pattern(&bytes);
    assert!(other.client_reads_to_the_end(&mut idle).0.is_empty());
    std::net::TcpStream::connect(address).unwrap_err();
}
