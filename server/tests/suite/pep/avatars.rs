//! Avatars through both doors, and what else clients keep in nodes: nicknames, keys, read positions, vCards of the newer form.

use super::*;
use crate::support::answers::{befriend, payload};
use crate::support::on_each_driver;

const DATA: &str = "urn:xmpp:avatar:data";
const METADATA: &str = "urn:xmpp:avatar:metadata";
/// SHA-1 of `hello`.
const HELLO: &str = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d";
/// `hello` in base64.
const PICTURE: &str = "aGVsbG8=";
const ASK: &str = "<vCard xmlns='vcard-temp'/>";

fn photo(inside: &str) -> String {
    format!("<vCard xmlns='vcard-temp'><FN>Juliet</FN>{inside}</vCard>")
}

fn with_picture() -> String {
    photo(&format!("<PHOTO><TYPE>image/png</TYPE><BINVAL>{PICTURE}</BINVAL></PHOTO>"))
}

/// Publishes a picture as a client does.
fn set_avatar(client: &mut Client, access: &str) {
    let options = [("access_model", access)];
    let data = format!("<data xmlns='{DATA}'>{PICTURE}</data>");
    assert_eq!(publish_with(client, None, (DATA, HELLO, &data), &options), "result");
    let info =
        format!("<metadata xmlns='{METADATA}'><info bytes='5' id='{HELLO}' type='image/png'/></metadata>");
    assert_eq!(publish_with(client, None, (METADATA, HELLO, &info), &options), "result");
}

/// The hash of a picture that a presence of somebody tells of.
fn hash_in(stanza: &Element, from: &str) -> Option<String> {
    let is_shown = stanza.name() == "presence" && stanza.attribute("from") == Some(from);
    let update = stanza.find("x", "vcard-temp:x:update").filter(|_| is_shown)?;
    Some(update.elements().next()?.content().into_owned())
}

/// Waits for a presence of somebody that tells of a picture of this hash.
fn await_hash(client: &mut Client, from: &str, hash: &str) {
    while hash_in(&client.stanza(), from).as_deref() != Some(hash) {}
}

/// Waits for an event and for such a presence, whichever comes first. No other event comes meanwhile.
fn await_both(client: &mut Client, wanted: &str, from: &str, hash: &str) {
    let (mut is_told, mut is_shown) = (false, false);
    while !(is_told && is_shown) {
        let stanza = client.stanza();
        is_shown |= hash_in(&stanza, from).as_deref() == Some(hash);
        if let Some(event) = event(&stanza) {
            assert_eq!(event, wanted);
            is_told = true;
        }
    }
}

fn card(client: &mut Client, to: &str) -> Element {
    payload(&client.ask("get", Some(to), ASK)).clone()
}

#[test]
fn a_picture_of_a_node_is_in_the_vcard_and_its_hash_in_presence() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo", "tybalt"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = server.online("romeo", "orchard");
        let mut tybalt = server.login("tybalt", "street");
        assert_eq!(outcome(&juliet.ask("set", None, &photo(""))), "result");
        set_avatar(&mut juliet, "presence");
        await_hash(&mut romeo, "juliet@localhost/balcony", HELLO);
        for client in [&mut juliet, &mut romeo] {
            assert_eq!(card(client, "juliet@localhost"), Element::parse(with_picture().as_bytes()).unwrap());
        }
        let seen = card(&mut tybalt, "juliet@localhost");
        assert_eq!(
            seen,
            Element::parse(photo("").as_bytes()).unwrap(),
            "who may not look at the node does not see it"
        );
        let mut garden = server.login("juliet", "garden");
        garden.send("<presence><x xmlns='vcard-temp:x:update'><photo>0ld</photo></x></presence>");
        await_hash(&mut romeo, "juliet@localhost/garden", HELLO);
        let none = format!("<metadata xmlns='{METADATA}'/>");
        assert_eq!(publish(&mut juliet, METADATA, "none", &none), "result");
        await_hash(&mut romeo, "juliet@localhost/balcony", "");
        assert_eq!(card(&mut romeo, "juliet@localhost"), Element::parse(photo("").as_bytes()).unwrap());
    });
}

#[test]
fn a_picture_of_a_vcard_is_in_the_nodes() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = interested(server, "romeo", "orchard", &[METADATA]);
        juliet.fence(&mut romeo);
        romeo.quiet();
        assert_eq!(outcome(&juliet.ask("set", None, &with_picture())), "result");
        let told = format!("juliet {METADATA}: {HELLO}=");
        await_both(&mut romeo, &told, "juliet@localhost/balcony", HELLO);
        let hers = Some("juliet@localhost");
        assert_eq!(get(&mut romeo, hers, DATA), Ok(vec![format!("{HELLO}={PICTURE}")]));
        assert_eq!(card(&mut romeo, "juliet@localhost"), Element::parse(with_picture().as_bytes()).unwrap());
        // The same once more changes nothing, so what is heard next is the end of it.
        assert_eq!(outcome(&juliet.ask("set", None, &with_picture())), "result");
        assert_eq!(outcome(&juliet.ask("set", None, &photo(""))), "result");
        assert_eq!(next_event(&mut romeo), format!("juliet {METADATA}: none="));
        assert_eq!(card(&mut romeo, "juliet@localhost"), Element::parse(photo("").as_bytes()).unwrap());
    });
}

