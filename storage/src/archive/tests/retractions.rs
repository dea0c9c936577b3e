//! Retractions: found again until they have taken effect, and what they are about.

use super::*;
use crate::actor::ActorKind;
use crate::archive::retract::{Meant, Replace, RetractQuery, Retracted};

impl House {
    /// One retracts what it has said to another.
    fn retract(&mut self, from: ActorId, to: ActorId, text: &str) {
        self.now_ms += 1_000;
        let payload = format!("retract {text}");
        let body = Body { time_ms: self.now_ms, origin: Origin::default(), payload: payload.as_bytes() };
        let both = Flags::ARCHIVED.and(Flags::RETRACTS);
        let copies = [
            ActorCopy { actor: to, flags: both, peer: peer(from) },
            ActorCopy { actor: from, flags: both.and(Flags::NOT_QUEUED), peer: peer(to) },
        ];
        let mut results = Vec::new();
        for (copy, of) in copies.iter().zip([to, from]) {
            let shard = self.shard(of);
            self.logs[shard].append_for(&[*copy], &body, &mut results);
            results[0].unwrap();
        }
    }

    /// The retractions of a log that have not taken effect.
    fn open_retractions(&self, shard: usize) -> Vec<Retraction> {
        self.logs[shard].second().retractions().copied().collect()
    }

    fn find(&self, shard: usize, retraction: Retraction, looks_max: usize) -> Vec<Retracted> {
        let actor = retraction.actor;
        let query = RetractQuery {
            retraction,
            snapshot: self.logs[shard].second().snapshot(actor),
            waiting: (self.logs[shard].id(), self.logs[shard].newest_waiting(actor, looks_max)),
            not_before: Sequence::ZERO,
            looks_max,
            read: Box::new(|_, text| {
                let meant = text.strip_prefix(b"retract ")?.to_vec();
                // In a room it is the id.
                let target =
                    meant.strip_prefix(b"#").map(|id| std::str::from_utf8(id).unwrap().parse().unwrap());
                let replace: Replace = Arc::new(move |_, text| {
                    (text == meant || meant.starts_with(b"#")).then(|| b"tombstone".to_vec())
                });
                Some(Meant { replace, target: target.map(Sequence) })
            }),
        };
        self.reader().retracted(query).unwrap()
    }

    /// All open retractions take effect. Returns how many messages they erased.
    fn take_effect(&mut self) -> usize {
        let mut erased = 0;
        for shard in 0..self.logs.len() {
            for retraction in self.open_retractions(shard) {
                for Retracted { id, erased: one } in self.find(shard, retraction, 1000) {
                    let actor = retraction.actor;
                    let Some(one) = one else {
                        assert!(self.logs[shard].is_waiting(actor, id), "it waits still");
                        continue;
                    };
                    let erase =
                        move |t: &mut directory::WriteTransaction<'_>| t.erase_from_archive(actor, id, &one);
                    run_inline(&self.directory, Box::new(erase)).unwrap();
                    erased += 1;
                }
                self.logs[shard].second_mut().retracted(&retraction);
            }
        }
        erased
    }
}

#[test]
fn a_retraction_is_told_again_until_it_has_taken_effect() {
    for (shards, with_checkpoint) in [(1, false), (1, true), (2, false), (2, true)] {
        let mut house = House::with(Settings::default(), shards);
        for number in 0..150 {
            house.say(ANNA, BEN, &number.to_string());
        }
        house.retract(ANNA, BEN, "7");
        assert_eq!(house.logs[0].second().retractions().count(), 0, "what is not durable has no effect");
        house.flush();
        let open = |house: &House| {
            (0..house.logs.len()).map(|shard| house.open_retractions(shard).len()).sum::<usize>()
        };
        assert_eq!(open(&house), 2, "one for each side");
        // Rows have everything else by now; over any crash, with another number of workers, too.
        for again in [shards, 3, 1, shards] {
            if with_checkpoint {
                house.logs.iter().for_each(|log| log.checkpoint().unwrap());
            }
            house.open(again);
            house.commit();
            assert_eq!(open(&house), 2, "{shards} {again} {with_checkpoint}");
        }
        assert_eq!(house.take_effect(), 2);
        assert_eq!((open(&house), house.take_effect()), (0, 0));
        for log in &mut house.logs {
            assert_eq!(log.second().load().retractions, 0);
        }
        // A crash may have them told once more: what is erased is not erased again.
        house.say(BEN, ANNA, "later");
        house.flush();
        house.open(shards);
        house.commit();
        assert_eq!(house.take_effect(), 0);
        for actor in [ANNA, BEN] {
            let texts = house.texts(house.query(actor));
            assert_eq!((&*texts[7], &*texts[8], texts.len()), ("tombstone", "8", 152));
        }
        let held: u64 = house.logs.iter().map(|log| log.second().load().retractions).sum();
        assert_eq!(held, 0);
    }
}

