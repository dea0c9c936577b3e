//! Providers of text messages that are down, slow or silent, and a program in place of one.

use serde_json::Value;
use whimbrel_server::phone::settings::GatewayChoice;

use super::can_log_in;
use crate::support::PATIENCE;
use crate::support::api::{DEVICES, LOCAL, PHONE, kind, with_office};

#[test]
fn a_server_that_stops_answers_what_waits_and_does_not_hang_on_a_silent_provider() {
    with_office(
        |config| {
            config.registration.gateway_threads = 1;
            config.registration.gateway_seconds = 60;
        },
        |office| {
            office.provider.answer(0);
            std::thread::scope(|scope| {
                let sending = scope.spawn(|| office.ask_for_status("+4915112345671", DEVICES[0]));
                office.provider.next();
                let waiting = scope.spawn(|| office.ask_for_status("+4915112345672", DEVICES[1]));
                let registration = office.server.server.registration.as_ref().unwrap();
                let since = std::time::Instant::now();
                while registration.gauge().0 == 0 {
                    assert!(since.elapsed() < PATIENCE, "the second message does not wait");
                    std::thread::yield_now();
                }
                let begun = std::time::Instant::now();
                registration.stop(std::time::Duration::from_millis(200));
                // The provider is silent for a minute; the stop is not.
                assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
                // Cut off, or told to come back: never that a message is on its way.
                for thread in [sending, waiting] {
                    assert!(matches!(thread.join().unwrap(), None | Some(503)));
                }
            });
        },
    );
}

#[test]
fn a_gateway_that_is_down_refuses_or_is_silent_gives_a_clear_answer_and_chat_goes_on() {
    with_office(
        |config| config.registration.gateway_seconds = 6,
        |office| {
            office.server.accounts(&["juliet", "romeo"]);
            let mut juliet = office.server.online("juliet", "balcony");
            let mut romeo = office.server.online("romeo", "orchard");
            for (answer, status, expected) in
                [(500, 503, "gateway-down"), (400, 502, "message-refused"), (0, 503, "gateway-down")]
            {
                office.provider.answer(answer);
                std::thread::scope(|scope| {
                    let asked = scope.spawn(|| office.ask(PHONE, DEVICES[0]));
                    office.provider.next();
                    romeo.fence(&mut juliet);
                    let (got, body) = asked.join().unwrap();
                    assert_eq!((got, kind(&body)), (status, expected));
                });
                while !office.provider.is_quiet() {}
            }
            let letters = office.server.data.as_ref().unwrap().path().join("sms-dead-letters.jsonl");
            let letters = std::fs::read_to_string(letters).unwrap();
            let kinds: Vec<String> = letters
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(kinds, ["unreachable", "refused", "unreachable"]);
            // What was not sent does not count, and another may be asked for at once.
            office.provider.answer(200);
            let key = office.register(PHONE, DEVICES[0]);
            assert!(can_log_in(office, LOCAL, &key));
        },
    );
}

#[test]
fn a_message_is_tried_again_until_the_provider_takes_it() {
    with_office(
        |_| {},
        |office| {
            office.provider.answer(503);
            std::thread::scope(|scope| {
                let asked = scope.spawn(|| office.ask(PHONE, DEVICES[0]));
                let first = office.provider.next();
                office.provider.answer(200);
                let mut last = office.provider.next();
                assert_eq!(first.header("idempotency-key"), last.header("idempotency-key"));
                assert_eq!(asked.join().unwrap().0, 202);
                while !office.provider.is_quiet() {
                    last = office.provider.next();
                }
                assert_eq!(office.tell(PHONE, &last.pin(), DEVICES[0]).0, 200);
            });
        },
    );
}

#[test]
fn a_full_queue_of_messages_is_said_at_once() {
    with_office(
        |config| {
            config.registration.gateway_queue = 1;
            config.registration.gateway_threads = 1;
            config.registration.gateway_seconds = 10;
        },
        |office| {
            office.provider.answer(0);
            std::thread::scope(|scope| {
                let numbers = ["+4915112345671", "+4915112345672"];
                let first = scope.spawn(move || office.ask(numbers[0], DEVICES[0]));
                office.provider.next();
                let second = scope.spawn(move || office.ask(numbers[1], DEVICES[0]));
                let registration = office.server.server.registration.as_ref().unwrap();
                let since = std::time::Instant::now();
                while registration.gauge().0 == 0 {
                    assert!(since.elapsed() < PATIENCE, "the second message does not wait");
                    std::thread::yield_now();
                }
                let (status, body) = office.ask("+4915112345673", DEVICES[0]);
                assert_eq!((status, kind(&body)), (503, "busy"));
                assert_eq!(registration.gauge(), (1, 1, 1));
                for thread in [first, second] {
                    assert_eq!(thread.join().unwrap().0, 503);
                }
            });
        },
    );
}

#[test]
fn a_program_sends_the_messages() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("send");
    let script = format!(
        "#!/bin/sh\nread -r text\n[ \"$1\" = --to ] || exit 64\ncase $2 in *679) exit 65;; esac\n\
         echo \"$2 $text\" >>'{}/sent'\n",
        folder.path().display()
    );
    std::fs::write(&program, script).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    with_office(
        |config| {
            config.registration.gateway = GatewayChoice::Command;
            let words = [program.to_str().unwrap(), "--to", "{phone}"];
            config.registration.command = words.map(str::to_owned).to_vec();
            config.registration.message = "Code {pin} of {domain}; $(touch no-shell)".into();
        },
        |office| {
            assert_eq!(office.ask(PHONE, DEVICES[0]).0, 202);
            let sent = std::fs::read_to_string(folder.path().join("sent")).unwrap();
            let pin = sent.strip_prefix("+4915112345678 Code ").and_then(|rest| rest.get(..5)).unwrap();
            assert!(sent.ends_with(" of localhost; $(touch no-shell)\n"), "{sent}");
            assert_eq!(office.tell(PHONE, pin, DEVICES[0]).0, 200);
            let (status, body) = office.ask("+4915112345679", DEVICES[0]);
            assert_eq!((status, kind(&body)), (502, "message-refused"));
        },
    );
}
