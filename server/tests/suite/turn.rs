//! STUN and TURN servers that clients are told of (XEP-0215).

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use whimbrel_server::clock::datetime;
use whimbrel_server::config::{Config, TurnConfig};
use whimbrel_server::xml::Element;

use crate::support::answers::{outcome, payload};
use crate::support::{PATIENCE, on_each_driver, on_each_driver_with};

const SERVICES: &str = "<services xmlns='urn:xmpp:extdisco:2'/>";

/// Each worker hears of a new configuration in its own time.
fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it does not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn turn_servers_are_told_of_with_credentials_that_end() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "north by north-west").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let configure = |config: &mut Config| {
        config.turn.services =
            vec!["stun:turn.example".into(), "turns:turn.example:443".into(), "turn:[2001:db8::1]".into()];
        config.turn.secret_file.clone_from(&secret);
        config.turn.seconds = 600;
    };
    on_each_driver_with(configure, |server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let before = now();
        let answer = juliet.ask("get", Some("localhost"), SERVICES);
        let services: Vec<_> = payload(&answer).elements().collect();
        let shown = |service: &Element, names: &[&str]| {
            let values: Vec<_> =
                names.iter().map(|name| service.attribute(name).unwrap_or("-").to_owned()).collect();
            values.join(" ")
        };
        let names = ["type", "host", "port", "transport", "restricted"];
        assert_eq!(shown(services[0], &names), "stun turn.example 3478 udp -");
        assert_eq!(shown(services[1], &names), "turns turn.example 443 tcp true");
        assert_eq!(shown(services[2], &names), "turn 2001:db8::1 3478 udp true");
        assert_eq!(services[0].attribute("password"), None, "STUN asks for none");
        let username = services[1].attribute("username").unwrap();
        let expires: u64 = username.split_once(':').unwrap().0.parse().unwrap();
        assert!((before + 600..=now() + 600).contains(&expires), "{username}");
        assert_eq!(services[1].attribute("expires"), Some(datetime(expires).as_str()));
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"north by north-west");
        let password = STANDARD.encode(hmac::sign(&key, username.as_bytes()));
        assert_eq!(services[1].attribute("password"), Some(password.as_str()));

        let some =
            juliet.ask("get", Some("localhost"), "<services xmlns='urn:xmpp:extdisco:2' type='turn'/>");
        assert_eq!(payload(&some).attribute("type"), Some("turn"));
        assert_eq!(payload(&some).elements().count(), 1);
        let ask = |inside: &str| format!("<credentials xmlns='urn:xmpp:extdisco:2'>{inside}</credentials>");
        let given = juliet.ask("get", Some("localhost"), &ask("<service host='turn.example' type='turns'/>"));
        let service = payload(&given).elements().next().unwrap();
        assert_eq!(shown(service, &names[..4]), "turns turn.example 443 tcp");
        assert!(service.attribute("password").is_some_and(|password| password.len() == 28));
        for (typ, query, expected) in [
            ("get", ask("<service host='turn.example' type='stun'/>"), "item-not-found"),
            ("get", ask("<service host='turn.example' type='turns' port='444'/>"), "item-not-found"),
            ("get", ask("<service host='other.example' type='turn'/>"), "item-not-found"),
            ("get", ask("<service host='turn.example'/>"), "bad-request"),
            ("set", SERVICES.to_owned(), "not-allowed"),
        ] {
            assert_eq!(outcome(&juliet.ask(typ, Some("localhost"), &query)), expected, "{query}");
        }
        assert_eq!(outcome(&juliet.ask("get", None, SERVICES)), "service-unavailable", "accounts have none");
    });
}

#[test]
fn turn_servers_come_and_go_when_the_configuration_is_read_again() {
    const DISCO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let mut is_there = |expected: bool| {
            let disco = juliet.ask("get", Some("localhost"), DISCO);
            let announced =
                payload(&disco).elements().any(|e| e.attribute("var") == Some("urn:xmpp:extdisco:2"));
            announced == expected
                && outcome(&juliet.ask("get", Some("localhost"), SERVICES))
                    == if expected { "result" } else { "service-unavailable" }
        };
        assert!(is_there(false));
        let mut config = (*server.server.config()).clone();
        config.turn.services = vec!["stun:turn.example".into()];
        server.server.reload(Some(config.clone())).unwrap();
        until(|| is_there(true));
        config.turn.services.push("turn:turn.example".into());
        config.turn.secret_file = "/nowhere/secret".into();
        let error = server.server.reload(Some(config.clone())).unwrap_err().to_string();
        assert!(error.contains("turn.secret_file: /nowhere/secret"), "{error}");
        assert!(is_there(true), "everything stays as it was");
        config.turn = TurnConfig::default();
        server.server.reload(Some(config)).unwrap();
        until(|| is_there(false));
    });
}
