//! Firebase Cloud Messaging.

use std::time::Duration;

use serde_json::json;
use whimbrel_push::doubles::{Answer, Options};
use whimbrel_push::{Kind, Notification, Outcome};

use crate::support::{Bench, fcm_config, fcm_target, notification};

fn error(status: &str, code: &str) -> String {
    let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
    let details = [json!({ "@type": kind, "errorCode": code })];
    json!({ "error": { "status": status, "message": "…", "details": details } }).to_string()
}

#[test]
fn a_data_message_says_what_is_told_and_nothing_else() {
    let bench = Bench::new();
    let double = bench.fcm(Options::default());
    let provider = bench.start(fcm_config(&double), bench.settings());
    provider.try_send(notification(7, fcm_target("device"))).unwrap();
    assert_eq!(bench.reports.outcome(7), Outcome::Sent);
    let expected = json!({ "message": {
        "token": "device",
        "data": {
            "kind": "message",
            "id": "0000000000000007",
            "conversation": "Y29udmVyc2F0aW9u",
            "message-count": "3",
            "last-message-sender": "romeo@example.org",
            "last-message-body": "But, soft!",
        },
        "android": { "priority": "high", "ttl": "599s", "collapse_key": "Y29udmVyc2F0aW9u" },
    } });
    let mut heard = double.journal().wait_for(1)[0].payload.clone();
    assert!(matches!(heard["message"]["android"]["ttl"].as_str(), Some("599s" | "600s")), "{heard}");
    heard["message"]["android"]["ttl"] = json!("599s");
    assert_eq!(heard, expected);

    // Withheld: nothing but that something is there.
    let bare = Notification {
        count: None,
        sender: None,
        text: None,
        collapse: String::new(),
        high_priority: false,
        ..notification(8, fcm_target("device"))
    };
    provider.try_send(bare).unwrap();
    let call = Notification {
        kind: Kind::Call,
        time_to_live: Duration::from_secs(30),
        high_priority: false,
        ..notification(9, fcm_target("device"))
    };
    assert_eq!(bench.reports.outcome(8), Outcome::Sent);
    provider.try_send(call).unwrap();
    let heard = double.journal().wait_for(3);
    let message = &heard[1].payload["message"];
    assert_eq!(message["data"], json!({ "kind": "message", "id": "0000000000000008" }));
    assert_eq!(message["android"]["priority"], "normal");
    assert!(message["android"].get("collapse_key").is_none());
    assert_eq!(heard[2].payload["message"]["android"]["priority"], "high", "a call always is");
    assert!(matches!(heard[2].payload["message"]["android"]["ttl"].as_str(), Some("29s" | "30s")));
    assert_eq!(double.journal().violations(), [""; 0]);
    assert_eq!(
        (double.tokens(), double.journal().open()),
        (1, 2),
        "one token; one connection for it, one for messages"
    );
}

#[test]
fn one_access_token_serves_all_that_wait_and_is_renewed_before_it_ends() {
    let bench = Bench::new();
    let double = bench.fcm(Options::default());
    double.token_script().next(Answer::Hold(Box::new(Answer::Take)));
    let provider = bench.start(fcm_config(&double), bench.settings());
    for id in 0..50 {
        provider.try_send(notification(id, fcm_target("device"))).unwrap();
    }
    double.journal().wait_for_streams(1);
    double.journal().release();
    bench.reports.wait(50);
    assert_eq!((double.journal().heard().len(), double.tokens()), (50, 1));

    // Ten minutes before its end it is still good; four before, there is another.
    bench.hand.advance(Duration::from_secs(50 * 60));
    provider.try_send(notification(50, fcm_target("device"))).unwrap();
    assert_eq!((bench.reports.outcome(50), double.tokens()), (Outcome::Sent, 1));
    bench.hand.advance(Duration::from_secs(6 * 60));
    provider.try_send(notification(51, fcm_target("device"))).unwrap();
    assert_eq!((bench.reports.outcome(51), double.tokens()), (Outcome::Sent, 2));

    // A renewal that fails is no loss while the token is still good.
    bench.hand.advance(Duration::from_secs(56 * 60));
    double.token_script().next(Answer::status(503, ""));
    provider.try_send(notification(52, fcm_target("device"))).unwrap();
    assert_eq!((bench.reports.report(52).attempts, double.tokens()), (1, 2));
    assert_eq!(bench.reports.outcome(52), Outcome::Sent);

    // One that has ended is not used.
    bench.hand.advance(Duration::from_secs(2 * 3_600));
    provider.try_send(notification(53, fcm_target("device"))).unwrap();
    assert_eq!((bench.reports.outcome(53), double.tokens()), (Outcome::Sent, 3));
    assert_eq!(double.journal().violations(), [""; 0]);
}

