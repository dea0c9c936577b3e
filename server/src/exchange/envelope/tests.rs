//! Tests of [`super`].

use super::*;
use crate::exchange::fanout::Targets;

#[test]
fn a_broadcast_in_parts_reaches_everybody_once() {
    let mut targets = Targets::default();
    let names: Vec<String> = (0..10).map(|number| format!("user{number}")).collect();
    names.iter().for_each(|name| targets.push(name));
    let whole = Broadcast::new(Type::Probe, "a@x/1", b"").to(&targets);
    for count in [1, 3, 5, 10, 11] {
        let parts: Vec<_> = whole.parts(count).collect();
        assert_eq!(parts.len(), 10_usize.div_ceil(count));
        assert!(parts.iter().all(|part| part.targets().count() <= count));
        assert!(parts.iter().flat_map(Broadcast::targets).eq(names.iter()));
    }
}

#[test]
fn a_batch_is_full_before_it_is_much_to_read() {
    let mut batch = Batch::default();
    let mut envelopes = 0;
    let mut targets = Targets::default();
    (0..64).for_each(|_| targets.push("somebody"));
    while !batch.is_full() {
        batch.broadcast(&Broadcast::new(Type::Available, "a@x/1", b"/>").to(&targets));
        envelopes += 1;
    }
    assert_eq!(envelopes, 4);
    let mut batch = Batch::default();
    let targets = Targets::default();
    while !batch.is_full() {
        batch.broadcast(&Broadcast::new(Type::Available, "a@x/1", &[b'x'; 10_000]).to(&targets));
    }
    assert!((Batch::BYTES_MAX..Batch::BYTES_MAX + 10_100).contains(&batch.bytes_len()));
    batch.open(|_| {});
    assert!(!batch.is_full());
}

#[test]
fn envelopes_come_out_as_they_went_in() {
    let mut batch = Batch::default();
    let delivery = Delivery {
        kind: Kind::Message,
        typ: Type::Chat,
        traits: Traits::BODY,
        from: "a@x/1",
        to_local: "b",
        to_resource: Some("2"),
        id: Some("i"),
        bytes: b"<message/>",
        pending_ack: None,
    };
    batch.stanza(&delivery);
    let mut targets = Targets::default();
    ["c", "d\u{e9}"].into_iter().for_each(|local| targets.push(local));
    batch.broadcast(&Broadcast::new(Type::Available, "a@x/1", b"<show/>").to(&targets));
    batch.event(&NodeEvent::new(EventKind::Filtered, "a", "urn:n", b"/>").to(&targets));
    batch.wanted(&Wanted::new("a@x/1", b"urn:n\0urn:o\0").to(&targets));
    batch.owed("a@x/1", 7);
    batch.visit(&delivery);
    batch.ask_node(&delivery);
    let membership = Membership {
        pending_ack: Some(PendingAck::of_join(7, 3, None)),
        account: "a",
        room: "r@y",
        name: "n",
        by: "b",
        is_granted: true,
        is_invited: false,
        is_written: true,
    };
    batch.membership(&membership);
    let mut seats = Targets::default();
    seats.push_seat("c", "1/2");
    batch.cast(&Cast::new(Kind::Message, Weight::Passing, "r@y/n", (b"<m", b"/>")).to(&seats));
    let mut seen = Vec::new();
    batch.open(|envelope| match envelope {
        Envelope::Stanza(d) => {
            seen.push(format!("{} {:?} {} {:?}", d.from, d.typ, d.to_local, d.to_resource));
        }
        Envelope::Broadcast(b) => seen.push(format!("{} {:?}", b.from, b.targets().collect::<Vec<_>>())),
        Envelope::Event(e) => {
            seen.push(format!("{} {} {:?} {:?}", e.owner, e.node, e.kind, e.targets().collect::<Vec<_>>()));
        }
        Envelope::Wanted(w) => seen.push(format!("{} {:?}", w.from, w.nodes().collect::<Vec<_>>())),
        Envelope::Membership(m) => seen.push(format!("{m:?}")),
        Envelope::Visit(d) => seen.push(format!("visit {} {:?}", d.to_local, d.to_resource)),
        Envelope::ToNode(d) => seen.push(format!("node {}", d.to_local)),
        Envelope::Cast(c) => seen.push(format!("{:?} {:?}", c.weight, c.targets().collect::<Vec<_>>())),
        Envelope::Owed { by, work } => seen.push(format!("{by} {work}")),
        Envelope::Spread { .. }
        | Envelope::Migration(_)
        | Envelope::Durable { .. }
        | Envelope::MakeRoom { .. } => {
            unreachable!("none was put in")
        }
    });
    let expected = [
        "a@x/1 Chat b Some(\"2\")",
        "a@x/1 [\"c\", \"d\u{e9}\"]",
        "a urn:n Filtered [\"c\", \"d\u{e9}\"]",
        "a@x/1 [\"urn:n\", \"urn:o\"]",
        "a@x/1 7",
        "visit b Some(\"2\")",
        "node b",
        &format!("{membership:?}"),
        "Passing [\"c/1/2\"]",
    ];
    assert_eq!(seen, expected);
    assert!(batch.is_empty());
}
