use whimbrel_storage::actor::ActorId;
use whimbrel_storage::log::{ActorCopy, Sequence};

use super::*;
use crate::proto::sm::{StreamId, StreamManagement, Unacked};
use crate::simulation::{Settings, World};
use crate::stanza::Kind;
use crate::user::entities::{Entities, Entity};
use crate::user::flow::Outgoing;
use crate::user::inputs::Unhandled;
use crate::user::tables::Users;

const KIB: usize = 1024;

/// A home of one worker, whose accounts may have 400 KiB and ten resources, so a part is 10 KiB.
fn in_a_home(test: impl FnOnce(&mut Actors, &Env, &mut Effects)) {
    let data = tempfile::tempdir().unwrap();
    let settings = Settings { workers: 1, ..Settings::small(1) };
    let mut world = World::new(settings, data.path()).unwrap();
    let (actors, env, fx) = world.parts_mut(0);
    let mut config = (*env.config).clone();
    config.limits.account_memory_kib = 400;
    config.limits.resources_per_user = 10;
    config.limits.output_backlog_bytes = 200_000;
    env.config = config.into();
    test(actors, env, fx);
}

/// An element of so many bytes.
fn element_of(bytes: usize) -> Vec<u8> {
    let mut element = vec![b'o'; bytes];
    element[0] = b'<';
    element[bytes - 2..].copy_from_slice(b"/>");
    element
}

fn bind(users: &mut Users, name: &str, index: u32) -> (ResourceKey, ConnId) {
    let conn = ConnId { index, generation: 0 };
    (users.insert(ActorId::user(7), "juliet", name, conn, || None), conn)
}

fn remember(users: &mut Users, key: ResourceKey, bytes: usize) {
    let sm = users.flow_mut(key).sm.get_or_insert_with(|| StreamManagement::new(StreamId(1), 60));
    sm.sent(Unacked::Stanza { kind: Kind::Presence, sender: 1, bytes: vec![b'p'; bytes].into() }, bytes);
}

fn detach(users: &mut Users, key: ResourceKey) {
    users.resource_mut(key).conn = ConnId::NONE;
}

#[test]
fn every_part_is_in_the_sum() {
    in_a_home(|actors, env, fx| {
        let (key, conn) = bind(&mut actors.users, "balcony", 1);
        let user = actors.users.resource(key).user;
        assert_eq!(of_account(actors, env, fx, user), Sum::default());
        fx.out.stream(conn).written(&element_of(100));
        fx.out.set_with_driver(conn, 11);
        actors.inputs.set(conn, Unhandled { waiting: 1_000, unfinished: 20_000 });
        remember(&mut actors.users, key, 3_000);
        let held = Outgoing::presence("a@x/1", &[b'h'; 400]);
        assert!(inactive::hold(actors, env, fx, key, &held));
        let resource = actors.users.resource_mut(key);
        resource.presence = vec![b'p'; 50].into();
        resource.directed = Some(Box::new([Entity::Jid("b@x")].into_iter().collect()));
        for n in 0..3 {
            let copies = (ActorCopy::queued(ActorId::user(7)), None);
            let outcome = actors.commits.append(copies, n, b"message", None, &env.shared.metrics[0]);
            assert!(outcome.recipient.is_ok());
        }
        let sum = of_account(actors, env, fx, user);
        let Use { output, input, unfinished, unacked, held, presence } = sum.resources;
        assert_eq!((output, input, unfinished), (111, 1_000, 20_000));
        assert!((3_000..4_000).contains(&unacked), "{unacked}");
        assert!((400..600).contains(&held), "{held}");
        assert_eq!(presence, 50 + Entities::bytes_of(Entity::Jid("b@x")));
        assert!((40..600).contains(&sum.index), "{}", sum.index);
        assert_eq!(sum.total(), sum.resources.total() + sum.index);
        assert_eq!(sum.beyond, sum.resources.total() - part(env));
    });
}

#[test]
fn a_part_is_had_in_any_case_and_what_is_beyond_is_shared() {
    in_a_home(|actors, env, fx| {
        let (greedy, conn) = bind(&mut actors.users, "greedy", 1);
        let (modest, _) = bind(&mut actors.users, "modest", 2);
        assert_eq!(part(env), 10 * KIB);
        actors.inputs.set(conn, Unhandled { waiting: 0, unfinished: 310 * KIB });
        assert!(has(actors, env, fx, greedy, 0), "the ten KiB of its part, and three quarters of the share");
        assert!(!has(actors, env, fx, greedy, 1));
        assert!(has(actors, env, fx, modest, 10 * KIB));
        assert!(!has(actors, env, fx, modest, 10 * KIB + 1));
        actors.inputs.set(conn, Unhandled { waiting: 0, unfinished: 300 * KIB });
        assert!(has(actors, env, fx, modest, 20 * KIB));
        assert!(!has(actors, env, fx, modest, 20 * KIB + 1));
        assert_eq!(env.metrics().account_memory_high.get(), 310 * KIB as u64);
    });
}

