//! One simulated client: its connection, how far its login is, and what it believes of the world.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::frames::{Frames, Received};
use super::tls::{Door, End, Tls};
use crate::runtime::driver::sim::{LinkId, Network, Read};
use crate::runtime::timer::Millis;
use crate::xml::{Element, Frame, Framer, Limits, Partial, Phase};

/// Namespace of SASL (RFC 6120 §6).
pub(super) const NS_SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

/// Namespace of STARTTLS (RFC 6120 §5).
pub(super) const NS_TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";

/// How far a client is.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// Not connected.
    Away,
    /// Waits for the features of the first stream.
    Greeted,
    /// Waits for the outcome of SASL.
    Authenticating,
    /// Waits for the features of the second stream.
    Restarted,
    /// Waits for the answer to its bind request.
    Binding,
    /// Bound.
    Online,
    /// Has closed its stream, ended its side, or done something for which the server will end it.
    Leaving,
    /// Connected and does nothing (before authentication).
    Silent,
    /// Gone without a word: no end, no reset, no reading.
    Ghost,
}

/// What a client waits for.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    Roster,
    Carbons(bool),
    Anything,
    /// That a user is blocked; whether no request to lift that was open when it was asked for.
    Block(usize, bool),
    /// That a user is no longer blocked.
    Unblock(usize),
    /// An answer of another user's client, or of the server in its place.
    Peer(usize),
    /// An answer, if those who ask and are asked stay long enough.
    Perhaps,
    /// That its device is told of messages.
    Enabled,
    /// A page of its archive.
    Page,
    /// That something is kept, with this number.
    Put(Shelf, u32),
    /// That an item with this number is published to a node of the service.
    Published(u32),
    /// What is kept; asked for right behind the request to keep this number.
    Kept(Shelf, u32),
}

/// Where a client keeps numbers and reads them back.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Shelf {
    /// An element of private XML.
    Private,
    /// The name of a contact.
    Roster,
    /// The item of a node.
    Node,
}

/// How far a client is with its archive.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// What it must have found in the end.
    pub(super) must: BTreeSet<u32>,
    /// What it has found, in order: ids, and numbers of what the oracle knows.
    pub(super) found: Vec<(u64, Option<u32>)>,
    /// The same of the page that it has asked for last.
    pub(super) page: Vec<(u64, Option<u32>)>,
    /// Messages of that page at most, and in which step it has asked.
    pub(super) max: usize,
    pub(super) asked: u64,
}

/// What a client knows while it is bound.
#[derive(Debug)]
pub(super) struct Live {
    /// Its session in the oracle.
    pub(super) id: usize,
    /// The number in the last presence it has seen of each full JID.
    pub(super) seen: BTreeMap<String, u32>,
    /// The number in the last presence each full JID has broadcast. Not those with which its server answers probes: they
    /// are the server's own, and may be newer than what is under way.
    pub(super) told: BTreeMap<String, u32>,
    /// Subscription and ask of each contact, once it has asked for the roster.
    pub(super) roster: Option<BTreeMap<String, (String, bool)>>,
    /// Requests without an answer, by id, with the step they were sent in.
    pub(super) wanted: BTreeMap<String, (Wanted, u64)>,
    /// Number and priority of its last available presence.
    pub(super) presence: Option<(u32, i8)>,
    /// The presence with which it became available, until the server shows it.
    pub(super) initial: Option<u32>,
    pub(super) inactive: bool,
    /// The last number on each shelf that the server has said to keep.
    pub(super) put: BTreeMap<Shelf, u32>,
    /// The number in the last event of each node that it has heard of, by the session that put it there.
    pub(super) events: BTreeMap<(String, usize), u32>,
    /// What it reads of its archive.
    pub(super) reading: Option<Reading>,
    /// What the server has acknowledged last of a managed stream (XEP-0198).
    pub(super) handled: Option<u32>,
}

/// What has arrived.
#[derive(Debug)]
pub(super) enum Heard {
    Open,
    Element(Element),
    Close,
    Ended,
    Reset,
    /// Not XML as XMPP wants it.
    Broken(String),
}

