//! Devices: the first, the one that takes its place, and several at once.

use ring::hmac;
use serde_json::{Value, json};

use super::{SASL, can_log_in, log_in};
use crate::support::Client;
use crate::support::answers::outcome;
use crate::support::api::{DEVICES, LOCAL, PHONE, SECRET, answer, kind, with_office};
use crate::support::pushes::Keys;

#[test]
fn a_device_is_sent_a_pin_tells_it_and_logs_in_with_the_key() {
    with_office(
        |_| {},
        |office| {
            let (status, body) = office.ask(PHONE, DEVICES[0]);
            assert_eq!((status, body), (202, json!({ "expires_in": 600, "resend_in": 0 })));
            let message = office.provider.next();
            let json = message.json();
            assert_eq!(json["phone"], "+4915112345678");
            assert_eq!(json["domain"], "localhost");
            assert_eq!(json["id"], message.header("idempotency-key"));
            let pin = message.pin();
            assert_eq!(json["text"], format!("{pin} is your code for localhost. Do not give it to anybody."));
            // The signature is that of the documentation.
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
            let signed = format!("{}.{}", message.header("whimbrel-timestamp"), message.body);
            let tag = hmac::sign(&key, signed.as_bytes());
            let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(message.header("whimbrel-signature"), format!("v1={hex}"));

            let (status, body) = office.tell(PHONE, &pin, DEVICES[0]);
            assert_eq!((status, &body["jid"]), (200, &json!(format!("{LOCAL}@localhost"))), "{body}");
            let key = body["key"].as_str().unwrap();
            assert_eq!(key.len(), 43);
            let client = log_in(office, key, "phone");
            assert_eq!(client.jid, format!("{LOCAL}@localhost/phone"));
            // A PIN is good for one key.
            let (status, body) = office.tell(PHONE, &pin, DEVICES[0]);
            assert_eq!((status, kind(&body)), (404, "not-requested"));
        },
    );
}

#[test]
fn another_device_puts_the_first_one_out_and_gets_what_waits() {
    with_office(
        |_| {},
        |office| {
            let first = office.register(PHONE, DEVICES[0]);
            let mut online = log_in(office, &first, "online");
            online.send("<presence/>");
            // One that has lost its connection and could resume.
            let mut detached = log_in(office, &first, "detached");
            let stream = detached.enable_sm();
            drop(detached);
            office.server.await_metric("sm.detached", 1);
            // One that has authenticated, and not bound yet.
            let mut unbound = Client::connect(office.server.address());
            unbound.open_stream("localhost");
            unbound.authenticate_plain(LOCAL, &first);
            unbound.open_stream("localhost");
            let second = office.register(PHONE, DEVICES[1]);
            assert_ne!(first, second);
            online.expect_stream_error("not-authorized");
            office.server.await_metric("sm.detached", 0);
            unbound.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
            unbound.expect_stream_error("not-authorized");
            assert!(!can_log_in(office, LOCAL, &first));

            office.server.accounts(&["romeo"]);
            let mut romeo = office.server.online("romeo", "orchard");
            romeo.send(&format!(
                "<message to='{LOCAL}@localhost' type='chat' id='w'><body>x</body></message>"
            ));
            office.server.await_metric("log.pending", 1);
            let mut phone = Client::connect(office.server.address());
            phone.open_stream("localhost");
            assert!(phone.authenticate_plain(LOCAL, &second).is("success", SASL));
            phone.open_stream("localhost");
            // Nothing of the older sessions can be resumed with the new key either.
            phone.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{stream}' h='0'/>"));
            assert!(phone.stanza().is("failed", "urn:xmpp:sm:3"));
            phone.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
            assert_eq!(outcome(&phone.stanza()), "result");
            phone.send("<presence/>");
            let message = phone.set_aside_until(|stanza| stanza.name() == "message");
            assert_eq!(message.attribute("id"), Some("w"));
            assert!(message.find("delay", "urn:xmpp:delay").is_some());
        },
    );
}

#[test]
fn another_device_ends_what_the_first_one_was_told_by_push() {
    let keys = Keys::new();
    with_office(
        |config| keys.configure(config),
        |office| {
            let first = office.register(PHONE, DEVICES[0]);
            log_in(office, &first, "phone").enable_push("phone");
            let directory = &office.server.server.shared.directory;
            assert_eq!(directory.push_device_count().unwrap(), 1);
            office.register(PHONE, DEVICES[1]);
            assert_eq!(directory.push_device_count().unwrap(), 0);
        },
    );
}

