//! The client's side of BOSH: requests over HTTP/1.1 by hand, so that a test can send any.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use whimbrel_server::xml::Element;

use super::client::Said;
use super::websocket::Carrier;

pub(crate) const HTTP_BIND: &str = "http://jabber.org/protocol/httpbind";

/// Requests at a time.
const CONNECTIONS: usize = 2;

/// A connection for requests, one after another.
pub(crate) struct Requests {
    carrier: Carrier,
    /// More fields of each request.
    fields: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Its `<body/>`.
    pub(crate) fn wrapper(&self) -> Element {
        assert_eq!(self.status, 200, "{self:?}");
        let wrapper = Element::parse(self.body.as_bytes()).expect("an element");
        assert!(wrapper.is("body", HTTP_BIND), "{wrapper:?}");
        wrapper
    }

    /// The condition with which the session has ended.
    pub(crate) fn condition(&self) -> Option<String> {
        let wrapper = self.wrapper();
        assert_eq!(wrapper.attribute("type"), Some("terminate"), "{wrapper:?}");
        wrapper.attribute("condition").map(str::to_owned)
    }
}

impl Requests {
    pub(crate) fn connect(address: SocketAddr, certificate: Option<&Path>, fields: &str) -> Requests {
        Requests { carrier: Carrier::connect(address, certificate), fields: fields.to_owned() }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        self.carrier.tcp()
    }

    /// Sends bytes as they are.
    pub(crate) fn raw(&mut self) -> &mut Carrier {
        &mut self.carrier
    }

    /// Sends a request with this body.
    pub(crate) fn post(&mut self, body: &str) {
        let fields = &self.fields;
        let text = format!(
            "POST /http-bind HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml; charset=utf-8\r\n\
             Content-Length: {}\r\n{fields}\r\n{body}",
            body.len()
        );
        self.carrier.write_all(text.as_bytes()).expect("the server takes what it is sent");
        self.carrier.flush().unwrap();
    }

    /// Waits for an answer.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.carrier.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
        self.carrier.read_exact(&mut body).expect("the whole answer");
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }

    /// Sends a request, and waits for its answer.
    pub(crate) fn ask(&mut self, body: &str) -> Answer {
        self.post(body);
        self.answer()
    }
}

/// A session.
pub(crate) struct Bosh {
    address: SocketAddr,
    certificate: Option<PathBuf>,
    fields: String,
    connections: Vec<Requests>,
    /// Connections with a request that is not answered, in their order.
    asked: VecDeque<usize>,
    pub(crate) sid: String,
    /// The last request.
    pub(crate) rid: u64,
    inbox: VecDeque<Said>,
    /// The first answer.
    pub(crate) terms: Option<Element>,
    /// The condition with which the session has ended.
    pub(crate) condition: Option<String>,
    is_over: bool,
}

impl Bosh {
    /// Connects, and says nothing.
    pub(crate) fn connect(address: SocketAddr, certificate: Option<&Path>, fields: &str) -> Bosh {
        let mut bosh = Bosh {
            address,
            certificate: certificate.map(Path::to_owned),
            fields: fields.to_owned(),
            connections: Vec::new(),
            asked: VecDeque::new(),
            sid: String::new(),
            rid: 1_000,
            inbox: VecDeque::new(),
            terms: None,
            condition: None,
            is_over: false,
        };
        bosh.connect_anew();
        bosh
    }

    /// New connections: what was not answered is to be asked for again.
    pub(crate) fn connect_anew(&mut self) {
        let certificate = self.certificate.as_deref();
        let connect = |_| Requests::connect(self.address, certificate, &self.fields);
        self.connections = (0..CONNECTIONS).map(connect).collect();
        self.asked.clear();
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        self.connections[0].tcp()
    }

    /// The first connection, below the requests.
    pub(crate) fn raw(&mut self) -> &mut Carrier {
        self.connections[0].raw()
    }

    /// Begins the session, or the stream anew.
    pub(crate) fn open(&mut self, domain: &str) {
        if self.sid.is_empty() {
            return self.request(
                &format!(
                    "to='{domain}' wait='30' hold='1' ver='1.6' xml:lang='en' xmpp:version='1.0' \
                     xmlns:xmpp='urn:xmpp:xbosh'"
                ),
                "",
            );
        }
        let sid = self.sid.clone();
        self.request(
            &format!("sid='{sid}' to='{domain}' xmpp:restart='true' xmlns:xmpp='urn:xmpp:xbosh'"),
            "",
        );
        self.inbox.push_back(Said::Header);
    }

    /// Sends elements.
    pub(crate) fn send(&mut self, payload: &str) {
        let sid = self.sid.clone();
        self.request(&format!("sid='{sid}'"), payload);
    }

    /// Sends the next request.
    pub(crate) fn request(&mut self, attributes: &str, payload: &str) {
        while self.asked.len() >= CONNECTIONS {
            self.hear();
        }
        self.rid += 1;
        let free = (0..CONNECTIONS).find(|number| !self.asked.contains(number)).expect("one is free");
        let rid = self.rid;
        let body = format!("<body rid='{rid}' {attributes} xmlns='{HTTP_BIND}'>{payload}</body>");
        self.connections[free].post(&body);
        self.asked.push_back(free);
    }

    /// Sends a request again, whose answer was lost with its connection.
    pub(crate) fn repeat(&mut self, rid: u64, payload: &str) {
        let sid = &self.sid;
        let body = format!("<body rid='{rid}' sid='{sid}' xmlns='{HTTP_BIND}'>{payload}</body>");
        self.connections[0].post(&body);
        self.asked.push_back(0);
    }

    /// Waits for the next answer.
    fn hear(&mut self) {
        let asked = self.asked.pop_front().expect("a request");
        let wrapper = self.connections[asked].answer().wrapper();
        if wrapper.attribute("type") == Some("terminate") {
            self.condition = wrapper.attribute("condition").map(str::to_owned);
            self.is_over = true;
        } else if self.sid.is_empty() {
            self.sid = wrapper.attribute("sid").expect("a session").to_owned();
            self.inbox.push_back(Said::Header);
            self.terms = Some(wrapper.clone());
        }
        self.inbox.extend(wrapper.elements().cloned().map(Said::Element));
        if self.is_over {
            self.inbox.push_back(Said::StreamClosed);
        }
    }

    /// The next thing that the server says; asks for it if need be.
    pub(crate) fn receive(&mut self) -> Said {
        loop {
            if let Some(said) = self.inbox.pop_front() {
                return said;
            }
            if self.is_over {
                return Said::Ended;
            }
            if self.asked.is_empty() {
                self.send("");
            }
            self.hear();
        }
    }
}
