//! Web Push.

use std::time::Duration;

use serde_json::json;
use whimbrel_push::doubles::{Answer, Browser};
use whimbrel_push::webpush::{Hosts, subscription_keys};
use whimbrel_push::{Kind, Notification, Outcome, ProviderConfig, Target};

use crate::support::{Bench, notification, vapid, webpush_config};

fn target(browser: &Browser) -> Target {
    Target::WebPush { endpoint: browser.endpoint.clone(), p256dh: browser.p256dh, auth: browser.auth }
}

#[test]
fn a_browser_reads_what_is_told_and_the_push_service_only_when_and_how_urgent() {
    let bench = Bench::new();
    let (double, key) = (bench.webpush(), vapid());
    let browser = double.subscribe(key.public());
    let provider = bench.start(webpush_config(key, &[&double.host()]), bench.settings());
    provider.try_send(notification(7, target(&browser))).unwrap();
    let call = Notification {
        kind: Kind::Call,
        time_to_live: Duration::from_secs(30),
        count: None,
        text: None,
        sender: None,
        collapse: String::new(),
        high_priority: false,
        ..notification(8, target(&browser))
    };
    assert_eq!(bench.reports.outcome(7), Outcome::Sent);
    provider.try_send(call).unwrap();
    assert_eq!(bench.reports.outcome(8), Outcome::Sent);
    let heard = double.journal().heard();
    let expected = json!({
        "kind": "message",
        "id": "0000000000000007",
        "conversation": "Y29udmVyc2F0aW9u",
        "message-count": 3,
        "last-message-sender": "romeo@example.org",
        "last-message-body": "But, soft!",
    });
    assert_eq!(heard[0].payload, expected);
    let headers = |n: usize| ["urgency", "topic", "content-encoding"].map(|name| heard[n].header(name));
    assert_eq!(headers(0), ["high", "Y29udmVyc2F0aW9u", "aes128gcm"]);
    assert_eq!(headers(1), ["high", "", "aes128gcm"]);
    assert!(matches!(heard[0].header("ttl"), "600" | "599"), "{}", heard[0].header("ttl"));
    assert!(matches!(heard[1].header("ttl"), "30" | "29"), "{}", heard[1].header("ttl"));
    assert_eq!(heard[1].payload, json!({ "kind": "call", "id": "0000000000000008" }));
    assert_eq!(heard[0].bytes, heard[1].bytes, "its length tells nothing");
    assert_eq!((double.journal().violations(), double.journal().connections()), (vec![], 1));
}

#[test]
fn the_vapid_token_is_kept_and_renewed() {
    let bench = Bench::new();
    let (double, key) = (bench.webpush(), vapid());
    let browser = double.subscribe(key.public());
    let provider = bench.start(webpush_config(key, &[&double.host()]), bench.settings());
    for id in 0..30 {
        provider.try_send(notification(id, target(&browser))).unwrap();
        assert_eq!(bench.reports.outcome(id), Outcome::Sent);
        bench.hand.advance(Duration::from_secs(3_600));
    }
    let mut tokens: Vec<String> =
        double.journal().heard().iter().map(|heard| heard.header("authorization").to_owned()).collect();
    tokens.dedup();
    assert_eq!(tokens.len(), 5, "one for six hours each");
    assert_eq!(double.journal().violations(), [""; 0]);
}

#[test]
fn a_subscription_that_is_gone_or_of_another_key_is_reported_as_gone() {
    let bench = Bench::new();
    let (double, key) = (bench.webpush(), vapid());
    let (ours, other) = (double.subscribe(key.public()), double.subscribe(vapid().public()));
    let provider = bench.start(webpush_config(key, &[&double.host()]), bench.settings());
    for (id, status) in [(1, 404), (2, 410)] {
        double.script().next(Answer::status(status, "gone"));
        provider.try_send(notification(id, target(&ours))).unwrap();
        assert_eq!(bench.reports.outcome(id), Outcome::Gone(format!("{status} gone")));
    }
    // As long as no push service has taken our key, it may be our key that is wrong.
    provider.try_send(notification(3, target(&other))).unwrap();
    assert!(matches!(bench.reports.outcome(3), Outcome::Credentials(_)));
    provider.try_send(notification(4, target(&ours))).unwrap();
    assert_eq!(bench.reports.outcome(4), Outcome::Sent);
    provider.try_send(notification(5, target(&other))).unwrap();
    let Outcome::Gone(text) = bench.reports.outcome(5) else { panic!("it is gone") };
    assert!(text.starts_with("subscribed with another key: 403"), "{text}");
    assert_eq!(provider.is_paused(), None);
}

