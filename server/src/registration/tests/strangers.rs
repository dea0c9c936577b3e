//! What strangers can do to the owner of a number.

use super::*;
use crate::phone::rules::Limit;

const NUMBER: &str = "4915112345678";

fn stranger(n: u32) -> Asker {
    // Each of another network.
    asker(NUMBER, &format!("stranger-{n}"), (1000 + n) << 8)
}

/// An owner who has registered, some time ago.
fn registered(world: &mut World) -> Asker {
    let owner = asker(NUMBER, "device-of-the-owner", 1);
    let issued = world.request(&owner).ok().unwrap();
    assert_eq!(world.verify(&owner, issued.pin.digits()), Ok(()));
    world.pass(30 * DAY);
    owner
}

/// All that a number's limits let strangers do in a day, and more: PINs until there are none, and a lock.
fn use_up(world: &mut World) {
    for n in 0..20 {
        if let Ok(issued) = world.request(&stranger(n)) {
            world.verify(&stranger(n), wrong(issued.pin.digits())).unwrap_err();
        }
        world.pass(2 * MINUTE);
    }
    assert!(matches!(world.request(&stranger(99)), Err(Refused::Limit(Limit::Number, _))));
}

#[test]
fn a_device_that_has_registered_the_number_gets_its_pins_when_strangers_have_used_up_all_others() {
    let mut world = World::new();
    let owner = registered(&mut world);
    use_up(&mut world);
    for _ in 0..world.config.pins_per_number_share {
        let issued = world.request(&owner).ok().unwrap();
        assert_eq!(world.verify(&owner, issued.pin.digits()), Ok(()));
        world.pass(MINUTE);
    }
    assert!(matches!(world.request(&owner), Err(Refused::Limit(Limit::Share, _))), "it has its bounds, too");
}

#[test]
fn strangers_neither_lock_out_a_known_device_nor_void_its_pin() {
    let mut world = World::new();
    let owner = registered(&mut world);
    let theirs = world.request(&stranger(0)).ok().unwrap();
    for _ in 0..world.config.pin_tries {
        world.verify(&stranger(0), wrong(theirs.pin.digits())).unwrap_err();
    }
    assert!(matches!(world.request(&stranger(1)), Err(Refused::Limit(Limit::Locked, _))));
    let told = world.request(&owner).ok().unwrap();
    // It does not wait for what was sent to strangers, and what is sent to them does not take its place.
    world.pass(9 * MINUTE);
    world.config.backoff_seconds_max = 1;
    assert!(world.request(&stranger(2)).is_ok());
    assert_eq!(world.verify(&owner, told.pin.digits()), Ok(()));
}

#[test]
fn wrong_pins_of_others_do_not_keep_a_known_device_from_telling_its_own() {
    let mut world = World::new();
    let owner = registered(&mut world);
    world.config.wrong_pins_per_day = 1;
    let theirs = world.request(&stranger(0)).ok().unwrap();
    world.verify(&stranger(0), wrong(theirs.pin.digits())).unwrap_err();
    assert!(matches!(
        world.verify(&stranger(0), theirs.pin.digits()),
        Err(Refused::Limit(Limit::ServerWrong, _))
    ));
    let told = world.request(&owner).ok().unwrap();
    assert_eq!(world.verify(&owner, told.pin.digits()), Ok(()));
}

#[test]
fn one_network_and_one_device_have_a_share_of_a_numbers_pins() {
    let mut world = World::new();
    let share = world.config.pins_per_number_share;
    for n in 0..share {
        assert!(world.request(&asker(NUMBER, &format!("device-{n}"), 7 + n)).is_ok());
        world.pass(MINUTE);
    }
    assert!(matches!(world.request(&asker(NUMBER, "device-x", 7)), Err(Refused::Limit(Limit::Share, _))));
    assert!(world.request(&asker(NUMBER, "device-y", 8 << 8)).is_ok(), "somebody else has a share, too");
    assert!(world.request(&asker("4915112345679", "device-x", 7)).is_ok(), "and so has another number");
}

#[test]
fn a_stranger_is_answered_the_same_whether_a_known_device_is_under_way_or_not() {
    let answers = |owner_comes: bool| {
        let mut world = World::new();
        let owner = registered(&mut world);
        let mut heard = Vec::new();
        for n in 0..30 {
            if owner_comes && n % 7 == 3 {
                let told = world.request(&owner).ok().unwrap();
                world.verify(&owner, wrong(told.pin.digits())).unwrap_err();
            }
            let asked = world.request(&stranger(n % 5)).map(|issued| issued.expires_ms);
            let told =
                world.verify(&stranger((n + 1) % 5), "abcde".replace(char::is_alphabetic, "1").as_str());
            heard.push(format!("{asked:?} {told:?}"));
            world.pass(90 * SECOND);
        }
        heard
    };
    assert_eq!(answers(true), answers(false));
}

#[test]
fn a_device_is_known_for_the_number_it_has_registered_and_not_for_ever() {
    let mut world = World::new();
    let owner = registered(&mut world);
    use_up(&mut world);
    // Another's name for itself, or another number, shows nothing.
    let claims = asker(NUMBER, "device-of-the-owneR", 1);
    assert!(matches!(world.request(&claims), Err(Refused::Limit(Limit::Number, _))));
    let now_ms = world.now_ms;
    world.step(move |_, transaction| transaction.forget_registrations(now_ms, 1000)).unwrap();
    assert!(world.request(&owner).is_ok());
    world.pass(337 * DAY);
    use_up(&mut world);
    assert!(matches!(world.request(&owner), Err(Refused::Limit(Limit::Number, _))));
}

/// Addresses and names of devices cost nothing, networks do.
#[test]
fn an_owner_with_a_new_phone_gets_a_pin_however_much_two_networks_ask_for() {
    let mut world = World::new();
    let (mut got, mut refused) = (0, Vec::new());
    for n in 0..100 {
        match world.request(&asker(NUMBER, &format!("stranger-{n}"), ((7 + n % 2) << 8) + n / 4)) {
            Ok(_) => got += 1,
            Err(reason) => refused.push(reason),
        }
        world.pass(MINUTE);
    }
    assert_eq!(got, world.config.pins_per_number_per_day - world.config.pins_per_number_reserve);
    assert!(refused.iter().all(|reason| matches!(reason, Refused::Limit(Limit::Share | Limit::Reserve, _))));
    let owner = asker(NUMBER, "new-phone-of-the-owner", 9 << 8);
    let issued = world.request(&owner).ok().unwrap();
    world.pass(MINUTE);
    assert!(matches!(world.request(&owner), Err(Refused::Limit(Limit::Reserve, _))), "one for each");
    assert_eq!(world.verify(&owner, issued.pin.digits()), Ok(()));
    // From now on the phone is known.
    assert!(world.request(&owner).is_ok());
}

/// The bound that docs/registration.md names.
#[test]
fn it_takes_seven_networks_to_use_up_a_numbers_pins_of_a_day() {
    let networks_to_use_up = (1..20).find(|networks| {
        let mut world = World::new();
        // Each takes its share before the next begins: in turns they would take one another's reserve.
        for n in 0..60 {
            let network = n * networks / 60 + 1;
            // Refused or not.
            let _ = world.request(&asker(NUMBER, &format!("stranger-{n}"), network << 8));
            world.pass(MINUTE);
        }
        world.request(&asker(NUMBER, "new-phone-of-the-owner", 99 << 8)).is_err()
    });
    assert_eq!(networks_to_use_up, Some(7));
}
