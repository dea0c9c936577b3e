//! Subscriptions between users (RFC 6121 §3).

use whimbrel_server::config::Config;
use whimbrel_storage::directory::run_inline;

use crate::support::roster::{befriend, error_of, heard, presence, ready, roster, short, sync, written};
use crate::support::{Client, TestServer, drivers, on_each_driver, on_each_driver_with};

/// Romeo and Juliet, ready, on different workers.
fn romeo_and_juliet(server: &TestServer) -> (String, Client, String, Client) {
    pair(server, 0, 1)
}

fn pair(server: &TestServer, first: usize, second: usize) -> (String, Client, String, Client) {
    let (r, j) = (server.name_at_home_on(first, "romeo"), server.name_at_home_on(second, "juliet"));
    server.accounts(&[&r, &j]);
    let (romeo, juliet) = (ready(server, &r, "orchard"), ready(server, &j, "balcony"));
    (r, romeo, j, juliet)
}

#[test]
fn from_strangers_to_a_mutual_subscription_on_one_worker_and_on_two() {
    for (first, second) in [(0, 0), (0, 1)] {
        on_each_driver(|server| {
            let (r, mut romeo, j, mut juliet) = pair(server, first, second);
            // To a full JID and with content: the server makes it bare and keeps the rest (§3.1.2).
            romeo.send(&format!(
                "<presence id='s' type='subscribe' to='{j}@localhost/balcony'><status>wherefore</status></presence>"
            ));
            sync(&mut romeo, &mut juliet);
            assert_eq!(heard(&mut romeo), [format!("push {j} none ask")]);
            let request = juliet.quiet();
            assert_eq!(request.iter().map(short).collect::<Vec<_>>(), [format!("subscribe {r} (wherefore)")]);
            assert_eq!(request[0].attribute("to"), Some(&*format!("{j}@localhost")));
            assert_eq!(request[0].attribute("id"), Some("s"));
            assert_eq!(roster(&mut juliet), [""; 0], "a request is no contact yet");

            presence(&mut juliet, "subscribed", &r);
            sync(&mut juliet, &mut romeo);
            assert_eq!(heard(&mut juliet), [format!("push {r} from")]);
            let told = [format!("subscribed {j}"), format!("push {j} to"), format!("available {j}/balcony")];
            assert_eq!(heard(&mut romeo), told);

            presence(&mut juliet, "subscribe", &r);
            sync(&mut juliet, &mut romeo);
            assert_eq!(heard(&mut juliet), [format!("push {r} from ask")]);
            assert_eq!(heard(&mut romeo), [format!("subscribe {j}")]);

            presence(&mut romeo, "subscribed", &j);
            sync(&mut romeo, &mut juliet);
            assert_eq!(heard(&mut romeo), [format!("push {j} both")]);
            let told =
                [format!("subscribed {r}"), format!("push {r} both"), format!("available {r}/orchard")];
            assert_eq!(heard(&mut juliet), told);

            romeo.send("<presence><status>here</status></presence>");
            romeo.fence(&mut juliet);
            assert_eq!(heard(&mut juliet), [format!("available {r}/orchard (here)")]);
        });
    }
}

#[test]
fn a_request_is_declined_and_leaves_nothing_with_the_contact() {
    on_each_driver(|server| {
        let (r, mut romeo, j, mut juliet) = romeo_and_juliet(server);
        presence(&mut romeo, "subscribe", &j);
        sync(&mut romeo, &mut juliet);
        romeo.quiet();
        juliet.quiet();
        presence(&mut juliet, "unsubscribed", &r);
        sync(&mut juliet, &mut romeo);
        assert_eq!(heard(&mut romeo), [format!("unsubscribed {j}"), format!("push {j} none")]);
        assert_eq!(heard(&mut juliet), [""; 0]);
        assert_eq!(roster(&mut juliet), [""; 0]);
        // Nothing waits any more.
        drop(juliet);
        let mut juliet = server.login(&j, "garden");
        juliet.send("<presence/>");
        juliet.settle();
        assert_eq!(heard(&mut juliet), [format!("available {j}/garden")]);
    });
}

