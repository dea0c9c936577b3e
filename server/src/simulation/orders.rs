//! Worlds moved by hand: orders of operators for a room that writes at the moment.

use std::sync::mpsc::{Receiver, sync_channel};

use super::order::{four, say, settle, turn};
use super::rooms::room;
use super::world::World;
use crate::proto::muc::config::ConfigChange;
use crate::proto::{address, ns};
use crate::rooms::operator::{Order, Outcome};
use crate::worker::command::Command;
use crate::xml::Element;

/// Gives the worker an order for the first room.
fn order(world: &mut World, order: Order) -> Receiver<Outcome> {
    let (reply, replies) = sync_channel(1);
    let name = address::local_of(&room(0)).to_owned();
    assert!(world.commands[0].give(Command::Room { name, order: Box::new(order), reply }));
    turn(world);
    replies
}

fn entitled(title: &str) -> Order {
    let value = Element::new("value", ns::DATA_FORMS).text(title);
    let field = Element::new("field", ns::DATA_FORMS).attr("var", "muc#roomconfig_roomname").child(value);
    let form = Element::new("x", ns::DATA_FORMS).attr("type", "submit").child(field);
    Order::Configure(ConfigChange::read(&form).expect("a form").unwrap_or_default())
}

/// A world in which client 0 has made the first room and is in it.
fn with_room() -> (World, tempfile::TempDir) {
    let (mut world, data) = four(100);
    let jid = room(0);
    let session = world.clients[0].live.as_ref().expect("it is online").id;
    world.rooms.asks(session, &jid, (world.step, false));
    say(
        &mut world,
        0,
        &format!("<presence to='{jid}/nick'><x xmlns='http://jabber.org/protocol/muc'/></presence>"),
    );
    settle(&mut world);
    assert_eq!(world.seats_in(&jid).len(), 1);
    (world, data)
}

#[test]
fn an_order_waits_for_its_turn_while_a_room_writes() {
    let (mut world, _data) = with_room();
    let first = order(&mut world, entitled("First"));
    // What comes behind it waits: nothing is written as long as nobody runs the write.
    let second = order(&mut world, entitled("Second"));
    let third = order(&mut world, Order::Occupants);
    for _ in 0..20 {
        turn(&mut world);
    }
    assert!([&first, &second, &third].iter().all(|replies| replies.try_recv().is_err()));
    assert!(world.shared.metrics[0].room_waiting.get() > 0);
    settle(&mut world);
    assert!(matches!(first.try_recv(), Ok(Outcome::Done)) && matches!(second.try_recv(), Ok(Outcome::Done)));
    let Ok(Outcome::Occupants(occupants)) = third.try_recv() else { panic!("nobody says who is there") };
    assert_eq!(occupants.len(), 1);
    let stored = world.stored_room(&room(0)).expect("it can be read").expect("it is there");
    assert_eq!(stored.config.title, "Second");
    assert_eq!(world.shared.metrics[0].room_waiting.get(), 0);
}

#[test]
fn as_many_orders_wait_for_a_room_as_may() {
    let (mut world, _data) = with_room();
    let _first = order(&mut world, entitled("First"));
    let waiting: Vec<_> = (0..64).map(|_| order(&mut world, Order::Occupants)).collect();
    let refused = order(&mut world, Order::Occupants);
    assert!(matches!(refused.try_recv(), Ok(Outcome::Busy)));
    assert_eq!(world.shared.metrics[0].refused_room_waiting.get(), 1);
    settle(&mut world);
    assert!(waiting.iter().all(|replies| matches!(replies.try_recv(), Ok(Outcome::Occupants(_)))));
}