#[test]
fn a_picture_for_which_there_is_no_room_changes_nothing() {
    let configure = |config: &mut whimbrel_server::config::Config| config.limits.pep_nodes = 1;
    crate::support::on_each_driver_with(configure, |server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        assert_eq!(outcome(&juliet.ask("set", None, &photo(""))), "result");
        assert_eq!(outcome(&juliet.ask("set", None, &with_picture())), "resource-constraint");
        assert_eq!(card(&mut juliet, "juliet@localhost"), Element::parse(photo("").as_bytes()).unwrap());
        assert_eq!(get(&mut juliet, None, DATA), Err("item-not-found".into()));
    });
}

/// The item that is read for a presence, or for somebody's vCard, may be much longer than what asks for it.
#[test]
fn a_long_item_is_paid_for_each_time_it_is_read() {
    crate::support::on_each_driver_with(
        |config| config.workers = 1,
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = server.online("juliet", "balcony");
            set_avatar(&mut juliet, "open");
            let elsewhere = "<info bytes='5' id='1' type='image/png' url='http://x/'/>".repeat(1_000);
            let info = format!(
                "<metadata xmlns='{METADATA}'>{elsewhere}<info bytes='5' id='{HELLO}' type='image/png'/></metadata>"
            );
            assert_eq!(publish(&mut juliet, METADATA, HELLO, &info), "result");
            let least = info.len() as u64 / 256;
            let before = work(server, &mut juliet);
            juliet.send("<presence><show>away</show></presence>");
            let shown = work(server, &mut juliet);
            assert!(shown - before >= least, "{} units for a presence, not {least}", shown - before);
            card(&mut juliet, "juliet@localhost");
            let seen = work(server, &mut juliet);
            assert!(seen - shown >= least, "{} units for a vCard, not {least}", seen - shown);
        },
    );
}

/// What needs nothing more than a node: with the options that stock clients send.
#[test]
fn keys_nicknames_and_read_positions_are_kept_as_clients_ask() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo", "tybalt"]);
        befriend(server, "juliet", "romeo");
        let omemo = "eu.siacs.conversations.axolotl.devicelist";
        let wanted =
            ["http://jabber.org/protocol/nick", omemo, "urn:xmpp:mds:displayed:0", "urn:xmpp:vcard4"];
        let mut juliet = interested(server, "juliet", "balcony", &[]);
        let mut garden = interested(server, "juliet", "garden", &wanted);
        let mut romeo = interested(server, "romeo", "orchard", &wanted);
        let mut tybalt = server.login("tybalt", "street");
        let open = [("access_model", "open")];
        let list = "<list xmlns='eu.siacs.conversations.axolotl'><device id='7'/></list>";
        let keys = "x".repeat(30_000);
        let bundle =
            format!("<bundle xmlns='eu.siacs.conversations.axolotl'><prekeys>{keys}</prekeys></bundle>");
        let private = [
            ("persist_items", "true"),
            ("max_items", "max"),
            ("send_last_published_item", "never"),
            ("access_model", "whitelist"),
        ];
        let displayed = "<displayed xmlns='urn:xmpp:mds:displayed:0'><stanza-id xmlns='urn:xmpp:sid:0' id='1' by='x'/></displayed>";
        let bundles = "eu.siacs.conversations.axolotl.bundles:7";
        for (node, id, payload, options) in [
            (wanted[0], "current", "<nick xmlns='http://jabber.org/protocol/nick'>Jule</nick>", &open[..0]),
            (omemo, "current", list, &open),
            (bundles, "current", &bundle, &open),
            (wanted[2], "romeo@localhost", displayed, &private),
            (wanted[3], "current", "<vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'><fn/></vcard>", &open),
        ] {
            assert_eq!(publish_with(&mut juliet, None, (node, id, payload), options), "result", "{node}");
        }
        let romeos = heard(&mut juliet, &mut romeo);
        let nick = format!("juliet {}: current=Jule", wanted[0]);
        let (devices, card) =
            (format!("juliet {omemo}: current="), "juliet urn:xmpp:vcard4: current=".to_owned());
        assert_eq!(romeos, [nick.clone(), devices.clone(), card.clone()]);
        garden.settle();
        let position = "juliet urn:xmpp:mds:displayed:0: romeo@localhost=".to_owned();
        assert_eq!(events(&mut garden), [nick, devices, position, card]);
        let hers = Some("juliet@localhost");
        assert_eq!(
            get(&mut tybalt, hers, bundles).unwrap().len(),
            1,
            "those who are no contacts find her keys"
        );
        assert_eq!(get(&mut tybalt, hers, wanted[2]), Err("item-not-found".into()));
        let answer = juliet.ask("get", None, "<query xmlns='http://jabber.org/protocol/disco#info'/>");
        let has = |name: &str| payload(&answer).elements().any(|child| child.attribute("var") == Some(name));
        assert!(has("urn:xmpp:pep-vcard-conversion:0"));
    });
}
