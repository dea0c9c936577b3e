//! Bounds, priorities and the end, which are the same for all providers.

use std::time::Duration;

use whimbrel_push::doubles::{Answer, Options};
use whimbrel_push::{Kind, Notification, Outcome, Settings};

use crate::support::{Bench, apns_config, apns_target, fcm_config, fcm_target, notification};

fn held() -> Answer {
    Answer::Hold(Box::new(Answer::Take))
}

#[test]
fn a_full_queue_gives_back_what_it_has_no_room_for() {
    let bench = Bench::new();
    let double = bench.fcm(Options::default());
    double.script().always(held());
    let settings = Settings { queue: 10, in_flight: 3, ..bench.settings() };
    let provider = bench.start(fcm_config(&double), settings);
    for id in 0..10 {
        provider.try_send(notification(id, fcm_target("device"))).unwrap();
    }
    let told = notification(10, fcm_target("device"));
    assert_eq!(*provider.try_send(told.clone()).unwrap_err(), told);
    assert_eq!((provider.length(), provider.limit(), provider.high_water()), (10, 10, 10));
    double.journal().wait_for_streams(3);
    double.script().always(Answer::Take);
    double.journal().release();
    bench.reports.wait(10);
    assert_eq!(double.journal().streams_max(), 3, "no more are under way than are allowed");
    provider.try_send(told).unwrap();
    assert_eq!(bench.reports.outcome(10), Outcome::Sent);
}

#[test]
fn calls_go_before_messages_that_wait() {
    let bench = Bench::new();
    let double = bench.apns(Options::default());
    double.script().always(held());
    let settings = Settings { in_flight: 1, ..bench.settings() };
    let provider = bench.start(apns_config(&double), settings);
    provider.try_send(notification(0, apns_target("00aa"))).unwrap();
    double.journal().wait_for(1);
    double.script().always(Answer::Take);
    for id in 1..20 {
        provider.try_send(notification(id, apns_target("00aa"))).unwrap();
    }
    let call = Notification { kind: Kind::Call, ..notification(20, apns_target("00bb")) };
    provider.try_send(call).unwrap();
    double.journal().release();
    bench.reports.wait(21);
    assert_eq!(double.journal().heard()[1].path, "/3/device/00bb");
}

#[test]
fn what_is_not_answered_in_time_is_tried_again_and_given_up_at_its_end() {
    let bench = Bench::new();
    let double = bench.fcm(Options::default());
    let provider = bench.start(fcm_config(&double), bench.settings());
    provider.try_send(notification(0, fcm_target("device"))).unwrap();
    assert_eq!(bench.reports.outcome(0), Outcome::Sent);
    double.script().always(Answer::Stall);
    let short =
        Notification { time_to_live: Duration::from_secs(1), ..notification(1, fcm_target("device")) };
    provider.try_send(short).unwrap();
    let report = bench.reports.report(1);
    assert!(
        matches!(&report.outcome, Outcome::Overdue(text) if text.starts_with("no answer within")),
        "{report:?}"
    );
    assert!(report.took >= Duration::from_secs(1));

    // A stalled attempt is no end: the next one has another connection.
    double.script().next(Answer::Stall);
    double.script().always(Answer::Take);
    let settings = Settings { attempt: Duration::from_millis(300), ..bench.settings() };
    let impatient = bench.start(fcm_config(&double), settings);
    impatient.try_send(notification(2, fcm_target("device"))).unwrap();
    let report = bench.reports.report(2);
    assert_eq!(report.outcome, Outcome::Sent);
    assert!(report.attempts >= 2, "{report:?}");
}

#[test]
fn an_outage_of_one_provider_delays_nothing_of_another() {
    let bench = Bench::new();
    let (fcm, apns) = (bench.fcm(Options::default()), bench.apns(Options::default()));
    fcm.script().always(Answer::Stall);
    let failing = bench.start(fcm_config(&fcm), Settings { queue: 50, ..bench.settings() });
    let working = bench.start(apns_config(&apns), bench.settings());
    let mut taken = 0;
    while failing.try_send(notification(taken, fcm_target("device"))).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 50);
    for id in 1_000..1_100 {
        working.try_send(notification(id, apns_target("00aa"))).unwrap();
    }
    let reports = bench.reports.wait(100);
    assert!(reports.iter().all(|report| report.id >= 1_000 && report.outcome == Outcome::Sent));
}

#[test]
fn a_stop_waits_for_what_is_under_way_and_reports_the_rest() {
    let bench = Bench::new();
    let double = bench.fcm(Options::default());
    double.script().next(held()).next(Answer::Stall);
    let provider = bench.start(fcm_config(&double), Settings { in_flight: 2, ..bench.settings() });
    for id in 0..5 {
        provider.try_send(notification(id, fcm_target("device"))).unwrap();
    }
    double.journal().wait_for(2);
    let stopping = std::thread::spawn(move || provider.stop(Duration::from_secs(2)));
    // What waits is reported before anything is waited for.
    bench.reports.wait(3);
    double.journal().release();
    stopping.join().unwrap();
    let reports = bench.reports.wait(5);
    assert!(reports[..3].iter().all(|report| report.id >= 2 && report.outcome == Outcome::Stopping));
    // Of the two that were under way one was answered.
    assert_eq!([&reports[3].outcome, &reports[4].outcome], [&Outcome::Sent, &Outcome::Stopping]);
}

#[test]
fn a_provider_that_is_dropped_reports_everything() {
    let bench = Bench::new();
    let double = bench.fcm(Options::default());
    double.script().always(Answer::Stall);
    let provider = bench.start(fcm_config(&double), bench.settings());
    for id in 0..20 {
        provider.try_send(notification(id, fcm_target("device"))).unwrap();
    }
    drop(provider);
    let reports = bench.reports.wait(20);
    assert!(reports.iter().all(|report| report.outcome == Outcome::Stopping));
}

#[test]
fn a_peer_that_nobody_vouches_for_hears_nothing() {
    let bench = Bench::new();
    let double = bench.apns(Options::default());
    let settings = Settings { roots: whimbrel_push::Roots::bundled(), ..bench.settings() };
    let provider = bench.start(apns_config(&double), settings);
    let short = Notification { time_to_live: Duration::from_secs(1), ..notification(1, apns_target("00aa")) };
    provider.try_send(short).unwrap();
    let Outcome::Overdue(text) = bench.reports.outcome(1) else { panic!("it is not sent") };
    assert!(text.contains("certificate"), "{text}");
    assert_eq!(double.journal().heard().len(), 0);
}

#[test]
fn a_notification_for_another_provider_is_refused() {
    let bench = Bench::new();
    let double = bench.fcm(Options::default());
    let provider = bench.start(fcm_config(&double), bench.settings());
    provider.try_send(notification(1, apns_target("00aa"))).unwrap();
    assert_eq!(bench.reports.outcome(1), Outcome::Refused("it is for another provider".to_owned()));
}
