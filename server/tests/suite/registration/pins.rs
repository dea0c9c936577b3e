//! PINs: wrong, expired, for another device, after a restart.

use serde_json::json;
use whimbrel_storage::directory::{WriteTransaction, run_inline};

use crate::support::api::{DEVICES, LOCAL, PHONE, answer, kind, with_office};

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
            // Another server on a copy of the data.
            let copy = tempfile::tempdir().unwrap();
            let path = copy.path().join("data");
            let mut config = (*office.server.server.config()).clone();
            let directory = &office.server.server.shared.directory;
            let mut pace = whimbrel_storage::pace::Pace::new(None);
            whimbrel_storage::data::backup(&config.data, directory, &path, 0, &mut pace).unwrap();
            config.data = path;
            let again = whimbrel_server::boot::Server::start(config).unwrap();
            let port = again.http.as_ref().unwrap().listening[0].port();
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
