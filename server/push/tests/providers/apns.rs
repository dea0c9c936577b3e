//! Apple Push Notification service.

use std::time::Duration;

use serde_json::json;
use whimbrel_push::doubles::{Answer, Options};
use whimbrel_push::{Kind, Notification, Outcome, Target};

use crate::support::{Bench, apns_config, apns_target, notification};

fn refusal(status: u16, reason: &str) -> Answer {
    Answer::status(status, &json!({ "reason": reason }).to_string())
}

fn held() -> Answer {
    Answer::Hold(Box::new(Answer::Take))
}

#[test]
fn an_alert_shows_what_is_told() {
    let bench = Bench::new();
    let double = bench.apns(Options::default());
    let provider = bench.start(apns_config(&double), bench.settings());
    let shown = Notification {
        sound: Some("bell.caf".to_owned()),
        click_action: Some("REPLY".to_owned()),
        ..notification(7, apns_target("00aa"))
    };
    provider.try_send(shown).unwrap();
    assert_eq!(bench.reports.outcome(7), Outcome::Sent);
    let heard = double.journal().wait_for(1).remove(0);
    assert_eq!(heard.path, "/3/device/00aa");
    let headers = ["apns-push-type", "apns-priority", "apns-topic", "apns-collapse-id"];
    let expected = ["alert", "10", "example.whimbrel.app", "Y29udmVyc2F0aW9u"];
    assert_eq!(headers.map(|name| heard.header(name)), expected);
    let now = bench.clock.now();
    let expires: u64 = heard.header("apns-expiration").parse().unwrap();
    assert!((now + 590..=now + 600).contains(&expires), "{expires}");
    let payload = json!({
        "aps": {
            "alert": { "title": "romeo@example.org", "body": "But, soft!" },
            "badge": 3,
            "sound": "bell.caf",
            "category": "REPLY",
            "mutable-content": 1,
        },
        "kind": "message",
        "id": "0000000000000007",
        "conversation": "Y29udmVyc2F0aW9u",
        "message-count": 3,
        "last-message-sender": "romeo@example.org",
    });
    assert_eq!(heard.payload, payload);

    // Withheld: a text of the app's own.
    let bare = Notification { sender: None, text: None, count: None, ..notification(8, apns_target("00aa")) };
    provider.try_send(bare).unwrap();
    assert_eq!(bench.reports.outcome(8), Outcome::Sent);
    let aps = &double.journal().heard()[1].payload["aps"];
    assert_eq!(aps, &json!({ "alert": { "loc-key": "push.message" }, "mutable-content": 1 }));
    assert_eq!(double.journal().violations(), [""; 0]);
}

#[test]
fn a_silent_push_is_for_the_app_alone_and_a_call_goes_by_voip() {
    let bench = Bench::new();
    let double = bench.apns(Options::default());
    let provider = bench.start(apns_config(&double), bench.settings());
    let silent = Notification { silent: true, ..notification(1, apns_target("00aa")) };
    let voip = Target::Apns { token: "00bb".to_owned(), topic: None, voip: true };
    let named = Target::Apns {
        token: "00cc".to_owned(),
        topic: Some("example.whimbrel.app.voip".to_owned()),
        voip: false,
    };
    let call = |id, target| Notification {
        kind: Kind::Call,
        time_to_live: Duration::from_secs(3_600),
        high_priority: false,
        silent: true,
        ..notification(id, target)
    };
    for (id, told) in
        [(1, silent), (2, call(2, voip)), (3, call(3, named)), (4, call(4, apns_target("00dd")))]
    {
        provider.try_send(told).unwrap();
        assert_eq!(bench.reports.outcome(id), Outcome::Sent, "{id}");
    }
    assert_eq!(double.journal().violations(), [""; 0]);
    let heard = double.journal().heard();
    let headers =
        |n: usize| ["apns-push-type", "apns-priority", "apns-topic"].map(|name| heard[n].header(name));
    assert_eq!(headers(0), ["background", "5", "example.whimbrel.app"]);
    assert_eq!(heard[0].payload["aps"], json!({ "content-available": 1 }));
    assert_eq!(heard[0].payload["last-message-body"], "But, soft!");
    assert_eq!(headers(1), ["voip", "10", "example.whimbrel.app.voip"]);
    assert_eq!(headers(2), ["voip", "10", "example.whimbrel.app.voip"], "the topic says so");
    assert_eq!(headers(3), ["alert", "10", "example.whimbrel.app"], "no token of PushKit's");
    assert_eq!(heard[3].payload["aps"]["alert"]["loc-key"], "push.call");
    let now = bench.clock.now();
    for heard in &heard[1..] {
        let expires: u64 = heard.header("apns-expiration").parse().unwrap();
        assert!((now + 50..=now + 60).contains(&expires), "a call is over within seconds");
    }
}

