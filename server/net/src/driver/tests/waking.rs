//! Waking from other threads.

use std::io::Write;
use std::net::Shutdown;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::for_each_driver;
use super::world::{Make, World};
use crate::driver::CloseHow;

for_each_driver!(
    no_wake_up_is_lost,
    many_wake_ups_may_give_one_event,
    a_waker_outlives_its_driver,
    a_driver_with_nothing_to_do_sleeps,
);

fn no_wake_up_is_lost(make: Make) {
    let mut world = World::new(make);
    let waker = world.driver.waker();
    let (ask, asked) = channel::<()>();
    let thread = std::thread::spawn(move || {
        while asked.recv().is_ok() {
            waker.wake();
        }
    });
    for round in 0..500 {
        let before = world.woken;
        ask.send(()).unwrap();
        // Without a wake-up this waits until the watchdog ends the test.
        world.until("woken", |world| world.woken > before);
        assert!(world.woken <= round + 1);
    }
    drop(ask);
    thread.join().unwrap();
}

fn many_wake_ups_may_give_one_event(make: Make) {
    let mut world = World::new(make);
    let waker = world.driver.waker();
    for _ in 0..1000 {
        waker.wake();
    }
    world.until("woken", |world| world.woken > 0);
    world.let_pass(2);
    assert_eq!(world.woken, 1);
    waker.wake();
    world.until("woken again", |world| world.woken == 2);
}

fn a_waker_outlives_its_driver(make: Make) {
    let mut world = World::new(make);
    let waker = world.driver.waker();
    world.poll(Duration::ZERO);
    drop(world);
    waker.wake();
    waker.wake();
}

fn a_driver_with_nothing_to_do_sleeps(make: Make) {
    let mut world = World::new(make);
    let (_, _idle) = world.connect();
    let (paused, mut pauses) = world.connect();
    let (ended, ends) = world.connect();
    let (held, mut holds) = world.connect();
    let (stuck, _reads_nothing) = world.connect();
    let (flushing, mut flushes) = world.connect();
    world.pause(paused);
    pauses.write_all(b"waits").unwrap();
    ends.shutdown(Shutdown::Write).unwrap();
    world.until("ended", |world| world.story(ended).ended);
    world.pause(held);
    holds.write_all(b"waits").unwrap();
    holds.shutdown(Shutdown::Write).unwrap();
    world.fill(stuck);
    world.close(flushing, CloseHow::Flush);
    world.client_reads_to_the_end(&mut flushes).1.unwrap();
    world.driver.pause_accepting();
    world.let_others_pass();
    let waker = world.driver.waker();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        waker.wake();
    });
    let mut polls = 0;
    while world.woken == 0 {
        world.poll(Duration::from_secs(10));
        polls += 1;
    }
    thread.join().unwrap();
    // A driver that spins polls thousands of times; a slow machine polls less, not more.
    assert!(polls < 50, "{polls} polls for nothing");
}