#[test]
fn a_request_that_is_taken_back_waits_no_longer() {
    on_each_driver(|server| {
        let (r, mut romeo, j, mut juliet) = romeo_and_juliet(server);
        // In one packet: they take effect one after the other.
        romeo.send(&format!(
            "<presence type='subscribe' to='{j}@localhost'/><presence type='unsubscribe' to='{j}@localhost'/>"
        ));
        sync(&mut romeo, &mut juliet);
        assert_eq!(heard(&mut romeo), [format!("push {j} none ask"), format!("push {j} none")]);
        assert_eq!(heard(&mut juliet), [format!("subscribe {r}"), format!("unsubscribe {r}")]);
        // Her answer comes too late to be one: it is kept as a grant in advance.
        presence(&mut juliet, "subscribed", &r);
        sync(&mut juliet, &mut romeo);
        assert_eq!(heard(&mut juliet), [format!("push {r} none approved")]);
        assert_eq!(heard(&mut romeo), [""; 0]);
    });
}

#[test]
fn both_halves_of_a_mutual_subscription_are_cancelled() {
    on_each_driver(|server| {
        let (r, mut romeo, j, mut juliet) = romeo_and_juliet(server);
        befriend(&mut romeo, &mut juliet);
        presence(&mut juliet, "unsubscribed", &r);
        sync(&mut juliet, &mut romeo);
        assert_eq!(heard(&mut juliet), [format!("push {r} to")]);
        let told =
            [format!("unavailable {j}/balcony"), format!("unsubscribed {j}"), format!("push {j} from")];
        assert_eq!(heard(&mut romeo), told);
        juliet.send("<presence><status>unseen</status></presence>");
        juliet.fence(&mut romeo);
        assert_eq!(heard(&mut romeo), [""; 0]);
        juliet.settle();
        juliet.quiet();

        presence(&mut juliet, "unsubscribe", &r);
        sync(&mut juliet, &mut romeo);
        assert_eq!(heard(&mut romeo), [format!("unsubscribe {j}"), format!("push {j} none")]);
        assert_eq!(heard(&mut juliet), [format!("push {r} none"), format!("unavailable {r}/orchard")]);
        assert_eq!(roster(&mut romeo), [format!("{j} none")]);
        assert_eq!(roster(&mut juliet), [format!("{r} none")]);
    });
}

#[test]
fn a_pre_approved_request_is_granted_without_asking() {
    on_each_driver(|server| {
        let (r, mut romeo, j, mut juliet) = romeo_and_juliet(server);
        presence(&mut juliet, "subscribed", &r);
        sync(&mut juliet, &mut romeo);
        assert_eq!(heard(&mut juliet), [format!("push {r} none approved")]);
        assert_eq!(heard(&mut romeo), [""; 0]);
        presence(&mut romeo, "subscribe", &j);
        sync(&mut romeo, &mut juliet);
        assert_eq!(heard(&mut juliet), [format!("push {r} from approved")]);
        let told = [
            format!("push {j} none ask"),
            format!("subscribed {j}"),
            format!("push {j} to"),
            format!("available {j}/balcony"),
        ];
        assert_eq!(heard(&mut romeo), told);
    });
}

#[test]
fn a_pre_approval_is_withdrawn_in_silence() {
    on_each_driver(|server| {
        let (r, mut romeo, j, mut juliet) = romeo_and_juliet(server);
        presence(&mut juliet, "subscribed", &r);
        presence(&mut juliet, "unsubscribed", &r);
        sync(&mut juliet, &mut romeo);
        assert_eq!(heard(&mut juliet), [format!("push {r} none approved"), format!("push {r} none")]);
        assert_eq!(heard(&mut romeo), [""; 0]);
        presence(&mut romeo, "subscribe", &j);
        sync(&mut romeo, &mut juliet);
        assert_eq!(heard(&mut juliet), [format!("subscribe {r}")]);
    });
}

