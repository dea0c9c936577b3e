//! Registration (XEP-0077): a new password, the end of an account, and accounts opened by clients.

use whimbrel_server::service::register::Removed;
use whimbrel_server::worker::command::Command;
use whimbrel_server::xml::Element;
use whimbrel_storage::directory::{WriteTransaction, run_inline};

use crate::support::answers::{befriend, outcome, payload, text_of};
use crate::support::{Client, PATIENCE, TestServer, on_each_driver, on_each_driver_with, server_password};

const REGISTER: &str = "jabber:iq:register";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

fn form(username: &str, password: &str) -> String {
    format!(
        "<query xmlns='{REGISTER}'><username>{username}</username><password>{password}</password></query>"
    )
}

fn can_log_in(server: &TestServer, name: &str, password: &str) -> bool {
    let mut client = Client::connect(server.address());
    client.open_stream("localhost");
    client.authenticate_plain(name, password).is("success", SASL)
}

#[test]
fn a_new_password_replaces_the_old_one_and_other_sessions_stay() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut balcony = server.login("juliet", "balcony");
        let mut garden = server.login("juliet", "garden");
        let asked = balcony.ask("get", Some("localhost"), "<query xmlns='jabber:iq:register'/>");
        assert_eq!(text_of(payload(&asked), "username"), "juliet");
        assert!(payload(&asked).find("registered", REGISTER).is_some());
        assert_eq!(outcome(&balcony.ask("set", Some("localhost"), &form("Juliet", "new one"))), "result");
        assert!(can_log_in(server, "juliet", "new one"));
        assert!(!can_log_in(server, "juliet", &server_password("juliet")));
        garden.settle();
        assert_eq!(outcome(&garden.ask("set", None, &form("juliet", "third"))), "result");
        assert!(can_log_in(server, "juliet", "third"));
    });
}

#[test]
fn a_password_that_cannot_be_is_refused_and_the_old_one_stays() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let long = "x".repeat(5000);
        for (username, password, expected) in [
            ("romeo", "mine", "not-allowed"),
            ("nobody", "mine", "not-allowed"),
            ("juliet", "", "not-acceptable"),
            ("juliet", &long, "not-acceptable"),
            ("juliet", "bell\u{7f}", "not-acceptable"),
            ("a b", "x", "jid-malformed"),
        ] {
            let answer = juliet.ask("set", Some("localhost"), &form(username, password));
            assert_eq!(outcome(&answer), expected, "{username}");
        }
        assert!(can_log_in(server, "juliet", &server_password("juliet")));
        assert!(can_log_in(server, "romeo", &server_password("romeo")));
    });
}

#[test]
fn a_removed_account_is_gone_with_its_sessions_and_its_contacts_hear_of_it() {
    on_each_driver(|server| {
        let (juliet, romeo) = (server.name_at_home_on(0, "juliet"), server.name_at_home_on(1, "romeo"));
        server.accounts(&[&juliet, &romeo]);
        befriend(server, &juliet, &romeo);
        let mut contact = server.online(&romeo, "orchard");
        contact.ask("get", None, "<query xmlns='jabber:iq:roster'/>");
        let mut balcony = server.online(&juliet, "balcony");
        let mut garden = server.login(&juliet, "garden");
        let mut unbound = Client::connect(server.address());
        unbound.open_stream("localhost");
        unbound.authenticate_plain(&juliet, &server_password(&juliet));
        unbound.open_stream("localhost");
        balcony.fence(&mut contact);
        contact.quiet();
        let both = "<query xmlns='jabber:iq:register'><remove/><username>x</username></query>";
        assert_eq!(outcome(&garden.ask("set", None, both)), "bad-request");
        let remove = "<query xmlns='jabber:iq:register'><remove/></query>";
        assert_eq!(outcome(&garden.ask("set", None, remove)), "result");
        garden.expect_stream_error("not-authorized");
        balcony.expect_stream_error("not-authorized");
        unbound.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
        unbound.expect_stream_error("not-authorized");
        let from = format!("{juliet}@localhost");
        let gone = contact.set_aside_until(|stanza| {
            stanza.name() == "presence" && stanza.attribute("type") == Some("unavailable")
        });
        assert_eq!(gone.attribute("from"), Some(format!("{from}/balcony").as_str()));
        contact.set_aside_until(|stanza| stanza.attribute("type") == Some("unsubscribed"));
        assert!(!can_log_in(server, &juliet, &server_password(&juliet)));
        assert!(!server.server.shared.directory.account_exists(&juliet).unwrap());
        // Nothing of it is left to whoever opens it again.
        server.accounts(&[&juliet]);
        assert_eq!(server.server.shared.directory.roster_items(&juliet).unwrap(), []);
    });
}

