use super::*;

const LIMITS: Limits = Limits {
    entries: 64,
    free_failures: 2,
    delay_ms_first: 100,
    delay_ms_max: 1000,
    account_failures_max: 10,
    address_failures_max: 20,
    forgive_ms: 1000,
};

fn throttle() -> Throttle {
    Throttle::new(LIMITS, 1)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Fails `times` times at once, from a new address each time.
fn fail_account(throttle: &mut Throttle, account: &str, times: u8, now_ms: u64) {
    for host in 0..times {
        let _ = throttle.failed(account, IpAddr::from([10, 0, 0, host]), now_ms);
    }
}

/// Fails `times` times at once, at a new account each time.
fn fail_address(throttle: &mut Throttle, address: &str, times: u32, now_ms: u64) {
    for account in 0..times {
        let _ = throttle.failed(&account.to_string(), ip(address), now_ms);
    }
}

#[test]
fn the_delay_doubles_up_to_its_cap() {
    let mut throttle = throttle();
    let delays: Vec<_> = (0..8).map(|_| throttle.failed("juliet", ip("192.0.2.1"), 0)).collect();
    assert_eq!(delays, [0, 0, 100, 200, 400, 800, 1000, 1000]);
}

#[test]
fn an_account_is_slowed_whatever_the_address_and_the_reverse() {
    let mut throttle = throttle();
    fail_account(&mut throttle, "juliet", 3, 0);
    assert_eq!(throttle.failed("juliet", ip("192.0.2.1"), 0), 200);
    assert_eq!(throttle.failed("romeo", ip("192.0.2.2"), 0), 0);
    fail_address(&mut throttle, "192.0.2.3", 3, 0);
    assert_eq!(throttle.failed("nurse", ip("192.0.2.3"), 0), 200);
}

#[test]
fn beyond_the_limit_attempts_are_refused_until_time_forgives() {
    let mut throttle = throttle();
    let address = ip("192.0.2.1");
    fail_account(&mut throttle, "juliet", 9, 0);
    assert_eq!(throttle.verdict("juliet", address, 0), Verdict::Proceed);
    fail_account(&mut throttle, "juliet", 200, 0);
    assert_eq!(throttle.verdict("juliet", address, 999), Verdict::Refuse);
    assert_eq!(throttle.verdict("romeo", address, 999), Verdict::Proceed);
    // One step is forgiven: one guess, and the limit is reached again.
    assert_eq!(throttle.verdict("juliet", address, 1000), Verdict::Proceed);
    assert_eq!(throttle.failed("juliet", address, 1500), 1000);
    assert_eq!(throttle.verdict("juliet", address, 1999), Verdict::Refuse);
    assert_eq!(throttle.verdict("juliet", address, 2000), Verdict::Proceed);
    // And in the end all of it is.
    assert_eq!(throttle.failed("juliet", ip("192.0.2.2"), 60_000), 0);
}

#[test]
fn an_address_is_refused_at_its_own_limit() {
    let mut throttle = throttle();
    fail_address(&mut throttle, "192.0.2.1", 20, 0);
    assert_eq!(throttle.verdict("juliet", ip("192.0.2.1"), 0), Verdict::Refuse);
    assert_eq!(throttle.verdict("juliet", ip("192.0.2.2"), 0), Verdict::Proceed);
}

#[test]
fn a_success_forgives_the_account_and_not_the_address() {
    let mut throttle = throttle();
    fail_account(&mut throttle, "juliet", 10, 0);
    fail_address(&mut throttle, "192.0.2.1", 20, 0);
    throttle.succeeded("juliet");
    assert_eq!(throttle.verdict("juliet", ip("192.0.2.2"), 0), Verdict::Proceed);
    assert_eq!(throttle.failed("juliet", ip("192.0.2.2"), 0), 0);
    assert_eq!(throttle.verdict("juliet", ip("192.0.2.1"), 0), Verdict::Refuse);
}

#[test]
fn ipv6_counts_by_network_and_mapped_ipv4_as_ipv4() {
    let mut throttle = throttle();
    fail_address(&mut throttle, "2001:db8:0:1::1", 20, 0);
    fail_address(&mut throttle, "192.0.2.1", 20, 0);
    for (address, verdict) in [
        ("2001:db8:0:1:ffff::2", Verdict::Refuse),
        ("2001:db8:0:2::1", Verdict::Proceed),
        ("::ffff:192.0.2.1", Verdict::Refuse),
        ("::ffff:192.0.2.2", Verdict::Proceed),
    ] {
        assert_eq!(throttle.verdict("juliet", ip(address), 0), verdict, "{address}");
    }
}

#[test]
fn a_flood_of_names_does_not_drive_out_one_that_is_guessed_at() {
    let mut throttle = throttle();
    fail_account(&mut throttle, "juliet", 10, 0);
    for name in 0..10_000 {
        let _ = throttle.failed(&format!("flood{name}"), ip("192.0.2.1"), 0);
    }
    assert_eq!(throttle.verdict("juliet", ip("192.0.2.2"), 0), Verdict::Refuse);
}

#[test]
fn a_clock_that_goes_back_and_extreme_limits_do_no_harm() {
    let mut throttle = Throttle::new(
        Limits {
            entries: 0,
            free_failures: 0,
            delay_ms_first: u64::MAX,
            delay_ms_max: u64::MAX,
            account_failures_max: u32::MAX,
            address_failures_max: 0,
            forgive_ms: 0,
        },
        0,
    );
    let _ = throttle.failed("juliet", ip("192.0.2.1"), u64::MAX);
    assert_eq!(throttle.failed("juliet", ip("192.0.2.1"), 0), u64::MAX);
    assert_eq!(throttle.verdict("juliet", ip("192.0.2.1"), 0), Verdict::Refuse);
}