#[test]
fn the_provider_token_is_renewed_within_apples_window() {
    let bench = Bench::new();
    let double = bench.apns(Options::default());
    let provider = bench.start(apns_config(&double), bench.settings());
    let mut seen = Vec::new();
    for minutes in (0..=180).step_by(5) {
        provider.try_send(notification(minutes, apns_target("00aa"))).unwrap();
        assert_eq!(bench.reports.outcome(minutes), Outcome::Sent);
        if seen.len() < double.tokens() as usize {
            seen.push(minutes);
        }
        bench.hand.advance(Duration::from_secs(5 * 60));
    }
    assert_eq!(double.journal().violations(), [""; 0], "neither too old nor too many");
    assert_eq!(seen, [0, 40, 80, 120, 160]);
    assert_eq!(double.journal().connections(), 1, "the connection is kept");
}

#[test]
fn a_token_that_has_ended_is_renewed_once_and_a_young_one_is_not() {
    let bench = Bench::new();
    let double = bench.apns(Options::default());
    let provider = bench.start(apns_config(&double), bench.settings());
    provider.try_send(notification(1, apns_target("00aa"))).unwrap();
    assert_eq!(bench.reports.outcome(1), Outcome::Sent);
    // Apple's clock goes before ours.
    bench.hand.advance(Duration::from_secs(25 * 60));
    double.script().next(refusal(403, "ExpiredProviderToken"));
    provider.try_send(notification(2, apns_target("00aa"))).unwrap();
    let report = bench.reports.report(2);
    assert_eq!((report.outcome, report.attempts, double.tokens()), (Outcome::Sent, 1, 2));
    double.script().next(refusal(403, "ExpiredProviderToken"));
    provider.try_send(notification(3, apns_target("00aa"))).unwrap();
    let Outcome::Credentials(text) = bench.reports.outcome(3) else { panic!("an alarm") };
    assert!(text.contains("clock"), "{text}");
    assert_eq!((double.tokens(), double.journal().violations()), (2, vec![]));
}

#[test]
fn no_more_streams_are_open_than_the_peer_allows() {
    let bench = Bench::new();
    let double = bench.apns(Options { streams: 5, ..Options::default() });
    let provider = bench.start(apns_config(&double), bench.settings());
    double.script().always(held());
    for id in 0..60 {
        provider.try_send(notification(id, apns_target("00aa"))).unwrap();
    }
    double.journal().wait_for_streams(5);
    double.script().always(Answer::Take);
    // Those that come later are answered at once; these in several goes.
    double.journal().release();
    let reports = bench.reports.wait(60);
    assert!(reports.iter().all(|report| report.outcome == Outcome::Sent && report.attempts == 1));
    assert_eq!(double.journal().streams_max(), 5);
    assert_eq!((double.journal().heard().len(), double.journal().connections()), (60, 1));
}

