//! What each step does, and when.

use super::*;
use crate::phone::rules::Limit;

const NUMBER: &str = "4915112345678";

fn pin(issued: &Result<Issued, Refused>) -> String {
    issued.as_ref().map(|issued| issued.pin.digits().to_owned()).expect("a PIN is issued")
}

#[test]
fn a_pin_is_good_for_ten_minutes_and_once() {
    let mut world = World::new();
    let one = asker(NUMBER, "device-1", 1);
    assert_eq!(world.verify(&one, "12345"), Err(Refused::NotRequested));
    let told = pin(&world.request(&one));
    world.pass(10 * MINUTE - 1);
    assert_eq!(world.verify(&one, &told), Ok(()));
    assert_eq!(world.verify(&one, &told), Err(Refused::NotRequested));
    let told = pin(&world.request(&one));
    world.pass(10 * MINUTE);
    assert_eq!(world.verify(&one, &told), Err(Refused::Expired));
    // A clock that is put back does not bring it to life.
    world.now_ms -= 2 * HOUR;
    assert_eq!(world.verify(&one, &told), Err(Refused::Expired));
}

#[test]
fn the_fifth_wrong_pin_voids_it_and_each_lock_is_twice_as_long() {
    let mut world = World::new();
    world.config.wrong_pins_per_address_per_hour = 1000;
    world.config.pins_per_number_per_day = 1000;
    world.config.pins_per_number_share = 1000;
    world.config.pins_per_number_reserve = 0;
    let one = asker(NUMBER, "device-1", 1);
    for minutes in [15, 30, 60, 120, 240, 480, 960, 1440, 1440] {
        let told = pin(&world.request(&one));
        for left in [4, 3, 2, 1, 0] {
            assert_eq!(world.verify(&one, wrong(&told)), Err(Refused::Wrong(left)));
        }
        assert_eq!(world.verify(&one, &told), Err(Refused::NoTries(minutes * MINUTE)));
        world.pass(minutes * MINUTE - 1);
        assert_eq!(world.request(&one).err(), Some(Refused::Limit(Limit::Locked, 1)));
        assert_eq!(
            world.request(&asker(NUMBER, "device-2", 2)).err(),
            Some(Refused::Limit(Limit::Locked, 1))
        );
        assert!(world.request(&asker("4915112345679", &format!("device-{minutes}"), 3)).is_ok());
        world.pass(1);
    }
    // A right PIN makes locks short again.
    let told = pin(&world.request(&one));
    assert_eq!(world.verify(&one, &told), Ok(()));
    world.pass(HOUR);
    let told = pin(&world.request(&one));
    for _ in 0..5 {
        world.verify(&one, wrong(&told)).unwrap_err();
    }
    assert_eq!(world.verify(&one, &told), Err(Refused::NoTries(15 * MINUTE)));
    // And so do thirty days of peace.
    world.pass(15 * MINUTE + 30 * DAY + 1);
    let told = pin(&world.request(&one));
    for _ in 0..5 {
        world.verify(&one, wrong(&told)).unwrap_err();
    }
    assert_eq!(world.verify(&one, &told), Err(Refused::NoTries(15 * MINUTE)));
}

#[test]
fn each_limit_counts_what_it_should_and_is_over_with_its_window() {
    type Configure = fn(&mut RegistrationConfig);
    type Who = fn(u32) -> Asker;
    let table: [(Limit, u64, Configure, Who); 7] = [
        (Limit::Share, DAY, |c| c.pins_per_number_share = 3, |n| asker(NUMBER, "d", n)),
        (Limit::Share, DAY, |c| c.pins_per_number_share = 3, |n| asker(NUMBER, &format!("d{n}"), 1)),
        (Limit::Number, DAY, |c| c.pins_per_number_per_day = 3, |n| asker(NUMBER, &format!("d{n}"), n << 8)),
        (
            Limit::Reserve,
            DAY,
            |c| (c.pins_per_number_per_day, c.pins_per_number_reserve) = (4, 1),
            |n| asker(NUMBER, "d", n << 8),
        ),
        (Limit::Device, HOUR, |c| c.pins_per_device_per_hour = 3, |n| asker(&format!("49{n}"), "d", n)),
        (
            Limit::Address,
            HOUR,
            |c| c.pins_per_address_per_hour = 3,
            |n| asker(&format!("49{n}"), &format!("d{n}"), 1),
        ),
        (Limit::Server, HOUR, |c| c.pins_per_hour = 3, |n| asker(&format!("49{n}"), &format!("d{n}"), n)),
    ];
    for (limit, window, configure, who) in table {
        let mut world = World::new();
        configure(&mut world.config);
        for n in 0..3 {
            assert!(world.request(&who(n)).is_ok(), "{limit:?}");
            world.pass(MINUTE);
        }
        assert_eq!(world.request(&who(3)).err(), Some(Refused::Limit(limit, window - 3 * MINUTE)));
        world.pass(window - 3 * MINUTE);
        assert!(world.request(&who(4)).is_ok(), "{limit:?}");
    }
}

