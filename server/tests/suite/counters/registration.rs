//! The steps of the walk that the HTTP API of registration causes.

use std::net::TcpStream;
use std::os::unix::fs::FileExt;

use serde_json::json;
use whimbrel_storage::directory::{WriteTransaction, run_inline};

use super::stage::{Step, run};
use crate::support::api::{DEVICES, LOCAL, Office, PHONE, kind, with_office};

const ANOTHER: &str = "+4915112345679";

/// Runs every step; nothing here depends on the driver.
#[test]
fn every_step_of_registration_moves_what_it_says() {
    run(STEPS, |step, act| with_office(step.configure, |office| act(&office.server, office)));
}

const PLAIN: Step<Office> = Step { what: "", configure: |_| {}, act: |_, _| {}, moves: &[] };

/// The steps.
pub(super) const STEPS: &[Step<Office>] = &[
    Step {
        what: "a device registers, another takes its place, and the account is deleted",
        act: |stage, office| {
            office.register(PHONE, DEVICES[0]);
            stage.until("registration.http.connections");
            let key = office.register(PHONE, DEVICES[1]);
            assert_eq!(office.delete(LOCAL, &"A".repeat(43)), 401);
            assert_eq!(office.delete(LOCAL, &key), 204);
        },
        moves: &[
            "registration.http.requests",
            "registration.http.connections",
            "registration.requests",
            "registration.sent",
            "registration.gateway_latency",
            "registration.verifications",
            "registration.verified",
            "registration.replaced",
            "registration.deleted",
            "registration.refused.credentials",
        ],
        ..PLAIN
    },
    Step {
        what: "the queue of text messages has room",
        act: |stage, _| stage.count_from_zero(),
        moves: &["queue.sms.limit"],
        ..PLAIN
    },
    Step {
        what: "PINs are guessed, and numbers made up",
        act: |_, office| {
            let pin = office.pin(PHONE, DEVICES[0]);
            let wrong = if pin == "00000" { "11111" } else { "00000" };
            assert_eq!(office.tell(ANOTHER, wrong, DEVICES[0]).0 / 100, 4);
            while office.tell(PHONE, wrong, DEVICES[0]).0 != 429 {}
            assert_eq!(kind(&office.ask(PHONE, DEVICES[1]).1), "number-locked");
            assert_eq!(office.ask("+491", DEVICES[0]).0 / 100, 4);
        },
        moves: &[
            "registration.refused.wrong",
            "registration.refused.tries",
            "registration.refused.locked",
            "registration.refused.not_requested",
            "registration.refused.number",
        ],
        ..PLAIN
    },
    Step {
        what: "a PIN has expired",
        act: |_, office| {
            let pin = office.pin(PHONE, DEVICES[0]);
            let age = |transaction: &mut WriteTransaction<'_>| {
                let mut state = transaction.number_state(LOCAL)?.expect("a PIN is under way");
                let pin = state.pin.as_mut().expect("a PIN is under way");
                pin.requested_ms -= 660_000;
                pin.expires_ms -= 660_000;
                transaction.set_number_state(LOCAL, &state)
            };
            run_inline(&office.server.server.shared.directory, Box::new(age)).unwrap();
            assert_eq!(kind(&office.tell(PHONE, &pin, DEVICES[0]).1), "pin-expired");
        },
        moves: &["registration.refused.expired"],
        ..PLAIN
    },
    Step {
        what: "a PIN is asked for again too soon",
        configure: |config| config.registration.resend_seconds = 60,
        act: ask_twice,
        moves: &["registration.refused.resend"],
        ..PLAIN
    },
    Step {
        what: "a number is sent too many PINs",
        configure: |config| config.registration.pins_per_number_per_day = 1,
        act: ask_twice,
        moves: &["registration.refused.pins_per_number"],
        ..PLAIN
    },
    Step {
        what: "a device asks for too many PINs",
        configure: |config| config.registration.pins_per_device_per_hour = 1,
        act: ask_for_two,
        moves: &["registration.refused.pins_per_device"],
        ..PLAIN
    },
    Step {
        what: "an address asks for too many PINs",
        configure: |config| config.registration.pins_per_address_per_hour = 1,
        act: ask_for_two,
        moves: &["registration.refused.pins_per_address"],
        ..PLAIN
    },
    Step {
        what: "the server is asked for too many PINs",
        configure: |config| config.registration.pins_per_hour = 1,
        act: ask_for_two,
        moves: &["registration.refused.pins"],
        ..PLAIN
    },
    Step {
        what: "an address tells too many wrong PINs",
        configure: |config| config.registration.wrong_pins_per_address_per_hour = 1,
        act: guess_until_429,
        moves: &["registration.refused.wrong_pins_per_address"],
        ..PLAIN
    },
    Step {
        what: "the server is told too many wrong PINs",
        configure: |config| config.registration.wrong_pins_per_day = 1,
        act: guess_until_429,
        moves: &["registration.refused.wrong_pins"],
        ..PLAIN
    },
    Step {
        what: "the provider refuses, and is silent",
        // Time for an answer, also on a busy machine; what fails is tried again for as long.
        configure: |config| config.registration.gateway_seconds = 10,
        act: |_, office| {
            office.provider.answer(400);
            assert_eq!(office.ask(PHONE, DEVICES[0]).0, 502);
            office.provider.answer(500);
            assert_eq!(office.ask(PHONE, DEVICES[0]).0, 503);
        },
        moves: &["registration.send_refused", "registration.send_failed"],
        ..PLAIN
    },
    Step {
        what: "more text messages than can wait",
        configure: |config| {
            config.registration.gateway_queue = 1;
            config.registration.gateway_threads = 1;
            // The first is given up when the others have been seen, also on a busy machine.
            config.registration.gateway_seconds = 30;
        },
        act: |stage, office| {
            office.provider.answer(0);
            std::thread::scope(|scope| {
                scope.spawn(|| office.ask_for_status("+4915112345671", DEVICES[0]));
                office.provider.next();
                scope.spawn(|| office.ask_for_status("+4915112345672", DEVICES[0]));
                stage.until("queue.sms.length");
                assert_eq!(kind(&office.ask("+4915112345673", DEVICES[0]).1), "busy");
                office.provider.answer(200);
            });
        },
        moves: &["queue.sms.length", "queue.sms.high_water", "registration.refused.busy"],
        ..PLAIN
    },
    Step {
        what: "one device asks for most of a number's PINs",
        configure: |config| {
            config.registration.pins_per_number_per_day = 10;
            config.registration.pins_per_number_share = 1;
        },
        act: ask_twice,
        moves: &["registration.refused.pins_per_number_share"],
        ..PLAIN
    },
    Step {
        what: "what is left of a number's PINs is for those who have not asked",
        configure: |config| {
            config.registration.pins_per_number_per_day = 3;
            config.registration.pins_per_number_reserve = 2;
        },
        act: ask_twice,
        moves: &["registration.refused.pins_per_number_reserve"],
        ..PLAIN
    },
    Step {
        what: "half requests make room for a whole one",
        configure: |config| {
            config.registration.tls = false;
            config.registration.http_connections = 2;
            config.registration.http_seconds = 60;
            config.registration.http_idle_seconds = 300;
        },
        act: |stage, office| {
            let address = office.server.server.http.as_ref().unwrap().listening[0];
            let _half: Vec<TcpStream> = (0..6).map(|_| TcpStream::connect(address).unwrap()).collect();
            stage.until("registration.http.displaced");
        },
        moves: &["registration.http.displaced"],
        ..PLAIN
    },
    Step {
        what: "what is known of a number is damaged on the disk",
        act: |_, office| {
            office.pin(PHONE, DEVICES[0]);
            damage_behind(LOCAL, office);
            assert_eq!(office.ask(PHONE, DEVICES[0]).0, 500);
        },
        moves: &["registration.failed"],
        ..PLAIN
    },
    Step {
        what: "an address asks the API too often",
        configure: |config| config.registration.http_requests_per_minute = 3,
        act: |stage, office| {
            stage.until_with("registration.http.refused", || {
                office.agent().get(office.url("/v1/openapi.json")).call().unwrap();
            });
        },
        moves: &["registration.http.refused"],
        ..PLAIN
    },
];

