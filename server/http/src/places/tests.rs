//! Connections that never end by themselves, with a clock that stands still unless everybody waits.

use std::future::pending;

use super::*;

fn block(n: u8) -> Block {
    Block::of([10, 0, 0, n].into())
}

const LIMITS: Limits = Limits { all: 4, of_block: 3 };

/// Connections that never end by themselves; those that are ended are told by number.
struct World {
    places: Places,
    ended: Arc<Mutex<Vec<u64>>>,
    turns: HashMap<u64, Turn>,
}

struct Told(Arc<Mutex<Vec<u64>>>, u64);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(self.1);
    }
}

impl World {
    fn new() -> World {
        World { places: Places::default(), ended: Arc::default(), turns: HashMap::new() }
    }

    async fn connect(&mut self, n: u8, trusted: bool) -> Result<u64, Full> {
        // No two begin to wait at the same time.
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
        let place = self.places.enter(block(n), trusted, LIMITS)?;
        let (number, told) = (place.number, Told(self.ended.clone(), place.number));
        self.turns.insert(number, place.turn.clone());
        self.places.serve(place, |_| async move {
            let _told = told;
            pending::<()>().await;
        });
        tokio::task::yield_now().await;
        Ok(number)
    }

    async fn ended(&self) -> Vec<u64> {
        tokio::task::yield_now().await;
        self.ended.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_waiting_of_the_address_that_has_most_makes_room() {
    let mut world = World::new();
    for (n, expected) in [(1, 0), (2, 1), (2, 2), (1, 3)] {
        assert_eq!(world.connect(n, false).await, Ok(expected));
    }
    // Both have two: the one that comes would have three, and makes room itself.
    assert_eq!(world.connect(2, false).await, Ok(4));
    assert_eq!(world.ended().await, [1]);
    // Somebody else: the longest waiting of those that have two.
    assert_eq!(world.connect(3, false).await, Ok(5));
    assert_eq!(world.ended().await, [1, 0]);
    assert_eq!(world.places.count(), 4);
    world.turns[&2].served();
    assert_eq!(world.connect(4, false).await, Ok(6));
    assert_eq!(world.ended().await, [1, 0, 4], "one that is being answered stays");
}

#[tokio::test(start_paused = true)]
async fn a_complete_head_is_pushed_out_by_none_that_is_not() {
    let mut world = World::new();
    for n in 0..4 {
        assert_eq!(world.connect(n, false).await, Ok(n.into()));
    }
    for n in 0..3 {
        world.turns[&n].head_is_here();
    }
    // However many come, from however many addresses: the newest head makes room for the next.
    for n in 4..100 {
        assert_eq!(world.connect(n, false).await, Ok(n.into()));
    }
    assert_eq!(world.ended().await, (3..99).collect::<Vec<_>>());
    // The fourth body is one too many: the oldest of them goes.
    world.turns[&99].head_is_here();
    assert_eq!(world.ended().await.last(), Some(&0));
    assert_eq!(world.places.take_displaced(), 97);
    assert_eq!(world.places.take_displaced(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_share_that_is_taken_leaves_the_others_alone() {
    let mut world = World::new();
    let (one, other) = (Share { number: 1, most: 1 }, Share { number: 2, most: 3 });
    for n in 0..4 {
        world.connect(n, false).await.unwrap();
    }
    let join = |n: u64, share| {
        world.turns[&n].served();
        world.turns[&n].join(share)
    };
    assert_eq!(join(0, one), Ok(()));
    assert_eq!(join(0, one), Ok(()), "it has a place there already");
    assert_eq!(join(1, one), Err(Full::Share));
    assert_eq!(join(1, other), Ok(()));
    assert_eq!(join(2, other), Ok(()));
    assert_eq!(join(3, other), Ok(()));
    assert_eq!(world.turns[&0].join(other), Err(Full::Share));
    assert_eq!(world.turns[&0].share(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn bodies_are_bounded_in_each_share_by_itself() {
    let mut world = World::new();
    let (one, other) = (Share { number: 1, most: 1 }, Share { number: 2, most: 4 });
    for n in 0..4 {
        world.connect(n, false).await.unwrap();
    }
    for (n, share) in [(0, one), (1, other), (2, other), (3, other)] {
        world.turns[&n].head_is_here();
        assert_eq!(world.turns[&n].join(share), Ok(()));
    }
    assert!(world.ended().await.is_empty(), "three of four places of one share, and the one of the other");
    // One more in the share of four: its longest waiting goes, although one of another share has waited longer.
    let number = world.connect(9, false).await;
    assert_eq!(number, Err(Full::All), "nobody waits for a head");
    let limits = Limits { all: 8, of_block: 3 };
    let place = world.places.enter(block(9), false, limits).unwrap();
    let turn = place.turn.clone();
    world.places.serve(place, |_| pending());
    turn.head_is_here();
    assert_eq!(turn.join(other), Ok(()));
    assert_eq!(world.ended().await, [1]);
}

#[tokio::test(start_paused = true)]
async fn heads_have_less_time_the_fewer_places_are_left() {
    let mut world = World::new();
    let mut seconds = Vec::new();
    for n in 0..4 {
        let number = world.connect(n, false).await.unwrap();
        seconds.push(world.turns[&number].patience(std::time::Duration::from_secs(10)).as_secs_f32());
    }
    assert_eq!(seconds, [10.0, 10.0, 5.5, 1.0]);
}

#[tokio::test(start_paused = true)]
async fn an_address_at_its_share_makes_room_itself_or_gets_none() {
    let mut world = World::new();
    for n in 0..3 {
        assert_eq!(world.connect(1, false).await, Ok(n));
    }
    world.turns[&0].served();
    assert_eq!(world.connect(1, false).await, Ok(3));
    assert_eq!(world.ended().await, [1]);
    world.turns[&2].served();
    world.turns[&3].served();
    assert_eq!(world.connect(1, false).await, Err(Full::Share));
    assert_eq!(world.connect(2, false).await, Ok(4));
}

#[tokio::test(start_paused = true)]
async fn a_trusted_one_has_no_share_and_goes_last() {
    let mut world = World::new();
    for n in 0..3 {
        assert_eq!(world.connect(1, true).await, Ok(n));
    }
    assert_eq!(world.connect(2, false).await, Ok(3));
    assert_eq!(world.connect(1, true).await, Ok(4));
    assert_eq!(world.ended().await, [3]);
    assert_eq!(world.connect(3, false).await, Ok(5));
    assert_eq!(world.ended().await, [3, 0]);
}

#[tokio::test(start_paused = true)]
async fn where_each_is_being_answered_the_next_one_waits_for_room() {
    let mut world = World::new();
    for n in 0..4 {
        world.connect(n, false).await.unwrap();
    }
    world.turns.values().for_each(Turn::served);
    assert_eq!(world.connect(9, false).await, Err(Full::All));
    let places = world.places.clone();
    let waiting = tokio::spawn(async move { places.room().await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    world.places.table().rows[&2].end.as_ref().unwrap().abort();
    waiting.await.unwrap();
    assert!(world.connect(9, false).await.is_ok());
}