#[test]
fn addresses_of_one_ipv6_network_count_as_one() {
    let mut world = World::new();
    world.config.pins_per_address_per_hour = 1;
    let from = |n: u32, address: &str| Asker {
        address: address.parse().unwrap(),
        ..asker(&format!("49{n}"), &format!("d{n}"), 0)
    };
    assert!(world.request(&from(1, "2001:db8::1")).is_ok());
    assert!(world.request(&from(2, "2001:db8::ffff:ffff:ffff:ffff")).is_err());
    assert!(world.request(&from(3, "2001:db8:0:1::1")).is_ok());
    assert!(world.request(&from(4, "192.0.2.1")).is_ok());
    assert!(world.request(&from(5, "::ffff:192.0.2.1")).is_err());
}

#[test]
fn another_pin_for_the_number_comes_a_minute_later_at_the_earliest() {
    let mut world = World::new();
    let (one, two) = (asker(NUMBER, "device-1", 1), asker(NUMBER, "device-2", 2));
    let first = pin(&world.request(&one));
    world.pass(MINUTE - 1);
    assert_eq!(world.request(&two).err(), Some(Refused::Limit(Limit::Resend, 1)));
    world.pass(1);
    let second = pin(&world.request(&two));
    assert_eq!(world.verify(&one, &first), Err(Refused::Superseded));
    assert_eq!(world.verify(&one, &second), Err(Refused::Superseded));
    assert_eq!(world.verify(&asker(NUMBER, "device-3", 3), &second), Err(Refused::NotRequested));
    assert_eq!(world.verify(&two, &second), Ok(()));
    assert_eq!(world.verify(&one, &first), Err(Refused::Superseded));
    // The one that was superseded may have it back.
    world.pass(MINUTE);
    let third = pin(&world.request(&one));
    assert_eq!(world.verify(&one, &third), Ok(()));
}

#[test]
fn guesses_of_others_do_not_use_up_a_devices_tries() {
    let mut world = World::new();
    let one = asker(NUMBER, "device-1", 1);
    let told = pin(&world.request(&one));
    for n in 0..1000 {
        let stranger = asker(NUMBER, &format!("stranger-{n}"), 2);
        assert_eq!(world.verify(&stranger, &told), Err(Refused::NotRequested));
    }
    assert_eq!(world.verify(&one, &told), Ok(()));
}

#[test]
fn what_was_not_sent_is_void_and_does_not_count() {
    let mut world = World::new();
    world.config.pins_per_number_per_day = 1;
    let one = asker(NUMBER, "device-1", 1);
    let issued = world.request(&one).ok().unwrap();
    let (whose, id) = (one.clone(), issued.id);
    world.step(move |rules, transaction| rules.withdraw(transaction, &whose, id)).unwrap();
    assert_eq!(world.verify(&one, issued.pin.digits()), Err(Refused::NotRequested));
    let told = pin(&world.request(&one));
    // The first message's failure, heard late, does not touch the second.
    let whose = one.clone();
    world.step(move |rules, transaction| rules.withdraw(transaction, &whose, id)).unwrap();
    assert_eq!(world.verify(&one, &told), Ok(()));
}

#[test]
fn what_the_operator_revokes_is_void_at_once() {
    let mut world = World::new();
    let one = asker(NUMBER, "device-1", 1);
    let told = pin(&world.request(&one));
    assert!(world.step(|rules, transaction| rules.revoke(transaction, NUMBER)).unwrap());
    assert_eq!(world.verify(&one, &told), Err(Refused::NotRequested));
    assert!(!world.step(|rules, transaction| rules.revoke(transaction, NUMBER)).unwrap());
}

#[test]
fn nothing_is_remembered_for_longer_than_it_matters() {
    let mut world = World::new();
    let one = asker(NUMBER, "device-1", 1);
    let told = pin(&world.request(&one));
    for _ in 0..5 {
        world.verify(&one, wrong(&told)).unwrap_err();
    }
    world.pass(10 * DAY);
    let now_ms = world.now_ms;
    world.step(move |_, transaction| transaction.forget_registrations(now_ms, 1000)).unwrap();
    assert_eq!(world.directory.number_state(NUMBER).unwrap().map(|state| state.strikes), Some(1));
    world.pass(21 * DAY);
    let now_ms = world.now_ms;
    world.step(move |_, transaction| transaction.forget_registrations(now_ms, 1000)).unwrap();
    assert_eq!(world.directory.number_state(NUMBER).unwrap(), None);
}
