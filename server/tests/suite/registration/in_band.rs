//! Registration on the stream, for clients that speak nothing but XMPP (XEP-0077, XEP-0004).

use whimbrel_server::xml::Element;

use super::SASL;
use crate::support::Client;
use crate::support::answers::outcome;
use crate::support::api::{DEVICES, LOCAL, PHONE, with_office};

fn form(fields: &[(&str, &str)]) -> String {
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("<field var='{name}'><value>{value}</value></field>"))
        .collect();
    format!(
        "<iq type='set' id='r'><query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>{fields}\
         </x></query></iq>"
    )
}

fn field(answer: &Element, name: &str) -> String {
    let form = answer.find("query", "jabber:iq:register").and_then(|query| query.find("x", "jabber:x:data"));
    let field = form.expect("a form").elements().find(|field| field.attribute("var") == Some(name));
    field.expect(name).find("value", "jabber:x:data").expect("a value").content().into_owned()
}

#[test]
fn a_client_that_speaks_xmpp_only_registers_on_its_stream() {
    with_office(
        |config| config.registration.in_band = true,
        |office| {
            let mut client = Client::connect(office.server.address());
            let features = client.open_stream("localhost");
            assert!(features.find("register", "http://jabber.org/features/iq-register").is_some());
            client.send("<iq type='get' id='g'><query xmlns='jabber:iq:register'/></iq>");
            let asked = client.stanza();
            let query = asked.find("query", "jabber:iq:register").unwrap();
            let names: Vec<&str> = query
                .find("x", "jabber:x:data")
                .unwrap()
                .elements()
                .filter_map(|field| field.attribute("var"))
                .collect();
            assert_eq!(names, ["FORM_TYPE", "phone", "device", "pin"]);
            client.send(&form(&[("phone", "+4930901820"), ("device", DEVICES[0])]));
            assert_eq!(outcome(&client.stanza()), "not-acceptable");
            client.send(&form(&[("phone", PHONE)]));
            assert_eq!(outcome(&client.stanza()), "not-acceptable");
            let hidden = ("FORM_TYPE", "jabber:iq:register");
            client.send(&form(&[hidden, ("phone", PHONE), ("device", DEVICES[0])]));
            let sent = client.stanza();
            assert_eq!(outcome(&sent), "result");
            let pin = office.provider.next().pin();
            let wrong = if pin == "00000" { "11111" } else { "00000" };
            // The stream may be another one by now.
            let mut client = Client::connect(office.server.address());
            client.open_stream("localhost");
            client.send(&form(&[hidden, ("phone", PHONE), ("device", DEVICES[0]), ("pin", wrong)]));
            assert_eq!(outcome(&client.stanza()), "forbidden");
            client.send(&form(&[hidden, ("phone", PHONE), ("device", DEVICES[0]), ("pin", &pin)]));
            let done = client.stanza();
            assert_eq!(outcome(&done), "result");
            assert_eq!(field(&done, "jid"), format!("{LOCAL}@localhost"));
            // The login follows on the same stream.
            let key = field(&done, "key");
            assert!(client.authenticate_plain(LOCAL, &key).is("success", SASL));
        },
    );
}

#[test]
fn streams_offer_registration_by_number_only_where_the_operator_says_so() {
    with_office(
        |_| {},
        |office| {
            let mut client = Client::connect(office.server.address());
            let features = client.open_stream("localhost");
            assert!(features.find("register", "http://jabber.org/features/iq-register").is_none());
            client.send(&form(&[("phone", PHONE), ("device", DEVICES[0])]));
            client.expect_stream_error("not-authorized");
            assert!(office.provider.is_quiet());
        },
    );
}
