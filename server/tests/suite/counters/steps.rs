//! The steps of the walk that clients cause by XMPP. A step names what it moves; more may move.

use std::io::Write;
use std::net::TcpStream;

use whimbrel_server::config::Config;

use super::stage::{Stage, Step, run};
use crate::support::answers::{befriend, outcome};
use crate::support::managed::chat;
use crate::support::{Client, TestServer, on_each_driver_with, server_password};

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

/// A server with the accounts juliet and romeo, who see each other's presence.
type Verona = TestServer;

/// Runs every step on each driver.
#[test]
fn every_step_moves_what_it_says() {
    run(STEPS, |step, act| {
        on_each_driver_with(step.configure, |server| {
            server.accounts(&["juliet", "romeo"]);
            befriend(server, "juliet", "romeo");
            act(server, server);
        });
    });
}

const PLAIN: Step<Verona> = Step { what: "", configure: |_| {}, act: |_, _| {}, moves: &[] };

/// The steps.
pub(super) const STEPS: &[Step<Verona>] = &[
    Step {
        what: "a server has started",
        act: |stage, _| stage.count_from_zero(),
        moves: &[
            "loop.iterations",
            "loop.events",
            "loop.busy",
            "loop.longest",
            "loop.latency",
            "loop.events_per_wakeup",
            "queue.completions.limit",
            "queue.commands.limit",
            "queue.mailbox.limit",
            "queue.mailbox_bytes.limit",
            "queue.commit.limit",
            "queue.output.limit",
            "queue.held.limit",
            "queue.directory.limit",
            "queue.crypto.limit",
            "server.allocator.in_use",
            "server.allocator.allocations",
            "memory.budget",
            "server.seen",
            "server.uptime",
            "server.cpu.user",
            "server.cpu.system",
            "server.faults.minor",
            "server.switches.voluntary",
            "server.switches.involuntary",
            "server.memory.peak",
        ],
        ..PLAIN
    },
    Step {
        what: "users of two workers log in, change a roster and chat",
        act: chat_across_workers,
        moves: &[
            "connections",
            "sessions",
            "users",
            "accepts",
            "logins",
            "login.known_addresses",
            "binds",
            "migrations",
            "loop.work",
            "loop.work_longest",
            "contacts.bytes",
            "contacts.rosters_read",
            "buckets",
            "bytes.in",
            "bytes.out",
            "messages.in",
            "presences.in",
            "iqs.in",
            "messages.out",
            "presences.out",
            "iqs.out",
            "messages.latency",
            "stanza_errors.out",
            "mailbox.letters",
            "timers",
            "log.appends",
            "log.bytes",
            "log.trims",
            "log.commits",
            "log.commit_time",
            "log.commit_longest",
            "log.settled",
            "queue.commit.high_water",
            "queue.completions.high_water",
            "queue.mailbox.high_water",
            "queue.mailbox_bytes.high_water",
            "queue.directory.high_water",
            "queue.crypto.high_water",
        ],
        ..PLAIN
    },
    Step {
        what: "a connection waits to log in",
        act: |stage, server| {
            let mut client = Client::connect(server.address());
            client.open_stream("localhost");
            stage.until("server.unauthenticated");
        },
        moves: &["server.unauthenticated"],
        ..PLAIN
    },
    Step {
        what: "a client comes by TLS, and another sends what is none",
        act: |stage, server| {
            let mut client = Client::connect_tls(server.tls_address(), &server.certificate());
            client.log_in("juliet", &server_password("juliet"), "balcony");
            stage.until("tls_sessions");
            let mut other = TcpStream::connect(server.tls_address()).unwrap();
            other.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            stage.until("tls.failures");
        },
        moves: &["tls_sessions", "tls.handshakes", "tls.failures"],
        ..PLAIN
    },
    Step {
        what: "a wrong password, and XML that is none",
        act: |_, server| {
            let mut client = Client::connect(server.address());
            client.open_stream("localhost");
            assert_eq!(client.authenticate_plain("juliet", "wrong").name(), "failure");
            client.send("<a><b></a>");
            client.expect_some_stream_error();
        },
        moves: &[
            "logins.failed",
            "logins.failed.credentials",
            "login.remembered",
            "stream_errors",
            "refused.framing",
        ],
        ..PLAIN
    },
    Step {
        what: "logins are given up, again and again, and one asks for what there is not",
        configure: |config| config.limits.sasl_attempts = 255,
        act: |stage, server| {
            let mut client = Client::connect(server.address());
            client.open_stream("localhost");
            client.send(&format!("<auth xmlns='{SASL}' mechanism='X-NONE'/>"));
            let aborts = format!("<abort xmlns='{SASL}'/>").repeat(20);
            let mut left = 10;
            stage.until_with("logins.unlogged", || {
                if left > 0 {
                    left -= 1;
                    client.send(&aborts);
                }
            });
        },
        moves: &["logins.failed.protocol", "logins.failed.aborted", "logins.unlogged"],
        ..PLAIN
    },
    Step {
        what: "more wrong passwords than are borne",
        configure: |config| {
            config.limits.sasl_attempts = 1;
            config.limits.guesses_per_address_and_account = 3;
        },
        act: |stage, server| {
            stage.until_with("refused.login_throttle", || {
                let mut client = Client::connect(server.address());
                client.open_stream("localhost");
                client.authenticate_plain("juliet", "wrong");
            });
        },
        moves: &["refused.login_throttle"],
        ..PLAIN
    },
    Step {
        what: "one wrong password after another",
        act: |stage, server| {
            stage.until_with("logins.delayed", || {
                let mut client = Client::connect(server.address());
                client.open_stream("localhost");
                client.authenticate_plain("juliet", "wrong");
            });
        },
        moves: &["logins.delayed"],
        ..PLAIN
    },
    Step {
        what: "what sessions hold is sampled",
        act: sample_memory,
        moves: &["memory.unacked", "memory.held", "memory.presence", "memory.unfinished", "memory.detached"],
        ..PLAIN
    },
    Step {
        what: "presence for an inactive client",
        act: |stage, server| {
            let mut juliet = server.online("juliet", "balcony");
            juliet.send("<inactive xmlns='urn:xmpp:csi:0'/>");
            juliet.settle();
            let mut romeo = server.online("romeo", "orchard");
            romeo.send("<presence><show>away</show></presence>");
            romeo.settle();
            stage.until("inactive.held");
        },
        moves: &["inactive.held"],
        ..PLAIN
    },
    Step {
        what: "a session is cut and resumed, and another cannot be",
        act: resume,
        moves: &["sm.enabled", "sm.detached", "sm.resumed", "sm.sent_again", "sm.resume_failed"],
        ..PLAIN
    },
    Step {
        what: "nobody resumes a session",
        configure: |config| config.limits.sm_resume_seconds = 1,
        act: |stage, server| {
            let mut juliet = server.online("juliet", "balcony");
            juliet.enable_sm();
            juliet.cut();
            stage.until("sm.expired");
        },
        moves: &["sm.expired"],
        ..PLAIN
    },
    Step {
        what: "no session may wait to be resumed",
        configure: |config| config.limits.sm_detached_sessions = 0,
        act: |stage, server| {
            let mut juliet = server.online("juliet", "balcony");
            juliet.enable_sm();
            juliet.cut();
            stage.until("refused.sm_detached_sessions");
        },
        moves: &["refused.sm_detached_sessions"],
        ..PLAIN
    },
    Step {
        what: "a client acknowledges nothing",
        configure: |config| config.limits.sm_unacked_stanzas = 16,
        act: |stage, server| {
            let mut juliet = server.online("juliet", "balcony");
            juliet.enable_sm();
            let mut romeo = server.login("romeo", "orchard");
            let mut server_info = String::from("<iq type='get' id='d' to='localhost'>");
            server_info += "<query xmlns='http://jabber.org/protocol/disco#info'/></iq>";
            for name in ["sm.unremembered", "refused.sm_unacked"] {
                stage.until_with(name, || {
                    juliet.send(&server_info);
                    romeo.send(&format!("<iq type='get' id='v' to='{}'><x xmlns='urn:x'/></iq>", juliet.jid));
                    romeo.settle();
                });
            }
        },
        moves: &["sm.unremembered", "refused.sm_unacked"],
        ..PLAIN
    },
    Step {
        what: "messages wait for an absent user, until there is no place",
        configure: |config| {
            config.limits.offline_messages = 3;
            one_sender_may_fill(config);
        },
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            (0..5).for_each(|n| romeo.send(&chat("juliet@localhost", n)));
            stage.until("refused.offline");
            stage.until("log.pending");
            let mut juliet = server.login("juliet", "balcony");
            juliet.send("<presence/>");
            assert_eq!(juliet.next_message(), "0");
        },
        moves: &["log.pending", "log.delivered_later", "refused.offline"],
        ..PLAIN
    },
    Step {
        what: "senders use up their shares of a mailbox",
        configure: |config| {
            config.limits.offline_messages = 200;
            config.limits.offline_percent_per_stranger = 5;
            config.limits.offline_percent_strangers = 10;
            config.limits.offline_percent_per_contact = 10;
            config.limits.offline_strangers_per_minute = 1_000_000;
        },
        act: fill_mailbox,
        moves: &["refused.offline_sender", "refused.offline_strangers", "offline.counted"],
        ..PLAIN
    },
    Step {
        what: "clients send more than their shares of a turn",
        act: |stage, server| {
            let mut clients: Vec<Client> = (0..8).map(|n| server.login("romeo", &format!("r{n}"))).collect();
            let ping = "<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>";
            let burst = ping.repeat(100);
            for name in ["turns.cut", "turns.length", "input.held", "reading.slowed"] {
                stage.until_with(name, || clients.iter_mut().for_each(|client| client.send(&burst)));
            }
        },
        moves: &[
            "turns.length",
            "turns.high_water",
            "turns.cut",
            "reading.slowed",
            "input.held",
            "input.held_high_water",
        ],
        ..PLAIN
    },
    Step {
        what: "the log is full",
        configure: |config| {
            config.workers = 1;
            config.log_segment_mib = 2;
            config.log_mib_max = 16;
            one_sender_may_fill(config);
        },
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            let filler = "x".repeat(200_000);
            stage.until_with("refused.log_full", || {
                romeo.send(&format!(
                    "<message to='juliet@localhost' type='chat'><body>{filler}</body></message>"
                ));
                romeo.settle();
            });
        },
        moves: &["refused.log_full"],
        ..PLAIN
    },
    Step {
        what: "a client does not read its messages",
        configure: |config| {
            config.limits.stanza_bytes = 64 * 1024;
            config.limits.output_backlog_bytes = 256 * 1024;
            config.limits.sm_unacked_bytes = 256 * 1024;
            config.limits.roster_bytes = 64 * 1024;
        },
        act: |stage, server| {
            let _deaf = server.online("juliet", "balcony");
            let mut romeo = server.login("romeo", "orchard");
            let filler = "x".repeat(30_000);
            stage.until_with("log.behind", || {
                romeo.send(&format!(
                    "<message to='juliet@localhost' type='chat'><body>{filler}</body></message>"
                ));
                romeo.settle();
            });
        },
        moves: &["log.behind"],
        ..PLAIN
    },
    Step {
        what: "a client asks for much and does not read",
        configure: |config| config.limits.output_backlog_bytes = 600_000,
        act: |stage, server| {
            let mut juliet = server.login("juliet", "balcony");
            let card = format!("<vCard xmlns='vcard-temp'><NOTE>{}</NOTE></vCard>", "n".repeat(200_000));
            assert_eq!(outcome(&juliet.ask("set", None, &card)), "result");
            juliet.send(&"<iq type='get' id='c'><vCard xmlns='vcard-temp'/></iq>".repeat(80));
            stage.until("queue.output.length");
            stage.until("reading.pauses");
        },
        moves: &["queue.output.length", "queue.output.high_water", "reading.pauses"],
        ..PLAIN
    },
    Step {
        what: "a client does not read what is kept nowhere, and reads in the end",
        configure: |config| config.limits.output_backlog_bytes = 600_000,
        act: lose_presence,
        moves: &["output.dropped", "presence.refreshed"],
        ..PLAIN
    },
    Step {
        what: "strangers write to somebody absent faster than they may",
        configure: |config| {
            config.limits.offline_messages = 200;
            config.limits.offline_percent_per_stranger = 5;
            config.limits.offline_strangers_per_minute = 1;
        },
        act: |stage, server| {
            server.accounts(&["tybalt", "paris"]);
            let mut strangers = ["tybalt", "paris"].map(|name| server.login(name, "x"));
            stage.until_with("refused.offline_strangers_per_minute", || {
                for stranger in &mut strangers {
                    stranger.send(&chat("juliet@localhost", 1));
                    stranger.settle();
                }
            });
        },
        moves: &["refused.offline_strangers_per_minute"],
        ..PLAIN
    },
    Step {
        what: "memory is short",
        act: |stage, server| {
            let shared = &server.server.shared;
            let mut config = (**shared.config.read().unwrap()).clone();
            // Less than any program uses.
            config.limits.memory_mib = 1;
            *shared.config.write().unwrap() = config.into();
            stage.until("memory.pressure");
            stage.until_with("refused.memory", || drop(Client::connect(server.address())));
        },
        moves: &["memory.pressure", "refused.memory"],
        ..PLAIN
    },
    Step {
        what: "an account blocks and unblocks before another of its clients that does not read",
        configure: |config| {
            config.limits.stanza_bytes = 64 * 1024;
            config.limits.output_backlog_bytes = 128 * 1024;
            config.limits.sm_unacked_bytes = 128 * 1024;
            config.limits.roster_bytes = 64 * 1024;
        },
        act: |stage, server| {
            let mut deaf = server.login("juliet", "balcony");
            assert_eq!(outcome(&deaf.ask("get", None, "<blocklist xmlns='urn:xmpp:blocking'/>")), "result");
            let mut other = server.login("juliet", "chamber");
            let name = "n".repeat(900);
            let items: String = (0..50).map(|n| format!("<item jid='{n}{name}@localhost'/>")).collect();
            let mut verbs = ["block", "unblock"].iter().cycle();
            stage.until_with("refused.output_backlog_bytes", || {
                let verb = verbs.next().unwrap();
                let set = format!("<{verb} xmlns='urn:xmpp:blocking'>{items}</{verb}>");
                assert_eq!(outcome(&other.ask("set", None, &set)), "result");
            });
        },
        moves: &["refused.output_backlog_bytes"],
        ..PLAIN
    },
    Step {
        what: "an account shows more presence than it may hold",
        configure: little_output,
        act: |stage, server| {
            let text = "x".repeat(9_000);
            let mut absent = server.login("juliet", "absent");
            absent.enable_sm();
            absent.cut();
            server.await_metric("sm.detached", 1);
            let mut resources: Vec<Client> =
                (0..8).map(|n| server.login("juliet", &format!("r{n}"))).collect();
            for client in &mut resources {
                client.send(&format!("<presence><status>{text}</status></presence>"));
            }
            stage.until("refused.account_memory");
        },
        moves: &["refused.account_memory", "memory.account.high_water", "memory.account.stripped"],
        ..PLAIN
    },
    Step {
        what: "one connection too many",
        configure: |config| config.limits.sessions = 1,
        act: |stage, server| {
            let _one = server.login("juliet", "balcony");
            let _two = Client::connect(server.address());
            stage.until("refused.sessions");
        },
        moves: &["refused.sessions"],
        ..PLAIN
    },
    Step {
        what: "one connection too many that has not logged in",
        configure: |config| config.limits.sessions_unauthenticated = 1,
        act: |stage, server| {
            let _waiting = [Client::connect(server.address()), Client::connect(server.address())];
            stage.until("refused.sessions_unauthenticated");
        },
        moves: &["refused.sessions_unauthenticated"],
        ..PLAIN
    },
    Step {
        what: "one address holds the places that another needs",
        configure: |config| config.limits.sessions_unauthenticated = 6,
        act: |stage, server| {
            let _held: Vec<Client> =
                (0..6).map(|_| Client::connect_from([127, 0, 50, 1], server.address())).collect();
            stage.until("server.unauthenticated");
            let mut juliet = Client::connect_from([127, 0, 60, 1], server.address());
            juliet.log_in("juliet", &server_password("juliet"), "balcony");
            stage.until("refused.displaced");
        },
        moves: &["refused.displaced"],
        ..PLAIN
    },
    Step {
        what: "an address connects faster than it may",
        configure: |config| config.limits.accepts_per_second_per_address = 2,
        act: |stage, server| {
            let _clients: Vec<Client> = (0..20).map(|_| Client::connect(server.address())).collect();
            stage.until("refused.accepts_per_address");
        },
        moves: &["refused.accepts_per_address"],
        ..PLAIN
    },
    Step {
        what: "one connection too many from one address",
        configure: |config| config.limits.sessions_per_address = 1,
        act: |stage, server| {
            let _waiting = [Client::connect(server.address()), Client::connect(server.address())];
            stage.until("refused.sessions_per_address");
        },
        moves: &["refused.sessions_per_address"],
        ..PLAIN
    },
    Step {
        what: "one resource too many",
        configure: |config| config.limits.resources_per_user = 1,
        act: |_, server| {
            let _one = server.login("juliet", "one");
            let mut two = Client::connect(server.address());
            two.open_stream("localhost");
            assert_eq!(two.authenticate_plain("juliet", &server_password("juliet")).name(), "success");
            two.open_stream("localhost");
            let bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>two</resource></bind>";
            assert_eq!(outcome(&two.ask("set", None, bind)), "resource-constraint");
        },
        moves: &["refused.resources_per_user"],
        ..PLAIN
    },
    Step {
        what: "a login takes too long",
        configure: |config| config.limits.preauth_seconds = 1,
        act: |stage, server| {
            let _silent = Client::connect(server.address());
            stage.until("refused.preauth_seconds");
        },
        moves: &["refused.preauth_seconds"],
        ..PLAIN
    },
    Step {
        what: "a login has too many bytes",
        act: |stage, server| {
            let mut client = Client::connect(server.address());
            client.open_stream("localhost");
            let _ = client.socket().write_all(" ".repeat(11 * 1024).as_bytes());
            stage.until("refused.preauth_bytes");
        },
        moves: &["refused.preauth_bytes"],
        ..PLAIN
    },
    Step {
        what: "a roster, a block list and an hour of registrations are full",
        configure: |config| {
            config.auth.open_registration = true;
            config.limits.roster_items = 1;
            config.limits.blocked_jids = 1;
            config.limits.registrations_per_hour = 1;
        },
        act: fill_accounts,
        moves: &[
            "registrations",
            "refused.registrations_per_hour",
            "refused.roster",
            "refused.account_limits",
        ],
        ..PLAIN
    },
    Step {
        what: "connections come faster than they are taken",
        configure: |config| config.limits.accepts_per_second = 10,
        act: |stage, server| {
            let _clients: Vec<Client> = (0..30).map(|_| Client::connect(server.address())).collect();
            stage.until("accept.rate_pauses");
        },
        moves: &["accept.rate_pauses"],
        ..PLAIN
    },
    Step {
        what: "the operator asks for a drain",
        configure: |config| config.limits.drain_seconds = 30,
        act: |stage, server| {
            let _juliet = server.online("juliet", "balcony");
            server.server.drain(false);
            stage.until("server.draining");
            stage.until("queue.commands.high_water");
        },
        moves: &["server.draining", "queue.commands.high_water"],
        ..PLAIN
    },
];

