//! Presence (RFC 6121 §4), and what priorities mean for messages (§8.5.2).

use whimbrel_storage::directory::{WriteTransaction, run_inline};

use crate::support::roster::{befriend, error_of, heard, presence, ready, short, sync, written};
use crate::support::{Client, TestServer, answers, on_each_driver};

fn romeo_and_juliet(server: &TestServer) -> (String, Client, String, Client) {
    let (r, j) = (server.name_at_home_on(0, "romeo"), server.name_at_home_on(1, "juliet"));
    server.accounts(&[&r, &j]);
    let (romeo, juliet) = (ready(server, &r, "orchard"), ready(server, &j, "balcony"));
    (r, romeo, j, juliet)
}

#[test]
fn contacts_and_own_resources_learn_of_each_other() {
    on_each_driver(|server| {
        let (r, mut romeo, j, mut juliet) = romeo_and_juliet(server);
        befriend(&mut romeo, &mut juliet);
        romeo.send("<presence><status>at large</status></presence>");
        romeo.settle();
        romeo.quiet();
        let mut garden = server.login(&j, "garden");
        garden.send("<presence><status>new</status></presence>");
        garden.set_aside_until(|stanza| stanza.attribute("from") == Some(&*format!("{r}@localhost/orchard")));
        garden.settle();
        garden.fence(&mut romeo);
        garden.fence(&mut juliet);
        let new = format!("available {j}/garden (new)");
        assert_eq!(heard(&mut garden), [new.clone(), format!("available {j}/balcony")]);
        assert_eq!(heard(&mut romeo), std::slice::from_ref(&new));
        juliet.quiet();

        garden.send("<presence type='unavailable'><status>off</status></presence>");
        garden.settle();
        garden.fence(&mut romeo);
        garden.fence(&mut juliet);
        let off = format!("unavailable {j}/garden (off)");
        assert_eq!(heard(&mut garden), std::slice::from_ref(&off));
        assert_eq!(heard(&mut juliet), std::slice::from_ref(&off));
        assert_eq!(heard(&mut romeo), [off]);

        // A session that breaks off says it too, once.
        juliet.cut();
        let last = romeo.stanza();
        assert_eq!(last.attribute("type"), Some("unavailable"));
        assert_eq!(last.attribute("from"), Some(&*format!("{j}@localhost/balcony")));
        garden.fence(&mut romeo);
        assert_eq!(heard(&mut romeo), [""; 0]);
    });
}

#[test]
fn presence_goes_one_way_for_a_one_way_subscription() {
    on_each_driver(|server| {
        let (r, mut romeo, j, mut juliet) = romeo_and_juliet(server);
        presence(&mut romeo, "subscribe", &j);
        sync(&mut romeo, &mut juliet);
        presence(&mut juliet, "subscribed", &r);
        sync(&mut romeo, &mut juliet);
        romeo.quiet();
        juliet.quiet();
        romeo.send("<presence><status>unseen</status></presence>");
        juliet.send("<presence><status>seen</status></presence>");
        sync(&mut romeo, &mut juliet);
        assert_eq!(heard(&mut juliet), [format!("available {j}/balcony (seen)")]);
        let mut told = heard(&mut romeo);
        told.sort();
        assert_eq!(
            told,
            [format!("available {j}/balcony (seen)"), format!("available {r}/orchard (unseen)")]
        );
    });
}

#[test]
fn a_message_goes_to_the_highest_priority_and_never_to_a_negative_one() {
    on_each_driver(|server| {
        server.accounts(&["romeo", "juliet"]);
        let mut romeo = server.login("romeo", "orchard");
        let with = |resource: &str, priority: &str| {
            let mut client = server.login("juliet", resource);
            client.send(&format!("<presence><priority>{priority}</priority></presence>"));
            client.settle();
            client
        };
        let mut low = with("low", "1");
        let mut high = with("high", "5");
        let mut negative = with("negative", "-1");
        let mut says = |text: &str, low: &mut Client, high: &mut Client, negative: &mut Client| {
            [low, high, negative].map(|client| {
                client.settle();
                client.quiet();
                romeo.send(&format!(
                    "<message to='juliet@localhost' type='chat'><body>{text}</body></message>"
                ));
                romeo.fence(client);
                client.quiet().iter().filter(|stanza| stanza.name() == "message").count()
            })
        };
        assert_eq!(says("to the highest", &mut low, &mut high, &mut negative), [0, 1, 0]);
        high.send("<presence><priority>1</priority></presence>");
        high.settle();
        assert_eq!(says("to both", &mut low, &mut high, &mut negative), [1, 1, 0]);
        for client in [&mut low, &mut high] {
            client.send("<presence><priority>-5</priority></presence>");
            client.settle();
        }
        assert_eq!(says("to nobody", &mut low, &mut high, &mut negative), [0, 0, 0]);
        assert_eq!(server.metric("log.pending"), 3, "they wait");
    });
}

