use super::*;

const A: ConnId = ConnId { index: 3, generation: 1 };

#[test]
fn writes_to_one_connection_are_gathered() {
    let mut outbox = Outbox::default();
    outbox.stream(A).written(b"<one/>");
    outbox.stream(A).written(b"<two/>");
    let entries = outbox.take(Millis(0), false);
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].plain, b"<one/><two/>");
    outbox.put_back(entries);
    assert!(outbox.is_empty());
}

#[test]
fn a_reused_index_does_not_receive_what_was_meant_for_its_predecessor() {
    let mut outbox = Outbox::default();
    outbox.stream(A).written(b"<a/>");
    outbox.stream(ConnId { generation: 2, ..A }).written(b"<b/>");
    let entries = outbox.take(Millis(0), false);
    assert_eq!((entries[0].plain.as_slice(), entries[1].plain.as_slice()), (&b"<a/>"[..], &b"<b/>"[..]));
}

#[test]
fn what_waits_is_what_was_written_and_what_the_driver_has() {
    let mut outbox = Outbox::default();
    assert_eq!(outbox.set_with_driver(A, 100), 0);
    outbox.stream(A).written(b"<one/>");
    outbox.wire(A).extend_from_slice(b"four");
    assert_eq!((outbox.waiting(A), outbox.waiting(ConnId { generation: 2, ..A })), (110, 0));
    drop(outbox.take(Millis(0), false));
    assert_eq!((outbox.waiting(A), outbox.set_with_driver(A, 0), outbox.waiting(A)), (100, 100, 0));
}

#[test]
fn a_message_behind_what_its_client_has_not_taken_has_waited() {
    let mut outbox = Outbox::default();
    outbox.times.begin(std::time::Instant::now());
    let prompt = |outbox: &mut Outbox| {
        outbox.write_message(A, b"<message/>");
        outbox.take(Millis(0), false)[0].messages.prompt()
    };
    assert_eq!(prompt(&mut outbox), 1);
    outbox.set_with_driver(A, 100);
    assert_eq!(prompt(&mut outbox), 0);
    outbox.set_with_driver(A, 0);
    assert_eq!(prompt(&mut outbox), 1);
}

#[test]
fn what_carries_a_stream_stays_when_its_output_is_taken() {
    let mut outbox = Outbox::default();
    outbox.set_transport(A, Transport::WebSocket);
    for _ in 0..2 {
        outbox.stream(A).written(b"<one xmlns='a'/>");
        assert_eq!(outbox.take(Millis(0), false)[0].plain[..2], [0x81, 16]);
    }
    outbox.stream(A).written(b"<one xmlns='a'/>");
    outbox.set_transport(A, Transport::Tcp);
    outbox.stream(A).written(b"<two/>");
    assert_eq!(outbox.take(Millis(0), false)[0].plain[18..], *b"<two/>");
}

fn conn(index: u32) -> ConnId {
    ConnId { index, generation: 1 }
}

/// Writes something that may wait.
fn say(outbox: &mut Outbox, conn: ConnId, now: Millis) {
    let since = outbox.waits_since(conn, now);
    outbox.stream(conn).written(b"<said/>");
    outbox.may_wait(conn, since);
}

#[test]
fn what_may_wait_goes_with_what_follows_or_when_its_time_is_over() {
    let mut outbox = Outbox::default();
    say(&mut outbox, A, Millis(10));
    assert!(outbox.has_news() && outbox.take(Millis(10), true).is_empty());
    assert!(!outbox.has_news() && !outbox.is_empty(), "it waits and is nothing new");
    say(&mut outbox, A, Millis(12));
    assert!(outbox.take(Millis(14), true).is_empty());
    assert_eq!(outbox.waiting(A), 14);
    assert_eq!(
        outbox.take(Millis(15), true)[0].plain,
        b"<said/><said/>",
        "five milliseconds after the first"
    );
    say(&mut outbox, A, Millis(20));
    assert!(outbox.take(Millis(20), true).is_empty());
    assert_eq!(outbox.take(Millis(20), false).len(), 1, "nothing more comes");
    assert!(outbox.is_empty());
}