/// The least that may wait for a client, and for an account.
fn little_output(config: &mut Config) {
    let limits = &mut config.limits;
    limits.stanza_bytes = 10_000;
    limits.output_backlog_bytes = 20_000;
    limits.sm_unacked_bytes = 20_000;
    limits.roster_bytes = 10_000;
    limits.account_memory_kib = 40;
    limits.offline_messages = 200;
}

/// One sender may take the whole mailbox.
fn one_sender_may_fill(config: &mut Config) {
    config.limits.offline_percent_per_contact = 100;
    config.limits.offline_percent_per_stranger = 100;
    config.limits.offline_percent_strangers = 100;
}

fn fill_mailbox(stage: &mut Stage<'_>, server: &Verona) {
    let send_many = |from: &str| {
        let mut client = server.login(from, "x");
        (0..30).for_each(|n| client.send(&chat("juliet@localhost", n)));
        client.settle();
    };
    send_many("romeo");
    stage.until("refused.offline_sender");
    for stranger in ["tybalt", "paris", "rosaline"] {
        server.accounts(&[stranger]);
        send_many(stranger);
    }
    stage.until("refused.offline_strangers");
}

fn chat_across_workers(stage: &mut Stage<'_>, server: &Verona) {
    let (one, other) = (server.name_at_home_on(0, "benvolio"), server.name_at_home_on(1, "mercutio"));
    server.accounts(&[&one, &other]);
    let mut sender = server.online(&one, "street");
    sender.enable_sm();
    let mut recipient = server.online(&other, "square");
    // Which worker takes a connection is the kernel's choice.
    stage.until_with("migrations", || drop(server.login("juliet", "balcony")));
    let mut number = 0;
    let mut talk = || {
        sender.send(&chat(&recipient.jid, number));
        sender.fence(&mut recipient);
        number += 1;
    };
    // What waits for a commit, or in a mailbox, does so for a moment.
    for name in ["queue.commit.high_water", "queue.mailbox.high_water", "log.commit_longest"] {
        stage.until_with(name, &mut talk);
    }
    let item = "<query xmlns='jabber:iq:roster'><item jid='tybalt@localhost'/></query>";
    stage.until_with("queue.directory.high_water", || {
        assert_eq!(outcome(&sender.ask("set", None, item)), "result");
    });
    assert_eq!(
        outcome(&sender.ask("get", Some("localhost"), "<x xmlns='urn:nothing'/>")),
        "service-unavailable"
    );
    stage.until_with("queue.crypto.high_water", || drop(server.login("romeo", "orchard")));
}

