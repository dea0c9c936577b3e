//! A server that is killed in the middle of a conversation.

use super::{PRIVATE, make, make_it, room, until};
use crate::support::answers::outcome;
use crate::support::managed::SM;
use crate::support::program::{Program, Start};
use crate::support::{Client, drivers};
use whimbrel_server::xml::Element;

const ARCHIVE: &str = "urn:xmpp:mam:2";

/// Messages that one sends between two questions what has been acknowledged.
const BATCH: u32 = 10;

/// Sends messages until the server has acknowledged so many; how many it has.
fn talk(client: &mut Client, round: u32, until_acknowledged: u32) -> u32 {
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < until_acknowledged {
        for _ in 0..BATCH {
            let (to, id) = (room("hall"), format!("{round}.{sent}"));
            client
                .send(&format!("<message type='groupchat' to='{to}' id='{id}'><body>{id}</body></message>"));
            sent += 1;
        }
        client.send(&format!("<r xmlns='{SM}'/>"));
        let answer = until_ack(client);
        acknowledged = answer;
    }
    acknowledged
}

fn until_ack(client: &mut Client) -> u32 {
    loop {
        let stanza = client.stanza();
        if stanza.is("a", SM) {
            return stanza.attribute("h").unwrap().parse().unwrap();
        }
    }
}

/// The ids of everything in the room's archive, read page by page.
fn archived(client: &mut Client) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let set = format!("<set xmlns='http://jabber.org/protocol/rsm'><max>50</max>{after}</set>");
        client.send(&format!(
            "<iq type='set' id='mam' to='{}'><query xmlns='{ARCHIVE}'>{set}</query></iq>",
            room("hall")
        ));
        let end =
            client.set_aside_until(|stanza| stanza.name() == "iq" && stanza.attribute("id") == Some("mam"));
        assert_eq!(outcome(&end), "result");
        for stanza in client.quiet() {
            let Some(result) = stanza.find("result", ARCHIVE) else { continue };
            after = format!("<after>{}</after>", result.attribute("id").unwrap());
            let forwarded = result.find("forwarded", "urn:xmpp:forward:0").unwrap();
            let message = forwarded.find("message", "jabber:client").unwrap();
            found.push(message.attribute("id").unwrap().to_owned());
        }
        if end.find("fin", ARCHIVE).unwrap().attribute("complete") == Some("true") {
            return found;
        }
    }
}

fn enter_managed(program: &Program, name: &str) -> Client {
    let mut client = program.login(name, "r");
    super::enter(&mut client, "hall", name);
    client.quiet();
    client.enable_sm();
    client
}

#[test]
fn what_was_acknowledged_is_in_the_archive_after_a_kill() {
    for driver in drivers() {
        let start = Start::new(&["juliet", "romeo"])
            .with_driver(driver)
            .with_config("[rooms]\noccupant_messages_per_second = 10000\nroom_messages_per_second = 10000\n");
        let program = start.run();
        let mut juliet = program.login("juliet", "r");
        make(&mut juliet, "hall", "juliet", PRIVATE);
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        juliet.send(&format!("<presence to='{}/juliet' type='unavailable'/>", room("hall")));
        until(&mut juliet, |stanza| stanza.attribute("type") == Some("unavailable"));
        drop(juliet);
        let (mut program, mut promised) = (program, Vec::new());
        for round in 0..4 {
            let mut juliet = enter_managed(&program, "juliet");
            let mut romeo = enter_managed(&program, "romeo");
            let acknowledged = talk(&mut juliet, round, 20 * (round + 1));
            promised.extend((0..acknowledged).map(|n| format!("{round}.{n}")));
            // romeo has heard everything that juliet was told is safe, in its order, or will have to ask the archive.
            let first = until(&mut romeo, |stanza| stanza.find("body", "jabber:client").is_some());
            assert_eq!(first.attribute("id"), Some(format!("{round}.0").as_str()));
            program.kill();
            program = start.run();
        }
        let mut romeo = program.login("romeo", "r");
        let found = archived(&mut romeo);
        let missing: Vec<_> = promised.iter().filter(|id| !found.contains(id)).collect();
        assert!(missing.is_empty(), "acknowledged, and not in the archive: {missing:?}");
        let mut once = found.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), found.len(), "nothing is there twice");
        program.stop();
    }
}

/// Waits until an account has the invitation into the hall that waits for it.
fn is_invited(program: &Program, name: &str) {
    let mut client = program.login(name, "r");
    client.send("<presence/>");
    let of_hall = |stanza: &Element| stanza.attribute("from") == Some(room("hall").as_str());
    client.set_aside_until(|stanza| stanza.find("x", super::USER).is_some() && of_hall(stanza));
}

#[test]
fn everybody_who_was_invited_or_added_hears_of_it_after_a_kill() {
    let guests: Vec<String> = (0..40).map(|n| format!("guest{n}")).collect();
    let names: Vec<&str> = guests.iter().map(String::as_str).chain(["juliet"]).collect();
    for driver in drivers() {
        let start =
            Start::new(&names).with_driver(driver).with_config("[rooms]\nstrangers_per_hour = 1000\n");
        let mut program = start.run();
        let mut juliet = program.login("juliet", "r");
        make(&mut juliet, "hall", "juliet", PRIVATE);
        for (round, guests) in guests.chunks(10).enumerate() {
            if round > 0 {
                juliet = enter_managed(&program, "juliet");
            } else {
                juliet.enable_sm();
            }
            if round % 2 == 0 {
                let invites: String =
                    guests.iter().map(|name| format!("<invite to='{name}@localhost'/>")).collect();
                let x = format!("<x xmlns='{}'>{invites}</x>", super::USER);
                juliet.send(&format!("<message to='{}'>{x}</message><r xmlns='{SM}'/>", room("hall")));
                while until_ack(&mut juliet) < 1 {}
            } else {
                let item = |name: &String| format!("<item jid='{name}@localhost' affiliation='member'/>");
                let items: String = guests.iter().map(item).collect();
                assert_eq!(outcome(&super::admin(&mut juliet, "set", "hall", &items)), "result");
            }
            program.kill();
            program = start.run();
            guests.iter().for_each(|name| is_invited(&program, name));
        }
        program.stop();
    }
}
