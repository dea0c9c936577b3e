//! The HTTP API as such: what is no request, its description, its limits.

use serde_json::json;

use crate::support::api::{DEVICES, PHONE, answer, kind, with_office};

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
                let response = request.send(body).unwrap_or_else(|error| panic!("{path} {media}: {error}"));
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
