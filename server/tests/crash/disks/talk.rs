//! Senders who know what became of each of their messages, and recipients who count.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use crate::client::{Client, attribute};
use crate::{PATIENCE, SM};

/// Namespace of archives.
const ARCHIVE: &str = "urn:xmpp:mam:2";

/// Namespace of rosters.
const ROSTER: &str = "jabber:iq:roster";

/// One who sends numbered messages, never one twice.
pub(crate) struct Sender {
    address: SocketAddr,
    pub(crate) name: String,
    pub(crate) to: String,
    client: Option<Client>,
    next: u64,
    /// Messages of the present stream, in the order of `h`.
    on_stream: Vec<u64>,
    acknowledged: BTreeSet<u64>,
    refused: BTreeMap<u64, String>,
}

impl Sender {
    pub(crate) fn new(address: SocketAddr, name: &str, to: &str) -> Sender {
        let (name, to) = (name.to_owned(), to.to_owned());
        let (acknowledged, refused) = (BTreeSet::new(), BTreeMap::new());
        Sender { address, name, to, client: None, next: 0, on_stream: Vec::new(), acknowledged, refused }
    }

    /// Sends so many messages and waits until all are acknowledged. Returns how many of them were refused; an error when
    /// the stream has ended before that.
    pub(crate) fn round(&mut self, count: usize) -> io::Result<usize> {
        let result = self.try_round(count);
        if result.is_err() {
            self.client = None;
        }
        result
    }

    fn try_round(&mut self, count: usize) -> io::Result<usize> {
        if self.client.is_none() {
            let mut client = Client::log_in(self.address, &self.name)?;
            client.bind()?;
            client.enable()?;
            self.on_stream.clear();
            self.client = Some(client);
        }
        let client = self.client.as_mut().expect("it was just made");
        let first = self.next;
        let filling = "x".repeat(1000);
        for _ in 0..count {
            let (name, to, n) = (&self.name, &self.to, self.next);
            self.on_stream.push(n);
            self.next += 1;
            client.say(&format!(
                "<message to='{to}@localhost' type='chat' id='{name}-{n}'><body>{filling}</body></message>"
            ))?;
        }
        client.say(&format!("<r xmlns='{SM}'/>"))?;
        let since = Instant::now();
        loop {
            assert!(since.elapsed() < PATIENCE, "{}: neither acknowledged nor refused", self.name);
            let Some(element) = client.element_soon()? else { continue };
            if element.starts_with("<a ") {
                let h: usize = attribute(&element, "h").unwrap().parse().unwrap();
                self.acknowledged.extend(&self.on_stream[..h]);
                if h == self.on_stream.len() {
                    return Ok(self.refused.range(first..).count());
                }
            } else if element.starts_with("<message") {
                assert_eq!(attribute(&element, "type"), Some("error"), "{element}");
                let (_, n) = attribute(&element, "id").unwrap().split_once('-').unwrap();
                let condition = ["resource-constraint", "internal-server-error"]
                    .into_iter()
                    .find(|condition| element.contains(&format!("<{condition} ")))
                    .unwrap_or_else(|| panic!("another error: {element}"));
                self.refused.insert(n.parse().unwrap(), condition.to_owned());
            } else if element.starts_with("<stream:error") {
                return Err(io::Error::other(element));
            }
        }
    }

    /// Messages that were acknowledged and not refused.
    pub(crate) fn kept(&self) -> usize {
        self.acknowledged.iter().filter(|n| !self.refused.contains_key(n)).count()
    }