#[test]
fn a_revoked_token_is_replaced_within_the_attempt() {
    let bench = Bench::new();
    let double = bench.fcm(Options::default());
    let provider = bench.start(fcm_config(&double), bench.settings());
    provider.try_send(notification(1, fcm_target("device"))).unwrap();
    assert_eq!(bench.reports.outcome(1), Outcome::Sent);
    double.revoke_tokens();
    provider.try_send(notification(2, fcm_target("device"))).unwrap();
    let report = bench.reports.report(2);
    assert_eq!((report.outcome, report.attempts, double.tokens()), (Outcome::Sent, 1, 2));
}

#[test]
fn a_device_that_is_gone_is_reported_as_gone() {
    let bench = Bench::new();
    let double = bench.fcm(Options::default());
    double.script().next(Answer::status(404, &error("NOT_FOUND", "UNREGISTERED")));
    double.script().next(Answer::status(400, &error("INVALID_ARGUMENT", "INVALID_ARGUMENT")));
    let provider = bench.start(fcm_config(&double), bench.settings());
    provider.try_send(notification(1, fcm_target("gone"))).unwrap();
    assert_eq!(bench.reports.outcome(1), Outcome::Gone("404 UNREGISTERED: …".to_owned()));
    provider.try_send(notification(2, fcm_target("device"))).unwrap();
    assert_eq!(bench.reports.outcome(2), Outcome::Refused("400 INVALID_ARGUMENT: …".to_owned()));
    assert_eq!(provider.is_paused(), None);
}

#[test]
fn an_overloaded_provider_gets_nothing_until_its_time_and_then_one_at_a_time() {
    let bench = Bench::new();
    let double = bench.fcm(Options::default());
    double.script().next(Answer::status(503, &error("UNAVAILABLE", "UNAVAILABLE")).with("retry-after", "2"));
    double.script().always(Answer::Hold(Box::new(Answer::Take)));
    let provider = bench.start(fcm_config(&double), bench.settings());
    let begun = std::time::Instant::now();
    provider.try_send(notification(0, fcm_target("first"))).unwrap();
    while provider.is_paused().is_none() && double.journal().heard().len() < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    for id in 1..20 {
        provider.try_send(notification(id, fcm_target("device"))).unwrap();
    }
    // Not before the time that was named: then one attempt, alone until it succeeds.
    double.journal().wait_for(2);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(double.journal().heard().len(), 2, "one is tried before the others");
    double.script().always(Answer::Take);
    double.journal().release();
    let reports = bench.reports.wait(20);
    assert!(reports.iter().all(|report| report.outcome == Outcome::Sent));
    assert_eq!(bench.reports.report(0).attempts, 2);
}

