use whimbrel_storage::log::{Flags, Message, Origin, PeerHash};

use super::*;
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::commits::tests::small_log;

const USER: ActorId = ActorId::user(7);

/// A log of one account, and the shares of its mailbox: 1,000 messages, of which a contact may have 250, a stranger 20 and
/// all strangers 100.
struct Mailbox {
    log: Log,
    shares: Shares,
    limits: Limits,
    waiting: Vec<Sequence>,
    now_ms: u64,
    _folder: tempfile::TempDir,
}

impl Mailbox {
    fn new() -> Mailbox {
        let limits = Limits {
            offline_messages: 1000,
            offline_percent_per_contact: 25,
            offline_percent_per_stranger: 2,
            offline_percent_strangers: 10,
            offline_strangers_per_minute: 60,
            ..Limits::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let log = small_log(folder.path());
        Mailbox { log, shares: Shares::default(), limits, waiting: Vec::new(), now_ms: 1, _folder: folder }
    }

    /// Names that begin with `c` are contacts.
    fn sender_of(name: &str) -> Sender {
        if name.starts_with('c') { Sender::Contact } else { Sender::Stranger }
    }

    fn send_while(&mut self, from: &str, is_absent: bool) -> Result<(), ShareRefusal> {
        let full = format!("{from}@localhost/r");
        let bytes = format!("<message from=\"{full}\" type='chat'><body>x</body></message>");
        let d = Delivery {
            kind: Kind::Message,
            typ: Type::Chat,
            traits: Traits::BODY,
            from: &full,
            to_local: "juliet",
            to_resource: None,
            id: None,
            bytes: bytes.as_bytes(),
            pending_ack: None,
        };
        let mut payload = Vec::new();
        record::encode(&d, &mut payload);
        assert_eq!(record::length(&d), payload.len());
        let counted = self.log.backlog(USER).filter(|waiting| {
            let load = Load { messages: waiting.messages, bytes: waiting.bytes };
            Shares::are_counted(&self.limits, load, payload.len())
        });
        let sender = Mailbox::sender_of(from);
        if let Some(backlog) = &counted {
            let request = Request { from, sender, payload: payload.len(), is_absent, now_ms: self.now_ms };
            self.shares.admit(&self.log, &self.limits, (USER, backlog), &request, Mailbox::sender_of)?;
        }
        let message = Message {
            actor: USER,
            time_ms: 1,
            flags: Flags::NONE,
            origin: Origin::default(),
            peer: PeerHash::NONE,
            payload: &payload,
        };
        self.waiting.push(self.log.append(&message).unwrap().sequence);
        if counted.is_some() {
            self.shares.added(USER, from, sender, payload.len());
        }
        Ok(())
    }

    /// To an account that is there, so that no rate holds.
    fn send(&mut self, from: &str) -> Result<(), ShareRefusal> {
        self.send_while(from, false)
    }

    /// How many messages of one sender go in.
    fn fill(&mut self, from: &str) -> (usize, ShareRefusal) {
        (0..).find_map(|count| self.send(from).err().map(|refusal| (count, refusal))).unwrap()
    }

    /// The recipient reads messages.
    fn read(&mut self, range: std::ops::Range<usize>) {
        for sequence in self.waiting.drain(range) {
            self.shares.removing(&self.log, USER, sequence);
            self.log.trim(USER, sequence);
            self.shares.removed(&self.limits, USER, self.log.backlog(USER));
        }
    }

    /// As a restart or an upgrade does: the log stays, the counts do not.
    fn restart(&mut self) {
        self.shares = Shares::default();
    }
}

#[test]
fn each_stranger_has_a_share_and_all_of_them_a_part() {
    let mut mailbox = Mailbox::new();
    for stranger in ["s1", "s2", "s3", "s4", "s5"] {
        assert_eq!(mailbox.fill(stranger), (20, ShareRefusal::Sender), "{stranger}");
    }
    assert_eq!(mailbox.fill("s6"), (0, ShareRefusal::Strangers));
    assert_eq!(mailbox.waiting.len(), 100);
}

#[test]
fn contacts_find_room_when_strangers_have_taken_theirs() {
    let mut mailbox = Mailbox::new();
    for n in 0..10 {
        mailbox.fill(&format!("s{n}"));
    }
    assert_eq!(mailbox.fill("c1"), (250, ShareRefusal::Sender));
    assert_eq!(mailbox.fill("c2"), (250, ShareRefusal::Sender));
    assert_eq!(mailbox.fill("s99"), (0, ShareRefusal::Strangers));
}

#[test]
fn what_contacts_have_waiting_takes_no_room_of_strangers() {
    let mut mailbox = Mailbox::new();
    mailbox.fill("c1");
    assert_eq!(mailbox.fill("s1"), (20, ShareRefusal::Sender));
}

#[test]
fn what_was_read_makes_room_again_whatever_the_order() {
    let mut mailbox = Mailbox::new();
    mailbox.fill("c1");
    mailbox.fill("s1");
    // Ten of the stranger's twenty, the newest.
    let end = mailbox.waiting.len();
    mailbox.read(end - 10..end);
    assert_eq!(mailbox.fill("s1"), (10, ShareRefusal::Sender));
    mailbox.read(0..100);
    assert_eq!(mailbox.fill("c1"), (100, ShareRefusal::Sender));
}

#[test]
fn shares_hold_over_a_restart() {
    let mut mailbox = Mailbox::new();
    mailbox.fill("c1");
    mailbox.fill("s1");
    mailbox.restart();
    assert_eq!(mailbox.fill("s1"), (0, ShareRefusal::Sender));
    assert_eq!(mailbox.fill("c1"), (0, ShareRefusal::Sender));
    assert_eq!(mailbox.fill("s2"), (20, ShareRefusal::Sender));
}

#[test]
fn until_the_past_is_known_it_counts_as_strangers() {
    let mut mailbox = Mailbox::new();
    mailbox.limits.offline_messages = 100 * LEARN_RECORDS as u64;
    let many = 2 * LEARN_RECORDS + LEARN_RECORDS / 2;
    (0..many).for_each(|_| mailbox.send("c1").unwrap());
    mailbox.restart();
    // Each attempt reads some more of it.
    assert_eq!(mailbox.send("s1"), Ok(()), "half a share is not known yet");
    mailbox.restart();
    mailbox.limits.offline_percent_per_stranger = 1;
    assert_eq!(mailbox.send("s1"), Err(ShareRefusal::Sender));
    assert_eq!(mailbox.send("c2"), Ok(()), "contacts need not wait for that");
    assert_eq!(mailbox.send("s1"), Ok(()));
}

#[test]
fn strangers_leave_few_messages_a_minute_for_somebody_absent() {
    let mut mailbox = Mailbox::new();
    mailbox.limits.offline_strangers_per_minute = 5;
    mailbox.fill("s0");
    let absent = |mailbox: &mut Mailbox, n: usize| mailbox.send_while(&format!("s{n}"), true);
    for n in 1..=5 {
        assert_eq!(absent(&mut mailbox, n), Ok(()), "{n}");
    }
    assert_eq!(absent(&mut mailbox, 6), Err(ShareRefusal::Rate));
    assert_eq!(mailbox.send_while("c1", true), Ok(()), "contacts have no rate");
    mailbox.now_ms += 12_000;
    assert_eq!(absent(&mut mailbox, 7), Ok(()));
    assert_eq!(absent(&mut mailbox, 8), Err(ShareRefusal::Rate));
}

#[test]
fn a_mailbox_with_little_in_it_is_not_counted() {
    let mut mailbox = Mailbox::new();
    mailbox.fill("s1");
    assert_eq!(mailbox.shares.len(), 1);
    mailbox.read(0..9);
    assert_eq!(mailbox.shares.len(), 1);
    mailbox.read(0..1);
    assert_eq!(mailbox.shares.len(), 0, "half of one stranger's share is left");
}

#[test]
fn the_senders_told_apart_are_bounded() {
    let mut mailbox = Mailbox::new();
    mailbox.limits.offline_messages = 1_000_000;
    mailbox.limits.offline_percent_per_stranger = 0;
    for n in 0..SENDERS_MAX + 100 {
        let expected = if n < SENDERS_MAX { Ok(()) } else { Err(ShareRefusal::Strangers) };
        assert_eq!(mailbox.send(&format!("s{n}")), expected, "{n}");
    }
    let table = &mailbox.shares.tables[&USER];
    assert_eq!(table.senders.len(), SENDERS_MAX);
    assert!(table.senders.allocation_size() <= 128 << 10, "{}", table.senders.allocation_size());
}

#[test]
fn only_the_account_itself_makes_a_contact() {
    let item = Item { contact: "romeo@localhost".into(), ..Item::default() };
    assert_eq!(Sender::of(None), Sender::Stranger);
    let asked = Item { pending_in: Some(b"<presence/>".to_vec()), ..item.clone() };
    assert_eq!(Sender::of(Some(&asked)), Sender::Stranger, "a request that waits makes no contact");
    for item in [
        Item { listed: true, ..item.clone() },
        Item { ask: true, ..item.clone() },
        Item { approved: true, ..item.clone() },
        Item { subscription: Subscription::From, ..item },
    ] {
        assert_eq!(Sender::of(Some(&item)), Sender::Contact, "{item:?}");
    }
}

#[test]
fn every_share_has_room_for_a_message() {
    let limits = Limits { offline_bytes: 1000, offline_messages: 3, ..Limits::default() };
    assert_eq!(share(&limits, 2).messages, 1);
    assert!(share(&limits, 2).bytes > u64::from(limits.stanza_bytes));
}