#[test]
fn no_request_goes_to_a_host_or_an_address_that_is_not_allowed() {
    let bench = Bench::new();
    let (double, key) = (bench.webpush(), vapid());
    let browser = double.subscribe(key.public());
    let provider = bench.start(webpush_config(key, &["push.example"]), bench.settings());
    provider.try_send(notification(1, target(&browser))).unwrap();
    let expected = "the endpoint is at no push service that is allowed here".to_owned();
    assert_eq!(bench.reports.outcome(1), Outcome::Refused(expected));
    assert_eq!(bench.reports.report(1).attempts, 0);
    provider.stop(Duration::ZERO);

    // Its name is in the list, and leads to this machine.
    let config = ProviderConfig::WebPush {
        key: vapid(),
        contact: "mailto:operator@example.org".to_owned(),
        hosts: Hosts::new(&[double.host()]).unwrap(),
        private_addresses: false,
    };
    let provider = bench.start(config, bench.settings());
    let short = Notification { time_to_live: Duration::from_secs(1), ..notification(2, target(&browser)) };
    provider.try_send(short).unwrap();
    let Outcome::Overdue(text) = bench.reports.outcome(2) else { panic!("it is not sent") };
    assert!(text.contains("no address that requests may go to"), "{text}");
    assert_eq!(double.journal().connections(), 0);
}

#[test]
fn a_push_service_that_is_down_delays_no_other_and_takes_no_others_place() {
    let bench = Bench::new();
    let (up, down, key) = (bench.webpush(), bench.webpush(), vapid());
    let (reached, lost) = (up.subscribe(key.public()), down.subscribe(key.public()));
    let settings = whimbrel_push::Settings { queue: 20, ..bench.settings() };
    let provider = bench.start(webpush_config(key, &[&down.host(), &up.host()]), settings);
    down.script().always(Answer::Stall);
    // Its share is full.
    let mut taken = 0;
    while provider.try_send(notification(taken, target(&lost))).is_ok() {
        taken += 1;
    }
    assert_eq!((taken, provider.length(), provider.limit()), (10, 10, 20));
    for id in 100..130 {
        provider.try_send(notification(id, target(&reached))).unwrap();
        assert_eq!(bench.reports.outcome(id), Outcome::Sent);
    }
    assert_eq!(bench.reports.len(), 30);
    provider.stop(Duration::ZERO);
    let stopped = bench.reports.wait(40);
    assert_eq!(stopped.iter().filter(|report| report.outcome == Outcome::Stopping).count(), 10);
}

#[test]
fn a_host_that_a_client_has_made_up_makes_nobody_else_wait() {
    let bench = Bench::new();
    // Nothing listens there any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (double, key) = (bench.webpush(), vapid());
    let browser = double.subscribe(key.public());
    let endpoint = format!("https://127.0.0.1:{port}/made/up");
    let made_up = Target::WebPush { endpoint, p256dh: browser.p256dh, auth: browser.auth };
    // Pauses are longer than anything is tried: whoever pauses does so until the end of the test.
    let hour = Duration::from_secs(3_600);
    for (list, pauses) in [(format!("*.0.0.1:{port}"), false), (format!("127.0.0.1:{port}"), true)] {
        let settings = whimbrel_push::Settings { pause_first: hour, pause_max: hour, ..bench.settings() };
        let reports = crate::support::Reports::default();
        let config = webpush_config(vapid(), &[&list]);
        let provider = whimbrel_push::Provider::start(config, settings, reports.listener()).unwrap();
        for id in 1..=2 {
            provider.try_send(notification(id, made_up.clone())).unwrap();
            if !pauses {
                assert!(matches!(reports.outcome(id), Outcome::Overdue(_)));
            }
        }
        while pauses && provider.is_paused().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(provider.is_paused().is_some(), pauses, "{list}");
    }
}

#[test]
fn a_pause_that_a_push_service_names_as_a_date_is_kept() {
    let bench = Bench::new();
    let (double, key) = (bench.webpush(), vapid());
    let browser = double.subscribe(key.public());
    // The double's clock stands at the beginning of 2026.
    let later = Answer::status(503, "").with("retry-after", "Thu, 01 Jan 2026 00:00:02 GMT");
    double.script().next(later);
    let provider = bench.start(webpush_config(key, &[&double.host()]), bench.settings());
    let begun = std::time::Instant::now();
    provider.try_send(notification(1, target(&browser))).unwrap();
    let report = bench.reports.report(1);
    assert_eq!((report.outcome, report.attempts), (Outcome::Sent, 2));
    assert!(begun.elapsed() >= Duration::from_secs(2));
}

#[test]
fn a_long_text_is_cut_and_a_redirect_is_not_followed() {
    let bench = Bench::new();
    let (double, key) = (bench.webpush(), vapid());
    let browser = double.subscribe(key.public());
    let provider = bench.start(webpush_config(key, &[&double.host()]), bench.settings());
    let long = Notification { text: Some("ä".repeat(9_000)), ..notification(1, target(&browser)) };
    provider.try_send(long).unwrap();
    assert_eq!(bench.reports.outcome(1), Outcome::Sent);
    assert_eq!(double.journal().heard()[0].bytes, 4_096);
    double.script().next(Answer::status(307, "").with("location", "https://localhost:1/"));
    provider.try_send(notification(2, target(&browser))).unwrap();
    assert_eq!(bench.reports.outcome(2), Outcome::Refused("307".to_owned()));
    assert_eq!(double.journal().violations(), [""; 0]);
}

#[test]
fn a_browsers_own_keys_are_taken_as_it_writes_them() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let bench = Bench::new();
    let browser = bench.webpush().subscribe(vapid().public());
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let keys = subscription_keys(&text(&browser.p256dh), &text(&browser.auth)).unwrap();
    assert_eq!(keys, (browser.p256dh, browser.auth));
}
