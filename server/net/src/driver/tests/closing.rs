//! Closing, and what is left of a connection afterwards.

use std::io::{self, Write};
use std::net::Shutdown;
use std::time::Duration;

use super::for_each_driver;
use super::world::{Make, World, assert_pattern};
use crate::driver::{CloseCause, CloseHow, Tuning};

for_each_driver!(
    a_flushing_close_delivers_everything,
    a_flushing_close_discards_what_still_comes,
    a_flushing_close_of_an_ended_connection_needs_no_answer,
    a_flushing_close_ends_a_pause,
    a_flushing_close_gives_up_on_a_peer_that_does_not_read,
    a_flushing_close_does_not_wait_for_ever_for_the_peers_end,
    a_peer_that_resets_a_flushing_close_ends_it,
    a_reset_drops_what_is_unsent,
    a_reset_overtakes_a_flushing_close,
    calls_with_a_dead_id_do_nothing,
);

fn with_deadline(make: Make, deadline: Duration) -> World {
    World::tuned(make, Tuning { flush_deadline: deadline, ..Tuning::default() })
}

fn a_flushing_close_delivers_everything(make: Make) {
    let mut world = with_deadline(make, Duration::from_secs(60));
    let (conn, mut client) = world.connect();
    let sent = world.fill(conn);
    world.close(conn, CloseHow::Flush);
    assert_eq!(world.driver.send(conn, b"too late".to_vec()) % 2, world.driver.send(conn, vec![]) % 2);
    let (bytes, end) = world.client_reads_to_the_end(&mut client);
    end.unwrap();
    assert_eq!(bytes.len(), sent.len());
    assert_pattern(&bytes);
    world.let_pass(2);
    assert_eq!(world.story(conn).closed, None, "the peer has not ended");
    drop(client);
    world.expect_closed(conn, CloseCause::Local);
}

fn a_flushing_close_discards_what_still_comes(make: Make) {
    let mut world = with_deadline(make, Duration::from_secs(60));
    let (conn, mut client) = world.connect();
    let sent = world.fill(conn);
    world.close(conn, CloseHow::Flush);
    client.write_all(&[b'x'; 10_000]).unwrap();
    let (bytes, end) = world.client_reads_to_the_end(&mut client);
    end.unwrap();
    assert_eq!(bytes.len(), sent.len());
    client.write_all(&[b'y'; 10_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    world.expect_closed(conn, CloseCause::Local);
    assert!(world.story(conn).received.is_empty());
}

fn a_flushing_close_of_an_ended_connection_needs_no_answer(make: Make) {
    let mut world = with_deadline(make, Duration::from_secs(60));
    let (conn, mut client) = world.connect();
    client.shutdown(Shutdown::Write).unwrap();
    world.until("ended", |world| world.story(conn).ended);
    world.driver.send(conn, b"farewell".to_vec());
    world.close(conn, CloseHow::Flush);
    let (bytes, end) = world.client_reads_to_the_end(&mut client);
    end.unwrap();
    assert_eq!(bytes, b"farewell");
    world.expect_closed(conn, CloseCause::Local);
}

fn a_flushing_close_ends_a_pause(make: Make) {
    let mut world = with_deadline(make, Duration::from_secs(60));
    let (conn, mut client) = world.connect();
    world.pause(conn);
    client.write_all(b"not read any more").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    world.let_pass(2);
    world.close(conn, CloseHow::Flush);
    world.driver.pause_reading(conn);
    world.expect_closed(conn, CloseCause::Local);
    world.client_reads_to_the_end(&mut client).1.unwrap();
}

fn a_flushing_close_gives_up_on_a_peer_that_does_not_read(make: Make) {
    let mut world = with_deadline(make, Duration::from_millis(50));
    let (conn, mut client) = world.connect();
    let sent = world.fill(conn);
    world.close(conn, CloseHow::Flush);
    world.expect_closed(conn, CloseCause::FlushTimedOut);
    let (bytes, end) = world.client_reads_to_the_end(&mut client);
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(bytes.len() < sent.len());
}

fn a_flushing_close_does_not_wait_for_ever_for_the_peers_end(make: Make) {
    let mut world = with_deadline(make, Duration::from_millis(50));
    let (conn, mut client) = world.connect();
    world.driver.send(conn, b"farewell".to_vec());
    world.close(conn, CloseHow::Flush);
    assert_eq!(world.client_reads(&mut client, 8), b"farewell");
    world.expect_closed(conn, CloseCause::Local);
    assert_eq!(world.driver.connections(), 0);
}

fn a_peer_that_resets_a_flushing_close_ends_it(make: Make) {
    let mut world = with_deadline(make, Duration::from_secs(3600));
    let (conn, client) = world.connect();
    world.fill(conn);
    world.close(conn, CloseHow::Flush);
    // Dropped with unread bytes, it resets.
    world.let_pass(2);
    drop(client);
    world.expect_closed(conn, CloseCause::Reset);
}

fn a_reset_drops_what_is_unsent(make: Make) {
    let mut world = World::new(make);
    let (conn, mut client) = world.connect();
    let sent = world.fill(conn);
    world.close(conn, CloseHow::Reset);
    world.expect_closed(conn, CloseCause::Local);
    let (bytes, end) = world.client_reads_to_the_end(&mut client);
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(bytes.len() < sent.len());
    assert_eq!(world.driver.connections(), 0);
}

fn a_reset_overtakes_a_flushing_close(make: Make) {
    let mut world = with_deadline(make, Duration::from_secs(3600));
    let (conn, mut client) = world.connect();
    world.fill(conn);
    world.close(conn, CloseHow::Flush);
    world.let_pass(1);
    world.close(conn, CloseHow::Reset);
    world.close(conn, CloseHow::Reset);
    world.expect_closed(conn, CloseCause::Local);
    world.client_reads_to_the_end(&mut client).1.unwrap_err();
}

fn calls_with_a_dead_id_do_nothing(make: Make) {
    let mut world = World::new(make);
    let (dead, client) = world.connect();
    drop(client);
    world.until("ended", |world| world.story(dead).ended);
    world.close(dead, CloseHow::Reset);
    world.expect_closed(dead, CloseCause::Local);
    let (conn, mut client) = world.connect();
    assert_eq!(conn.index, dead.index, "a freed index is used again");
    for _ in 0..3 {
        assert_eq!(world.driver.send(dead, b"lost".to_vec()), 0);
        world.driver.pause_reading(dead);
        world.driver.resume_reading(dead);
        world.driver.detach(dead);
        world.driver.close(dead, CloseHow::Flush);
        world.driver.close(dead, CloseHow::Reset);
        client.write_all(b"x").unwrap();
        world.let_pass(1);
    }
    world.until("all of it", |world| world.story(conn).received == b"xxx");
    world.driver.send(conn, b"y".to_vec());
    assert_eq!(world.client_reads(&mut client, 1), b"y");
    assert_eq!(world.driver.connections(), 1);
}