#[test]
fn what_goaway_leaves_out_is_sent_again_on_a_new_connection_and_nothing_twice() {
    let bench = Bench::new();
    let double = bench.apns(Options::default());
    let provider = bench.start(apns_config(&double), bench.settings());
    // Ten are under way and will be answered; the eleventh and those behind it are not looked at.
    for _ in 0..10 {
        double.script().next(held());
    }
    for id in 0..10 {
        provider.try_send(notification(id, apns_target("00aa"))).unwrap();
    }
    double.journal().wait_for(10);
    for _ in 0..5 {
        double.script().next(Answer::Hold(Box::new(Answer::Stall)));
    }
    for id in 10..15 {
        provider.try_send(notification(id, apns_target("00bb"))).unwrap();
    }
    double.journal().wait_for(15);
    double.script().next(Answer::GoAway);
    provider.try_send(notification(15, apns_target("00cc"))).unwrap();
    // The new connection.
    double.journal().wait_for(17);
    assert_eq!(bench.reports.outcome(15), Outcome::Sent);
    assert_eq!(double.journal().connections(), 2);
    assert_eq!(bench.reports.len(), 1, "those before it still wait on the old connection");
    double.journal().release();
    let reports = bench.reports.wait(11);
    assert!(reports.iter().all(|report| report.outcome == Outcome::Sent && report.attempts == 1));
    let of = |path: &str| double.journal().heard().iter().filter(|heard| heard.path.ends_with(path)).count();
    assert_eq!((of("00aa"), of("00cc")), (10, 2), "the one that was left out was read by both");
    assert_eq!(provider.is_paused(), None);
    drop(provider);
}

#[test]
fn streams_behind_the_last_one_are_sent_again_whole() {
    let bench = Bench::new();
    let double = bench.apns(Options::default());
    let provider = bench.start(apns_config(&double), bench.settings());
    double.script().next(held());
    provider.try_send(notification(0, apns_target("00aa"))).unwrap();
    double.journal().wait_for(1);
    // The second stream is the first that GOAWAY leaves out, and is answered last: the others behind it are under way.
    double.script().next(Answer::Hold(Box::new(Answer::GoAway)));
    for _ in 0..8 {
        double.script().next(Answer::Stall);
    }
    provider.try_send(notification(1, apns_target("00bb"))).unwrap();
    double.journal().wait_for(2);
    for id in 2..10 {
        provider.try_send(notification(id, apns_target("00bb"))).unwrap();
    }
    double.journal().wait_for(10);
    double.journal().release();
    let reports = bench.reports.wait(10);
    assert!(reports.iter().all(|report| report.outcome == Outcome::Sent && report.attempts == 1));
    assert_eq!(double.journal().heard().len(), 1 + 9 + 9);
    let mut ids: Vec<String> =
        double.journal().heard().iter().skip(1).map(|heard| heard.header("apns-id").to_owned()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 9, "a notification has one id in all its attempts");
}

#[test]
fn a_refused_stream_and_a_broken_connection_are_tried_again() {
    let bench = Bench::new();
    let double = bench.apns(Options::default());
    double.script().next(Answer::Refuse).next(Answer::Drop).next(Answer::Drop);
    let provider = bench.start(apns_config(&double), bench.settings());
    provider.try_send(notification(1, apns_target("00aa"))).unwrap();
    let report = bench.reports.report(1);
    assert_eq!((report.outcome, report.attempts), (Outcome::Sent, 3), "a refused stream costs no attempt");
    assert_eq!(double.journal().connections(), 3);
    assert_eq!(double.journal().heard().len(), 4);
}

#[test]
fn a_provider_that_is_down_is_reached_again_when_it_is_up() {
    let bench = Bench::new();
    let double = bench.apns(Options::default());
    let provider = bench.start(apns_config(&double), bench.settings());
    provider.try_send(notification(0, apns_target("00aa"))).unwrap();
    assert_eq!(bench.reports.outcome(0), Outcome::Sent);
    double.journal().go_down();
    for id in 1..20 {
        provider.try_send(notification(id, apns_target("00aa"))).unwrap();
    }
    // It is down until this is seen.
    while provider.is_paused().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(bench.reports.len(), 1);
    double.journal().come_up();
    let reports = bench.reports.wait(20);
    assert!(reports.iter().all(|report| report.outcome == Outcome::Sent));
    assert_eq!(double.journal().heard().len(), 20);
}

