use whimbrel_storage::actor::ActorId;
use whimbrel_storage::log::Sequence;

use super::*;
use crate::simulation::{Settings, World};
use crate::stanza::Kind;
use crate::stream::sm::{StreamId, StreamManagement, Unacked};
use crate::user::inputs::Unhandled;

const KIB: usize = 1024;

/// A home of one worker, whose accounts may have 400 KiB and ten resources, so a part is 10 KiB.
fn in_a_home(test: impl FnOnce(&mut Home)) {
    let data = tempfile::tempdir().unwrap();
    let settings = Settings { workers: 1, ..Settings::small(1) };
    let mut world = World::new(settings, data.path()).unwrap();
    let home = world.home_mut(0);
    let mut config = (*home.config).clone();
    config.limits.account_memory_kib = 400;
    config.limits.resources_per_user = 10;
    config.limits.output_backlog_bytes = 200_000;
    home.config = config.into();
    test(home);
}

fn bind(home: &mut Home, name: &str, index: u32) -> (ResourceKey, ConnId) {
    let conn = ConnId { index, generation: 0 };
    (home.users.insert(ActorId::user(7), "juliet", name, conn, || None), conn)
}

fn remember(home: &mut Home, key: ResourceKey, bytes: usize) {
    let sm = home.users.flow_mut(key).sm.get_or_insert_with(|| StreamManagement::new(StreamId(1), 60));
    sm.sent(Unacked::Stanza { kind: Kind::Presence, sender: 1, bytes: vec![b'p'; bytes].into() }, bytes);
}

fn detach(home: &mut Home, key: ResourceKey) {
    home.users.resource_mut(key).conn = ConnId::NONE;
}

#[test]
fn every_part_is_in_the_sum() {
    in_a_home(|home| {
        let (key, conn) = bind(home, "balcony", 1);
        let user = home.users.resource(key).user;
        assert_eq!(of_account(home, user), Sum::default());
        home.out.plain(conn).extend_from_slice(&[b'o'; 100]);
        home.out.set_with_driver(conn, 11);
        home.inputs.set(conn, Unhandled { waiting: 1_000, unfinished: 20_000 });
        remember(home, key, 3_000);
        assert!(inactive::hold(
            home,
            key,
            Kind::Presence,
            "a@x/1",
            inactive::Urgency::Replaceable,
            &[b'h'; 400]
        ));
        let resource = home.users.resource_mut(key);
        resource.presence = vec![b'p'; 50].into();
        resource.directed = Some(Box::new(vec!["b@x".into()]));
        for n in 0..3 {
            home.ledger.append(ActorId::user(7), n, b"message", None, &home.shared.metrics[0]).unwrap();
        }
        let sum = of_account(home, user);
        let Use { output, input, unfinished, unacked, held, presence } = sum.resources;
        assert_eq!((output, input, unfinished), (111, 1_000, 20_000));
        assert!((3_000..4_000).contains(&unacked), "{unacked}");
        assert!((400..600).contains(&held), "{held}");
        assert_eq!(presence, 50 + 3 + size_of::<Box<str>>());
        assert!((40..600).contains(&sum.index), "{}", sum.index);
        assert_eq!(sum.total(), sum.resources.total() + sum.index);
        assert_eq!(sum.beyond, sum.resources.total() - part(home));
    });
}

#[test]
fn a_part_is_had_in_any_case_and_what_is_beyond_is_shared() {
    in_a_home(|home| {
        let (greedy, conn) = bind(home, "greedy", 1);
        let (modest, _) = bind(home, "modest", 2);
        assert_eq!(part(home), 10 * KIB);
        home.inputs.set(conn, Unhandled { waiting: 0, unfinished: 310 * KIB });
        assert!(has(home, greedy, 0), "the ten KiB of its part, and three quarters of the share");
        assert!(!has(home, greedy, 1));
        assert!(has(home, modest, 10 * KIB));
        assert!(!has(home, modest, 10 * KIB + 1));
        home.inputs.set(conn, Unhandled { waiting: 0, unfinished: 300 * KIB });
        assert!(has(home, modest, 20 * KIB));
        assert!(!has(home, modest, 20 * KIB + 1));
        assert_eq!(home.metrics().account_memory_high.get(), 310 * KIB as u64);
    });
}