fn lose_presence(stage: &mut Stage<'_>, server: &Verona) {
    let mut juliet = server.online("juliet", "balcony");
    let mut romeos: Vec<Client> = (0..8).map(|n| server.login("romeo", &format!("r{n}"))).collect();
    let filler = "x".repeat(60_000);
    stage.until_with("output.dropped", || {
        let body = format!("<body>{filler}</body>");
        romeos[0].send(&format!("<message to='{}' type='headline'>{body}</message>", juliet.jid));
        romeos[0].settle();
    });
    // Of each sender the newest is held, but not of so many.
    for romeo in &mut romeos {
        romeo.send(&format!("<presence to='{}'><status>{filler}{filler}</status></presence>", juliet.jid));
        romeo.settle();
    }
    stage.until_with("presence.refreshed", || juliet.settle());
}

fn sample_memory(stage: &mut Stage<'_>, server: &Verona) {
    let mut juliet = server.online("juliet", "balcony");
    juliet.enable_sm();
    let mut romeo = server.online("romeo", "orchard");
    romeo.send("<inactive xmlns='urn:xmpp:csi:0'/>");
    romeo.settle();
    juliet.send("<presence><status>upon the balcony</status></presence>");
    let disco = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    juliet.send(&format!("<iq type='get' id='d' to='localhost'>{disco}</iq>"));
    let mut half = server.login("juliet", "chamber");
    half.send(&format!("<message to='romeo@localhost'><body>{}", "x".repeat(5_000)));
    for name in ["memory.unacked", "memory.held", "memory.presence", "memory.unfinished"] {
        stage.until(name);
    }
    juliet.cut();
    stage.until("memory.detached");
}

