use super::*;

const LIMITS: Limits = Limits {
    entries: 64,
    known: 64,
    free: 2,
    delay_ms_first: 100,
    delay_ms_max: 1000,
    per_pair: 10,
    per_account: 40,
    per_address: 50,
};

fn throttle() -> Throttle {
    Throttle::new(LIMITS, 1)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn proceeds(delay_ms: u64) -> Verdict {
    Verdict::Proceed { delay_ms }
}

/// Guesses `times` times at once; how many of them were looked at.
fn guess(throttle: &mut Throttle, account: &str, address: &str, times: u32, now_ms: u64) -> u32 {
    let heard = (0..times).filter(|_| throttle.begin(account, ip(address), now_ms) != Verdict::Refuse);
    u32::try_from(heard.count()).expect("no more than there were")
}

/// Guesses from so many networks; how many guesses were looked at.
fn flood(throttle: &mut Throttle, account: &str, networks: u32, now_ms: u64) -> u32 {
    (0..networks).map(|n| guess(throttle, account, &format!("10.{}.{}.1", n / 256, n % 256), 1, now_ms)).sum()
}

#[test]
fn the_delay_doubles_up_to_its_cap_then_attempts_are_refused() {
    let mut throttle = throttle();
    let verdicts: Vec<_> = (0..12).map(|_| throttle.begin("juliet", ip("192.0.2.1"), 0)).collect();
    let delays = [0, 0, 100, 200, 400, 800, 1000, 1000, 1000, 1000];
    assert_eq!(verdicts[..10], delays.map(proceeds));
    assert_eq!(verdicts[10..], [Verdict::Refuse; 2]);
}

#[test]
fn guesses_begun_side_by_side_are_all_counted() {
    // None of a thousand has failed yet: they have only begun.
    assert_eq!(guess(&mut throttle(), "juliet", "192.0.2.1", 1000, 0), LIMITS.per_pair);
}

#[test]
fn in_the_long_run_guesses_are_bounded_by_address_network_and_account() {
    const DAY_MS: u64 = 24 * 3600 * 1000;
    let (mut one, mut network, mut many) = (0, 0, 0);
    let (mut a, mut b, mut c) = (throttle(), throttle(), throttle());
    for now_ms in (0..DAY_MS).step_by(5000) {
        one += guess(&mut a, "juliet", "192.0.2.1", 2, now_ms);
        let last = now_ms / 1000 % 250;
        network += guess(&mut b, "juliet", &format!("192.0.2.{last}"), 2, now_ms);
        many += guess(&mut c, "juliet", &format!("10.{}.{last}.1", now_ms / 250_000 % 250), 2, now_ms);
    }
    let per_day = |burst: u32, forgive_ms: u64| burst + u32::try_from(DAY_MS / forgive_ms).expect("small");
    assert!(one <= per_day(LIMITS.per_pair, FORGIVE_PAIR_MS), "{one}");
    assert!(network <= per_day(2 * LIMITS.per_pair, FORGIVE_NEAR_MS), "{network}");
    assert!(many <= per_day(LIMITS.per_account, FORGIVE_ACCOUNT_MS), "{many}");
    // And the bounds are not lower than what the tables are for.
    assert!(one > 5_000 && network > 8_000 && many > 8_000, "{one} {network} {many}");
}

#[test]
fn nobody_keeps_the_owner_out_at_a_known_address() {
    let mut throttle = throttle();
    let home = ip("192.0.2.1");
    assert_eq!(throttle.begin("juliet", home, 0), proceeds(0));
    throttle.succeeded("juliet", home, 0);
    for now_ms in (0..3_600_000).step_by(500) {
        let last = now_ms / 500 % 250;
        let _ = throttle.begin("juliet", ip(&format!("10.{}.{last}.1", now_ms / 125_000 % 250)), now_ms);
    }
    assert_eq!(throttle.begin("juliet", ip("198.51.100.1"), 3_599_900), Verdict::Refuse, "a stranger");
    assert_eq!(throttle.begin("juliet", home, 3_599_900), proceeds(0), "the owner");
}

#[test]
fn a_few_networks_keep_no_owner_out_at_a_new_address() {
    const DAY_MS: u64 = 24 * 3600 * 1000;
    const NETWORKS: u64 = 20;
    let mut throttle = throttle();
    let mut refused = 0;
    for now_ms in (0..DAY_MS).step_by(500) {
        // Two guesses a second, each from another address.
        let n = now_ms / 500;
        let address = format!("10.0.{}.{}", n % NETWORKS, n / NETWORKS % 250);
        let _ = throttle.begin("juliet", ip(&address), now_ms);
        if now_ms % 3_600_000 == 1_800_000 {
            let hotel = ip(&format!("198.51.{}.1", now_ms / 3_600_000));
            match throttle.begin("juliet", hotel, now_ms) {
                Verdict::Proceed { delay_ms } => assert!(delay_ms <= LIMITS.delay_ms_max),
                Verdict::Refuse => refused += 1,
            }
        }
    }
    assert_eq!(refused, 0, "of 24 logins at addresses where its owner has never been");
    // Those that keep at it are refused.
    assert_eq!(throttle.begin("juliet", ip("10.0.1.1"), DAY_MS - 250), Verdict::Refuse);
    assert_eq!(throttle.begin("juliet", ip("10.0.2.200"), DAY_MS - 250), Verdict::Refuse);
}

#[test]
fn thousands_of_networks_a_day_use_up_what_is_kept_for_new_ones() {
    let mut throttle = throttle();
    // Each may guess twice before it has guessed of late, and one guess is forgiven every ten seconds.
    for now_ms in (0..12 * 3_600_000).step_by(10_000) {
        let n = now_ms / 20_000;
        let _ = throttle.begin("juliet", ip(&format!("10.{}.{}.1", n / 250, n % 250)), now_ms);
        let _ = throttle.begin("juliet", ip(&format!("11.{}.{}.1", n / 250, n % 250)), now_ms);
    }
    let now_ms = 12 * 3_600_000 - 5_000;
    assert_eq!(throttle.begin("juliet", ip("198.51.100.1"), now_ms), Verdict::Refuse);
}

#[test]
fn a_neighbour_behind_the_same_address_does_not_keep_known_accounts_out() {
    let mut throttle = throttle();
    let shared = ip("192.0.2.1");
    let _ = throttle.begin("juliet", shared, 0);
    throttle.succeeded("juliet", shared, 0);
    for n in 0..10_000 {
        let _ = throttle.begin(&format!("victim{n}"), shared, 0);
    }
    assert_eq!(throttle.begin("romeo", shared, 0), Verdict::Refuse);
    assert_eq!(throttle.begin("juliet", shared, 0), proceeds(0));
}

#[test]
fn a_success_forgives_its_own_address_and_not_what_strangers_did() {
    let mut throttle = throttle();
    assert_eq!(flood(&mut throttle, "juliet", 30, 0), 30);
    let home = ip("192.0.2.1");
    let _ = guess(&mut throttle, "juliet", "192.0.2.1", 2, 0);
    throttle.succeeded("juliet", home, 0);
    assert_eq!(throttle.begin("juliet", home, 0), proceeds(0), "its own failures are forgiven");
    // 30 strangers and one of two guesses at home: nine are left of 40. Networks that have had theirs get none of them.
    assert_eq!(flood(&mut throttle, "juliet", 256, 0), 9);
}

/// Somebody who logs in from one network again and again is no guesser for that.
#[test]
fn a_right_password_is_no_guess_of_late() {
    let mut throttle = throttle();
    for n in 0..20 {
        let address = ip(&format!("192.0.2.{n}"));
        assert_eq!(throttle.begin("juliet", address, 0), proceeds(0), "{n}");
        throttle.succeeded("juliet", address, 0);
    }
    // The half for those who have guessed is used up, and that network has not.
    let _ = flood(&mut throttle, "juliet", 21, 0);
    assert_ne!(throttle.begin("juliet", ip("192.0.2.200"), 0), Verdict::Refuse);
    assert_eq!(
        guess(&mut throttle, "juliet", "10.0.0.1", 2, 0),
        1,
        "the second makes it one that has guessed"
    );
}

/// A network whose guesses at an account an upgrade carries is forgotten as soon as one of which nothing was carried.
#[test]
fn an_upgrade_holds_nobody_for_a_guesser_for_longer() {
    const EIGHT_HOURS: u64 = 8 * 3_600_000;
    let mut throttle = throttle();
    assert!(guess(&mut throttle, "juliet", "10.0.0.1", 10, 0) > 0);
    assert!(guess(&mut throttle, "juliet", "10.0.0.2", 10, 0) > 0);
    let mut again = Throttle::restored(LIMITS, &throttle.save());
    let later = EIGHT_HOURS * u64::from(LIMITS.free * SEEN_LEVELS);
    let _ = flood(&mut again, "juliet", 21, later);
    assert_ne!(again.begin("juliet", ip("10.0.0.3"), later), Verdict::Refuse);
}

#[test]
fn logins_that_succeed_use_up_nothing() {
    let mut throttle = throttle();
    for n in 0..1000 {
        let account = format!("user{n}");
        assert_eq!(throttle.begin(&account, ip("192.0.2.1"), 0), proceeds(0), "{n}");
        throttle.succeeded(&account, ip("192.0.2.1"), 0);
    }
}

#[test]
fn ipv6_counts_by_64_and_48_and_mapped_ipv4_as_ipv4() {
    let mut throttle = Throttle::new(Limits { per_account: 400, ..LIMITS }, 1);
    assert_eq!(guess(&mut throttle, "juliet", "2001:db8:0:1::1", 20, 0), 10);
    assert_eq!(guess(&mut throttle, "juliet", "2001:db8:0:1:ffff::2", 20, 0), 0, "the same /64");
    assert_eq!(guess(&mut throttle, "juliet", "2001:db8:0:2::1", 20, 0), 10, "another /64 of the /48");
    assert_eq!(guess(&mut throttle, "juliet", "2001:db8:0:3::1", 20, 0), 0, "the /48 has had its share");
    assert_eq!(guess(&mut throttle, "juliet", "2001:db8:1::1", 20, 0), 10, "another /48");
    assert_eq!(guess(&mut throttle, "romeo", "192.0.2.1", 20, 0), 10);
    assert_eq!(guess(&mut throttle, "romeo", "::ffff:192.0.2.1", 20, 0), 0);
}

#[test]
fn names_that_are_no_accounts_are_slowed_alike() {
    // The throttle is never told which exist; this holds it to that.
    let verdicts = |name: &str| {
        let mut throttle = throttle();
        (0..60).map(|n| throttle.begin(name, IpAddr::from([10, 0, n, 1]), 0)).collect::<Vec<_>>()
    };
    assert_eq!(verdicts("juliet"), verdicts("nobody"));
}

#[test]
fn a_flood_of_names_drives_out_neither_guesses_nor_known_addresses() {
    let mut throttle = throttle();
    let home = ip("198.51.100.1");
    let _ = throttle.begin("juliet", home, 0);
    throttle.succeeded("juliet", home, 0);
    assert_eq!(flood(&mut throttle, "juliet", 40, 0), 40);
    for name in 0..10_000 {
        let _ = throttle.begin(&format!("flood{name}"), ip(&format!("172.16.{}.1", name % 256)), 0);
    }
    assert_eq!(flood(&mut throttle, "juliet", 256, 0), 0);
    assert_eq!(throttle.begin("juliet", home, 0), proceeds(0));
    assert!(throttle.figures().driven_out > 0);
}

#[test]
fn an_account_with_many_addresses_drives_out_its_own() {
    let mut known = Known::new(8);
    known.learn(1 << 32, 1, 0);
    for n in 0..100 {
        known.learn(2 << 32, 1000 + n, n * 1000);
    }
    assert!(known.contains(1 << 32, 1));
    assert!(known.contains(2 << 32, 1099));
    assert!(!known.contains(2 << 32, 1000));
}

#[test]
fn an_upgrade_keeps_levels_and_known_addresses() {
    let mut throttle = throttle();
    let home = ip("192.0.2.1");
    let _ = throttle.begin("juliet", home, 0);
    throttle.succeeded("juliet", home, 0);
    assert_eq!(flood(&mut throttle, "juliet", 40, 0), 40);
    let saved = throttle.save();
    let mut again = Throttle::restored(LIMITS, &saved);
    assert_eq!(again.figures().known, 1);
    assert_eq!(again.begin("juliet", ip("198.51.100.1"), 0), Verdict::Refuse);
    assert_eq!(again.begin("juliet", home, 0), proceeds(0));
    // With another size the addresses have to be learnt anew.
    let other = Limits { known: 1024, ..LIMITS };
    let again = Throttle::restored(other, &saved);
    assert_eq!(again.figures().known, 0);
}

#[test]
fn a_clock_that_goes_back_and_extreme_limits_do_no_harm() {
    let limits = Limits {
        entries: 0,
        known: 0,
        free: 0,
        delay_ms_first: u64::MAX,
        delay_ms_max: u64::MAX,
        per_pair: u32::MAX,
        per_account: u32::MAX,
        per_address: 0,
    };
    let mut throttle = Throttle::new(limits, 0);
    assert_eq!(throttle.begin("juliet", ip("192.0.2.1"), u64::MAX), proceeds(u64::MAX));
    throttle.succeeded("juliet", ip("192.0.2.1"), 0);
    assert_eq!(throttle.begin("juliet", ip("192.0.2.1"), 0), proceeds(u64::MAX));
    assert_eq!(throttle.begin("romeo", ip("192.0.2.2"), u64::MAX), proceeds(u64::MAX));
    assert_eq!(throttle.begin("romeo", ip("192.0.2.2"), 0), Verdict::Refuse);
}