    /// The conditions with which messages were refused.
    pub(crate) fn conditions(&self) -> Vec<String> {
        self.refused.values().cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The newest messages of its archive. What it sends next, it sends on another stream, whose stanzas it counts.
    #[track_caller]
    pub(crate) fn newest_page(&mut self) -> Vec<u64> {
        newest_page(&mut self.client.take().expect("it is connected"))
    }

    /// What an archive has of its messages: the newest of those that were kept, all of them from the first that is there on, each once,
    /// in order. The sender's own archive may have what the recipient's server did not take, and lacks what was sent while its log had
    /// no room: such a message goes on all the same.
    #[track_caller]
    pub(crate) fn compare_archive(&self, whose: &str, found: &[u64], is_own: bool) {
        let name = &self.name;
        assert!(found.is_sorted_by(|a, b| a < b), "{name} at {whose}: doubled or out of order: {found:?}");
        let first = *found.first().unwrap_or_else(|| panic!("{name} at {whose}: nothing is there"));
        let mut kept = self.acknowledged.range(first..).filter(|n| !self.refused.contains_key(n));
        if is_own {
            let last = kept.next_back();
            assert!(
                last.is_none_or(|n| found.binary_search(n).is_ok()),
                "{name}: its archive lacks {last:?}"
            );
            return;
        }
        let missing: Vec<_> = kept.filter(|n| found.binary_search(n).is_err()).collect();
        assert!(missing.is_empty(), "{name} at {whose}: acknowledged and not archived: {missing:?}");
        let both = found.iter().filter(|n| self.refused.contains_key(n)).count();
        assert_eq!(both, 0, "{name} at {whose}: refused and archived");
    }

    /// Number of the last message.
    pub(crate) fn last(&self) -> u64 {
        self.next - 1
    }

    /// What has arrived is what was kept, and perhaps something of which the sender does not know; in order.
    #[track_caller]
    pub(crate) fn compare(&self, arrived: &[u64]) {
        assert!(arrived.is_sorted_by(|a, b| a < b), "{}: doubled or overtaken: {arrived:?}", self.name);
        let arrived: BTreeSet<u64> = arrived.iter().copied().collect();
        let kept: BTreeSet<u64> =
            self.acknowledged.iter().filter(|n| !self.refused.contains_key(n)).copied().collect();
        let lost: Vec<_> = kept.difference(&arrived).collect();
        assert!(lost.is_empty(), "{}: acknowledged and lost: {lost:?}", self.name);
        let both: Vec<_> = arrived.iter().filter(|n| self.refused.contains_key(n)).collect();
        assert!(both.is_empty(), "{}: refused and delivered: {both:?}", self.name);
        assert!(arrived.last().is_none_or(|n| *n < self.next), "{}: never sent", self.name);
    }
}

/// One who reads, and says so.
pub(crate) struct Recipient {
    pub(crate) client: Client,
    handled: u32,
    got: BTreeMap<String, Vec<u64>>,
    /// Messages that the server does not keep.
    pub(crate) headlines: usize,
}

impl Recipient {
    pub(crate) fn log_in(address: SocketAddr, name: &str) -> Recipient {
        let mut client = Client::log_in(address, name).unwrap();
        client.bind().unwrap();
        client.enable().unwrap();
        client.say("<presence/>").unwrap();
        Recipient { client, handled: 0, got: BTreeMap::new(), headlines: 0 }
    }

    /// The messages of a sender, as they came.
    pub(crate) fn got(&self, sender: &str) -> &[u64] {
        self.got.get(sender).map_or(&[], Vec::as_slice)
    }

