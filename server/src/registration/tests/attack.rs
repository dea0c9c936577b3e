//! An attacker with many addresses.
//!
//! Chance has a fixed seed, so the outcome is the same each time. Anything that is asserted is not luck but how many guesses are
//! looked at at all: the chance of each is one in 100,000.

use super::*;

/// Guesses that are looked at (and PINs, of which each costs a message) out of those that are made.
#[derive(Debug, Default)]
struct Tally {
    guesses: u32,
    looked_at: u32,
    pins: u32,
    hits: u32,
}

impl Tally {
    fn guess(&mut self, world: &mut World, chance: &mut Chance, asker: &Asker) {
        // Without a PIN under way there is nothing to guess.
        self.guesses += 1;
        if world.rules().may_verify(&world.directory, asker).unwrap().is_some() {
            if world.request(asker).is_err() {
                // The guess is refused unseen, as it would have been before.
                return;
            }
            self.pins += 1;
        }
        let guess = format!("{:05}", chance.next() % 100_000);
        match world.verify(asker, &guess) {
            Ok(()) => {
                self.looked_at += 1;
                self.hits += 1;
            }
            Err(Refused::Wrong(_)) => self.looked_at += 1,
            Err(_) => {}
        }
    }
}

#[test]
fn of_100_000_guesses_at_one_number_from_10_000_addresses_in_a_day_few_are_looked_at() {
    let mut world = World::new();
    let mut chance = Chance(1);
    let mut tally = Tally::default();
    for n in 0..100_000_u32 {
        world.pass(DAY / 100_000);
        let asker = asker("4915112345678", &format!("device-{}", n % 10_000), (n % 10_000) << 8);
        tally.guess(&mut world, &mut chance, &asker);
    }
    // Ten PINs a day at the most, five tries each.
    assert_eq!(tally.guesses, 100_000);
    assert!(tally.looked_at <= 50 && tally.pins <= 10, "{tally:?}");
    assert_eq!(tally.hits, 0);
}

#[test]
fn of_20_000_guesses_at_one_number_in_an_hour_with_one_device_fifteen_are_looked_at_at_most() {
    let mut world = World::new();
    let mut chance = Chance(3);
    let mut tally = Tally::default();
    for n in 0..20_000_u32 {
        world.pass(HOUR / 20_000);
        let asker = asker("4915112345678", "device-of-the-attacker", (n % 10_000) << 8);
        tally.guess(&mut world, &mut chance, &asker);
    }
    assert!(tally.looked_at <= 15 && tally.pins <= 3, "{tally:?}");
    assert!(tally.looked_at > 0, "{tally:?}");
    assert_eq!(tally.hits, 0);
}

#[test]
fn of_100_000_guesses_at_as_many_numbers_as_there_are_the_servers_limit_lets_1_000_pass() {
    let mut world = World::new();
    let mut chance = Chance(2);
    let mut tally = Tally::default();
    for n in 0..100_000_u32 {
        world.pass(HOUR / 100_000);
        let n = n % 10_000;
        let asker = asker(&format!("49151{n:08}"), &format!("device-{n}"), n);
        tally.guess(&mut world, &mut chance, &asker);
    }
    assert!(tally.looked_at <= world.config.wrong_pins_per_day, "{tally:?}");
    assert!(tally.pins <= world.config.pins_per_hour, "{tally:?}");
    assert!(tally.looked_at >= 500, "the test has lost its attacker: {tally:?}");
    assert_eq!(tally.hits, 0);
}