fn resume(stage: &mut Stage<'_>, server: &Verona) {
    let mut juliet = server.online("juliet", "balcony");
    let (jid, id) = (juliet.jid.clone(), juliet.enable_sm());
    let mut romeo = server.login("romeo", "orchard");
    romeo.send(&chat(&jid, 1));
    assert_eq!(juliet.next_message(), "1");
    juliet.cut();
    stage.until("sm.detached");
    let (_there, answer) = Client::resume(server.address(), "juliet", &jid, &id, 0);
    assert_eq!(answer.name(), "resumed");
    let (_none, answer) = Client::resume(server.address(), "romeo", "", "nothing", 0);
    assert_eq!(answer.name(), "failed");
}

fn fill_accounts(_: &mut Stage<'_>, server: &Verona) {
    let mut juliet = server.login("juliet", "balcony");
    let add = "<query xmlns='jabber:iq:roster'><item jid='tybalt@localhost'/></query>";
    assert_eq!(outcome(&juliet.ask("set", None, add)), "resource-constraint");
    let block = "<block xmlns='urn:xmpp:blocking'><item jid='a@localhost'/><item jid='b@localhost'/></block>";
    assert_eq!(outcome(&juliet.ask("set", None, block)), "resource-constraint");
    let mut romeo = server.login("romeo", "orchard");
    romeo.send("<presence type='subscribe' to='tybalt@localhost'/>");
    romeo.settle();
    for (name, expected) in [("tybalt", "result"), ("paris", "resource-constraint")] {
        let mut client = Client::connect(server.address());
        client.open_stream("localhost");
        let form = format!(
            "<query xmlns='jabber:iq:register'><username>{name}</username><password>a password</password></query>"
        );
        assert_eq!(outcome(&client.ask("set", None, &form)), expected);
    }
}
