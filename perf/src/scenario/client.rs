//! One connection of a scenario that speaks for itself instead of by the fleet: a login that waits for its answers, then
//! bytes without waiting.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::account::Accounts;
use crate::engine::keys::Keys;
use crate::engine::sasl::{Exchange, Mechanism, Sasl};
use crate::engine::scan::{self, Element, Item};
use crate::scenario::poll::Interest;

/// How long an answer may take during a login.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Bytes that the kernel keeps of what a client sends, so that what it has taken is about what the server has.
const SEND_BUFFER: usize = 32 * 1024;

/// Bytes at the end of what was read in which the reason of an end is looked for.
const TAIL_BYTES: usize = 512;

/// The resource of a session that has no reason for another.
pub(crate) const RESOURCE: &str = "w";

/// How to get into the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Door {
    /// Where it listens, without TLS.
    pub(crate) address: SocketAddr,
    /// Its XMPP domain.
    pub(crate) domain: String,
    /// The file of SCRAM keys.
    pub(crate) keys: PathBuf,
}

/// Who logs in, and what all logins share.
pub(crate) struct Entry {
    /// The server.
    pub(crate) door: Door,
    /// How to log in.
    pub(crate) sasl: Sasl,
    accounts: Accounts,
    keys: Keys,
}

impl Entry {
    /// For the accounts of this tool's usual seed, with the mechanism that every server has.
    pub(crate) fn new(door: &Door) -> Entry {
        Entry {
            door: door.clone(),
            sasl: Sasl::ScramSha1,
            accounts: Accounts::new("whimbrel", &door.domain, false),
            keys: Keys::open(Some(&door.keys)),
        }
    }
}

/// A connection.
pub(crate) struct Client {
    socket: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    tail: Vec<u8>,
    /// Why it is over.
    pub(crate) ended: Option<String>,
    /// The server counts stanzas on it (XEP-0198).
    pub(crate) managed: bool,
}

/// The start of every stream.
pub(crate) fn header(domain: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>"
    )
}

/// Begins to connect, without waiting.
pub(crate) fn connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        outcome => outcome?,
    }
    Ok(socket.into())
}

impl Client {
    /// On a connection that has been begun.
    pub(crate) fn new(socket: TcpStream) -> Client {
        Client {
            socket,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            tail: Vec::new(),
            ended: None,
            managed: false,
        }
    }

    /// Logs in, binds [`RESOURCE`] and, with `present`, becomes available.
    ///
    /// # Errors
    /// Why it did not come to that.
    pub(crate) fn log_in(
        entry: &mut Entry,
        account: u64,
        from: Option<IpAddr>,
        resource: &str,
        managed: bool,
    ) -> Result<Client, String> {
        let failed = |error: io::Error| format!("cannot log in {}: {error}", Accounts::name(account));
        let socket = connect(entry.door.address, from).map_err(failed)?;
        socket.set_nonblocking(false).map_err(failed)?;
        socket.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
        let mut client = Client::new(socket);
        client
            .negotiate(entry, account, resource, managed)
            .map_err(|error| format!("cannot log in {} from {from:?}: {error}", Accounts::name(account)))?;
        client.socket.set_nonblocking(true).map_err(failed)?;
        Ok(client)
    }

    /// Connects to the router of `floor`, which needs no login.
    ///
    /// # Errors
    /// Why it did not come to that.
    pub(crate) fn hello(door: &Door, account: u64) -> Result<Client, String> {
        let failed = |error: io::Error| format!("cannot connect: {error}");
        let socket = connect(door.address, None).map_err(failed)?;
        socket.set_nonblocking(false).map_err(failed)?;
        socket.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
        let mut client = Client::new(socket);
        client.say(&format!("<hello user='{}'/>", Accounts::name(account)))?;
        client.expect(|element| (element.name() == b"hello").then_some(()))?;
        client.socket.set_nonblocking(true).map_err(failed)?;
        Ok(client)
    }