#[test]
fn a_retraction_finds_all_that_it_means_within_its_depth() {
    let mut house = House::new();
    house.say(ANNA, BEN, "same");
    for number in 0..100 {
        house.say(ANNA, BEN, &number.to_string());
        house.say(ANNA, CARL, "same");
    }
    let id = house.say(BEN, ANNA, "same");
    house.logs[0].trim(ANNA, id);
    house.flush();
    house.say(ANNA, BEN, "same");
    house.retract(ANNA, BEN, "same");
    house.say(ANNA, BEN, "same");
    house.commit();
    let retraction = *house.logs[0].second().retractions().find(|one| one.actor == ANNA).unwrap();
    let times = |looks_max| house.find(0, retraction, looks_max).len();
    // With Ben alone: 100 numbers lie between the first and the second one; the last comes after the retraction.
    assert_eq!((times(1), times(2), times(101), times(102), times(103), times(1000)), (1, 2, 2, 2, 3, 3));
}

/// As a server counts them for one that Anna is about to get of Ben.
fn load_of(house: &House) -> RetractionLoad {
    house.logs[0].second().retraction_load(ANNA, peer(BEN))
}

#[test]
fn who_sends_and_who_receives_retractions_is_counted_over_a_crash() {
    let mut house = House::new();
    house.say(ANNA, BEN, "text");
    for number in 0..3 {
        house.retract(BEN, ANNA, &number.to_string());
    }
    house.retract(CARL, ANNA, "4");
    house.retract(ANNA, BEN, "5");
    house.retract(BEN, CARL, "6");
    house.flush();
    let expected = RetractionLoad {
        all: 12,
        received: 6,
        sent_by_account: 1,
        received_by_account: 4,
        of_author: 4,
        of_author_by_account: 3,
    };
    assert_eq!(load_of(&house), expected);
    for with_checkpoint in [false, true] {
        if with_checkpoint {
            house.logs.iter().for_each(|log| log.checkpoint().unwrap());
        }
        house.open(1);
        house.commit();
        assert_eq!(load_of(&house), expected, "{with_checkpoint}");
    }
    house.take_effect();
    assert_eq!(load_of(&house), RetractionLoad::default());
}

#[test]
fn a_retraction_costs_no_walk_over_all_of_a_large_archive() {
    let mut house = House::new();
    house.say(ANNA, BEN, "same");
    // Long ago: texts of others lie between, more than are read for a retraction.
    let filler = "x".repeat(7 << 10);
    for number in 0..2400 {
        let id = house.say(ANNA, BEN, &filler);
        house.logs[0].trim(BEN, id);
        if number % 50 == 0 {
            house.commit();
        }
    }
    house.say(ANNA, BEN, "same");
    house.retract(ANNA, BEN, "same");
    house.commit();
    let retraction = *house.logs[0].second().retractions().find(|one| one.actor == ANNA).unwrap();
    assert_eq!(house.find(0, retraction, 10_000).len(), 1, "16 MiB lie before the other");
}

