//! TLS: STARTTLS (RFC 6120 §5), direct TLS (XEP-0368), and logins bound to the channel (RFC 5929, RFC 9266).

use std::io::{Read as _, Write as _};

use crate::support::scram::Scram;
use crate::support::server_password as password;
use crate::support::{Client, Said, on_each_driver, on_each_driver_with, tls};

const STARTTLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

fn mechanisms(features: &whimbrel_server::xml::Element) -> Vec<String> {
    let list = features.find("mechanisms", SASL);
    list.into_iter().flat_map(|list| list.elements()).map(|m| m.content().into_owned()).collect()
}

#[test]
fn without_tls_no_mechanism_is_offered_and_starttls_is_required() {
    on_each_driver_with(
        |config| config.allow_plaintext = false,
        |server| {
            server.accounts(&["juliet"]);
            let mut client = Client::connect(server.address());
            let features = client.open_stream("localhost");
            assert_eq!(mechanisms(&features), [] as [String; 0]);
            let starttls = features.find("starttls", STARTTLS).expect("starttls is offered");
            assert!(starttls.find("required", STARTTLS).is_some());
            let answer = client.authenticate_plain("juliet", &password("juliet"));
            assert!(answer.is("failure", SASL), "{answer:?}");
        },
    );
}

#[test]
fn every_mechanism_logs_in_over_starttls_and_direct_tls() {
    on_each_driver_with(
        |config| config.allow_plaintext = false,
        |server| {
            server.accounts(&["juliet"]);
            for direct in [false, true] {
                for mechanism in
                    ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"]
                {
                    for binding in ["tls-exporter", "tls-server-end-point"] {
                        let mut client = over_tls(server, direct);
                        let features = client.open_stream("localhost");
                        assert!(mechanisms(&features).iter().any(|name| name == mechanism), "{mechanism}");
                        assert!(features.find("starttls", STARTTLS).is_none(), "only once");
                        let data = match binding {
                            "tls-exporter" => tls::exporter(client.tls()),
                            _ => tls::server_end_point(client.tls()),
                        };
                        let answer =
                            match mechanism {
                                "PLAIN" => client.authenticate_plain("juliet", &password("juliet")),
                                name if name.ends_with("-PLUS") => Scram::bound(mechanism, binding, data)
                                    .run(&mut client, "juliet", &password("juliet")),
                                _ => Scram::plain(mechanism).run(&mut client, "juliet", &password("juliet")),
                            };
                        assert!(
                            answer.is("success", SASL),
                            "{mechanism} {binding} direct={direct}: {answer:?}"
                        );
                        client.open_stream("localhost");
                        assert_eq!(client.bind("balcony"), "juliet@localhost/balcony");
                    }
                }
            }
        },
    );
}

fn over_tls(server: &crate::support::TestServer, direct: bool) -> Client {
    if direct {
        return Client::connect_tls(server.tls_address(), &server.certificate());
    }
    let mut client = Client::connect(server.address());
    client.open_stream("localhost");
    client.start_tls(&server.certificate());
    client
}

#[test]
fn a_login_bound_to_another_channel_or_stripped_of_its_binding_fails() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let attempt = |scram: Scram| {
            let mut client = over_tls(server, true);
            client.open_stream("localhost");
            scram.run(&mut client, "juliet", &password("juliet"))
        };
        let elsewhere = attempt(Scram::bound("SCRAM-SHA-256-PLUS", "tls-exporter", vec![7; 32]));
        assert!(elsewhere.is("failure", SASL), "{elsewhere:?}");
        // RFC 5802 §6: a client that could bind, and says that the server could not, has been lied to.
        let downgraded = Scram { gs2: "y,,".into(), ..Scram::plain("SCRAM-SHA-256") };
        let downgraded = attempt(downgraded);
        assert!(downgraded.is("failure", SASL), "{downgraded:?}");
        let unknown = attempt(Scram::bound("SCRAM-SHA-256-PLUS", "tls-unique", vec![7; 32]));
        assert!(unknown.is("failure", SASL), "{unknown:?}");
    });
}

#[test]
fn what_comes_in_the_clear_behind_starttls_ends_the_stream() {
    on_each_driver(|server| {
        let mut client = Client::connect(server.address());
        client.open_stream("localhost");
        client.send(&format!("<starttls xmlns='{STARTTLS}'/><auth xmlns='{SASL}' mechanism='PLAIN'/>"));
        client.expect_stream_error("policy-violation");
    });
}

