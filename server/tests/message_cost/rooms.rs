//! What a room and its occupants hold, in the room's home and in their clients', and what a message to a large room costs others.
//!
//! All lives on one worker here, so both sides are counted together.

use super::*;
use whimbrel_server::effects::work;
use whimbrel_server::exchange::envelope::Batch;
use whimbrel_server::worker::ENVELOPE_UNITS;

/// Rooms that are counted.
const ROOMS: usize = 1000;

/// Rooms before anything is counted: buffers reach their size.
const FIRST_ROOMS: usize = 64;

/// Clients that are in all these rooms, or in some.
const HOLDERS: usize = 8;

/// Most bytes of a room with one occupant.
const ROOM_BYTES_MAX: i64 = 400;

/// Most bytes of each further occupant, with a nick of 16 bytes.
const OCCUPANT_BYTES_MAX: i64 = 80;

/// Most bytes of a room that everybody has left.
const EMPTY_BYTES_MAX: i64 = 8;

impl Bench {
    /// Occupants of all rooms that are in memory, and these rooms.
    fn rooms(&self) -> (usize, usize) {
        self.worker.core().actors().rooms.counts()
    }

    /// A client says something.
    fn hear(&mut self, client: usize, what: &str) {
        let bytes = self.over.wire(what);
        self.worker.driver_mut().input[client].extend_from_slice(&bytes);
    }

    /// Iterations, seconds apart, until nothing is left to do.
    fn rest(&mut self) {
        for _ in 0..4 {
            self.now += 1000;
            self.turn();
        }
    }

    /// Bytes of the worker's thread, but for what the driver has.
    fn live(&mut self) -> i64 {
        self.rest();
        let driver = self.worker.driver_mut();
        (driver.spent, driver.heard, driver.last) = (Vec::new(), Vec::new(), Vec::new());
        LIVE.get()
    }

    /// A client, by `of` a room's number, does something to each of these rooms.
    fn in_rooms(
        &mut self,
        rooms: std::ops::Range<usize>,
        of: impl Fn(usize) -> usize,
        what: fn(&str, usize) -> String,
    ) {
        for room in rooms {
            let client = of(room) % HOLDERS;
            self.hear(client, &what(&format!("room-{room:06}@conference.bench.example"), client));
            for _ in 0..4 {
                self.turn();
            }
        }
    }
}

fn make(room: &str, client: usize) -> String {
    let enter = enter(room, client);
    format!(
        "{enter}<iq type='set' id='o' to='{room}'><query xmlns='http://jabber.org/protocol/muc#owner'>\
         <x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>\
         <value>http://jabber.org/protocol/muc#roomconfig</value></field>\
         <field var='muc#roomconfig_persistentroom'><value>1</value></field></x></query></iq>"
    )
}

fn enter(room: &str, client: usize) -> String {
    format!(
        "<presence to='{room}/sixteen-bytes-{client:02}'><show>away</show>\
         <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:x' ver='q07IKJEyjvHSyhy//CH0CxmKi8w='/>\
         <x xmlns='http://jabber.org/protocol/muc'/></presence>"
    )
}

fn leave(room: &str, client: usize) -> String {
    format!("<presence type='unavailable' to='{room}/sixteen-bytes-{client:02}'/>")
}

fn with_rooms(clients: usize) -> Bench {
    Bench::configured((Over::Tcp, clients), false, false, |config| {
        config.rooms.per_account = 1_000_000;
        config.rooms.created_per_hour = 1_000_000;
        config.rooms.room_messages_per_second = 1_000_000;
        config.limits.directed_presence = 1_000_000;
    })
}