#[test]
fn connections_with_output_are_not_read_at_the_half() {
    in_a_home(|actors, env, fx| {
        let (reads_not, one) = bind(&mut actors.users, "deaf", 1);
        let (other, _) = bind(&mut actors.users, "other", 2);
        fx.out.set_with_driver(one, 150 * KIB);
        assert!(reads(actors, env, fx, reads_not, 150 * KIB));
        let (_, third) = bind(&mut actors.users, "third", 3);
        actors.inputs.set(third, Unhandled { waiting: 50 * KIB, unfinished: 0 });
        assert!(!reads(actors, env, fx, reads_not, 150 * KIB), "input that waits counts as well");
        assert!(!reads(actors, env, fx, other, 17 * KIB));
        assert!(
            reads(actors, env, fx, other, 16 * KIB),
            "one that holds next to nothing is not stopped by the others"
        );
    });
}

#[test]
fn the_oldest_session_without_a_connection_gives_up_first() {
    in_a_home(|actors, env, fx| {
        let (first, _) = bind(&mut actors.users, "first", 1);
        let (second, _) = bind(&mut actors.users, "second", 2);
        let (here, conn) = bind(&mut actors.users, "here", 3);
        for key in [first, second] {
            remember(&mut actors.users, key, 100 * KIB);
            detach(&mut actors.users, key);
        }
        actors.inputs.set(conn, Unhandled { waiting: 0, unfinished: 150 * KIB });
        assert!(has(actors, env, fx, here, 0));
        let kept = |actors: &Actors, fx: &Effects, key| {
            of_resource((&actors.inputs, &actors.writes), fx, actors.users.resource(key)).unacked
        };
        assert!(kept(actors, fx, first) < KIB, "{}", kept(actors, fx, first));
        assert!(kept(actors, fx, second) > 100 * KIB, "one was enough");
        assert!(fx.ended.is_empty());
        assert!(has(actors, env, fx, here, 100 * KIB));
        assert_eq!(fx.ended, [first], "it ends before the next one gives up anything");
        assert!(kept(actors, fx, second) < KIB);
        assert!(!has(actors, env, fx, here, 200 * KIB), "there is nothing more to be had");
        assert_eq!(fx.ended, [first, second], "not even by ending them");
    });
}

#[test]
fn a_message_stays_in_the_log_only_if_something_will_bring_it() {
    use crate::user::room::{Room, for_message};
    in_a_home(|actors, env, fx| {
        let (full, conn) = bind(&mut actors.users, "full", 1);
        let (other, its) = bind(&mut actors.users, "other", 2);
        actors.inputs.set(conn, Unhandled { waiting: 0, unfinished: 400 * KIB });
        assert_eq!(
            for_message(actors, env, fx, full),
            Room::Now,
            "nothing waits whose going would be noticed"
        );
        fx.out.set_with_driver(conn, 1);
        assert_eq!(for_message(actors, env, fx, full), Room::Later);
        assert_eq!(for_message(actors, env, fx, other), Room::Now);
        fx.out.set_with_driver(its, 11 * KIB);
        assert_eq!(for_message(actors, env, fx, other), Room::Later);
        fx.out.set_with_driver(its, 0);
        let sm = actors.users.flow_mut(other).sm.insert(StreamManagement::new(StreamId(2), 60));
        sm.sent(Unacked::Record { sequence: Sequence(1), length: 10 }, 10);
        actors.inputs.set(its, Unhandled { waiting: 11 * KIB, unfinished: 0 });
        assert_eq!(for_message(actors, env, fx, other), Room::Later);
    });
}

#[test]
fn what_others_send_has_half_and_strips_nobody() {
    in_a_home(|actors, env, fx| {
        let (absent, _) = bind(&mut actors.users, "phone", 1);
        remember(&mut actors.users, absent, 60 * KIB);
        detach(&mut actors.users, absent);
        let (slow, conn) = bind(&mut actors.users, "desk", 2);
        fx.out.stream(conn).written(&element_of(105 * KIB));
        // Beyond their parts of 10 KiB they hold 50 and 95 of 300 KiB; half of that is for what others send.
        assert!(has_for_others(actors, env, fx, slow, 3 * KIB));
        assert!(!has_for_others(actors, env, fx, slow, 20 * KIB));
        assert_eq!(env.metrics().account_stripped.get(), 0);
        assert!(has(actors, env, fx, slow, 20 * KIB), "what it does itself has the rest");
        assert_eq!(env.metrics().account_stripped.get(), 0);
        assert!(has(actors, env, fx, slow, 170 * KIB), "and the room of the session that is not there");
        assert!(env.metrics().account_stripped.get() > 0);
    });
}