#[test]
fn refused_keys_are_one_alarm_for_each_pause_and_nothing_else_is_lost() {
    let bench = Bench::new();
    let double = bench.fcm(Options::default());
    double.token_script().always(Answer::status(401, r#"{"error":"invalid_client"}"#));
    let provider = bench.start(fcm_config(&double), bench.settings());
    for id in 0..30 {
        provider.try_send(notification(id, fcm_target("device"))).unwrap();
    }
    let reports = bench.reports.wait(2);
    let text = "access token: 401 invalid_client".to_owned();
    assert_eq!(reports[0].outcome, Outcome::Credentials(text.clone()));
    assert_eq!(reports[1].outcome, Outcome::Credentials(text));
    double.token_script().always(Answer::Take);
    let reports = bench.reports.wait(30);
    let alarms = reports.iter().filter(|report| matches!(report.outcome, Outcome::Credentials(_))).count();
    let sent = reports.iter().filter(|report| report.outcome == Outcome::Sent).count();
    assert_eq!(alarms + sent, 30);
    assert!(sent > alarms, "{alarms} alarms");
}

#[test]
fn one_device_that_gets_too_much_delays_no_other() {
    let bench = Bench::new();
    let double = bench.fcm(Options::default());
    let quota = json!({ "error": { "status": "RESOURCE_EXHAUSTED", "message": "…", "details": [
        { "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "QUOTA_EXCEEDED" },
        { "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{ "subject": "device:loud" }] },
    ] } });
    let provider = bench.start(fcm_config(&double), bench.settings());
    // Asked for again and again by one device, which does not make it the provider's overload.
    for id in 0..8 {
        double.script().next(Answer::status(429, &quota.to_string()).with("retry-after", "3600"));
        provider.try_send(notification(id, fcm_target("loud"))).unwrap();
    }
    double.journal().wait_for(8);
    provider.try_send(notification(100, fcm_target("quiet"))).unwrap();
    assert_eq!(bench.reports.outcome(100), Outcome::Sent);
    assert_eq!(provider.is_paused(), None);
    // Their pauses are longer than the time in which they are tried.
    let overdue = bench.reports.report(0);
    assert_eq!(overdue.outcome, Outcome::Overdue("429 QUOTA_EXCEEDED: …".to_owned()));
}

#[test]
fn a_peer_of_http1_is_spoken_to_as_well() {
    let bench = Bench::new();
    let double = bench.fcm(Options { http1: true, ..Options::default() });
    let provider = bench.start(fcm_config(&double), bench.settings());
    for id in 0..20 {
        provider.try_send(notification(id, fcm_target("device"))).unwrap();
    }
    let reports = bench.reports.wait(20);
    assert!(reports.iter().all(|report| report.outcome == Outcome::Sent));
    let before = double.journal().connections();
    for id in 20..30 {
        provider.try_send(notification(id, fcm_target("device"))).unwrap();
        assert_eq!(bench.reports.outcome(id), Outcome::Sent);
    }
    assert_eq!(double.journal().connections(), before, "connections are kept");
    assert_eq!(double.journal().violations(), [""; 0]);
}

#[test]
fn a_long_text_is_cut_so_that_the_message_is_taken() {
    let bench = Bench::new();
    let double = bench.fcm(Options::default());
    let provider = bench.start(fcm_config(&double), bench.settings());
    let long = Notification { text: Some("ä\"".repeat(10_000)), ..notification(1, fcm_target("device")) };
    provider.try_send(long).unwrap();
    assert_eq!(bench.reports.outcome(1), Outcome::Sent);
    let heard = double.journal().wait_for(1);
    let text = heard[0].payload["message"]["data"]["last-message-body"].as_str().unwrap();
    assert!(text.ends_with('…') && text.len() > 2_000, "{} bytes", text.len());
    assert_eq!(double.journal().violations(), [""; 0]);
}

#[test]
fn an_answer_without_end_is_read_no_further_than_it_must() {
    let bench = Bench::new();
    let double = bench.fcm(Options::default());
    double.script().next(Answer::status(400, &"x".repeat(4 << 20)));
    let provider = bench.start(fcm_config(&double), bench.settings());
    provider.try_send(notification(1, fcm_target("device"))).unwrap();
    let Outcome::Refused(text) = bench.reports.outcome(1) else { panic!("it is refused") };
    assert!(text.chars().count() < 300, "{text}");
    provider.try_send(notification(2, fcm_target("device"))).unwrap();
    assert_eq!(bench.reports.outcome(2), Outcome::Sent);
}