#[test]
fn white_space_behind_starttls_does_no_harm() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        // In one write with the request, or so late that the server has begun TLS.
        for (space, late) in [("\n", ""), (" \r\n\t", ""), ("", "\n"), ("\r", "\n \t")] {
            let mut client = Client::connect(server.address());
            client.open_stream("localhost");
            client.start_tls_with(space, late, &server.certificate());
            client.log_in("juliet", &password("juliet"), "balcony");
            client.settle();
        }
    });
}

#[test]
fn a_session_can_be_resumed_however_its_tls_ended() {
    type End = fn(Client);
    let ends: [(&str, End); 3] = [
        ("FIN", |client| client.cut()),
        ("close_notify", |mut client| {
            client.tls().conn.send_close_notify();
            // Fails only when the server has gone first.
            let _ = client.tls().flush();
            client.cut();
        }),
        ("a broken record", |mut client| {
            // Application data that no key opens; the server answers with an alert.
            let record = [&[23, 3, 3, 0, 32][..], &[7; 32]].concat();
            client.tls().sock.write_all(&record).unwrap();
            client.cut();
        }),
    ];
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        for direct in [false, true] {
            for (what, end) in ends {
                let mut client = over_tls(server, direct);
                client.log_in("juliet", &password("juliet"), "balcony");
                let (id, jid) = (client.enable_sm(), client.jid.clone());
                end(client);
                server.await_metric("sm.detached", 1);
                let (client, answer) = over_tls(server, direct).resume_here("juliet", &jid, &id, 0);
                assert_eq!(answer.name(), "resumed", "{what}, {direct}: {answer:?}");
                let mut client = client;
                client.send("</stream:stream>");
                client.expect_close();
            }
        }
    });
}

#[test]
fn bytes_that_are_no_tls_get_an_alert_and_a_close_and_harm_nobody() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.online("juliet", "balcony");
        let mut client = Client::connect(server.tls_address());
        client.send("<stream:stream xmlns='jabber:client' to='localhost'>");
        let mut bytes = Vec::new();
        let mut socket = client.socket();
        // The server may reset the connection, because it has not read everything.
        let _ = socket.read_to_end(&mut bytes);
        assert_eq!(bytes.first().copied().unwrap_or(21), 21, "a TLS alert");
        juliet.settle();
    });
}

#[test]
fn a_long_conversation_survives_tls_in_both_directions() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut ends = Vec::new();
        for (name, direct) in [("juliet", false), ("romeo", true)] {
            let mut client = over_tls(server, direct);
            client.log_in(name, &password(name), "r");
            ends.push(client);
        }
        let [juliet, romeo] = &mut ends[..] else { unreachable!("two") };
        // Until it is available, what comes stays in the log, where a stranger has a small share.
        juliet.send("<presence/>");
        juliet.expect("presence");
        for n in 0..50 {
            let body = "ä".repeat(n * 997);
            romeo.send(&format!("<message to='{}' type='chat'><body>{body}</body></message>", juliet.jid));
            let message = juliet.expect("message");
            assert_eq!(message.find("body", "jabber:client").unwrap().content(), body);
        }
        juliet.send("</stream:stream>");
        assert!(matches!(juliet.next(), Said::StreamClosed));
        assert!(matches!(juliet.next(), Said::Ended));
    });
}

#[test]
fn a_crowd_that_says_hello_at_once_is_served_while_others_talk() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.online("juliet", "balcony");
        let begin = || Client::connect_tls(server.tls_address(), &server.certificate());
        let mut crowd: Vec<Client> = (0..100).map(|_| begin()).collect();
        let mut rests = Vec::new();
        for (number, client) in crowd.iter_mut().enumerate() {
            // The first flight; half of it, for every second client.
            let tls = client.tls();
            let mut hello = Vec::new();
            tls.conn.write_tls(&mut hello).unwrap();
            let rest = if number % 2 == 0 { hello.split_off(hello.len() / 2) } else { Vec::new() };
            tls.sock.write_all(&hello).unwrap();
            rests.push(rest);
        }
        juliet.settle();
        for (client, rest) in crowd.iter_mut().zip(rests) {
            client.tls().sock.write_all(&rest).unwrap();
        }
        for client in &mut crowd {
            assert!(!mechanisms(&client.open_stream("localhost")).is_empty());
        }
        juliet.settle();
    });
}