#[test]
fn a_request_waits_for_an_offline_contact_until_it_is_answered_and_over_a_restart() {
    on_each_driver(|server| {
        let driver = server.server.shared.config.read().unwrap().driver;
        let data = tempfile::tempdir().unwrap();
        let here = |config: &mut Config| config.data = data.path().to_owned();
        let first = TestServer::start(driver, here);
        first.accounts(&["romeo", "juliet", "nurse"]);
        let (mut romeo, mut nurse) = (ready(&first, "romeo", "orchard"), ready(&first, "nurse", "house"));
        romeo.send("<presence type='subscribe' to='juliet@localhost'><status>pray</status></presence>");
        // Asking twice is asking once (§3.1.3).
        presence(&mut romeo, "subscribe", "juliet");
        written(&mut romeo);
        // The request has gone to Juliet's home by now; what she does there comes after it.
        let mut juliet = ready_with_requests(&first, &mut romeo, &["subscribe romeo (pray)"]);
        juliet.fence(&mut nurse);
        drop((romeo, juliet, nurse));
        drop(first);

        let second = TestServer::start(driver, here);
        let mut romeo = ready(&second, "romeo", "orchard");
        let mut juliet = ready_with_requests(&second, &mut romeo, &["subscribe romeo (pray)"]);
        presence(&mut juliet, "subscribed", "romeo");
        sync(&mut juliet, &mut romeo);
        assert_eq!(heard(&mut romeo), ["subscribed juliet", "push juliet to", "available juliet/balcony"]);
        drop(juliet);
        let _ = ready_with_requests(&second, &mut romeo, &[]);
    });
}

/// Juliet logs in; what waited for her must be this.
fn ready_with_requests(server: &TestServer, other: &mut Client, requests: &[&str]) -> Client {
    let mut juliet = server.login("juliet", "balcony");
    roster(&mut juliet);
    // What the other has caused so far is on her worker, and written, before she is available.
    other.fence(&mut juliet);
    written(&mut juliet);
    juliet.quiet();
    juliet.send("<presence/>");
    juliet.settle();
    let mut heard = heard(&mut juliet);
    heard.retain(|stanza| stanza.starts_with("subscribe"));
    assert_eq!(heard, requests);
    juliet
}

#[test]
fn a_request_to_nobody_looks_like_one_that_is_not_answered() {
    on_each_driver(|server| {
        let (_, mut romeo, _, mut juliet) = romeo_and_juliet(server);
        let somebody = server.name_at_home_on(0, "somebody");
        server.accounts(&[&somebody]);
        let nobodies = [server.name_at_home_on(0, "nobody"), server.name_at_home_on(1, "nobody")];
        let all = [&somebody, &nobodies[0], &nobodies[1]];
        let mut said = |romeo: &mut Client, name: &str, stanza: String| {
            romeo.send(&stanza);
            sync(romeo, &mut juliet);
            heard(romeo).into_iter().map(|what| what.replace(name, "it")).collect::<Vec<_>>()
        };
        for name in all {
            let bare = format!("{name}@localhost");
            let asked = said(&mut romeo, name, format!("<presence type='subscribe' to='{bare}'/>"));
            assert_eq!(asked, ["push it none ask"], "{name}");
            // Neither a probe nor a repeated request tells, nor anything else.
            for stanza in [
                format!("<presence type='probe' to='{bare}'/>"),
                format!("<presence type='probe' to='{bare}/r'/>"),
                format!("<presence type='subscribe' to='{bare}/r'/>"),
                format!("<presence to='{bare}'/><presence type='unavailable' to='{bare}'/>"),
            ] {
                assert_eq!(said(&mut romeo, name, stanza.clone()), [""; 0], "{name}: {stanza}");
            }
        }
        // Nor does another login.
        let mut cellar = ready(server, romeo.jid.split('@').next().unwrap(), "cellar");
        let mut waiting: Vec<String> = all.iter().map(|name| format!("{name} none ask")).collect();
        waiting.sort();
        assert_eq!(roster(&mut cellar), waiting);
        cellar.cut();
        for name in all {
            let bare = format!("{name}@localhost");
            let withdrawn = said(&mut romeo, name, format!("<presence type='unsubscribe' to='{bare}'/>"));
            let mut withdrawn = withdrawn;
            withdrawn.retain(|what| what.starts_with("push"));
            assert_eq!(withdrawn, ["push it none"], "{name}");
            // Other stanzas are dropped.
            let denied = said(&mut romeo, name, format!("<presence type='unsubscribed' to='{bare}'/>"));
            assert_eq!(denied, [""; 0], "{name}");
        }
    });
}