#[test]
fn a_room_and_each_of_its_occupants_hold_little() {
    let mut bench = with_rooms(HOLDERS);
    bench.in_rooms(0..FIRST_ROOMS, |room| room, make);
    for guest in 1..4 {
        bench.in_rooms(0..FIRST_ROOMS, |room| room + guest, enter);
    }
    for guest in 1..4 {
        bench.in_rooms(0..FIRST_ROOMS, |room| room + guest, leave);
    }
    let counted = FIRST_ROOMS..FIRST_ROOMS + ROOMS;
    let before = bench.live();
    bench.in_rooms(counted.clone(), |room| room, make);
    let alone = bench.live();
    assert_eq!(bench.rooms(), (FIRST_ROOMS + ROOMS, FIRST_ROOMS + ROOMS));
    let mut others = Vec::new();
    for guest in 1..4 {
        let before = bench.live();
        bench.in_rooms(counted.clone(), |room| room + guest, enter);
        others.push((bench.live() - before) / ROOMS as i64);
    }
    assert_eq!(bench.rooms().1, FIRST_ROOMS + 4 * ROOMS, "all have entered");
    for guest in 0..4 {
        bench.in_rooms(counted.clone(), |room| room + guest, leave);
    }
    let left = (bench.live() - before) / ROOMS as i64;
    assert_eq!(bench.rooms().0, FIRST_ROOMS, "they have left again");
    let room = (alone - before) / ROOMS as i64;
    println!("a room with one occupant holds {room} bytes, others {others:?}, an empty one {left}");
    assert!(room > 100, "the count misses something: {room} bytes");
    assert!(room <= ROOM_BYTES_MAX, "a room with one occupant holds {room} bytes");
    let most = others.iter().max().copied().unwrap_or_default();
    assert!(most <= OCCUPANT_BYTES_MAX, "further occupants hold {others:?} bytes");
    assert!(left <= EMPTY_BYTES_MAX, "a room that everybody has left holds {left} bytes");
}

/// Occupants of the large room.
const OCCUPANTS: usize = 1000;

/// Units for a seat that is served.
const SEAT_UNITS: u64 = work::RECIPIENT + work::WRITE;

/// Units for envelopes in one iteration: they are read until they have cost enough, and a batch that is opened to its end.
const ENVELOPES_AT_ONCE_MAX: u64 =
    ENVELOPE_UNITS + SEAT_UNITS * (Batch::RECIPIENTS_MAX + BROADCAST_MAX) as u64;

/// Units for the message from one to another itself, and for what a worker does now and then.
const BESIDE_MAX: u64 = 32;

/// What is said to a full room is served in pieces, and between two of them everybody else has a turn. docs/groups.md has the bound.
#[test]
fn a_message_passes_by_a_room_of_a_thousand() {
    let mut bench = with_rooms(OCCUPANTS + 2);
    let hall = "hall@conference.bench.example";
    bench.hear(0, &make(hall, 0));
    bench.rest();
    for client in 1..OCCUPANTS {
        bench.hear(client, &enter(hall, client));
        bench.turn();
    }
    bench.rest();
    assert_eq!(bench.rooms(), (1, OCCUPANTS));
    let deliveries = |bench: &Bench| bench.worker.core().env().metrics().room_deliveries.get();
    let (before, (from, to)) = (deliveries(&bench), (OCCUPANTS, OCCUPANTS + 1));
    bench.hear(0, &format!("<message type='groupchat' to='{hall}'><body>to all of you</body></message>"));
    let mut served = Vec::new();
    while served.iter().sum::<u64>() < OCCUPANTS as u64 {
        let (seats, spent) = (deliveries(&bench), bench.worker.core().effects().work.spent());
        let body = format!("one to one, {}", served.len());
        bench.hear(
            from,
            &format!("<message type='chat' to='user{to}@bench.example/p{to}'><body>{body}</body></message>"),
        );
        bench.turn();
        let heard = String::from_utf8_lossy(&bench.worker.driver_mut().last).into_owned();
        assert!(heard.contains(&body), "the bystander's message goes with the iteration in which it came");
        served.push(deliveries(&bench) - seats);
        let spent = bench.worker.core().effects().work.spent() - spent;
        println!("{} seats, {spent} units", served[served.len() - 1]);
        if served.len() > 1 {
            let most = ENVELOPES_AT_ONCE_MAX + BESIDE_MAX;
            assert!(spent <= most, "an iteration costs {spent} units, not {most} at most");
        }
        assert!(served.len() < 64, "the room is not served: {served:?}");
    }
    assert_eq!(deliveries(&bench) - before, OCCUPANTS as u64, "everybody hears it once");
    let most = ENVELOPES_AT_ONCE_MAX / SEAT_UNITS;
    assert!(served.iter().all(|seats| *seats <= most), "{served:?}");
    let pieces = served.iter().filter(|seats| **seats > 0).count() as u64;
    assert!(pieces >= (OCCUPANTS as u64).div_ceil(most), "{served:?}");
    assert_eq!(2 * ENVELOPES_AT_ONCE_MAX, 2_944, "docs/groups.md says so");
}