#[test]
fn a_connection_that_gives_no_sign_of_life_is_replaced() {
    let bench = Bench::new();
    let double = bench.apns(Options::default());
    // The attempt has no time of its own to end: the ping ends it.
    let settings = whimbrel_push::Settings {
        attempt: Duration::from_secs(600),
        trying: Duration::from_secs(600),
        ping: Duration::from_millis(100),
        ..bench.settings()
    };
    let provider = bench.start(apns_config(&double), settings);
    provider.try_send(notification(0, apns_target("00aa"))).unwrap();
    assert_eq!(bench.reports.outcome(0), Outcome::Sent);
    double.journal().freeze();
    provider.try_send(notification(1, apns_target("00aa"))).unwrap();
    let report = bench.reports.report(1);
    assert_eq!((report.outcome, report.attempts), (Outcome::Sent, 2));
    assert_eq!(double.journal().connections(), 2);
}

#[test]
fn answers_of_apple_have_their_outcomes() {
    let bench = Bench::new();
    let double = bench.apns(Options::default());
    let provider = bench.start(apns_config(&double), bench.settings());
    let gone = [(410, "Unregistered"), (400, "BadDeviceToken"), (400, "DeviceTokenNotForTopic")];
    for (id, (status, reason)) in gone.into_iter().enumerate() {
        double.script().next(refusal(status, reason));
        provider.try_send(notification(id as u64, apns_target("00aa"))).unwrap();
        assert_eq!(bench.reports.outcome(id as u64), Outcome::Gone(format!("{status} {reason}")));
    }
    double.script().next(refusal(400, "BadPriority"));
    provider.try_send(notification(10, apns_target("00aa"))).unwrap();
    assert_eq!(bench.reports.outcome(10), Outcome::Refused("400 BadPriority".to_owned()));
    // What a client has made up says nothing of our key.
    let topic = Some("somebody.elses.app".to_owned());
    let target = Target::Apns { token: "00aa".to_owned(), topic, voip: false };
    provider.try_send(notification(11, target)).unwrap();
    assert_eq!(bench.reports.outcome(11), Outcome::Gone("400 TopicDisallowed".to_owned()));
    let strange = Target::Apns { token: "../../x".to_owned(), topic: None, voip: false };
    provider.try_send(notification(12, strange)).unwrap();
    assert!(matches!(bench.reports.outcome(12), Outcome::Gone(_)));
    for reason in ["TooManyRequests", "Shutdown"] {
        double.script().next(refusal(if reason == "Shutdown" { 503 } else { 429 }, reason));
    }
    provider.try_send(notification(13, apns_target("00aa"))).unwrap();
    let report = bench.reports.report(13);
    assert_eq!((report.outcome, report.attempts), (Outcome::Sent, 3));
    double.script().next(refusal(403, "InvalidProviderToken"));
    provider.try_send(notification(14, apns_target("00aa"))).unwrap();
    assert_eq!(bench.reports.outcome(14), Outcome::Credentials("403 InvalidProviderToken".to_owned()));
}

#[test]
fn a_long_text_is_cut_to_what_apple_takes() {
    let bench = Bench::new();
    let double = bench.apns(Options::default());
    let provider = bench.start(apns_config(&double), bench.settings());
    let voip = Target::Apns { token: "00bb".to_owned(), topic: None, voip: true };
    for (id, target, limit) in [(1, apns_target("00aa"), 4_096), (2, voip, 5_120)] {
        let text = Some("😀".repeat(3_000));
        provider.try_send(Notification { text, ..notification(id, target) }).unwrap();
        assert_eq!(bench.reports.outcome(id), Outcome::Sent);
        let bytes = double.journal().heard().last().unwrap().bytes;
        assert!((limit - 6..=limit).contains(&bytes), "{bytes} of {limit}");
    }
    assert_eq!(double.journal().violations(), [""; 0]);
}