#[test]
fn a_priority_that_is_none_is_refused() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        for priority in ["128", "-129", "high", ""] {
            juliet.send(&format!("<presence><priority>{priority}</priority></presence>"));
            assert_eq!(error_of(&juliet.expect("presence")), "bad-request", "{priority}");
        }
    });
}

#[test]
fn directed_presence_reaches_a_stranger_who_also_hears_of_the_end() {
    on_each_driver(|server| {
        let (r, mut romeo, j, mut juliet) = romeo_and_juliet(server);
        romeo.send(&format!("<presence to='{j}@localhost/balcony'><status>psst</status></presence>"));
        romeo.fence(&mut juliet);
        assert_eq!(heard(&mut juliet), [format!("available {r}/orchard (psst)")]);
        // A change of presence is not for her, its end is.
        romeo.send("<presence><show>away</show></presence>");
        romeo.fence(&mut juliet);
        assert_eq!(heard(&mut juliet), [""; 0]);
        romeo.send("<presence type='unavailable'><status>gone</status></presence>");
        romeo.fence(&mut juliet);
        assert_eq!(heard(&mut juliet), [format!("unavailable {r}/orchard (gone)")]);

        // A contact that has been told of the end already is not told again.
        romeo.send(&format!(
            "<presence/><presence to='{j}@localhost'/><presence to='{j}@localhost' type='unavailable'/>"
        ));
        romeo.send("<presence type='unavailable'/>");
        romeo.fence(&mut juliet);
        assert_eq!(
            heard(&mut juliet),
            [format!("available {r}/orchard"), format!("unavailable {r}/orchard")]
        );

        // A session that breaks off ends directed presence as well, even without any other.
        romeo.send(&format!("<presence to='{j}@localhost'/>"));
        romeo.fence(&mut juliet);
        juliet.quiet();
        romeo.cut();
        let last = juliet.stanza();
        assert_eq!(last.attribute("type"), Some("unavailable"), "{last:?}");
    });
}

#[test]
fn a_subscriber_with_directed_presence_hears_of_the_end_once() {
    on_each_driver(|server| {
        let (r, mut romeo, j, mut juliet) = romeo_and_juliet(server);
        befriend(&mut romeo, &mut juliet);
        // Before and after it is available.
        romeo.send(&format!("<presence type='unavailable'/><presence to='{j}@localhost'/><presence/>"));
        romeo.send(&format!("<presence to='{j}@localhost/balcony'/><presence to='{r}@localhost'/>"));
        sync(&mut romeo, &mut juliet);
        romeo.quiet();
        juliet.quiet();
        romeo.send("<presence type='unavailable'/>");
        romeo.fence(&mut juliet);
        romeo.settle();
        assert_eq!(heard(&mut juliet), [format!("unavailable {r}/orchard")]);
        assert_eq!(heard(&mut romeo), [format!("unavailable {r}/orchard")]);
    });
}