#[test]
fn nothing_else_waits_for_what_may_wait() {
    let mut outbox = Outbox::default();
    say(&mut outbox, A, Millis(10));
    outbox.stream(A).written(b"<mine/>");
    assert_eq!(outbox.take(Millis(10), true)[0].plain, b"<said/><mine/>");
    outbox.stream(A).written(b"<mine/>");
    say(&mut outbox, A, Millis(10));
    assert_eq!(outbox.take(Millis(10), true)[0].plain, b"<mine/><said/>");
    say(&mut outbox, A, Millis(10));
    assert!(outbox.take(Millis(10), true).is_empty());
    outbox.act(A, Action::Close(CloseHow::Flush));
    assert!(outbox.has_news());
    assert_eq!(outbox.take(Millis(10), true)[0].action, Action::Close(CloseHow::Flush));
}

#[test]
fn those_who_waited_go_in_their_order_some_at_a_time() {
    let mut outbox = Outbox::default();
    let count = RELEASED_MAX as u32 * 2;
    (0..count).for_each(|index| say(&mut outbox, conn(index), Millis(0)));
    assert!(outbox.take(Millis(0), true).is_empty());
    let first = outbox.take(Millis(0), false);
    assert_eq!((first.len(), first[0].conn), (RELEASED_MAX, conn(0)));
    // The rest takes more meanwhile, and one whose index is somebody else's keeps to itself.
    let later = ConnId { generation: 2, ..conn(count - 1) };
    say(&mut outbox, conn(count - 2), Millis(1));
    say(&mut outbox, later, Millis(1));
    let second = outbox.take(Millis(1), false);
    assert_eq!((second.len(), second[0].conn), (RELEASED_MAX, conn(RELEASED_MAX as u32)));
    assert_eq!(second[RELEASED_MAX - 2].plain, b"<said/><said/>");
    let third = outbox.take(Millis(2), false);
    assert_eq!((third.len(), third[0].conn, outbox.is_empty()), (1, later, true));
}

#[test]
fn what_does_not_wait_goes_before_those_who_waited() {
    let mut outbox = Outbox::default();
    (0..3).for_each(|index| say(&mut outbox, conn(index), Millis(0)));
    assert!(outbox.take(Millis(0), true).is_empty());
    let urgent = ConnId { index: 7, generation: 1 };
    outbox.stream(urgent).written(b"<mine/>");
    let order: Vec<ConnId> = outbox.take(Millis(9), true).iter().map(|entry| entry.conn).collect();
    assert_eq!(order, [urgent, conn(0), conn(1), conn(2)]);
}

#[test]
fn much_does_not_wait() {
    let mut outbox = Outbox::default();
    for _ in 0..WAITING_BYTES_MAX / 7 + 1 {
        say(&mut outbox, A, Millis(0));
    }
    assert_eq!(outbox.take(Millis(0), true).len(), 1);
}

#[test]
fn a_close_is_not_undone_by_a_pause() {
    let mut outbox = Outbox::default();
    outbox.act(A, Action::Close(CloseHow::Flush));
    outbox.act(A, Action::Resume);
    assert_eq!(outbox.take(Millis(0), false)[0].action, Action::Close(CloseHow::Flush));
}

#[test]
fn messages_from_one_to_one_go_before_what_many_get() {
    let conn = |index: usize| ConnId { index: index as u32, generation: 1 };
    let taken = |others: usize| {
        let mut outbox = Outbox::default();
        outbox.times.begin(std::time::Instant::now());
        (0..others).for_each(|index| outbox.stream(conn(index)).written(b"<presence/>"));
        (others..others + 2).for_each(|index| outbox.write_message(conn(index), b"<message/>"));
        (others + 2..others + 4).for_each(|index| outbox.stream(conn(index)).written(b"<presence/>"));
        let mut entries = outbox.take(Millis(0), false);
        let first = prompt_first(&mut entries);
        let mut order: Vec<u32> = entries.iter().map(|entry| entry.conn.index).collect();
        let ahead = order[..2].to_vec();
        order.sort_unstable();
        assert_eq!(order, (0..others as u32 + 4).collect::<Vec<_>>(), "each once");
        (first, ahead)
    };
    assert_eq!(taken(OTHERS_MIN), (Some(2), vec![16, 17]));
    assert_eq!(taken(OTHERS_MIN - 3), (None, vec![0, 1]), "too few to wait for");
}
