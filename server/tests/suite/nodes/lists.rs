//! Lists of subscriptions and affiliations.

use super::*;

#[test]
fn users_list_what_they_are_to_all_nodes_and_owners_who_is_what_to_one() {
    everywhere(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        for node in ["a", "b", "c"] {
            assert_eq!(make(&mut juliet, node, &[("access_model", "authorize")]), "result");
        }
        assert_eq!(subscribe(&mut romeo, "a"), "pending");
        assert_eq!(affiliate(&mut juliet, "b", "romeo", "publisher"), "result");
        assert_eq!(subscribe(&mut romeo, "b"), "subscribed");
        assert_eq!(subscribe_as(&mut romeo, "b", "romeo@localhost/orchard"), "subscribed");
        let own = ask(&mut romeo, "get", "<subscriptions/>");
        let expected = [
            "a romeo@localhost pending",
            "b romeo@localhost subscribed",
            "b romeo@localhost/orchard subscribed",
        ];
        assert_eq!(rows(&own, "subscriptions", &["node", "jid", "subscription"]), expected);
        let own = ask(&mut romeo, "get", "<subscriptions node='b'/>");
        assert_eq!(rows(&own, "subscriptions", &["node", "jid", "subscription"]), expected[1..]);
        let own = ask(&mut romeo, "get", "<affiliations/>");
        assert_eq!(rows(&own, "affiliations", &["node", "affiliation"]), ["b publisher"]);
        let own = ask(&mut juliet, "get", "<affiliations/>");
        assert_eq!(rows(&own, "affiliations", &["node", "affiliation"]), ["a owner", "b owner", "c owner"]);
        let own = ask(&mut juliet, "get", "<affiliations node='none'/>");
        assert_eq!(rows(&own, "affiliations", &["node", "affiliation"]), [""; 0]);
        let all = ask_as_owner(&mut juliet, "get", "<affiliations node='b'/>");
        let expected = ["juliet@localhost owner", "romeo@localhost publisher"];
        assert_eq!(rows(&all, "affiliations", &["jid", "affiliation"]), expected);
        let all = ask_as_owner(&mut juliet, "get", "<subscriptions node='b'/>");
        let expected = ["romeo@localhost subscribed", "romeo@localhost/orchard subscribed"];
        assert_eq!(rows(&all, "subscriptions", &["jid", "subscription"]), expected);
    });
}

/// All rows of a list, page by page.
fn paged(client: &mut Client, namespace: &str, list: &str, node: &str, max: usize) -> (Vec<String>, usize) {
    let (mut all, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let set = format!("<set xmlns='{RSM}'><max>{max}</max>{after}</set>");
        let asked = format!("<pubsub xmlns='{namespace}'><{list} node='{node}'/>{set}</pubsub>");
        let answer = client.ask("get", Some(SERVICE), &asked);
        let found = rows(&answer, list, &["jid"]);
        let set = answer.elements().next().unwrap().find("set", RSM).expect("a page").clone();
        let Some(last) = set.find("last", RSM) else { return (all, pages) };
        assert!(found.len() <= max);
        all.extend(found);
        pages += 1;
        after = format!("<after>{}</after>", last.content());
    }
}

#[test]
fn long_lists_come_page_by_page_and_end_before_an_answer_is_too_long() {
    everywhere_with(
        |config| config.limits.pep_answer_bytes = 1000,
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = server.login("juliet", "balcony");
            assert_eq!(make(&mut juliet, "news", &[]), "result");
            let mut expected = Vec::new();
            for number in 10..40 {
                // Any resource of the own account that is this client's: it is bound anew for each.
                let mut client = server.login("juliet", &format!("r{number}"));
                let jid = client.jid.clone();
                assert_eq!(subscribe_as(&mut client, "news", &jid), "subscribed");
                expected.push(jid);
                client.send("</stream:stream>");
                client.expect_close();
            }
            assert_eq!(paged(&mut juliet, PUBSUB, "subscriptions", "news", 7), (expected.clone(), 5));
            assert_eq!(paged(&mut juliet, OWNER, "subscriptions", "news", 7), (expected.clone(), 5));
            // Each row counts for its name, its address and 64 bytes.
            let whole = ask_as_owner(&mut juliet, "get", "<subscriptions node='news'/>");
            let found = rows(&whole, "subscriptions", &["jid"]);
            assert!(found.len() < 30 && found == expected[..found.len()], "{found:?}");
            let set = whole.elements().next().unwrap().find("set", RSM).expect("it says that there is more");
            assert_eq!(set.find("last", RSM).unwrap().content(), *expected[found.len() - 1]);
            let backwards = format!("<subscriptions node='news'/><set xmlns='{RSM}'><before/></set>");
            let refused = ask_as_owner(&mut juliet, "get", &backwards);
            assert_eq!(said(&refused), "feature-not-implemented unsupported");
        },
    );
}