#[test]
fn a_probe_tells_a_subscriber_everything_and_a_stranger_nothing() {
    on_each_driver(|server| {
        let (r, mut romeo, j, mut juliet) = romeo_and_juliet(server);
        juliet.send("<presence><status>secret</status></presence>");
        juliet.settle();
        juliet.quiet();
        for to in [format!("{j}@localhost"), format!("{j}@localhost/balcony"), "nobody@localhost".into()] {
            romeo.send(&format!("<presence type='probe' to='{to}'/>"));
        }
        sync(&mut romeo, &mut juliet);
        assert_eq!(heard(&mut romeo), [""; 0]);
        assert_eq!(heard(&mut juliet), [""; 0], "a probe is no matter of the client");

        // Probing does not spoil a request that waits.
        presence(&mut romeo, "subscribe", &j);
        sync(&mut romeo, &mut juliet);
        presence(&mut romeo, "probe", &j);
        sync(&mut romeo, &mut juliet);
        assert_eq!(heard(&mut romeo), [format!("push {j} none ask")]);
        presence(&mut juliet, "subscribed", &r);
        sync(&mut juliet, &mut romeo);
        romeo.quiet();

        for (to, answer) in [
            (format!("{j}@localhost"), format!("available {j}/balcony (secret)")),
            (format!("{j}@localhost/balcony"), format!("available {j}/balcony (secret)")),
            (format!("{j}@localhost/elsewhere"), format!("unavailable {j}/elsewhere")),
        ] {
            romeo.send(&format!("<presence type='probe' to='{to}'/>"));
            sync(&mut romeo, &mut juliet);
            assert_eq!(heard(&mut romeo), [answer]);
        }
        juliet.send("<presence type='unavailable'/>");
        sync(&mut romeo, &mut juliet);
        romeo.quiet();
        presence(&mut romeo, "probe", &j);
        sync(&mut romeo, &mut juliet);
        assert_eq!(heard(&mut romeo), [format!("unavailable {j}")]);
    });
}

#[test]
fn unavailable_presence_of_a_resource_that_was_not_available_is_nobodys_news() {
    on_each_driver(|server| {
        let (_, mut romeo, j, mut juliet) = romeo_and_juliet(server);
        befriend(&mut romeo, &mut juliet);
        let mut garden = server.login(&j, "garden");
        garden.send("<presence type='unavailable'/>");
        garden.fence(&mut romeo);
        garden.fence(&mut juliet);
        assert_eq!(heard(&mut romeo), [""; 0]);
        assert_eq!(heard(&mut juliet), [""; 0]);
        assert_eq!(heard(&mut garden), [""; 0]);
    });
}

#[test]
fn a_blocked_contact_sees_nothing_and_shows_nothing() {
    on_each_driver(|server| {
        let (r, mut romeo, j, mut juliet) = romeo_and_juliet(server);
        befriend(&mut romeo, &mut juliet);
        drop(juliet);
        let (blocker, blocked) = (j.clone(), vec![format!("{r}@localhost")]);
        let job = Box::new(move |transaction: &mut WriteTransaction<'_>| {
            transaction.set_blocked(&blocker, &blocked)
        });
        let last = romeo.stanza();
        assert_eq!(last.attribute("type"), Some("unavailable"));
        run_inline(&server.server.shared.directory, job).unwrap();
        let mut juliet = ready(server, &j, "balcony");
        juliet.send("<presence><status>hidden</status></presence>");
        written(&mut juliet);
        romeo.send("<presence><status>hidden</status></presence>");
        presence(&mut romeo, "probe", &j);
        written(&mut romeo);
        juliet.settle();
        romeo.settle();
        // Her worker has seen what his sent when a message to her has bounced.
        romeo.send(&format!("<message to='{j}@localhost/balcony' id='m'><body>?</body></message>"));
        let bounce = romeo.set_aside_until(|stanza| stanza.name() == "message");
        assert_eq!(error_of(&bounce), "service-unavailable");
        juliet.settle();
        assert_eq!(heard(&mut romeo), [format!("available {r}/orchard (hidden)")], "his own echo");
        assert_eq!(heard(&mut juliet), [format!("available {j}/balcony (hidden)")], "her own echo");
    });
}

#[test]
fn the_last_words_of_a_user_are_remembered() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let directory = &server.server.shared.directory;
        let mut balcony = ready(server, "juliet", "balcony");
        let mut garden = ready(server, "juliet", "garden");
        balcony.send("<presence type='unavailable'><status>not the last</status></presence>");
        written(&mut balcony);
        assert_eq!(directory.last_activity("juliet").unwrap(), None);
        garden.send("<presence type='unavailable'><status>a thousand times good night</status></presence>");
        written(&mut garden);
        let last = directory.last_activity("juliet").unwrap().expect("she has gone");
        assert_eq!(last.status, "a thousand times good night");
        assert!(last.at_seconds > 1_700_000_000, "{}", last.at_seconds);
    });
}