    fn negotiate(
        &mut self,
        entry: &mut Entry,
        account: u64,
        resource: &str,
        managed: bool,
    ) -> Result<(), String> {
        let open = header(&entry.door.domain);
        self.say(&open)?;
        let mut exchange = None;
        let mut hello = Vec::new();
        self.expect(|element| match element.name() {
            b"features" => Some(Mechanism::choose(entry.sasl, element).map(|mechanism| {
                exchange = Some(Exchange::start(mechanism, account, &entry.accounts, &mut hello));
            })),
            _ => None,
        })??;
        let mut exchange = exchange.ok_or("no features")?;
        self.say_bytes(&hello)?;
        loop {
            let mut answer = Vec::new();
            let done = self.expect(|element| match element.name() {
                b"challenge" => {
                    let read = exchange.challenge(element, &entry.accounts, &mut entry.keys, &mut answer);
                    Some(read.map(|()| false))
                }
                b"success" => Some(exchange.success(element).map(|()| true)),
                b"failure" => Some(Err(refusal(element))),
                _ => None,
            })??;
            if done {
                break;
            }
            self.say_bytes(&answer)?;
        }
        self.say(&open)?;
        let offers_management = self
            .expect(|element| (element.name() == b"features").then(|| element.contains(b"urn:xmpp:sm:3")))?;
        self.say(&format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource>\
             </bind></iq>"
        ))?;
        let bound = self.expect(|element| {
            let answer = element.attribute(b"id") == Some(b"bind");
            answer.then(|| element.attribute(b"type") == Some(b"result"))
        })?;
        if !bound {
            return Err("the server binds no resource".into());
        }
        if managed && offers_management {
            self.say("<enable xmlns='urn:xmpp:sm:3'/>")?;
            self.managed = self.expect(|element| match element.name() {
                b"enabled" => Some(true),
                b"failed" => Some(false),
                _ => None,
            })?;
        }
        Ok(())
    }

    fn say(&mut self, text: &str) -> Result<(), String> {
        self.say_bytes(text.as_bytes())
    }

    fn say_bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.socket.write_all(bytes).map_err(|error| error.to_string())
    }

    /// Waits for the element in which `find` finds something.
    fn expect<T>(&mut self, mut find: impl FnMut(&Element<'_>) -> Option<T>) -> Result<T, String> {
        loop {
            while let Some((item, used)) = scan::next(&self.input).map_err(|_| "this is no XML".to_owned())? {
                let found = match &item {
                    Item::Element(element) if element.name() == b"error" => return Err(refusal(element)),
                    Item::Element(element) => find(element),
                    Item::Header(_) => None,
                    Item::End => return Err("the server ended the stream".into()),
                };
                self.input.drain(..used);
                if let Some(found) = found {
                    return Ok(found);
                }
            }
            let mut buffer = [0; 16 * 1024];
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Sends a request and waits for what `read` makes of its answer.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn ask<T>(
        &mut self,
        request: &str,
        id: &str,
        read: impl Fn(&Element<'_>) -> T,
    ) -> Result<T, String> {
        let failed = |error: io::Error| error.to_string();
        self.socket.set_nonblocking(false).map_err(failed)?;
        self.flush();
        self.say(request)?;
        let answer =
            self.expect(|element| (element.attribute(b"id") == Some(id.as_bytes())).then(|| read(element)));
        self.socket.set_nonblocking(true).map_err(failed)?;
        answer
    }

    /// What to wait for: room for what is to be sent, and with `reads` something to read.
    pub(crate) fn interest(&self, reads: bool) -> Interest {
        Interest { fd: self.socket.as_raw_fd(), read: reads, write: !self.is_empty() }
    }

    /// Puts bytes behind those that wait.
    pub(crate) fn push(&mut self, text: &str) {
        self.output.extend_from_slice(text.as_bytes());
    }

    /// Whether nothing waits to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.output.is_empty()
    }

    /// Sends what the kernel takes; returns how many bytes that were.
    pub(crate) fn flush(&mut self) -> usize {
        let before = self.sent;
        while self.ended.is_none() && self.sent < self.output.len() {
            match self.socket.write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(error) => self.end(&error.to_string()),
            }
        }
        let count = self.sent - before;
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
        }
        count
    }

    /// Reads at most `buffer` and forgets all but the end of it; returns how many bytes came.
    pub(crate) fn discard(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.read(buffer);
        let end = &buffer[..count];
        let keep = end.len().min(TAIL_BYTES);
        self.tail.extend_from_slice(&end[end.len() - keep..]);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        count
    }

    /// Reads at most `buffer` and hands every whole item to `each`.
    pub(crate) fn receive(&mut self, buffer: &mut [u8], mut each: impl FnMut(&Element<'_>)) {
        let count = self.read(buffer);
        self.input.extend_from_slice(&buffer[..count]);
        let mut used = 0;
        loop {
            match scan::next(&self.input[used..]) {
                Ok(Some((item, length))) => {
                    match &item {
                        Item::Element(element) if element.name() == b"error" => {
                            self.ended.get_or_insert_with(|| refusal(element));
                        }
                        Item::Element(element) => each(element),
                        Item::Header(_) => {}
                        Item::End => {
                            self.ended.get_or_insert_with(|| "the server ended the stream".into());
                        }
                    }
                    used += length;
                }
                Ok(None) => break,
                Err(_) => {
                    self.end("the server sends no XML");
                    break;
                }
            }
        }
        self.input.drain(..used);
    }

    fn read(&mut self, buffer: &mut [u8]) -> usize {
        match self.socket.read(buffer) {
            Ok(0) => self.end("the server closed the connection"),
            Ok(count) => return count,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected
                ) => {}
            Err(error) => self.end(&error.to_string()),
        }
        0
    }

    fn end(&mut self, reason: &str) {
        let tail = String::from_utf8_lossy(&self.tail);
        let condition = tail.rsplit_once("error>").and_then(|(before, _)| {
            let open = before.rfind("error")?;
            let inside = before[open..].split_once('<')?.1;
            Some(inside.split([' ', '/', '>']).next()?.to_owned())
        });
        let reason =
            condition.map_or_else(|| reason.to_owned(), |condition| format!("stream error {condition}"));
        self.ended.get_or_insert(reason);
    }

    /// Closes it so that what is on its way in either direction is thrown away.
    pub(crate) fn cut(self) {
        // Without the option it closes as usual.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}

fn refusal(element: &Element<'_>) -> String {
    let condition = String::from_utf8_lossy(element.first_child().unwrap_or(b"undefined")).into_owned();
    format!("{} {condition}", String::from_utf8_lossy(element.name()))
}

/// Logs in with the usual resource and becomes available.
pub(crate) fn present(
    entry: &mut Entry,
    account: u64,
    from: Option<IpAddr>,
    managed: bool,
) -> Result<Client, String> {
    let mut client = Client::log_in(entry, account, from, RESOURCE, managed)?;
    client.push("<presence/>");
    client.flush();
    Ok(client)
}
