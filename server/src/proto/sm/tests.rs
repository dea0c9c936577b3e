use super::queue::ENTRY_BYTES;
use super::*;

const ID: StreamId = StreamId(0x0123_4567_89ab_cdef);

fn stanza(kind: Kind, text: &str) -> Unacked {
    Unacked::Stanza { kind, sender: 0, bytes: text.as_bytes().into() }
}

fn texts(sm: &StreamManagement) -> Vec<String> {
    sm.unacked()
        .map(|unacked| match unacked {
            Unacked::Stanza { bytes, .. } => String::from_utf8(bytes.to_vec()).unwrap(),
            Unacked::Record { sequence, .. } => format!("#{}", sequence.0),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn an_id_reads_as_it_was_written_and_nothing_else_reads_as_one() {
    assert_eq!(StreamId::parse(&ID.text()), Some(ID));
    for other in ["", "0", "0123456789abcdef0", "0123456789abcdeg", "+123456789abcdef0"] {
        assert_eq!(StreamId::parse(other), None, "{other}");
    }
}

#[test]
fn an_acknowledgement_takes_the_oldest_and_frees_their_bytes() {
    let mut sm = StreamManagement::new(ID, 600);
    for text in ["a", "b", "c"] {
        sm.sent(stanza(Kind::Iq, text), 1);
    }
    sm.sent(Unacked::Record { sequence: Sequence(7), length: 100 }, 100);
    let (count, bytes) = sm.unacked_size();
    assert_eq!((count, bytes), (4, 4 * ENTRY_BYTES + 103));
    let mut gone = 0;
    sm.acknowledged(2, |_| gone += 1).unwrap();
    assert_eq!(gone, 2);
    assert_eq!(texts(&sm), ["c", "#7"]);
    assert_eq!(sm.records().collect::<Vec<_>>(), [Sequence(7)]);
    sm.acknowledged(2, |_| panic!("the same h acknowledges nothing new")).unwrap();
    sm.acknowledged(4, |_| gone += 1).unwrap();
    assert_eq!((gone, sm.unacked_size()), (4, (0, 0)));
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_is_refused_and_changes_nothing() {
    let mut sm = StreamManagement::new(ID, 600);
    sm.sent(stanza(Kind::Message, "a"), 1);
    for h in [2, 3, u32::MAX / 2] {
        let result = sm.acknowledged(h, |_| panic!("nothing is acknowledged"));
        assert_eq!(result, Err(TooHigh { handled: h, sent: 1 }));
    }
    sm.acknowledged(1, |_| {}).unwrap();
}

#[test]
fn a_lower_count_than_before_is_ignored_also_across_the_largest() {
    for acked in [5, 1, u32::MAX] {
        let mut sm = StreamManagement::new(ID, 600);
        sm.acked = acked;
        sm.sent(stanza(Kind::Message, "a"), 1);
        for h in [acked.wrapping_sub(1), acked.wrapping_sub(4), acked.wrapping_sub(u32::MAX / 2)] {
            assert!(sm.is_old(h), "{h}");
            sm.acknowledged(h, |_| panic!("nothing is acknowledged")).unwrap();
        }
        assert_eq!((sm.acked, texts(&sm)), (acked, vec!["a".to_owned()]));
        let mut gone = 0;
        sm.acknowledged(acked.wrapping_add(1), |_| gone += 1).unwrap();
        assert_eq!(gone, 1);
    }
}

#[test]
fn a_client_is_asked_while_much_is_sent_whatever_it_has_answered() {
    let mut sm = StreamManagement::new(ID, 600);
    let part = ASK_BYTES as usize / 4;
    for n in 1..=12 {
        sm.sent(stanza(Kind::Iq, "i"), part);
        assert_eq!(sm.ask_for_bytes(), n % 4 == 0, "{n}");
    }
}

#[test]
fn counters_go_on_past_their_largest_value() {
    let mut sm = StreamManagement::new(ID, 600);
    sm.acked = u32::MAX - 1;
    sm.received = u32::MAX - 1;
    for text in ["a", "b", "c"] {
        sm.sent(stanza(Kind::Message, text), 1);
    }
    sm.acknowledged(0, |_| {}).unwrap();
    assert_eq!(texts(&sm), ["c"]);
    let numbers = [sm.count_received(), sm.count_received(), sm.count_received()];
    assert_eq!(numbers, [u32::MAX, 0, 1]);
    for number in numbers {
        assert!(!sm.wait_for_copies(number, 1));
    }
    assert_eq!(sm.handled(), u32::MAX - 1);
    sm.request();
    assert_eq!(sm.answer(), Some(u32::MAX - 1));
    sm.on_durable(0);
    sm.on_durable(u32::MAX);
    assert_eq!(sm.answer(), Some(0));
    sm.on_durable(1);
    assert_eq!((sm.handled(), sm.answer(), sm.answer()), (1, Some(1), None));
}

#[test]
fn a_stream_says_once_that_too_much_is_on_its_way() {
    let mut sm = StreamManagement::new(ID, 0);
    let mut said = Vec::new();
    for _ in 0..NOT_DURABLE_MAX + 3 {
        let number = sm.count_received();
        if sm.wait_for_copies(number, 1) {
            said.push(sm.not_durable());
        }
    }
    assert_eq!(said, [NOT_DURABLE_MAX + 1]);
}

#[test]
fn a_stanza_is_acknowledged_when_all_its_copies_are_safe() {
    let mut sm = StreamManagement::new(ID, 0);
    for copies in [2, 1] {
        let number = sm.count_received();
        assert!(!sm.wait_for_copies(number, copies));
    }
    sm.request();
    // (whose copy is safe, whether the client is to hear of it, what it hears)
    let steps = [(2, false, None), (1, false, None), (1, true, Some(2))];
    for (durable, changed, answer) in steps {
        assert_eq!((sm.on_durable(durable), sm.answer()), (changed, answer), "{durable}");
        sm.request();
    }
}

#[test]
fn only_what_comes_before_the_first_unsafe_message_is_handled() {
    let mut sm = StreamManagement::new(ID, 0);
    // Numbers 1 to 5, of which 2, 3 and 5 are messages to be stored.
    for n in 1..=5 {
        assert_eq!(sm.count_received(), n);
        if [2, 3, 5].contains(&n) {
            assert!(!sm.wait_for_copies(n, 1));
        }
    }
    assert_eq!(sm.handled(), 1);
    sm.request();
    // (what becomes safe, whether the client is to hear of it, what it hears)
    let steps = [(3, false, Some(1)), (2, true, Some(4)), (9, false, None), (5, true, Some(5))];
    for (durable, changed, answer) in steps {
        assert_eq!(sm.on_durable(durable), changed, "{durable}");
        assert_eq!(sm.answer(), answer, "{durable}");
    }
    assert_eq!(sm.answer(), None);
}

#[test]
fn a_client_is_asked_for_a_message_at_once_and_for_others_after_some_and_once_at_a_time() {
    let mut sm = StreamManagement::new(ID, 0);
    for _ in 1..ASK_AFTER {
        sm.sent(stanza(Kind::Presence, "p"), 1);
        assert!(!sm.ask());
    }
    sm.sent(stanza(Kind::Iq, "i"), 1);
    assert!(sm.ask());
    sm.sent(stanza(Kind::Message, "m"), 1);
    assert!(!sm.ask(), "the last one is not answered");
    sm.acknowledged(u32::from(ASK_AFTER), |_| {}).unwrap();
    assert!(sm.ask(), "the message is not acknowledged");
}

#[test]
fn a_resumed_stream_asks_for_what_it_got_again() {
    let mut sm = StreamManagement::new(ID, 600);
    sm.sent(stanza(Kind::Message, "m"), 1);
    assert!(sm.ask());
    sm.disconnected();
    sm.resumed();
    assert!(sm.ask());
    sm.acknowledged(1, |_| {}).unwrap();
    sm.disconnected();
    sm.resumed();
    assert!(!sm.ask());
}

#[test]
fn what_can_no_longer_be_sent_again_counts_no_more() {
    let mut sm = StreamManagement::new(ID, 600);
    sm.sent(stanza(Kind::Iq, "a"), 1);
    sm.sent(Unacked::Record { sequence: Sequence(7), length: 100 }, 100);
    sm.sent(stanza(Kind::Iq, "b"), 1);
    let queue = sm.unacked_mut().unwrap();
    queue.rebuild(|unacked| Some(unacked).filter(|unacked| matches!(unacked, Unacked::Stanza { .. })));
    assert_eq!((texts(&sm), sm.unacked_size()), (vec!["a".into(), "b".into()], (2, 2 * ENTRY_BYTES + 2)));
    sm.acknowledged(2, |_| {}).unwrap();
    assert!(sm.acknowledged(3, |_| {}).is_err());
}

#[test]
fn a_stream_at_rest_asks_once_for_what_it_holds_and_then_holds_nothing() {
    let mut sm = StreamManagement::new(ID, 600);
    sm.sent(stanza(Kind::Presence, "p"), 1);
    assert!(sm.watch());
    assert!(!sm.watch(), "somebody watches already");
    assert!(!sm.ask());
    assert_eq!(sm.rest(true), Rest::Busy);
    assert_eq!(sm.rest(true), Rest::Ask);
    assert!(sm.watch());
    assert_eq!(sm.rest(true), Rest::Busy);
    assert_eq!(sm.rest(true), Rest::Quiet, "the last one is not answered");
    sm.acknowledged(1, |_| {}).unwrap();
    assert!(sm.in_flight.is_none(), "what was asked for at rest is not waited for again");
}

#[test]
fn a_conversation_keeps_its_queue_and_gives_it_up_at_rest() {
    let mut sm = StreamManagement::new(ID, 600);
    sm.sent(stanza(Kind::Message, "m"), 1);
    assert!(sm.watch() && sm.ask());
    sm.acknowledged(1, |_| {}).unwrap();
    assert!(sm.in_flight.is_some());
    assert_eq!(sm.rest(true), Rest::Busy);
    assert_eq!(sm.rest(true), Rest::Quiet);
    assert!(sm.in_flight.is_none());
}

#[test]
fn a_stream_without_a_connection_is_not_asked_and_keeps_what_it_holds() {
    let mut sm = StreamManagement::new(ID, 600);
    sm.sent(stanza(Kind::Iq, "i"), 1);
    assert_eq!(sm.rest(false), Rest::Quiet);
    assert_eq!(texts(&sm), ["i"]);
}