#[test]
fn a_request_to_nobody_waits_over_a_restart() {
    for driver in drivers() {
        let server = TestServer::start(driver, |_| {});
        let (r, mut romeo, _, mut juliet) = romeo_and_juliet(&server);
        server.accounts(&["somebody"]);
        for name in ["somebody", "nobody"] {
            presence(&mut romeo, "subscribe", name);
        }
        sync(&mut romeo, &mut juliet);
        drop((romeo, juliet));
        let server = server.restart(|_| {});
        let mut romeo = server.login(&r, "orchard");
        let waiting = ["nobody none ask", "somebody none ask"];
        assert_eq!(roster(&mut romeo), waiting);
        romeo.send("<presence/>");
        for name in ["somebody", "nobody"] {
            presence(&mut romeo, "probe", name);
        }
        written(&mut romeo);
        assert_eq!(heard(&mut romeo), [format!("available {r}/orchard")]);
        assert_eq!(roster(&mut romeo), waiting);
    }
}

#[test]
fn a_subscription_to_oneself_is_ignored() {
    on_each_driver(|server| {
        server.accounts(&["romeo"]);
        let mut romeo = ready(server, "romeo", "orchard");
        for typ in ["subscribe", "subscribed", "unsubscribe", "unsubscribed"] {
            presence(&mut romeo, typ, "romeo");
        }
        written(&mut romeo);
        romeo.settle();
        assert_eq!(heard(&mut romeo), [""; 0]);
        assert_eq!(roster(&mut romeo), [""; 0]);
    });
}

#[test]
fn a_second_request_of_a_subscriber_does_not_reach_the_contact() {
    on_each_driver(|server| {
        let (r, mut romeo, j, mut juliet) = romeo_and_juliet(server);
        befriend(&mut romeo, &mut juliet);
        presence(&mut romeo, "subscribe", &j);
        sync(&mut romeo, &mut juliet);
        assert_eq!(heard(&mut juliet), [""; 0]);
        // The answer is that she has granted it, and where she is.
        assert_eq!(heard(&mut romeo), [format!("available {j}/balcony")]);
        assert_eq!(roster(&mut juliet), [format!("{r} both")]);
        assert_eq!(roster(&mut romeo), [format!("{j} both")]);
    });
}

#[test]
fn a_blocked_user_asks_in_vain_and_his_blocker_cannot_ask_him() {
    on_each_driver(|server| {
        let (r, j) = (server.name_at_home_on(0, "romeo"), server.name_at_home_on(1, "juliet"));
        server.accounts(&[&r, &j]);
        let (blocker, blocked) = (j.clone(), vec![format!("{r}@localhost")]);
        let job = Box::new(move |transaction: &mut whimbrel_storage::directory::WriteTransaction<'_>| {
            transaction.set_blocked(&blocker, &blocked)
        });
        run_inline(&server.server.shared.directory, job).unwrap();
        let (mut romeo, mut juliet) = (ready(server, &r, "orchard"), ready(server, &j, "balcony"));
        presence(&mut romeo, "subscribe", &j);
        written(&mut romeo);
        presence(&mut juliet, "subscribe", &r);
        let error = juliet.expect("presence");
        assert_eq!(error_of(&error), "not-acceptable");
        juliet.settle();
        assert_eq!(heard(&mut juliet), [""; 0]);
        assert_eq!(roster(&mut juliet), [""; 0]);
        assert_eq!(heard(&mut romeo), [format!("push {j} none ask")], "as if nobody answered");
    });
}

#[test]
fn requests_past_a_limit_are_refused_or_dropped() {
    let small = |config: &mut Config| {
        config.limits.roster_requests = 1;
        config.limits.roster_items = 2;
        config.limits.roster_request_bytes = 512;
    };
    on_each_driver_with(small, |server| {
        let (_, mut romeo, j, mut juliet) = romeo_and_juliet(server);
        let long = "x".repeat(600);
        romeo.send(&format!(
            "<presence type='subscribe' to='{j}@localhost'><status>{long}</status></presence>"
        ));
        let error = romeo.expect("presence");
        assert_eq!(error_of(&error), "policy-violation");

        server.accounts(&["paris"]);
        let mut paris = ready(server, "paris", "hall");
        presence(&mut romeo, "subscribe", &j);
        sync(&mut romeo, &mut juliet);
        presence(&mut paris, "subscribe", &j);
        sync(&mut paris, &mut juliet);
        assert_eq!(heard(&mut juliet).len(), 1, "one request waits, which is all that may");

        presence(&mut romeo, "subscribe", "paris");
        presence(&mut romeo, "subscribe", "one-too-many");
        written(&mut romeo);
        let refused: Vec<_> = heard(&mut romeo).into_iter().filter(|s| s.starts_with("error")).collect();
        assert_eq!(refused, ["error resource-constraint one-too-many"]);
    });
}