#[test]
fn a_session_that_sees_itself_hears_nothing_of_its_own_end() {
    on_each_driver(|server| {
        let (_, mut romeo, _, _juliet) = romeo_and_juliet(server);
        romeo.send("<presence type='unavailable'/>");
        romeo.settle();
        romeo.quiet();
        let own = romeo.jid.clone();
        romeo.send(&format!("<presence to='{own}'/></stream:stream>"));
        let presence = romeo.stanza();
        assert_eq!((presence.attribute("from"), presence.attribute("type")), (Some(&*own), None));
        romeo.expect_close();
    });
}

#[test]
fn a_presence_that_is_too_long_is_refused_and_a_directed_one_is_not() {
    on_each_driver(|server| {
        let (r, mut romeo, _, mut juliet) = romeo_and_juliet(server);
        let long = "x".repeat(17_000);
        for typ in ["", " type='unavailable'"] {
            juliet.send(&format!("<presence{typ}><status>{long}</status></presence>"));
            assert_eq!(error_of(&juliet.stanza()), "policy-violation");
        }
        assert_eq!(server.metric("refused.presence_bytes"), 2);
        juliet.send(&format!("<presence to='{r}@localhost'><status>{long}</status></presence>"));
        assert_eq!(
            short(&romeo.stanza()),
            format!("available {} ({long})", juliet.jid.replace("@localhost", ""))
        );
    });
}

/// More recipients on the sender's own worker than one letter has.
const CROWD: usize = 70;

#[test]
fn presence_that_spreads_to_a_crowd_keeps_its_order_and_so_does_what_follows_it() {
    on_each_driver(|server| {
        let star = server.name_at_home_on(0, "star");
        let fans: Vec<String> =
            (0..CROWD).map(|fan| server.name_at_home_on(0, &format!("fan{fan}-"))).collect();
        server.accounts(&[&star]);
        server.accounts(&fans.iter().map(String::as_str).collect::<Vec<_>>());
        fans.iter().for_each(|fan| answers::befriend(server, &star, fan));
        let mut crowd: Vec<Client> = fans.iter().map(|fan| server.online(fan, "couch")).collect();
        let mut stage = server.online(&star, "stage");
        crowd.iter_mut().for_each(|fan| {
            stage.fence(fan);
            // Before it stands the answer to the fan's own probe.
            assert_eq!(heard(fan).last(), Some(&format!("available {star}/stage")));
        });
        let last = crowd.last().expect("there is a crowd").jid.clone();
        let show = |text: &str| format!("<presence><status>{text}</status></presence>");
        stage.send(&format!(
            "{}{}<message to='{last}' type='chat'><body>between</body></message>{}<presence type='unavailable'/>\
             {}</stream:stream>",
            show("one"),
            show("two"),
            show("three"),
            show("four"),
        ));
        stage.set_aside_until(|stanza| stanza.attribute("from").is_some_and(|from| from.contains(&star)));
        let expected = [
            format!("available {star}/stage (one)"),
            format!("available {star}/stage (two)"),
            format!("available {star}/stage (three)"),
            format!("unavailable {star}/stage"),
            format!("available {star}/stage (four)"),
            format!("unavailable {star}/stage"),
        ];
        for fan in &mut crowd {
            let mut stanzas: Vec<_> = (0..expected.len()).map(|_| fan.stanza()).collect();
            if fan.jid == last {
                stanzas.push(fan.stanza());
                let message = stanzas.remove(2);
                assert_eq!(message.name(), "message", "{message:?}");
            }
            assert_eq!(stanzas.iter().map(short).collect::<Vec<_>>(), expected);
        }
        // The account comes again before anybody could have forgotten it.
        let _again = server.online(&star, "stage");
        crowd.iter_mut().for_each(|fan| assert_eq!(short(&fan.stanza()), format!("available {star}/stage")));
    });
}