#[test]
fn what_the_old_device_had_not_acknowledged_reaches_the_new_one() {
    with_office(
        |_| {},
        |office| {
            let first = office.register(PHONE, DEVICES[0]);
            let mut old = log_in(office, &first, "phone");
            old.enable_sm();
            old.send("<presence/>");
            office.server.accounts(&["romeo"]);
            let mut romeo = office.server.online("romeo", "orchard");
            romeo.send(&format!(
                "<message to='{LOCAL}@localhost' type='chat' id='u'><body>x</body></message>"
            ));
            assert_eq!(old.next_message(), "u");
            let second = office.register(PHONE, DEVICES[1]);
            let mut new = log_in(office, &second, "phone");
            new.send("<presence/>");
            assert_eq!(new.next_message(), "u");
        },
    );
}

#[test]
fn of_many_that_tell_the_pin_at_once_one_gets_a_key_and_it_works() {
    with_office(
        |_| {},
        |office| {
            for _ in 0..3 {
                let pin = office.pin(PHONE, DEVICES[0]);
                let answers: Vec<(u16, Value)> = std::thread::scope(|scope| {
                    let threads: Vec<_> =
                        (0..8).map(|_| scope.spawn(|| office.tell(PHONE, &pin, DEVICES[0]))).collect();
                    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
                });
                let keys: Vec<&str> = answers.iter().filter_map(|(_, body)| body["key"].as_str()).collect();
                assert_eq!(keys.len(), 1, "{answers:?}");
                let others = answers.iter().filter(|(status, _)| *status != 200);
                assert!(others.clone().all(|(_, body)| kind(body) == "not-requested"), "{answers:?}");
                assert!(can_log_in(office, LOCAL, keys[0]));
            }
        },
    );
}

#[test]
fn two_devices_that_race_end_with_one_valid_key_and_a_clear_answer() {
    with_office(
        |config| {
            config.registration.pins_per_number_per_day = 1000;
            config.registration.pins_per_number_share = 1000;
        },
        |office| {
            for round in 0..5 {
                let outcomes: Vec<(&str, u16, Value)> = std::thread::scope(|scope| {
                    let device = |device: &'static str| {
                        scope.spawn(move || {
                            let (status, body) = office.ask(PHONE, device);
                            (device, status, body)
                        })
                    };
                    let threads = [device(DEVICES[0]), device(DEVICES[1])];
                    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
                });
                assert!(outcomes.iter().all(|(_, status, _)| *status == 202), "{outcomes:?}");
                // The messages may overtake each other: each device tries both PINs that the owner of the number sees.
                let pins = [office.provider.next().pin(), office.provider.next().pin()];
                let told: Vec<(u16, Value)> = std::thread::scope(|scope| {
                    let threads: Vec<_> = DEVICES
                        .iter()
                        .flat_map(|&device| pins.iter().map(move |pin| (device, pin)))
                        .map(|(device, pin)| scope.spawn(move || office.tell(PHONE, pin, device)))
                        .collect();
                    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
                });
                let keys: Vec<&str> = told.iter().filter_map(|(_, body)| body["key"].as_str()).collect();
                // As long as one of the two has registered the number and the other has not, neither voids the PIN of the
                // other: both may get a key, and that of the later one is good.
                assert!(keys.len() == 1 || keys.len() == 2 && round > 0, "{told:?}");
                for (status, body) in &told {
                    let clear = ["superseded", "wrong-pin", "not-requested"].contains(&kind(body));
                    assert!(*status == 200 || clear, "{told:?}");
                }
                let good = keys.iter().filter(|key| can_log_in(office, LOCAL, key)).count();
                assert_eq!(good, 1, "{told:?}");
            }
        },
    );
}

#[test]
fn an_account_is_deleted_by_whoever_has_its_key_and_the_answer_does_not_tell_whether_there_is_one() {
    with_office(
        |_| {},
        |office| {
            let key = office.register(PHONE, DEVICES[0]);
            let mut client = log_in(office, &key, "phone");
            let stranger = "A".repeat(43);
            assert_eq!(office.delete(LOCAL, &stranger), 401);
            assert_eq!(office.delete("4915199999999", &stranger), 401);
            let response = office.agent().delete(office.url("/v1/account")).call().unwrap();
            assert_eq!(
                response.headers()["www-authenticate"],
                "Basic realm=\"registration\", charset=\"UTF-8\""
            );
            assert_eq!(answer(response).0, 401);
            assert_eq!(office.delete(&format!("{LOCAL}@localhost"), &key), 204);
            client.expect_stream_error("not-authorized");
            assert!(!office.server.server.shared.directory.account_exists(LOCAL).unwrap());
            assert_eq!(office.delete(&format!("+{LOCAL}"), &key), 401);
        },
    );
}
