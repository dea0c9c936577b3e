//! Stream management from the client's side (XEP-0198).

use std::net::SocketAddr;

use whimbrel_server::xml::Element;

use super::{Client, server_password};

pub(crate) const SM: &str = "urn:xmpp:sm:3";

impl Client {
    /// Enables stream management that can be resumed; its name.
    pub(crate) fn enable_sm(&mut self) -> String {
        self.send(&format!("<enable xmlns='{SM}' resume='true'/>"));
        let enabled = self.set_aside_until(|element| element.is("enabled", SM));
        assert_eq!(enabled.attribute("resume"), Some("true"));
        enabled.attribute("id").expect("a name").to_owned()
    }

    /// Says how many stanzas it has handled.
    pub(crate) fn acknowledge(&mut self, h: u32) {
        self.send(&format!("<a xmlns='{SM}' h='{h}'/>"));
    }

    /// Asks what the server has handled, until it is this much.
    pub(crate) fn await_handled(&mut self, wanted: u32) {
        self.send(&format!("<r xmlns='{SM}'/>"));
        loop {
            let answer = self.set_aside_until(|element| element.is("a", SM));
            let h: u32 = answer.attribute("h").expect("a count").parse().expect("a number");
            assert!(h <= wanted, "the server has handled {h}, but was sent {wanted}");
            if h == wanted {
                return;
            }
        }
    }

    /// The next stanza, whatever the server asks and answers in between.
    pub(crate) fn next_stanza(&mut self) -> Element {
        loop {
            let element = self.stanza();
            if !element.is("r", SM) && !element.is("a", SM) {
                return element;
            }
        }
    }

    /// The id of the next message; presence is passed over.
    pub(crate) fn next_message(&mut self) -> String {
        loop {
            let stanza = self.next_stanza();
            if stanza.name() == "message" {
                return stanza.attribute("id").unwrap_or_default().to_owned();
            }
            assert_eq!(stanza.name(), "presence", "{stanza:?}");
        }
    }

    /// The messages that were set aside: their ids.
    pub(crate) fn messages_set_aside(&mut self) -> Vec<String> {
        let all = self.quiet().into_iter().filter(|stanza| stanza.name() == "message");
        all.map(|stanza| stanza.attribute("id").unwrap_or_default().to_owned()).collect()
    }

    /// A new connection that asks to go on with a stream; the server's answer.
    pub(crate) fn resume(address: SocketAddr, name: &str, jid: &str, id: &str, h: u32) -> (Client, Element) {
        Client::connect(address).resume_here(name, jid, id, h)
    }

    /// As [`Client::resume`], on this connection.
    pub(crate) fn resume_here(mut self, name: &str, jid: &str, id: &str, h: u32) -> (Client, Element) {
        self.ask_to_resume(name, jid, id, h);
        let answer = self.stanza();
        (self, answer)
    }

    /// As [`Client::resume_here`], without waiting for the answer.
    pub(crate) fn ask_to_resume(&mut self, name: &str, jid: &str, id: &str, h: u32) {
        self.open_stream("localhost");
        let answer = self.authenticate_plain(name, &server_password(name));
        assert_eq!(answer.name(), "success", "{answer:?}");
        self.open_stream("localhost");
        self.send(&format!("<resume xmlns='{SM}' previd='{id}' h='{h}'/>"));
        self.jid = jid.to_owned();
    }
}

/// A chat message with an id and a body.
pub(crate) fn chat(to: &str, id: impl std::fmt::Display) -> String {
    format!("<message to='{to}' type='chat' id='{id}'><body>text of {id}</body></message>")
}

/// The time at which a delayed message was received; `None` when it was not delayed.
pub(crate) fn delayed(message: &Element) -> Option<String> {
    let delay = message.find("delay", "urn:xmpp:delay")?;
    assert_eq!(delay.attribute("from"), Some("localhost"));
    Some(delay.attribute("stamp").expect("a stamp").to_owned())
}