/// A simulated client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) number: u32,
    pub(super) user: usize,
    pub(super) resource: Box<str>,
    pub(super) peer: IpAddr,
    pub(super) stage: Stage,
    pub(super) link: Option<LinkId>,
    /// What it has said and the link's window had no room for, or TLS is not ready for.
    pub(super) out: Vec<u8>,
    /// How it has come in.
    pub(super) door: Door,
    pub(super) tls: Option<Box<Tls>>,
    /// Its frames, when it speaks WebSocket.
    pub(super) frames: Option<Box<Frames>>,
    phase: Phase,
    partial: Option<Box<Partial>>,
    /// Ends its side once `out` is empty.
    pub(super) end_after: bool,
    ended: bool,
    /// Does not read for now.
    pub(super) deaf: bool,
    /// Has been deaf on this connection: the server may have lost its patience.
    pub(super) was_deaf: bool,
    /// Sends everything up to the bind request at once.
    pub(super) eager: bool,
    pub(super) wrong_password: bool,
    pub(super) live: Option<Live>,
    /// The session of this connection in the oracle, also when it is over.
    pub(super) session: Option<usize>,
    /// When it may connect again.
    pub(super) back_at: Millis,
}

impl Client {
    pub(super) fn new(number: u32, user: usize, resource: String, peer: IpAddr) -> Client {
        Client {
            number,
            user,
            resource: resource.into(),
            peer,
            stage: Stage::Away,
            link: None,
            out: Vec::new(),
            door: Door::Plain,
            tls: None,
            frames: None,
            phase: Phase::BeforeHeader,
            partial: None,
            end_after: false,
            ended: false,
            deaf: false,
            was_deaf: false,
            eager: false,
            wrong_password: false,
            live: None,
            session: None,
            back_at: Millis(0),
        }
    }

    /// A new connection.
    pub(super) fn connected(&mut self, link: LinkId) {
        let fresh = Client::new(self.number, self.user, String::new(), self.peer);
        let resource = std::mem::take(&mut self.resource);
        *self = Client { resource, link: Some(link), stage: Stage::Greeted, ..fresh };
    }

    /// Nothing is left of the connection.
    pub(super) fn away(&mut self, back_at: Millis) {
        let Some(link) = self.link else { return };
        self.connected(link);
        (self.link, self.stage, self.back_at) = (None, Stage::Away, back_at);
    }

    pub(super) fn say(&mut self, text: &str) {
        if self.end_after || self.has_ended_tls() {
            return;
        }
        match &mut self.frames {
            Some(frames) => frames.say(text, &mut self.out),
            None => self.out.extend_from_slice(text.as_bytes()),
        }
    }

    /// Ends its connection in a frame, and says nothing of its stream; `false`: it speaks no WebSocket.
    pub(super) fn close_frames(&mut self) -> bool {
        let Some(frames) = self.frames.as_mut().filter(|_| !self.end_after) else { return false };
        frames.close(&mut self.out);
        self.end_after = true;
        true
    }