#[test]
fn connections_with_output_are_not_read_at_the_half() {
    in_a_home(|home| {
        let (reads_not, one) = bind(home, "deaf", 1);
        let (other, _) = bind(home, "other", 2);
        home.out.set_with_driver(one, 150 * KIB);
        assert!(reads(home, reads_not, 150 * KIB));
        let (_, third) = bind(home, "third", 3);
        home.inputs.set(third, Unhandled { waiting: 50 * KIB, unfinished: 0 });
        assert!(!reads(home, reads_not, 150 * KIB), "input that waits counts as well");
        assert!(!reads(home, other, 17 * KIB));
        assert!(reads(home, other, 16 * KIB), "one that holds next to nothing is not stopped by the others");
    });
}

#[test]
fn the_oldest_session_without_a_connection_gives_up_first() {
    in_a_home(|home| {
        let (first, _) = bind(home, "first", 1);
        let (second, _) = bind(home, "second", 2);
        let (here, conn) = bind(home, "here", 3);
        for key in [first, second] {
            remember(home, key, 100 * KIB);
            detach(home, key);
        }
        home.inputs.set(conn, Unhandled { waiting: 0, unfinished: 150 * KIB });
        assert!(has(home, here, 0));
        let kept = |home: &Home, key| of_resource(home, home.users.resource(key)).unacked;
        assert!(kept(home, first) < KIB, "{}", kept(home, first));
        assert!(kept(home, second) > 100 * KIB, "one was enough");
        assert!(home.over.is_empty());
        assert!(has(home, here, 100 * KIB));
        assert_eq!(home.over, [first], "it ends before the next one gives up anything");
        assert!(kept(home, second) < KIB);
        assert!(!has(home, here, 200 * KIB), "there is nothing more to be had");
        assert_eq!(home.over, [first, second], "not even by ending them");
    });
}

#[test]
fn a_message_stays_in_the_log_only_if_something_will_bring_it() {
    use crate::user::room::{Room, for_message};
    in_a_home(|home| {
        let (full, conn) = bind(home, "full", 1);
        let (other, its) = bind(home, "other", 2);
        home.inputs.set(conn, Unhandled { waiting: 0, unfinished: 400 * KIB });
        assert_eq!(for_message(home, full), Room::Now, "nothing waits whose going would be noticed");
        home.out.set_with_driver(conn, 1);
        assert_eq!(for_message(home, full), Room::Later);
        assert_eq!(for_message(home, other), Room::Now);
        home.out.set_with_driver(its, 11 * KIB);
        assert_eq!(for_message(home, other), Room::Later);
        home.out.set_with_driver(its, 0);
        let sm = home.users.flow_mut(other).sm.insert(StreamManagement::new(StreamId(2), 60));
        sm.sent(Unacked::Record { sequence: Sequence(1), length: 10 }, 10);
        home.inputs.set(its, Unhandled { waiting: 11 * KIB, unfinished: 0 });
        assert_eq!(for_message(home, other), Room::Later);
    });
}

#[test]
fn what_others_send_has_half_and_strips_nobody() {
    in_a_home(|home| {
        let (absent, _) = bind(home, "phone", 1);
        remember(home, absent, 60 * KIB);
        detach(home, absent);
        let (slow, conn) = bind(home, "desk", 2);
        home.out.plain(conn).extend_from_slice(&vec![b'o'; 105 * KIB]);
        // Beyond their parts of 10 KiB they hold 50 and 95 of 300 KiB; half of that is for what others send.
        assert!(has_for_others(home, slow, 3 * KIB));
        assert!(!has_for_others(home, slow, 20 * KIB));
        assert_eq!(home.metrics().account_stripped.get(), 0);
        assert!(has(home, slow, 20 * KIB), "what it does itself has the rest");
        assert_eq!(home.metrics().account_stripped.get(), 0);
        assert!(has(home, slow, 170 * KIB), "and the room of the session that is not there");
        assert!(home.metrics().account_stripped.get() > 0);
    });
}
