use super::*;

fn presence(sender: u32, length: usize) -> Unacked {
    Unacked::Stanza { kind: Kind::Presence, sender, bytes: vec![b'p'; length].into() }
}

fn iq(length: usize) -> Unacked {
    Unacked::Stanza { kind: Kind::Iq, sender: 0, bytes: vec![b'i'; length].into() }
}

fn shape(queue: &UnackedQueue) -> String {
    queue
        .iter()
        .map(|entry| match entry {
            Unacked::Stanza { sender: 0, .. } => "s".to_owned(),
            Unacked::Stanza { sender, .. } => format!("p{sender}"),
            Unacked::Record { .. } => "r".to_owned(),
            Unacked::Archived { .. } => "m".to_owned(),
            Unacked::Spooled { .. } => "o".to_owned(),
            Unacked::Answer(_) => "a".to_owned(),
            Unacked::Forgotten(count) => format!("({count})"),
        })
        .collect()
}

#[test]
fn forgotten_stanzas_keep_their_numbers_in_one_entry() {
    let mut queue = UnackedQueue::default();
    queue.push(iq(10));
    for _ in 0..1000 {
        queue.push(Unacked::Forgotten(1));
    }
    queue.push(iq(10));
    assert_eq!((queue.count(), shape(&queue).as_str()), (1002, "s(1000)s"));
    let mut gone = 0;
    queue.acknowledge(500, |_| gone += 1);
    assert_eq!((gone, queue.count(), shape(&queue).as_str()), (1, 502, "(501)s"));
    queue.acknowledge(502, |_| gone += 1);
    assert_eq!((gone, queue.count(), queue.size(), queue.content()), (3, 0, (0, 0), 0));
}

#[test]
fn thinning_keeps_the_newest_presence_of_each_sender() {
    let mut queue = UnackedQueue::default();
    for sender in [1, 2, 1, 1, 3] {
        queue.push(presence(sender, 100));
    }
    queue.push(iq(100));
    queue.thin(20, 10_000);
    assert_eq!((queue.count(), shape(&queue).as_str()), (6, "p1p2p1p1p3s"), "a quarter is left alone");
    for _ in 0..4 {
        queue.push(presence(3, 100));
    }
    queue.thin(32, 10_000);
    assert_eq!((queue.count(), shape(&queue).as_str()), (10, "(1)p2(1)p1(1)s(3)p3"));
    assert_eq!(queue.replaceable_bytes, 3 * (100 + ENTRY_BYTES));
    queue.thin(8, 10_000);
    assert_eq!((queue.count(), shape(&queue).as_str()), (10, "(5)s(4)"));
    assert_eq!((queue.replaceable_entries, queue.content()), (0, 100));
}

#[test]
fn what_is_shed_leaves_its_place() {
    let mut queue = UnackedQueue::default();
    for length in [100, 1000, 50] {
        queue.push(iq(length));
    }
    let mut shed = Vec::new();
    let forget = |entry: Unacked| {
        shed.push(entry.content());
        Unacked::Forgotten(1)
    };
    queue.shed(200, |_| false, forget);
    assert_eq!((shed, queue.count(), shape(&queue).as_str()), (vec![1000], 3, "s(1)s"));
}

#[test]
fn what_is_essential_is_shed_last() {
    let mut queue = UnackedQueue::of([iq(100), presence(1, 60), iq(50), presence(2, 60)].into_iter());
    let is_presence = |entry: &Unacked| matches!(entry, Unacked::Stanza { kind: Kind::Presence, .. });
    let mut shed = Vec::new();
    queue.shed(170, is_presence, |entry| {
        shed.push(entry.content());
        Unacked::Forgotten(1)
    });
    assert_eq!((shed.as_slice(), queue.content()), (&[100][..], 170));
    queue.shed(100, is_presence, |entry| {
        shed.push(entry.content());
        Unacked::Forgotten(1)
    });
    assert_eq!((shed.as_slice(), queue.content()), (&[100, 50, 60][..], 60));
}