#[test]
fn what_is_in_the_mailbox_alone_is_found_there() {
    let mut house = House::new();
    let body = Body { time_ms: house.now_ms, origin: Origin::default(), payload: b"secret" };
    let mut results = Vec::new();
    house.logs[0].append_for(&[ActorCopy::queued(BEN)], &body, &mut results);
    let id = results[0].unwrap().sequence;
    house.say(ANNA, BEN, "else");
    house.retract(ANNA, BEN, "secret");
    house.commit();
    let of_ben = *house.logs[0].second().retractions().find(|one| one.actor == BEN).unwrap();
    assert_eq!(house.find(0, of_ben, 10), [Retracted { id, erased: None }]);
    assert_eq!(house.find(0, of_ben, 2), [], "two others wait behind it");
}

#[test]
fn a_removed_actor_has_no_retractions_and_open_ones_hold_their_segment() {
    let mut house = House::new();
    house.say(ANNA, BEN, "text");
    house.retract(ANNA, BEN, "text");
    house.flush();
    let first = Position(house.logs[0].journal().first());
    assert!(house.logs[0].second().held(first).records >= 2);
    for actor in [ANNA, BEN] {
        house.logs[0].purge(actor);
        run_inline(&house.directory, Box::new(move |t| t.purge_archive(actor))).unwrap();
        house.commit();
        assert_eq!(house.logs[0].second().retractions_of(actor), 0);
    }
    let sweep =
        directory::Sweep { after: ActorId::NOBODY, not_before: Sequence::ZERO, actors_max: 9, rows_max: 9 };
    let swept = run_inline(&house.directory, Box::new(move |t| t.sweep_archive(&sweep))).unwrap();
    house.tallies.apply(&swept.segments);
    house.commit();
    assert_eq!(house.logs[0].second().held(first).records, 0);
}

const ROOM: ActorId = ActorId::new(ActorKind::Room, 2);

impl House {
    /// One says something in the room.
    fn say_in_room(&mut self, from: ActorId, text: &str, flags: Flags) -> Sequence {
        self.now_ms += 1_000;
        let body = Body { time_ms: self.now_ms, origin: Origin::default(), payload: text.as_bytes() };
        let flags = flags.and(Flags::ARCHIVED).and(Flags::NOT_QUEUED);
        let mut results = Vec::new();
        let shard = self.shard(ROOM);
        self.logs[shard].append_for(
            &[ActorCopy { actor: ROOM, flags, peer: peer(from) }],
            &body,
            &mut results,
        );
        results[0].unwrap().sequence
    }
}

#[test]
fn a_retraction_by_id_finds_one_message_however_old_and_whosever_it_is() {
    let mut house = House::new();
    let old = house.say_in_room(ANNA, "old", Flags::NONE);
    for number in 0..300 {
        house.say_in_room(BEN, &number.to_string(), Flags::NONE);
    }
    house.flush();
    let new = house.say_in_room(ANNA, "new", Flags::NONE);
    for id in [old, new] {
        house.say_in_room(CARL, &format!("retract #{}", id.0), Flags::RETRACTS);
    }
    house.commit();
    for (retraction, id) in house.open_retractions(0).into_iter().zip([old, new]) {
        assert!(retraction.is_received, "by the room");
        let found: Vec<_> = house.find(0, retraction, 1).iter().map(|one| one.id).collect();
        assert_eq!(found, [id]);
    }
    let load = house.logs[0].second().retraction_load(ROOM, peer(CARL));
    assert_eq!((load.received_by_account, load.of_author, load.sent_by_account), (2, 2, 0));
    assert_eq!(house.take_effect(), 2);
    // What is erased is not erased again; what comes later, or is nobody's, is not there.
    for id in [old.0, new.0 + 100_000_000, 0, u64::MAX] {
        house.say_in_room(CARL, &format!("retract #{id}"), Flags::RETRACTS);
    }
    house.commit();
    assert_eq!(house.take_effect(), 0);
    let texts = house.texts(house.query(ROOM));
    assert_eq!((&*texts[0], &*texts[1], &*texts[301]), ("tombstone", "0", "tombstone"));
}
