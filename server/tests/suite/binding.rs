//! Resource binding (RFC 6120 §7): who gets which resource, and what happens when it is taken.

use whimbrel_server::config::ResourceConflict;
use whimbrel_server::xml::Element;

use crate::support::server_password as password;
use crate::support::{Client, TestServer, on_each_driver, on_each_driver_with};

const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// A client that has authenticated and opened its second stream.
fn authenticated(server: &TestServer, name: &str) -> Client {
    let mut client = Client::connect(server.address());
    client.open_stream("localhost");
    client.authenticate_plain(name, &password(name));
    client.open_stream("localhost");
    client
}

fn bind(client: &mut Client, asked: &str) -> Element {
    client.send(&format!("<iq type='set' id='b'><bind xmlns='{BIND}'>{asked}</bind></iq>"));
    client.expect("iq")
}

fn error_of(answer: &Element) -> Option<&str> {
    answer
        .find("error", "jabber:client")?
        .elements()
        .find(|child| child.namespace() == STANZAS)
        .map(Element::name)
}

fn jid_of(answer: &Element) -> String {
    let bound = answer.find("bind", BIND).and_then(|bind| bind.find("jid", BIND));
    bound.unwrap_or_else(|| panic!("no JID in {answer:?}")).content().into_owned()
}

#[test]
fn the_server_makes_up_a_resource_that_nobody_else_has() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let (mut one, mut two) = (authenticated(server, "juliet"), authenticated(server, "juliet"));
        let (first, second) = (jid_of(&bind(&mut one, "")), jid_of(&bind(&mut two, "")));
        assert!(first.starts_with("juliet@localhost/") && first.len() > 25, "{first}");
        assert_ne!(first, second);
    });
}

#[test]
fn a_resource_is_normalised_and_a_bad_one_can_be_tried_again() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut client = authenticated(server, "juliet");
        let control = bind(&mut client, "<resource>a&#x9;b</resource>");
        assert_eq!(error_of(&control), Some("bad-request"));
        let long = bind(&mut client, &format!("<resource>{}</resource>", "x".repeat(1024)));
        assert_eq!(error_of(&long), Some("bad-request"));
        // RFC 8265 OpaqueString: other spaces become U+0020, and the string is composed.
        let answer = bind(&mut client, "<resource>e\u{301}\u{a0}1</resource>");
        assert_eq!(jid_of(&answer), "juliet@localhost/\u{e9} 1");
    });
}

#[test]
fn by_default_the_newer_session_replaces_the_older() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut older = server.online("juliet", "balcony");
        let mut newer = server.login("juliet", "balcony");
        older.expect_stream_error("conflict");
        newer.settle();
    });
}

#[test]
fn the_operator_may_choose_to_refuse_the_newer_or_to_rename_it() {
    let with =
        |policy| move |config: &mut whimbrel_server::config::Config| config.auth.resource_conflict = policy;
    on_each_driver_with(with(ResourceConflict::RefuseNewer), |server| {
        server.accounts(&["juliet"]);
        let mut older = server.login("juliet", "balcony");
        let mut newer = authenticated(server, "juliet");
        assert_eq!(error_of(&bind(&mut newer, "<resource>balcony</resource>")), Some("conflict"));
        assert_eq!(jid_of(&bind(&mut newer, "<resource>garden</resource>")), "juliet@localhost/garden");
        older.settle();
    });
    on_each_driver_with(with(ResourceConflict::Rename), |server| {
        server.accounts(&["juliet"]);
        let mut older = server.login("juliet", "balcony");
        let mut newer = authenticated(server, "juliet");
        let renamed = jid_of(&bind(&mut newer, "<resource>balcony</resource>"));
        assert!(renamed.starts_with("juliet@localhost/balcony") && renamed != older.jid, "{renamed}");
        older.settle();
    });
}

#[test]
fn one_resource_too_many_is_refused_and_counted() {
    on_each_driver_with(
        |config| config.limits.resources_per_user = 2,
        |server| {
            server.accounts(&["juliet"]);
            let _one = server.login("juliet", "one");
            let two = server.login("juliet", "two");
            let mut three = authenticated(server, "juliet");
            assert_eq!(
                error_of(&bind(&mut three, "<resource>three</resource>")),
                Some("resource-constraint")
            );
            let refused: u64 = server.server.shared.metrics.iter().map(|m| m.refused_resources.get()).sum();
            assert_eq!(refused, 1);
            two.cut();
            // The place is free once the server has seen the cut.
            while error_of(&bind(&mut three, "<resource>three</resource>")).is_some() {}
        },
    );
}
