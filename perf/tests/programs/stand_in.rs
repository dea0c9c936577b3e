//! A small XMPP server that misbehaves as it is told, to see whether the generator notices.
//!
//! One thread for each connection; SASL PLAIN or ANONYMOUS, any password but `Behaviour::refuse`; messages are routed
//! by the account in their `to`; stream management is acknowledged in full.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) use crate::stand_in_archive::Archive;
use crate::stand_in_archive::Kept;

/// What it does wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Behaviour {
    /// Loses every n-th message.
    pub(crate) lose_every: u64,
    /// Delivers every n-th message twice.
    pub(crate) repeat_every: u64,
    /// Holds every n-th message back until after the next one.
    pub(crate) swap_every: u64,
    /// Refuses logins.
    pub(crate) refuse: bool,
    /// Closes all connections after so many messages.
    pub(crate) die_after: u64,
    /// Does not answer pings of sessions that are up.
    pub(crate) no_pongs: bool,
    /// What becomes of messages that were routed.
    pub(crate) archive: Archive,
}

/// The server; ends with the process of the test.
pub(crate) struct StandIn {
    /// Where it listens.
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    behaviour: Behaviour,
    users: Mutex<HashMap<String, TcpStream>>,
    messages: AtomicU64,
    presences: AtomicU64,
    held: Mutex<Option<(String, String)>>,
    kept: Mutex<HashMap<String, Kept>>,
}

impl StandIn {
    /// Starts it on a free port.
    pub(crate) fn start(behaviour: Behaviour) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            behaviour,
            users: Mutex::default(),
            messages: AtomicU64::new(0),
            presences: AtomicU64::new(0),
            held: Mutex::default(),
            kept: Mutex::default(),
        });
        let served = shared.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = served.clone();
                std::thread::spawn(move || serve(socket, &shared));
            }
        });
        StandIn { port, shared }
    }

    /// The port as an argument.
    pub(crate) fn port(&self) -> String {
        self.port.to_string()
    }

    /// The presence stanzas that came: a client sends its first one when it has logged in.
    pub(crate) fn presences(&self) -> u64 {
        self.shared.presences.load(Ordering::Relaxed)
    }
}

/// Takes the first whole element (or header, or end) off `text`.
fn take(text: &mut String) -> Option<String> {
    let start = text.find('<')?;
    let tag_end = start + text[start..].find('>')? + 1;
    let tag = &text[start..tag_end];
    let name: String =
        tag[1..].chars().take_while(|c| !c.is_whitespace() && *c != '>' && *c != '/').collect();
    let end =
        if tag.starts_with("<?") || tag.starts_with("</") || name == "stream:stream" || tag.ends_with("/>") {
            tag_end
        } else {
            let close = format!("</{name}>");
            tag_end + text[tag_end..].find(&close)? + close.len()
        };
    let item = text[start..end].to_owned();
    text.drain(..end);
    Some(item)
}

fn attribute<'a>(item: &'a str, name: &str) -> &'a str {
    let key = format!(" {name}='");
    let Some(start) = item.find(&key) else { return "" };
    let rest = &item[start + key.len()..];
    &rest[..rest.find('\'').unwrap_or(0)]
}

