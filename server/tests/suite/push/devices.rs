//! Devices: enabled, disabled, whose they are, what ends them.

use crate::support::answers::{outcome, payload};
use crate::support::pushes::{Keys, enable, form, record, with_push};
use crate::support::{TestServer, drivers, on_each_driver};

const FEATURE: &str = "urn:xmpp:push:0";

fn features(client: &mut crate::support::Client, to: Option<&str>) -> Vec<String> {
    let answer = client.ask("get", to, "<query xmlns='http://jabber.org/protocol/disco#info'/>");
    let all = payload(&answer).elements().filter_map(|child| child.attribute("var"));
    all.map(str::to_owned).collect()
}

fn nodes(server: &TestServer, name: &str) -> Vec<String> {
    let directory = &server.server.shared.directory;
    let account = directory.account_id(name).unwrap().unwrap();
    directory.push_devices(account).unwrap().into_iter().map(|device| device.node).collect()
}

#[test]
fn push_is_announced_where_it_is_configured() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.online("juliet", "phone");
        assert!(!features(&mut juliet, None).iter().any(|feature| feature == FEATURE));
        assert_eq!(outcome(&juliet.ask("set", None, &enable("n", &[]))), "service-unavailable");
        let answer = juliet.ask("get", Some("push.localhost"), "<ping xmlns='urn:xmpp:ping'/>");
        assert_eq!(outcome(&answer), "remote-server-not-found");
    });
    with_push(
        |_| {},
        |server, _| {
            server.accounts(&["juliet"]);
            let mut juliet = server.online("juliet", "phone");
            assert!(features(&mut juliet, None).iter().any(|feature| feature == FEATURE));
            assert!(features(&mut juliet, Some("push.localhost")).iter().any(|feature| feature == FEATURE));
            let answer = juliet.ask("get", Some("push.localhost"), "<ping xmlns='urn:xmpp:ping'/>");
            assert_eq!(outcome(&answer), "service-unavailable");
            juliet.send("<message to='push.localhost' id='m'><body>x</body></message>");
            assert_eq!(outcome(&juliet.expect("message")), "service-unavailable");
        },
    );
}

#[test]
fn a_request_that_does_not_fit_is_refused() {
    with_push(
        |config| config.push.devices = 2,
        |server, _| {
            server.accounts(&["juliet"]);
            let mut juliet = server.online("juliet", "phone");
            let to = |jid: &str, form: &str| {
                format!("<enable xmlns='{FEATURE}' jid='{jid}' node='n'>{form}</enable>")
            };
            let fcm = form(&[("service", "fcm"), ("device_id", "abc")]);
            let elsewhere = enable("n", &[]).replace("push.example", "push.elsewhere");
            for (child, expected) in [
                (to("push.example.org", &fcm), "remote-server-not-found"),
                (to("juliet@localhost", &fcm), "service-unavailable"),
                (to("localhost", &fcm), "service-unavailable"),
                (to("push.localhost/x", &fcm), "service-unavailable"),
                (to("push.localhost", ""), "not-acceptable"),
                (to("push.localhost", &fcm), "not-acceptable"),
                (elsewhere, "not-acceptable"),
                (format!("<enable xmlns='{FEATURE}'/>"), "bad-request"),
            ] {
                assert_eq!(outcome(&juliet.ask("set", None, &child)), expected, "{child}");
            }
            assert_eq!(outcome(&juliet.ask("get", None, &enable("n", &[]))), "bad-request");
            assert_eq!(nodes(server, "juliet"), [""; 0]);
            for node in ["a", "b", "a"] {
                juliet.enable_push(node);
            }
            assert_eq!(outcome(&juliet.ask("set", None, &enable("c", &[]))), "resource-constraint");
            let disable = |jid: &str| format!("<disable xmlns='{FEATURE}' jid='{jid}'/>");
            assert_eq!(outcome(&juliet.ask("set", None, &disable("push.example.org"))), "result");
            assert_eq!(nodes(server, "juliet"), ["a", "b"]);
            assert_eq!(outcome(&juliet.ask("set", None, &disable("push.localhost"))), "result");
            assert_eq!(nodes(server, "juliet"), [""; 0]);
        },
    );
}

#[test]
fn a_device_that_changes_hands_belongs_to_its_new_account() {
    with_push(
        |_| {},
        |server, told| {
            server.accounts(&["juliet", "romeo", "nurse"]);
            server.online("juliet", "phone").enable_push("phone");
            server.online("romeo", "phone").enable_push("phone");
            assert_eq!((nodes(server, "juliet").len(), nodes(server, "romeo").len()), (0, 1));
            server.await_metric("users", 0);
            let mut nurse = server.online("nurse", "home");
            for (to, id) in [("juliet", "lost"), ("romeo", "found")] {
                nurse.send(&crate::support::managed::chat(&format!("{to}@localhost"), id));
            }
            assert_eq!(told.next().text.as_deref(), Some("text of found"));
        },
    );
}

#[test]
fn devices_outlive_a_restart_and_go_with_their_account() {
    let keys = Keys::new();
    for driver in drivers() {
        let server = TestServer::start(driver, |config| keys.configure(config));
        server.accounts(&["juliet", "romeo"]);
        server.online("juliet", "phone").enable_push("phone");
        let server = server.restart(|config| keys.configure(config));
        let told = record(&server);
        let mut romeo = server.online("romeo", "orchard");
        romeo.send(&crate::support::managed::chat("juliet@localhost", "one"));
        assert_eq!(told.next().text.as_deref(), Some("text of one"));
        let mut juliet = server.online("juliet", "phone");
        let remove = "<query xmlns='jabber:iq:register'><remove/></query>";
        juliet.send(&format!("<iq type='set' id='r'>{remove}</iq>"));
        juliet.expect_some_stream_error();
        assert_eq!(server.server.shared.directory.push_device_count().unwrap(), 0);
    }
}
