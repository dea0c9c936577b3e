//! Client state (XEP-0352): what an inactive client is spared.

use crate::support::answers::{befriend, outcome};
use crate::support::{Client, on_each_driver, on_each_driver_with};

const STATE: &str = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";

fn inactive(client: &mut Client) {
    client.send("<inactive xmlns='urn:xmpp:csi:0'/>");
    client.settle();
    client.quiet();
}

/// What has come so far, by name and the text of `<show/>` or the id.
fn seen(client: &mut Client) -> Vec<String> {
    let describe = |stanza: whimbrel_server::xml::Element| match stanza.name() {
        "presence" => {
            let show = stanza.find("show", "jabber:client").map(|show| show.content().into_owned());
            format!("presence {}", show.or(stanza.attribute("type").map(str::to_owned)).unwrap_or_default())
        }
        name => format!("{name} {}", stanza.attribute("id").unwrap_or_default()),
    };
    client.quiet().into_iter().map(describe).collect()
}

#[test]
fn presence_and_chat_states_wait_until_something_important_comes() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = server.online("romeo", "orchard");
        romeo.fence(&mut juliet);
        inactive(&mut juliet);
        for show in ["away", "xa", "dnd"] {
            romeo.send(&format!("<presence><show>{show}</show></presence>"));
        }
        romeo.send(&format!("<message to='{}' type='chat' id='state'>{STATE}</message>", juliet.jid));
        // Shows that all of it has been handled on her worker, without writing anything to her.
        let card = "<vCard xmlns='vcard-temp'/>";
        assert_eq!(outcome(&romeo.ask("get", Some("juliet@localhost"), card)), "service-unavailable");
        let held: u64 = server.server.shared.metrics.iter().map(|metrics| metrics.held_inactive.get()).sum();
        assert!(held >= 4, "{held} stanzas were held");
        romeo.send(&format!("<message to='{}' type='chat' id='m'><body>x</body></message>", juliet.jid));
        romeo.fence(&mut juliet);
        // Only the newest presence, and all in the order in which it came.
        assert_eq!(seen(&mut juliet), ["presence dnd", "message state", "message m"]);
    });
}

#[test]
fn a_client_that_becomes_active_gets_what_was_held() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = server.online("romeo", "orchard");
        romeo.fence(&mut juliet);
        inactive(&mut juliet);
        romeo.send("<presence><show>away</show></presence>");
        romeo.send("<presence type='unavailable'/>");
        let card = "<vCard xmlns='vcard-temp'/>";
        romeo.ask("get", Some("juliet@localhost"), card);
        juliet.send("<active xmlns='urn:xmpp:csi:0'/>");
        juliet.settle();
        assert_eq!(seen(&mut juliet), ["presence unavailable"]);
        romeo.send("<presence><show>chat</show></presence>");
        romeo.fence(&mut juliet);
        assert_eq!(seen(&mut juliet), ["presence chat"]);
    });
}

#[test]
fn what_is_held_is_bounded() {
    on_each_driver_with(
        |config| config.limits.inactive_bytes = 1000,
        |server| {
            server.accounts(&["juliet", "romeo"]);
            let mut juliet = server.online("juliet", "balcony");
            let mut romeo = server.online("romeo", "orchard");
            inactive(&mut juliet);
            for n in 0..20 {
                romeo.send(&format!("<message to='{}' type='chat' id='s{n}'>{STATE}</message>", juliet.jid));
            }
            // The first ones come although nothing important did.
            assert_eq!(juliet.expect("message").attribute("id"), Some("s0"));
            romeo.fence(&mut juliet);
            let rest: Vec<_> = (1..20).map(|n| format!("message s{n}")).collect();
            assert_eq!(seen(&mut juliet), rest);
        },
    );
}

#[test]
fn an_unknown_state_ends_the_stream() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        juliet.send("<dormant xmlns='urn:xmpp:csi:0'/>");
        juliet.expect_stream_error("unsupported-stanza-type");
    });
}