#[allow(clippy::too_many_lines, reason = "a table of what a server answers")]
fn serve(mut socket: TcpStream, shared: &Shared) {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    let (mut user, mut authenticated, mut stanzas, mut managed) = (String::new(), false, 0_u32, false);
    loop {
        let count = match socket.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        while let Some(item) = take(&mut text) {
            let is = |name: &str| item.starts_with(&format!("<{name}"));
            if managed && (is("message") || is("presence") || is("iq")) {
                stanzas += 1;
            }
            let answer = if is("stream:stream") {
                let features = if authenticated {
                    "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns='urn:xmpp:sm:3'/>"
                } else {
                    "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>"
                };
                format!(
                    "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
                     xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'>\
                     <stream:features>{features}</stream:features>"
                )
            } else if is("auth") && shared.behaviour.refuse {
                "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>".into()
            } else if is("auth") {
                authenticated = true;
                let start = item.find('>').unwrap() + 1;
                user = name_of_plain(&item[start..item.rfind('<').unwrap()]);
                "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>".into()
            } else if is("enable") {
                managed = true;
                "<enabled xmlns='urn:xmpp:sm:3'/>".into()
            } else if item.starts_with("<r ") {
                format!("<a xmlns='urn:xmpp:sm:3' h='{stanzas}'/>")
            } else if is("iq") && item.contains("<bind") {
                shared.users.lock().unwrap().insert(user.clone(), socket.try_clone().unwrap());
                format!(
                    "<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                     <jid>{user}@localhost/p0</jid></bind></iq>"
                )
            } else if is("iq") {
                answer(&item, &user, shared)
            } else if is("message") {
                if shared.behaviour.archive != Archive::None {
                    keep(&user, &item, shared);
                }
                route(&item, shared);
                String::new()
            } else if is("presence") {
                shared.presences.fetch_add(1, Ordering::Relaxed);
                String::new()
            } else if is("/stream") {
                return;
            } else {
                String::new()
            };
            if socket.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// The answer to a request of a session that is up.
fn answer(iq: &str, user: &str, shared: &Shared) -> String {
    let id = attribute(iq, "id");
    let archive = shared.behaviour.archive;
    if shared.behaviour.no_pongs && id == "ping" {
        String::new()
    } else if iq.contains("disco#info") {
        let feature = if archive == Archive::None { "" } else { "<feature var='urn:xmpp:mam:2'/>" };
        format!("<iq type='result' id='{id}'><query>{feature}</query></iq>")
    } else if iq.contains("urn:xmpp:mam:2") {
        shared.kept.lock().unwrap().entry(user.to_owned()).or_default().answer(archive, id, iq)
    } else {
        format!("<iq type='result' id='{id}'/>")
    }
}

/// Puts a copy into both archives.
fn keep(from: &str, message: &str, shared: &Shared) {
    let to = attribute(message, "to").split('@').next().unwrap_or_default().to_owned();
    let copy = message.replacen("<message", &format!("<message from='{from}@localhost/w'"), 1);
    let mut kept = shared.kept.lock().unwrap();
    for (owner, other) in [(from, &*to), (&*to, from)] {
        let other = format!("{other}@localhost");
        kept.entry(owner.to_owned()).or_default().keep(shared.behaviour.archive, &other, &copy);
    }
}

fn route(message: &str, shared: &Shared) {
    let number = shared.messages.fetch_add(1, Ordering::Relaxed) + 1;
    let every = |n: u64| n > 0 && number.is_multiple_of(n);
    let behaviour = shared.behaviour;
    if behaviour.die_after > 0 && number >= behaviour.die_after {
        for socket in shared.users.lock().unwrap().values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        return;
    }
    let to = attribute(message, "to").split('@').next().unwrap_or_default().to_owned();
    if every(behaviour.lose_every) {
        return;
    }
    if every(behaviour.swap_every) {
        let before = shared.held.lock().unwrap().replace((to, message.to_owned()));
        if let Some((to, message)) = before {
            deliver(&to, &message, shared);
        }
        return;
    }
    deliver(&to, message, shared);
    if every(behaviour.repeat_every) {
        deliver(&to, message, shared);
    }
    let held = {
        let mut held = shared.held.lock().unwrap();
        if held.as_ref().is_some_and(|(held_to, _)| *held_to == to) { held.take() } else { None }
    };
    if let Some((to, message)) = held {
        deliver(&to, &message, shared);
    }
}

fn deliver(to: &str, message: &str, shared: &Shared) {
    if let Some(socket) = shared.users.lock().unwrap().get_mut(to) {
        let _ = socket.write_all(message.as_bytes());
    }
}

/// The account in `\0name\0password` under Base64.
fn name_of_plain(encoded: &str) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut have, mut bytes) = (0_u32, 0, Vec::new());
    for byte in encoded.bytes().filter(|byte| *byte != b'=') {
        bits = bits << 6 | digits.iter().position(|digit| *digit == byte).unwrap() as u32;
        have += 6;
        if have >= 8 {
            have -= 8;
            bytes.push((bits >> have) as u8);
        }
    }
    let text = String::from_utf8(bytes).unwrap();
    text.split('\0').nth(1).unwrap().to_owned()
}
