//! Many connections at once, and a loud one among quiet ones.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::for_each_driver;
use super::world::{Make, Random, World, pattern};
use crate::driver::{CloseHow, RECEIPTS_PER_LOOK, Tuning};

for_each_driver!(
    a_thousand_connections_keep_their_streams_apart,
    a_firehose_does_not_starve_a_ping,
    receive_buffers_that_run_out_come_back,
    a_poll_whose_time_is_over_leaves_the_rest_their_turn,
    those_who_send_much_take_turns,
    much_that_goes_to_many_takes_turns_and_little_goes_out_at_once,
);

struct Talker {
    socket: TcpStream,
    random: Random,
    /// Where its pattern begins: each connection has its own.
    offset: usize,
    total: usize,
    written: usize,
    read: usize,
}

impl Talker {
    /// Writes and reads a little; whether its stream has come back whole.
    fn turn(&mut self) -> bool {
        if self.written < self.total {
            let count = (1 + self.random.below(700)).min(self.total - self.written);
            match self.socket.write(&pattern(self.offset + self.written, count)) {
                Ok(count) => self.written += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            if self.written == self.total {
                self.socket.shutdown(Shutdown::Write).unwrap();
            }
        }
        let mut buffer = [0; 900];
        match self.socket.read(&mut buffer) {
            Ok(0) => {
                assert_eq!(self.read, self.total, "the stream is cut short");
                return true;
            }
            Ok(count) => {
                assert_eq!(buffer[..count], pattern(self.offset + self.read, count)[..], "a wrong echo");
                self.read += count;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        false
    }
}

/// Echoes, with sends cut at other places than receives, until every client has its stream back.
fn echo(make: Make, tuning: Tuning, count: usize, seed: u64) {
    let mut world = World::tuned(make, tuning);
    let mut talkers = Vec::new();
    let mut random = Random::new(seed);
    for number in 0..count {
        let socket = TcpStream::connect(world.address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let total = 1 + random.below(6000);
        let random = Random::new(seed ^ number as u64);
        talkers.push(Talker { socket, random, offset: number * 7919, total, written: 0, read: 0 });
        // So many are accepted in one poll, and the backlog of the listener is short.
        if number % 16 == 0 {
            world.poll(Duration::ZERO);
        }
    }
    let mut closed = std::collections::HashSet::new();
    world.until("all echoed", |world| {
        talkers.retain_mut(|talker| !talker.turn());
        let conns: Vec<_> = world.stories.keys().copied().filter(|conn| !closed.contains(conn)).collect();
        for conn in conns {
            let story = world.stories.get_mut(&conn).unwrap();
            let ended = story.ended;
            let mut bytes = std::mem::take(&mut story.received);
            if bytes.len() > 1 {
                let tail = bytes.split_off(1 + random.below(bytes.len() - 1));
                world.driver.send(conn, bytes);
                world.driver.send(conn, tail);
            } else {
                world.driver.send(conn, bytes);
            }
            if ended {
                world.close(conn, CloseHow::Flush);
                closed.insert(conn);
            }
        }
        talkers.is_empty()
    });
    assert_eq!(closed.len(), count);
    world.until("all closed", |world| world.driver.connections() == 0);
}

fn a_thousand_connections_keep_their_streams_apart(make: Make) {
    for seed in [11, 12] {
        echo(make, Tuning::default(), 1000, seed);
    }
}

fn receive_buffers_that_run_out_come_back(make: Make) {
    // Two small buffers, short queues, and little work in a poll: everything is scarce all the time.
    let tuning = Tuning {
        ring_buffers: 2,
        ring_buffer_bytes: 100,
        ring_entries: 4,
        receive_bytes: 100,
        reads_per_poll_max: 3,
        ..Tuning::default()
    };
    echo(make, tuning, 60, 13);
}

fn a_poll_whose_time_is_over_leaves_the_rest_their_turn(make: Make) {
    let mut world = World::tuned(make, Tuning { poll_time: Duration::ZERO, ..Tuning::default() });
    let mut sockets: Vec<_> = (0..20).map(|_| TcpStream::connect(world.address).unwrap()).collect();
    world.until("all are there", |world| world.stories.len() == 20);
    for socket in &mut sockets {
        socket.write_all(b"here").unwrap();
    }
    let heard = |world: &World| world.stories.values().filter(|story| !story.received.is_empty()).count();
    // The system has all of it by now, since a write to a loopback connection returns when it is there.
    let mut before = 0;
    for polls in 1.. {
        world.poll(Duration::from_millis(10));
        let now = heard(&world);
        assert!(now - before <= RECEIPTS_PER_LOOK as usize, "{} in one poll", now - before);
        before = now;
        if now == 20 {
            break;
        }
        assert!(polls < 1000, "{now} of 20 were heard");
    }
}

fn a_firehose_does_not_starve_a_ping(make: Make) {
    let mut world = World::new(make);
    let stop = Arc::new(AtomicBool::new(false));
    let hoses: Vec<_> = (0..2)
        .map(|_| {
            let (_, mut hose) = world.connect();
            hose.set_nonblocking(false).unwrap();
            let stop = stop.clone();
            std::thread::spawn(move || {
                let data = vec![b'x'; 256 << 10];
                while !stop.load(Ordering::Relaxed) && hose.write_all(&data).is_ok() {}
            })
        })
        .collect();
    let (ping, mut client) = world.connect();
    for round in 1..=50 {
        client.write_all(b".").unwrap();
        let mut polls = 0;
        world.until("a ping between the hoses", |world| {
            for story in world.stories.values_mut() {
                if story.received.len() > 100 {
                    story.received.clear();
                }
            }
            polls += 1;
            world.story(ping).received.len() == round
        });
        // The byte is on its way before the first poll; when it arrives is up to the kernel, on a busy machine some polls
        // later. A driver that serves the hoses first would need as many polls as they have data: no end of them.
        assert!(polls <= 64, "the ping took {polls} polls");
    }
    stop.store(true, Ordering::Relaxed);
    drop(world);
    for hose in hoses {
        hose.join().unwrap();
    }
}

/// Writes what its socket takes.
fn pour(socket: &mut TcpStream, data: &[u8]) {
    loop {
        match socket.write(data) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn those_who_send_much_take_turns(make: Make) {
    // Time decides nothing here.
    let tuning = Tuning { poll_time: Duration::from_secs(60), ..Tuning::default() };
    let mut world = World::tuned(make, tuning);
    let mut loud: Vec<_> = (0..30).map(|_| world.connect()).collect();
    let (quiet, mut client) = world.connect();
    let data = vec![b'x'; 256 << 10];
    for poll in 1..=120 {
        for (conn, socket) in &mut loud {
            pour(socket, &data);
            world.stories.get_mut(conn).unwrap().received.clear();
        }
        client.write_all(b".").unwrap();
        world.poll(Duration::ZERO);
        let received: usize = loud.iter().map(|(conn, _)| world.story(*conn).received.len()).sum();
        // In the first polls nobody knows yet that they send much.
        let most = tuning.poll_bytes_max + tuning.receive_bytes;
        assert!(poll < 20 || received <= most, "{received} bytes in poll {poll}");
    }
    world.until("all of the quiet one", |world| world.story(quiet).received.len() == 120);
}

fn much_that_goes_to_many_takes_turns_and_little_goes_out_at_once(make: Make) {
    let tuning = Tuning { sends_bytes_max: 64 << 10, ..Tuning::default() };
    let mut world = World::tuned(make, tuning);
    let mut busy: Vec<_> = (0..12).map(|_| world.connect()).collect();
    let (quiet, mut client) = world.connect();
    let much = pattern(0, 60 << 10);
    let mut left: Vec<usize> = busy.iter().map(|_| much.len()).collect();
    for (conn, _) in &busy {
        world.driver.send(*conn, much.clone());
    }
    assert_eq!(world.driver.send(quiet, b"little".to_vec()), 0, "little waits for nobody");
    let mut heard = Vec::new();
    let mut polls = 0;
    let mut buffer = vec![0; much.len()];
    while left.iter().any(|left| *left > 0) {
        world.poll(Duration::ZERO);
        polls += 1;
        assert!(polls < 100_000, "{left:?} bytes did not come");
        if heard.is_empty()
            && let Ok(count) = client.read(&mut buffer)
        {
            assert_eq!(&buffer[..count], b"little");
            heard = left.clone();
        }
        let mut came = 0;
        for (left, (_, socket)) in left.iter_mut().zip(&mut busy) {
            while let Ok(count @ 1..) = socket.read(&mut buffer) {
                let at = much.len() - *left;
                assert_eq!(buffer[..count], much[at..at + count]);
                (*left, came) = (*left - count, came + count);
            }
        }
        // The one that reaches the limit is the last: one of the same poll, and one that was sent before the first.
        assert!(came <= 4 * tuning.sends_bytes_max, "{came} bytes in one poll");
    }
    assert!(heard.iter().sum::<usize>() > 0, "little came after all of the rest");
    let drained = |world: &World, conn| world.story(conn).drained == 1;
    world.until("all are told", |world| busy.iter().filter(|(conn, _)| drained(world, *conn)).count() >= 10);
}