    /// Reads, and acknowledges when it is asked to, until something is so.
    #[track_caller]
    pub(crate) fn read_until(&mut self, reached: impl Fn(&Recipient) -> bool) {
        let mut since = Instant::now();
        while !reached(self) {
            let got: Vec<_> = self.got.iter().map(|(name, numbers)| (name, numbers.len())).collect();
            assert!(since.elapsed() < PATIENCE, "nothing more comes after {got:?}");
            let Some(element) = self.client.element_soon().expect("the recipient stays connected") else {
                continue;
            };
            since = Instant::now();
            if element.starts_with("<r ") {
                self.client.say(&format!("<a xmlns='{SM}' h='{}'/>", self.handled)).unwrap();
                continue;
            }
            self.handled += 1;
            if element.starts_with("<message") && attribute(&element, "type") == Some("headline") {
                self.headlines += 1;
            } else if element.starts_with("<message") {
                let (sender, n) = attribute(&element, "id").unwrap().split_once('-').unwrap();
                self.got.entry(sender.to_owned()).or_default().push(n.parse().unwrap());
            }
        }
        let _ = self.client.say(&format!("<a xmlns='{SM}' h='{}'/>", self.handled));
    }
}

/// The server answers.
#[track_caller]
pub(crate) fn ping(client: &mut Client) {
    let answer = ask(client, "<iq type='get' id='ping' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    assert_eq!(attribute(&answer, "type"), Some("result"), "{answer}");
}

/// Whether a contact could be put on the roster, which is read back.
#[track_caller]
pub(crate) fn add_contact(client: &mut Client, name: &str) -> bool {
    let item = format!("<item jid='{name}@localhost'/>");
    let set = ask(client, &format!("<iq type='set' id='set'><query xmlns='{ROSTER}'>{item}</query></iq>"));
    let is_taken = attribute(&set, "type") == Some("result");
    let roster = ask(client, &format!("<iq type='get' id='get'><query xmlns='{ROSTER}'/></iq>"));
    assert_eq!(attribute(&roster, "type"), Some("result"), "it can be read whatever the disk does: {roster}");
    assert!(!is_taken || roster.contains(&format!("{name}@localhost")), "taken, and not there: {roster}");
    is_taken
}

/// The numbers of the newest messages of a client's archive, in order. It does not acknowledge them.
#[track_caller]
pub(crate) fn newest_page(client: &mut Client) -> Vec<u64> {
    let set = "<set xmlns='http://jabber.org/protocol/rsm'><max>20</max><before/></set>";
    client.say(&format!("<iq type='set' id='page'><query xmlns='{ARCHIVE}'>{set}</query></iq>")).unwrap();
    let (since, mut numbers) = (Instant::now(), Vec::new());
    loop {
        assert!(since.elapsed() < PATIENCE, "the page does not end");
        let Some(element) = client.element_soon().expect("the stream goes on") else { continue };
        if element.starts_with("<iq") && attribute(&element, "id") == Some("page") {
            assert!(element.contains("<fin "), "an archive can be read whatever the disk does: {element}");
            return numbers;
        }
        if let Some((_, rest)) = element.split_once("<forwarded ")
            && let Some((_, inner)) = rest.split_once("<message ")
        {
            let tag = format!("<message {inner}");
            let (_, number) = attribute(&tag, "id").unwrap().split_once('-').unwrap();
            numbers.push(number.parse().unwrap());
        }
    }
}

/// What a client has asked its archive to have, and has been answered.
#[derive(Debug)]
pub(crate) struct Preferred(String);

impl Default for Preferred {
    fn default() -> Preferred {
        Preferred("always".into())
    }
}

/// Asks that the archive has such messages. Whether that is taken or refused: it is so, or as it was.
#[track_caller]
pub(crate) fn prefer(client: &mut Client, wish: &str, preferred: &mut Preferred) {
    let set =
        ask(client, &format!("<iq type='set' id='set'><prefs xmlns='{ARCHIVE}' default='{wish}'/></iq>"));
    if attribute(&set, "type") == Some("result") {
        preferred.0 = wish.into();
    } else {
        let conditions = ["resource-constraint", "internal-server-error"];
        assert!(conditions.iter().any(|condition| set.contains(condition)), "another error: {set}");
    }
    let get = ask(client, &format!("<iq type='get' id='get'><prefs xmlns='{ARCHIVE}'/></iq>"));
    assert!(get.contains(&format!(" default=\"{}\"", preferred.0)), "{preferred:?}: {get}");
}

/// The answer to an iq.
#[track_caller]
fn ask(client: &mut Client, iq: &str) -> String {
    client.say(iq).expect("the server reads");
    let id = attribute(iq, "id");
    let since = Instant::now();
    loop {
        assert!(since.elapsed() < PATIENCE, "the server does not answer");
        match client.element_soon().expect("the stream goes on") {
            Some(element) if element.starts_with("<iq") && attribute(&element, "id") == id => return element,
            _ => {}
        }
    }
}
