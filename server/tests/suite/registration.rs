//! Registration by phone number: over HTTPS, with a real HTTP server as the provider of text messages.

use ring::hmac;
use serde_json::{Value, json};
use whimbrel_server::registration::settings::GatewayChoice;
use whimbrel_server::xml::Element;
use whimbrel_storage::directory::{WriteTransaction, run_inline};

use crate::support::answers::outcome;
use crate::support::api::{DEVICES, LOCAL, Office, PHONE, SECRET, answer, kind, with_office};
use crate::support::{Client, PATIENCE};

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

fn can_log_in(office: &Office, name: &str, key: &str) -> bool {
    let mut client = Client::connect(office.server.address());
    client.open_stream("localhost");
    client.authenticate_plain(name, key).is("success", SASL)
}

fn log_in(office: &Office, key: &str, resource: &str) -> Client {
    let mut client = Client::connect(office.server.address());
    client.log_in(LOCAL, key, resource);
    client
}

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
fn wrong_pins_use_up_the_tries_and_then_the_number_is_locked() {
    with_office(
        |_| {},
        |office| {
            let pin = office.pin(PHONE, DEVICES[0]);
            let wrong = if pin == "00000" { "11111" } else { "00000" };
            for left in [4, 3, 2, 1, 0] {
                let (status, body) = office.tell(PHONE, wrong, DEVICES[0]);
                assert_eq!((status, kind(&body), &body["tries_left"]), (403, "wrong-pin", &json!(left)));
            }
            // The sixth try, although it is right.
            let (status, body) = office.tell(PHONE, &pin, DEVICES[0]);
            assert_eq!((status, kind(&body)), (429, "too-many-tries"));
            assert!(body["retry_after"].as_u64().is_some_and(|after| (800..=900).contains(&after)), "{body}");
            let (status, body) = office.ask(PHONE, DEVICES[1]);
            assert_eq!((status, kind(&body)), (429, "number-locked"));
            assert!(!office.server.server.shared.directory.account_exists(LOCAL).unwrap());
            // Another number is not concerned.
            office.register("+4915112345679", DEVICES[0]);
        },
    );
}

#[test]
fn an_expired_pin_is_told_from_a_wrong_one() {
    with_office(
        |_| {},
        |office| {
            let pin = office.pin(PHONE, DEVICES[0]);
            // Time passes: what is kept of the PIN becomes eleven minutes older.
            let age = |transaction: &mut WriteTransaction<'_>| {
                let mut state = transaction.number_state(LOCAL)?.expect("a PIN is under way");
                let pin = state.pin.as_mut().expect("a PIN is under way");
                pin.requested_ms -= 660_000;
                pin.expires_ms -= 660_000;
                transaction.set_number_state(LOCAL, &state)
            };
            run_inline(&office.server.server.shared.directory, Box::new(age)).unwrap();
            let (status, body) = office.tell(PHONE, &pin, DEVICES[0]);
            assert_eq!((status, kind(&body)), (410, "pin-expired"));
            office.register(PHONE, DEVICES[0]);
        },
    );
}

