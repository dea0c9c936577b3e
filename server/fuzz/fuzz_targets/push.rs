//! What push providers answer, the keys of operators and browsers, and the endpoints that clients register: nothing panics,
//! no pause is longer than an hour, no text for the log moves its cursor, and no endpoint is accepted elsewhere than at a
//! host of the list.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use whimbrel_push::answer::{Meaning, Service, meaning};
use whimbrel_push::webpush::{Hosts, subscription_keys};
use whimbrel_push::{ApnsKey, Outcome, Roots, ServiceAccount, VapidKey};

const SERVICES: [Service; 4] = [Service::Fcm, Service::Token, Service::Apns, Service::WebPush];

/// In front of the text of an answer stand its first four bytes: who answers, the status, the length of `Retry-After`.
fn answer(data: &[u8]) {
    let Some(([service, high, low, length], rest)) = data.split_first_chunk() else { return };
    let (after, body) = rest.split_at(usize::from(*length).min(rest.len()));
    let status = 100 + u16::from_be_bytes([*high, *low]) % 500;
    let after = std::str::from_utf8(after).ok();
    let text = match meaning(SERVICES[usize::from(*service) % 4], status, after, body, 1_767_225_600) {
        Meaning::Again(pause, text) => {
            assert!(pause.is_none_or(|pause| pause <= Duration::from_secs(3_600)));
            text
        }
        Meaning::Over(Outcome::Sent | Outcome::Stopping) => {
            assert!((200..300).contains(&status));
            return;
        }
        Meaning::Over(
            Outcome::Gone(text) | Outcome::Refused(text) | Outcome::Credentials(text) | Outcome::Overdue(text),
        ) => text,
    };
    assert!(text.chars().count() <= 300 && !text.contains(char::is_control), "{text:?}");
}

fn endpoint(hosts: &Hosts, text: &str) {
    if hosts.check(text).is_ok() {
        let rest = text.get("https://".len()..).expect("it is at https").to_ascii_lowercase();
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.strip_suffix(":443").unwrap_or(host);
        assert!(host == "push.example" || host.ends_with(".wns.example"), "{text:?}");
    }
}

fuzz_target!(|data: &[u8]| {
    answer(data);
    let _ = ServiceAccount::from_json(data);
    let _ = ApnsKey::new(data, "ABCDEFGHIJ", "0123456789");
    let _ = VapidKey::from_pem(data);
    let _ = Roots::from_pem(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    endpoint(&Hosts::new(&["push.example", "*.wns.example"]).expect("a list of hosts"), text);
    let _ = Hosts::new(&[text]);
    let (first, second) = text.split_once('\n').unwrap_or((text, ""));
    let _ = subscription_keys(first, second);
});