    /// Whether it has ended TLS by itself, in order or not.
    pub(super) fn has_ended_tls(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_ended())
    }

    /// Ends TLS behind what it has said; without TLS, nothing happens. Returns whether all it has said comes before.
    pub(super) fn end_tls(&mut self, end: End, forged: &str) -> bool {
        let Some(tls) = &mut self.tls else { return true };
        tls.seal(&mut self.out);
        let is_all = tls.is_established() && !end.is_fault();
        tls.end(end, forged);
        self.out.clear();
        self.end_after |= end == End::Truncated;
        is_all
    }

    /// The server is gone: ends its side whatever it still had to say.
    pub(super) fn give_up(&mut self, network: &Network) {
        self.out.clear();
        if let Some(tls) = &mut self.tls {
            tls.wire.clear();
        }
        self.end_after = true;
        self.flush(network);
    }

    /// Sends what fits.
    pub(super) fn flush(&mut self, network: &Network) {
        let Some(link) = self.link.filter(|_| self.stage != Stage::Ghost) else { return };
        let wire = match &mut self.tls {
            None => &mut self.out,
            Some(tls) => {
                tls.seal(&mut self.out);
                if self.end_after && self.out.is_empty() {
                    tls.leave();
                }
                &mut tls.wire
            }
        };
        let count = network.client_write(link, wire);
        wire.drain(..count);
        if self.unsent() == 0 && self.end_after && !self.ended {
            self.ended = true;
            network.client_end(link);
        }
    }

    /// Bytes that it still has to send.
    pub(super) fn unsent(&self) -> usize {
        self.out.len() + self.tls.as_ref().map_or(0, |tls| tls.wire.len())
    }

    /// Whether it is on its way in or out, so that its state changes without its doing.
    pub(super) fn is_between(&self) -> bool {
        matches!(
            self.stage,
            Stage::Greeted | Stage::Authenticating | Stage::Restarted | Stage::Binding | Stage::Leaving
        )
    }

    /// Whether it still has something to send.
    pub(super) fn is_writing(&self) -> bool {
        !matches!(self.stage, Stage::Away | Stage::Ghost)
            && (self.unsent() > 0 || self.end_after != self.ended)
    }

    /// Reads up to `max` bytes and cuts them into what they are. `bytes` gets them as they came, or what was in their
    /// records.
    pub(super) fn read(
        &mut self,
        network: &Network,
        framer: &mut Framer,
        limits: &Limits,
        max: usize,
        bytes: &mut Vec<u8>,
    ) -> Vec<Heard> {
        let Some(link) = self.link else { return Vec::new() };
        match network.client_read(link, max, bytes) {
            Read::Nothing => return Vec::new(),
            Read::Ended if self.tls.as_ref().is_some_and(|tls| tls.is_cut_short()) => {
                return vec![Heard::Broken("TLS ends without close_notify".into())];
            }
            Read::Ended => return vec![Heard::Ended],
            Read::Reset => return vec![Heard::Reset],
            Read::Bytes(_) => {}
        }
        let mut heard = Vec::new();
        if let Some(tls) = &mut self.tls {
            let wire = std::mem::take(bytes);
            // One that is leaving may have said something in the clear behind `<starttls/>`.
            if let Err(error) = tls.open(&wire, bytes)
                && self.stage != Stage::Leaving
            {
                heard.push(Heard::Broken(format!("no TLS: {error}")));
            }
        }
        if let Some(frames) = &mut self.frames {
            match frames.receive(bytes) {
                Ok(received) => heard.extend(received.into_iter().filter_map(message)),
                Err(what) => heard.push(Heard::Broken(what)),
            }
            return heard;
        }
        self.cut(framer, limits, bytes, &mut heard);
        heard
    }

    /// Cuts what has come over TCP into what it is.
    fn cut(&mut self, framer: &mut Framer, limits: &Limits, bytes: &[u8], heard: &mut Vec<Heard>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match framer.next(self.phase, None, &mut self.partial, rest, limits) {
                Ok((count, frame)) => {
                    rest = &rest[count..];
                    match frame {
                        None => {}
                        Some(Frame::StreamOpen(_)) => {
                            self.phase = Phase::InStream;
                            heard.push(Heard::Open);
                        }
                        Some(Frame::StreamClose) => {
                            heard.push(Heard::Close);
                            if !rest.is_empty() {
                                let text = String::from_utf8_lossy(rest).into_owned();
                                heard.push(Heard::Broken(format!("bytes after the stream: {text}")));
                            }
                            break;
                        }
                        Some(Frame::Stanza(stanza)) => {
                            let element = stanza.to_element();
                            if element.is("success", NS_SASL) {
                                self.phase = Phase::BeforeHeader;
                            }
                            if element.is("proceed", NS_TLS) {
                                self.phase = Phase::BeforeHeader;
                                // One that has closed its stream in the clear meanwhile is told that this is no TLS.
                                if !rest.is_empty() && self.stage != Stage::Leaving {
                                    heard.push(Heard::Broken("something behind <proceed/>".into()));
                                }
                                heard.push(Heard::Element(element));
                                break;
                            }
                            heard.push(Heard::Element(element));
                        }
                    }
                }
                Err(error) => {
                    let text = String::from_utf8_lossy(&rest[..rest.len().min(500)]).into_owned();
                    heard.push(Heard::Broken(format!("{error}: {text}")));
                    break;
                }
            }
        }
    }
}

/// What a message says. That the connection ends is heard from its end.
fn message(received: Received) -> Option<Heard> {
    let Received::Text(text) = received else { return None };
    let element = match Element::parse(text.as_bytes()) {
        Ok(element) => element,
        Err(error) => return Some(Heard::Broken(format!("{error}: {text}"))),
    };
    let framing = "urn:ietf:params:xml:ns:xmpp-framing";
    Some(match element.name() {
        "open" if element.namespace() == framing => Heard::Open,
        "close" if element.namespace() == framing => Heard::Close,
        _ => Heard::Element(element),
    })
}