/// Changes the byte behind a key, wherever the directory's file has it: the first one of its value.
fn damage_behind(key: &str, office: &Office) {
    let data = office.server.data.as_ref().unwrap().path().join("directory/data.mdb");
    let bytes = std::fs::read(&data).unwrap();
    let file = std::fs::File::options().write(true).open(&data).unwrap();
    let ends = bytes.windows(key.len()).enumerate().filter(|(_, window)| *window == key.as_bytes());
    for at in ends.map(|(begin, _)| begin + key.len()) {
        file.write_all_at(&[!bytes[at]], at as u64).unwrap();
    }
}

fn ask_twice(_: &mut super::stage::Stage<'_>, office: &Office) {
    office.pin(PHONE, DEVICES[0]);
    assert_eq!(office.ask(PHONE, DEVICES[0]).0, 429);
}

fn ask_for_two(_: &mut super::stage::Stage<'_>, office: &Office) {
    office.pin(PHONE, DEVICES[0]);
    assert_ne!(office.ask(ANOTHER, DEVICES[0]).0, 202);
}

fn guess_until_429(_: &mut super::stage::Stage<'_>, office: &Office) {
    let pin = office.pin(PHONE, DEVICES[0]);
    let wrong = if pin == "00000" { "11111" } else { "00000" };
    let body = json!({ "phone": PHONE, "pin": wrong, "device": DEVICES[0] });
    let mut statuses = (0..6).map(|_| office.post("/v1/registration/verify", &body).0);
    assert!(statuses.any(|status| status == 429 || status == 503));
}
