//! Listeners, and what happens when descriptors run out.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use super::for_each_driver;
use super::world::{self, Make, World};
use crate::driver::{ListenerId, Tuning};
use crate::isolated;
use crate::platform::lower_descriptor_limit;

for_each_driver!(
    an_accepted_connection_tells_where_it_came_in_and_from_whom,
    a_burst_is_accepted_to_the_last,
    accepting_pauses_and_goes_on,
    a_stopped_listener_is_closed,
    the_port_is_closed_when_the_driver_is_gone,
    accepted_connections_send_without_delay,
);

fn an_accepted_connection_tells_where_it_came_in_and_from_whom(make: Make) {
    let mut world = World::new(make);
    let (first, _client) = world.connect();
    // Dual-stack: the peer appears as an IPv4-mapped address and is told as IPv4.
    let listener = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(world.driver.listen(listener).unwrap(), ListenerId(1));
    let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    world.until("accepted", |world| !world.accepted.is_empty());
    let second = world.accepted.pop_front().unwrap();
    assert_eq!(world.story(first).listener, Some(ListenerId(0)));
    assert_eq!(world.story(second).listener, Some(ListenerId(1)));
    for conn in [first, second] {
        assert_eq!(world.story(conn).peer, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}

fn a_burst_is_accepted_to_the_last(make: Make) {
    let mut world = World::tuned(make, Tuning { accepts_per_poll_max: 7, ..Tuning::default() });
    let mut clients: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(world.address).unwrap()).collect();
    let mut before = 0;
    world.until("all accepted", |world| {
        assert!(world.accepted.len() - before <= 7, "one poll accepts 7 at most");
        before = world.accepted.len();
        before == 100
    });
    for client in &mut clients {
        client.write_all(b"!").unwrap();
    }
    world.until("all heard", |world| world.stories.values().all(|story| story.received == b"!"));
}

fn accepting_pauses_and_goes_on(make: Make) {
    let mut world = World::new(make);
    let (conn, mut client) = world.connect();
    for _ in 0..3 {
        world.driver.pause_accepting();
        world.poll(Duration::ZERO);
        world.poll(Duration::ZERO);
        world.accepted.clear();
        let waiting = TcpStream::connect(world.address).unwrap();
        for _ in 0..5 {
            let heard = world.story(conn).received.len();
            client.write_all(b".").unwrap();
            world.until("the old connection", |world| world.story(conn).received.len() > heard);
        }
        assert!(world.accepted.is_empty());
        world.driver.resume_accepting();
        world.until("accepted", |world| world.accepted.len() == 1);
        drop(waiting);
    }
}

fn a_stopped_listener_is_closed(make: Make) {
    let mut world = World::new(make);
    let (conn, mut client) = world.connect();
    world.driver.stop_accepting();
    world.until("refused", |world| TcpStream::connect(world.address).is_err());
    assert!(world.accepted.is_empty());
    world.driver.resume_accepting();
    client.write_all(b"still here").unwrap();
    world.until("received", |world| world.story(conn).received == b"still here");
    TcpStream::connect(world.address).unwrap_err();
}

fn the_port_is_closed_when_the_driver_is_gone(make: Make) {
    for connected in [false, true] {
        let mut world = World::new(make);
        let client = connected.then(|| world.connect());
        // The kernel has the accept.
        world.poll(Duration::ZERO);
        let address = world.address;
        drop(world);
        // At once, and not some time later.
        TcpStream::connect(address).unwrap_err();
        TcpListener::bind(address).unwrap();
        drop(client);
    }
}

fn accepted_connections_send_without_delay(make: Make) {
    let mut world = World::new(make);
    let (conn, _client) = world.connect();
    let socket = world.detach(conn);
    assert!(socket.socket().tcp_nodelay().unwrap());
}

fn descriptors_run_out_and_come_back(make: Make) {
    let tuning = Tuning { accept_backoff: Duration::from_millis(20), ..Tuning::default() };
    let mut world = World::tuned(make, tuning);
    let (old, mut old_client) = world.connect();
    // Clients need descriptors as well: as many sockets as there will be clients are made beforehand.
    let clients: Vec<socket2::Socket> = (0..20)
        .map(|_| socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap())
        .collect();
    let next_free = std::fs::File::open("/dev/null").unwrap();
    let limit = std::os::fd::AsRawFd::as_raw_fd(&next_free) as u64 + 5;
    drop(next_free);
    // An accept that the kernel has may keep the limit it was made under.
    world.driver.pause_accepting();
    world.let_others_pass();
    lower_descriptor_limit(limit);
    world.driver.resume_accepting();
    for client in &clients {
        client.set_nonblocking(true).unwrap();
        // In progress, or done at once.
        let _ = client.connect(&world.address.into());
    }
    world.until("exhausted", |world| !world.exhausted.is_empty());
    assert_eq!(world.exhausted[0], libc::EMFILE);
    let accepted = world.accepted.len();
    assert!((1..=5).contains(&accepted), "{accepted} accepted");
    // The others are turned away one after another, and see it.
    let mut turned_away = 0;
    world.until("turned away", |_| {
        turned_away += clients.iter().filter(|client| client.take_error().unwrap().is_some()).count();
        let hung_up =
            clients.iter().filter(|client| matches!((&**client).read_one(), Some(libc::ECONNRESET))).count();
        turned_away += hung_up;
        turned_away >= 20 - accepted
    });
    // Everything else goes on.
    old_client.write_all(b"alive").unwrap();
    world.until("received", |world| world.story(old).received == b"alive");
    // With descriptors back, accepting goes on by itself.
    world.accepted.clear();
    drop(clients);
    let gone: Vec<_> = world.stories.keys().copied().filter(|conn| *conn != old).collect();
    for conn in gone {
        world.close(conn, crate::driver::CloseHow::Reset);
    }
    world.until("closed", |world| world.driver.connections() == 1);
    world.connect();
}

trait ReadOne {
    fn read_one(&self) -> Option<i32>;
}

impl ReadOne for &socket2::Socket {
    /// The error that a read gives now, if any.
    fn read_one(&self) -> Option<i32> {
        let mut byte = [0];
        std::io::Read::read(&mut &**self, &mut byte).err().and_then(|error| error.raw_os_error())
    }
}

#[test]
fn descriptors_run_out_and_come_back_over_mio() {
    isolated::run("driver::tests::accepting::descriptors_run_out_and_come_back_over_mio", || {
        descriptors_run_out_and_come_back(world::mio);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn descriptors_run_out_and_come_back_over_uring() {
    isolated::run("driver::tests::accepting::descriptors_run_out_and_come_back_over_uring", || {
        if world::uring_may_run() {
            descriptors_run_out_and_come_back(world::uring);
        }
    });
}