#[test]
fn the_contacts_of_an_account_that_the_operator_deletes_hear_of_it() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut romeo = server.online("romeo", "orchard");
        romeo.ask("get", None, "<query xmlns='jabber:iq:roster'/>");
        let mut juliet = server.online("juliet", "balcony");
        // What waits for her goes with the account.
        romeo.send("<message to='juliet@localhost/gone' type='chat'><body>x</body></message>");
        juliet.set_aside_until(|stanza| stanza.name() == "message");
        juliet.send("<presence type='unavailable'/>");
        juliet.settle();
        romeo.send("<message to='juliet@localhost' type='chat'><body>x</body></message>");
        server.await_metric("log.pending", 1);
        let job = |transaction: &mut WriteTransaction<'_>| Removed::delete(transaction, "juliet");
        let gone = run_inline(&server.server.shared.directory, Box::new(job)).unwrap().expect("she is there");
        let (reply, ended) = std::sync::mpsc::sync_channel(1);
        let command = Command::Removed { user: "juliet".into(), gone, reply };
        assert!(server.server.commands[server.server.shared.home_of("juliet")].give(command));
        assert_eq!(ended.recv_timeout(PATIENCE), Ok(1));
        server.await_metric("log.pending", 0);
        juliet.expect_stream_error("not-authorized");
        // That she was not there when he came is told "by" her bare JID.
        romeo.set_aside_until(|stanza| {
            stanza.attribute("type") == Some("unavailable")
                && stanza.attribute("from") == Some("juliet@localhost/balcony")
        });
        romeo.set_aside_until(|stanza| stanza.attribute("type") == Some("unsubscribed"));
    });
}

fn register(client: &mut Client, typ: &str, child: &str) -> Element {
    client.send(&format!("<iq type='{typ}' id='reg' to='localhost'>{child}</iq>"));
    client.expect("iq")
}

#[test]
fn nobody_opens_an_account_unless_the_operator_allows_it() {
    on_each_driver(|server| {
        let mut client = Client::connect(server.address());
        let features = client.open_stream("localhost");
        assert!(features.find("register", "http://jabber.org/features/iq-register").is_none());
        client.send(&format!("<iq type='set' id='reg'>{}</iq>", form("juliet", "secret")));
        client.expect_stream_error("not-authorized");
    });
}

#[test]
fn an_account_is_opened_before_login_where_it_is_allowed() {
    on_each_driver_with(
        |config| {
            config.auth.open_registration = true;
            config.limits.registrations_per_hour = 3;
        },
        |server| {
            server.accounts(&["romeo"]);
            let mut client = Client::connect(server.address());
            let features = client.open_stream("localhost");
            assert!(features.find("register", "http://jabber.org/features/iq-register").is_some());
            let asked = register(&mut client, "get", "<query xmlns='jabber:iq:register'/>");
            assert!(payload(&asked).find("username", REGISTER).is_some());
            assert_eq!(outcome(&register(&mut client, "set", &form("a b", "x"))), "jid-malformed");
            assert_eq!(outcome(&register(&mut client, "set", &form("romeo", "mine"))), "conflict");
            assert!(!can_log_in(server, "romeo", "mine"));
            assert_eq!(outcome(&register(&mut client, "set", &form("Juliet", ""))), "not-acceptable");
            // The login may follow right behind.
            client.send(&format!("<iq type='set' id='reg'>{}</iq>", form("Juliet", "secret")));
            let answer = client.authenticate_plain("juliet", "secret");
            assert_eq!(outcome(&answer), "result");
            assert!(client.stanza().is("success", SASL));
            let mut another = Client::connect(server.address());
            another.open_stream("localhost");
            assert_eq!(outcome(&register(&mut another, "set", &form("nurse", "x"))), "result");
            assert_eq!(outcome(&register(&mut another, "set", &form("paris", "x"))), "resource-constraint");
            assert!(!server.server.shared.directory.account_exists("paris").unwrap());
        },
    );
}

#[test]
fn no_account_is_opened_in_the_clear_where_passwords_are_not_allowed_there() {
    on_each_driver_with(
        |config| {
            config.auth.open_registration = true;
            config.allow_plaintext = false;
        },
        |server| {
            let mut client = Client::connect(server.address());
            client.open_stream("localhost");
            client.send(&format!("<iq type='set' id='reg'>{}</iq>", form("juliet", "secret")));
            client.expect_stream_error("not-authorized");
        },
    );
}