#[test]
fn a_new_certificate_is_used_by_the_api_without_a_restart() {
    with_office(
        |_| {},
        |office| {
            let get =
                || office.agent().get(office.url("/v1/openapi.json")).call().map(|answer| answer.status());
            assert_eq!(get().unwrap(), 200);
            let older = office.server.certificate();
            std::fs::remove_dir_all(older.parent().unwrap()).unwrap();
            office.server.server.reload(None).unwrap();
            assert!(older.exists(), "another certificate is made");
            // The client trusts the older one only; its connection has to be a new one.
            let fresh = office.another_agent();
            let refused =
                fresh.get(office.url("/v1/openapi.json")).call().expect_err("an unknown certificate");
            assert!(refused.to_string().contains("certificate"), "{refused}");
        },
    );
}

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
fn a_pin_is_for_the_device_that_asked_last() {
    with_office(
        |_| {},
        |office| {
            let first = office.pin(PHONE, DEVICES[0]);
            let second = office.pin(PHONE, DEVICES[1]);
            for pin in [&first, &second] {
                let (status, body) = office.tell(PHONE, pin, DEVICES[0]);
                assert_eq!((status, kind(&body)), (409, "superseded"));
            }
            let (status, body) = office.tell(PHONE, &second, "a-third-device");
            assert_eq!((status, kind(&body)), (404, "not-requested"));
            assert_eq!(office.tell(PHONE, &second, DEVICES[1]).0, 200);
            let (status, body) = office.tell(PHONE, &first, DEVICES[0]);
            assert_eq!((status, kind(&body)), (409, "superseded"));
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
        |config| config.registration.pins_per_number_per_day = 1000,
        |office| {
            for _ in 0..5 {
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
                assert_eq!(keys.len(), 1, "{told:?}");
                for (status, body) in &told {
                    let clear = ["superseded", "wrong-pin", "not-requested"].contains(&kind(body));
                    assert!(*status == 200 || clear, "{told:?}");
                }
                assert!(can_log_in(office, LOCAL, keys[0]));
            }
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
fn pins_and_locks_survive_a_restart() {
    with_office(
        |_| {},
        |office| {
            let pin = office.pin(PHONE, DEVICES[0]);
            let other = "+4915112345679";
            let unlucky = office.pin(other, DEVICES[1]);
            let wrong = if unlucky == "00000" { "11111" } else { "00000" };
            for _ in 0..5 {
                office.tell(other, wrong, DEVICES[1]);
            }
            // Another server on a copy of the data: as it is after a crash.
            let copy = tempfile::tempdir().unwrap();
            let path = copy.path().join("data");
            office.server.server.shared.directory.copy_to(&path.join("directory")).unwrap();
            let mut config = (*office.server.server.config()).clone();
            config.data = path;
            let again = whimbrel_server::boot::Server::start(config).unwrap();
            let port = again.registration.as_ref().unwrap().listening[0].port();
            let tell = |phone: &str, pin: &str, device: &str| {
                let body = json!({ "phone": phone, "pin": pin, "device": device }).to_string();
                let agent = ureq::Agent::config_builder()
                    .tls_config(ureq::tls::TlsConfig::builder().disable_verification(true).build())
                    .proxy(None)
                    .http_status_as_error(false)
                    .build()
                    .new_agent();
                let url = format!("https://localhost:{port}/v1/registration/verify");
                answer(agent.post(url).content_type("application/json").send(body).unwrap())
            };
            let (status, body) = tell(other, &unlucky, DEVICES[1]);
            assert_eq!((status, kind(&body)), (429, "too-many-tries"));
            assert_eq!(tell(PHONE, &pin, DEVICES[0]).0, 200);
            again.drain(true);
            again.join().unwrap();
        },
    );
}

#[test]
fn what_is_no_request_is_refused_with_problem_details() {
    with_office(
        |_| {},
        |office| {
            let long = "x".repeat(5000);
            let table: [(&str, &str, &str, u16, &str); 12] = [
                ("/v1/registration", "application/json", "{", 400, "malformed"),
                ("/v1/registration", "application/json", "", 400, "malformed"),
                ("/v1/registration", "application/json", "[]", 400, "malformed"),
                ("/v1/registration", "application/json", "{\"phone\":1,\"device\":\"x\"}", 400, "malformed"),
                ("/v1/registration", "application/json", "{\"phone\":\"+49\"}", 400, "malformed"),
                ("/v1/registration/verify", "application/json", "\u{0}", 400, "malformed"),
                ("/v1/registration", "text/plain", "{}", 415, "not-json"),
                ("/v1/registration", "application/json", &long, 413, "too-large"),
                ("/v1/nothing", "application/json", "{}", 404, "no-such-path"),
                ("/v1/account", "application/json", "{}", 405, "method-not-allowed"),
                (
                    "/v1/registration",
                    "application/json",
                    "{\"phone\":\"+4930901820\",\"device\":\"device-one\"}",
                    422,
                    "number-not-mobile",
                ),
                (
                    "/v1/registration",
                    "application/json",
                    "{\"phone\":\"+4915112345678\",\"device\":\"short\"}",
                    422,
                    "device-invalid",
                ),
            ];
            for (path, media, body, status, expected) in table {
                let request = office.agent().post(office.url(path)).header("Content-Type", media);
                let response = request.send(body).expect("the API answers");
                let media = response.headers()["content-type"].to_str().unwrap().to_owned();
                assert_eq!(media, "application/problem+json", "{path} {body}");
                let (got, problem) = answer(response);
                assert_eq!((got, kind(&problem)), (status, expected), "{path} {body}");
                assert_eq!(problem["status"], status);
                assert!(problem["detail"].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
            }
            assert!(office.provider.is_quiet());
        },
    );
}

#[test]
fn the_description_of_the_api_is_served() {
    with_office(
        |_| {},
        |office| {
            let response = office.agent().get(office.url("/v1/openapi.json")).call().unwrap();
            let (status, document) = answer(response);
            assert_eq!(status, 200);
            let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
            assert_eq!(
                paths,
                ["/v1/account", "/v1/openapi.json", "/v1/registration", "/v1/registration/verify"]
            );
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

#[test]
fn answers_are_the_same_whether_a_number_is_registered_or_not() {
    with_office(
        |_| {},
        |office| {
            office.register(PHONE, DEVICES[0]);
            let stranger = "+4915112345679";
            let device = "a-stranger-s-device";
            let both = [PHONE, stranger].map(|phone| {
                let before = office.tell(phone, "12345", device);
                let asked = office.ask(phone, device);
                let pin = office.provider.next().pin();
                let wrong = if pin == "00000" { "11111" } else { "00000" };
                let told = office.tell(phone, wrong, device);
                [before, asked, told]
            });
            assert_eq!(both[0], both[1]);
        },
    );
}

#[test]
fn limits_count_by_address_and_only_a_trusted_proxy_says_whose() {
    with_office(
        |config| {
            config.registration.trusted_proxies = vec!["127.0.0.0/8".into(), "::1".into()];
            config.registration.pins_per_address_per_hour = 2;
        },
        |office| {
            let ask = |n: u32, client: &str| {
                let body =
                    json!({ "phone": format!("+49151123400{n:02}"), "device": format!("device-{n:04}") });
                let (status, body) = office.post_from("/v1/registration", &body, Some(client));
                (status, kind(&body).to_owned())
            };
            let limited = || (429, "too-many-pins-for-address".to_owned());
            assert_eq!(ask(0, "192.0.2.1").0, 202);
            assert_eq!(ask(1, "192.0.2.1").0, 202);
            assert_eq!(ask(2, "192.0.2.1"), limited());
            assert_eq!(ask(3, "10.9.9.9, 192.0.2.1"), limited());
            assert_eq!(ask(4, "2001:db8::1").0, 202);
            assert_eq!(ask(5, "2001:db8::2").0, 202);
            assert_eq!(ask(6, "2001:db8:0:0:ffff::3"), limited());
            assert_eq!(ask(7, "2001:db8:0:1::1").0, 202);
        },
    );
    with_office(
        |config| config.registration.pins_per_address_per_hour = 1,
        |office| {
            let ask = |n: u32| {
                let body =
                    json!({ "phone": format!("+49151123400{n:02}"), "device": format!("device-{n:04}") });
                office.post_from("/v1/registration", &body, Some(&format!("192.0.2.{n}"))).0
            };
            assert_eq!([ask(0), ask(1)], [202, 429]);
        },
    );
}

#[test]
fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    with_office(
        |config| config.registration.http_requests_per_minute = 3,
        |office| {
            let responses: Vec<_> =
                (0..20).map(|_| office.agent().get(office.url("/v1/openapi.json")).call().unwrap()).collect();
            let refused: Vec<_> = responses.iter().filter(|response| response.status() == 429).collect();
            // A minute may end in between, once.
            assert!(refused.len() >= 14, "{}", refused.len());
            let after: u64 = refused[0].headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=60).contains(&after));
        },
    );
}

fn form(fields: &[(&str, &str)]) -> String {
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("<field var='{name}'><value>{value}</value></field>"))
        .collect();
    format!(
        "<iq type='set' id='r'><query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>{fields}\
         </x></query></iq>"
    )
}

fn field(answer: &Element, name: &str) -> String {
    let form = answer.find("query", "jabber:iq:register").and_then(|query| query.find("x", "jabber:x:data"));
    let field = form.expect("a form").elements().find(|field| field.attribute("var") == Some(name));
    field.expect(name).find("value", "jabber:x:data").expect("a value").content().into_owned()
}

#[test]
fn a_client_that_speaks_xmpp_only_registers_on_its_stream() {
    with_office(
        |config| config.registration.in_band = true,
        |office| {
            let mut client = Client::connect(office.server.address());
            let features = client.open_stream("localhost");
            assert!(features.find("register", "http://jabber.org/features/iq-register").is_some());
            client.send("<iq type='get' id='g'><query xmlns='jabber:iq:register'/></iq>");
            let asked = client.stanza();
            let query = asked.find("query", "jabber:iq:register").unwrap();
            let names: Vec<&str> = query
                .find("x", "jabber:x:data")
                .unwrap()
                .elements()
                .filter_map(|field| field.attribute("var"))
                .collect();
            assert_eq!(names, ["FORM_TYPE", "phone", "device", "pin"]);
            client.send(&form(&[("phone", "+4930901820"), ("device", DEVICES[0])]));
            assert_eq!(outcome(&client.stanza()), "not-acceptable");
            client.send(&form(&[("phone", PHONE)]));
            assert_eq!(outcome(&client.stanza()), "not-acceptable");
            let hidden = ("FORM_TYPE", "jabber:iq:register");
            client.send(&form(&[hidden, ("phone", PHONE), ("device", DEVICES[0])]));
            let sent = client.stanza();
            assert_eq!(outcome(&sent), "result");
            let pin = office.provider.next().pin();
            let wrong = if pin == "00000" { "11111" } else { "00000" };
            // The stream may be another one by now.
            let mut client = Client::connect(office.server.address());
            client.open_stream("localhost");
            client.send(&form(&[hidden, ("phone", PHONE), ("device", DEVICES[0]), ("pin", wrong)]));
            assert_eq!(outcome(&client.stanza()), "forbidden");
            client.send(&form(&[hidden, ("phone", PHONE), ("device", DEVICES[0]), ("pin", &pin)]));
            let done = client.stanza();
            assert_eq!(outcome(&done), "result");
            assert_eq!(field(&done, "jid"), format!("{LOCAL}@localhost"));
            // The login follows on the same stream.
            let key = field(&done, "key");
            assert!(client.authenticate_plain(LOCAL, &key).is("success", SASL));
        },
    );
}

#[test]
fn streams_offer_registration_by_number_only_where_the_operator_says_so() {
    with_office(
        |_| {},
        |office| {
            let mut client = Client::connect(office.server.address());
            let features = client.open_stream("localhost");
            assert!(features.find("register", "http://jabber.org/features/iq-register").is_none());
            client.send(&form(&[("phone", PHONE), ("device", DEVICES[0])]));
            client.expect_stream_error("not-authorized");
            assert!(office.provider.is_quiet());
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
