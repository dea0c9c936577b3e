//! The rules notice what they are for.

use whimbrel_storage::log::Sequence;

use super::*;

#[test]
fn what_is_lost_invented_overtaken_or_doubled_without_a_reason_is_noticed() {
    let mut oracle = Oracle::default();
    let (first, second) = (oracle.send(0, 1, 1), oracle.send(0, 1, 1));
    oracle.nothing_is_lost(&BTreeSet::new()).unwrap();
    oracle.acknowledge(first, 5);
    oracle.nothing_is_lost(&BTreeSet::from([first])).unwrap();
    assert!(oracle.nothing_is_lost(&BTreeSet::new()).unwrap_err().contains("lost"));
    assert!(oracle.arrive(7, (0, 1), (1, 0)).unwrap_err().contains("never sent"));
    assert!(oracle.arrive(first, (0, 2), (1, 0)).unwrap_err().contains("at 2"));
    oracle.arrive(second, (0, 1), (1, 0)).unwrap();
    assert!(oracle.arrive(first, (0, 1), (1, 0)).unwrap_err().contains("after"));
    // In another session, and nobody was told that the first arrival was noticed.
    oracle.arrive(second, (0, 1), (1, 0)).unwrap();
    assert!(oracle.arrive(second, (0, 1), (2, 0)).unwrap_err().contains("in one session"));
    oracle.settle(second);
    assert!(oracle.arrive(second, (0, 1), (1, 0)).unwrap_err().contains("knew"));
    oracle.send_again(second);
    oracle.arrive(second, (0, 1), (1, 0)).unwrap();
}

#[test]
fn what_arrives_although_it_was_taken_back_is_noticed() {
    let mut oracle = Oracle::default();
    let first = oracle.send(0, 1, 1);
    oracle.acknowledge(first, 5);
    let retraction = oracle.retract(0, 0, 6).unwrap();
    assert_eq!((oracle.retracted_by(retraction), oracle.retract(1, 0, 6)), (Some(first), None));
    oracle.nothing_is_lost(&BTreeSet::new()).unwrap();
    oracle.acknowledge(retraction, 9);
    // On a stream that had begun before, it may have been on its way.
    oracle.arrive(first, (0, 1), (1, 8)).unwrap();
    assert!(oracle.arrive(first, (0, 1), (1, 10)).unwrap_err().contains("after its retraction"));
    assert_eq!(oracle.exchanged(&Wishes::default())[0].retracted, Some(true));
    assert_eq!(oracle.exchanged(&Wishes::default())[1].retracted, None);
}

#[test]
fn what_a_page_must_not_show_is_noticed_and_what_it_must_is_known() {
    let (mut oracle, wishes) = (Oracle::default(), Wishes::default());
    let (first, second, other) = (oracle.send(0, 1, 1), oracle.send(0, 1, 2), oracle.send(2, 1, 3));
    for n in [first, second, other] {
        oracle.acknowledge(n, 4);
    }
    let archived = |id, number| Archived { id: Sequence(id), number, is_retracted: false };
    let mut read = |archived: Archived, asked| oracle.read(&archived, 1, &wishes, (asked, 9));
    read(archived(10, first), 5).unwrap();
    assert!(read(archived(10, second), 5).unwrap_err().contains("calls messages"));
    assert!(read(archived(20, 7), 5).unwrap_err().contains("never sent"));
    let gone = Archived { is_retracted: true, ..archived(20, second) };
    assert!(read(gone, 5).unwrap_err().contains("nobody has retracted"));
    assert!(oracle.read(&archived(30, first), 2, &wishes, (5, 9)).unwrap_err().contains("comes to user 2"));
    let retraction = oracle.retract(0, 0, 6).unwrap();
    oracle.acknowledge(retraction, 8);
    oracle.read(&archived(20, second), 1, &wishes, (8, 9)).unwrap();
    assert!(oracle.read(&archived(20, second), 1, &wishes, (9, 10)).unwrap_err().contains("was retracted"));
    oracle.read(&gone, 1, &wishes, (9, 10)).unwrap();
    let all = |with| oracle.to_be_read(1, with, &wishes);
    assert_eq!(all(None), BTreeSet::from([first, second, other, retraction]));
    assert_eq!((all(Some((2, true))), all(Some((1, false)))), ([other].into(), [].into()));
    assert!(oracle.check_ids(1, &[archived(10, second)]).unwrap_err().contains("in place of"));
    oracle.forget_ids(1, 9);
    oracle.check_ids(1, &[archived(10, second)]).unwrap();
}

#[test]
fn a_copy_has_what_waited_when_it_was_made_and_nothing_comes_twice() {
    let mut oracle = Oracle::default();
    let (first, second) = (oracle.send(0, 1, 1), oracle.send(0, 1, 1));
    oracle.acknowledge(first, 4);
    oracle.acknowledge(second, 4);
    oracle.arrive(first, (0, 1), (1, 0)).unwrap();
    assert!(oracle.restored(&[].into()).unwrap_err().contains("in the copy"));
    let mut copy = oracle.restored(&[second].into()).unwrap();
    assert!(copy.has_arrived(first) && !copy.has_arrived(second));
    assert!(copy.arrive(first, (0, 1), (1, 0)).unwrap_err().contains("knew"));
    copy.arrive(second, (0, 1), (1, 0)).unwrap();
}