#[test]
fn arrivals_are_forgotten_and_departures_stay() {
    let mut queue = UnackedQueue::of([presence(1, 8), presence(2, 9), presence(0, 8), iq(1)].into_iter());
    queue.forget_arrivals(|bytes| bytes.len() == 9);
    assert_eq!((queue.count(), shape(&queue).as_str()), (4, "(1)p2ss"));
}

#[test]
fn messages_become_references_and_come_back_in_their_places() {
    let message =
        |text: &str| Unacked::Stanza { kind: Kind::Message, sender: 0, bytes: text.as_bytes().into() };
    let reference = |id: u64| Reference { id: Sequence(id), room: PeerHash(1), wakes: true };
    let entries = [message("one"), presence(1, 8), message("other"), iq(1), message("three")];
    let mut queue = UnackedQueue::of(entries.into_iter());
    let (size, looks) = (queue.size(), std::cell::Cell::new(0));
    let refer = |bytes: &[u8]| {
        looks.set(looks.get() + 1);
        (bytes != b"other").then(|| reference(bytes.len() as u64))
    };
    queue.refer(refer);
    assert_eq!(shape(&queue), "mp1ssm");
    assert_eq!((queue.size(), queue.content(), queue.archived_count()), (size, 8 + 5 + 1, 2));
    assert!(queue.archived().eq([reference(3), reference(5)]));
    assert_eq!((queue.spooled().next(), queue.spooled_count()), (None, 0));
    // Nothing has come since: nothing is looked at.
    queue.refer(refer);
    assert_eq!(looks.get(), 3);
    queue.push(message("fifth"));
    queue.refer(refer);
    assert_eq!((looks.get(), shape(&queue).as_str()), (4, "mp1ssmm"));
    let mut gone = Vec::new();
    queue.acknowledge(1, |entry| gone.push(entry.count()));
    assert_eq!((gone, queue.archived_count()), (vec![1], 2));
    let mut texts = [Some(b"three"[..].into()), None].into_iter();
    queue.recall(|_| texts.next().flatten());
    assert_eq!((shape(&queue).as_str(), queue.count()), ("p1sss(1)", 5));
    assert_eq!((queue.archived_count(), queue.content()), (0, 8 + 5 + 1 + 5));
}

#[test]
fn what_is_meant_is_forgotten_and_the_count_stays() {
    let message =
        |text: &str| Unacked::Stanza { kind: Kind::Message, sender: 0, bytes: text.as_bytes().into() };
    let entries = [presence(1, 8), message("a"), message("b"), message("b"), iq(1)];
    let mut queue = UnackedQueue::of(entries.into_iter());
    assert_eq!(queue.forget_where(|kind, bytes| kind == Kind::Message && bytes == b"b"), 2);
    assert_eq!(queue.forget_where(|_, bytes| bytes == b"b"), 0);
    assert_eq!((queue.count(), queue.content(), queue.size().0), (5, 8 + 1 + 1, 4));
}

#[test]
fn references_into_the_spool_are_counted_until_they_are_acknowledged() {
    let mut queue = UnackedQueue::default();
    let spooled = |n: u64| Unacked::Spooled { sequence: Sequence(n), length: 100 };
    [iq(10), spooled(3), iq(10), spooled(7)].into_iter().for_each(|entry| queue.push(entry));
    assert_eq!((shape(&queue).as_str(), queue.spooled_count(), queue.content()), ("soso", 2, 20));
    assert_eq!(queue.size(), (4, 4 * ENTRY_BYTES + 220));
    assert!(queue.spooled().eq([Sequence(3), Sequence(7)]));
    queue.rebuild(|entry| (entry.content() == 0).then_some(entry));
    assert!(queue.spooled().eq([Sequence(3), Sequence(7)]));
    let mut gone = 0;
    queue.acknowledge(1, |_| gone += 1);
    assert!(queue.spooled().eq([Sequence(7)]) && gone == 1);
    queue.acknowledge(1, |_| gone += 1);
    assert_eq!((queue.spooled().next(), queue.spooled_count(), queue.size()), (None, 0, (0, 0)));
}
