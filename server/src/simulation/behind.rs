//! Worlds moved by hand: clients that read the log on while messages come for their account.

use super::client::Wanted;
use super::order::{four, say, settle, turn, write_to};

#[test]
fn a_copy_that_a_recipient_who_is_behind_does_not_get_is_counted() {
    let (mut world, _data) = four(100);
    for index in [1, 3] {
        say(&mut world, index, "<presence><status>p1</status><priority>0</priority></presence>");
        let enable = "<enable xmlns='urn:xmpp:carbons:2'/>";
        world.ask(index, "set", None, enable, Wanted::Carbons(true));
    }
    settle(&mut world);
    // It reads nothing, and more waits for it than may: what else comes for it is only in the log.
    world.clients[3].deaf = true;
    for _ in 0..12 {
        write_to(&mut world, 0, Some("r1"), 8000);
    }
    settle(&mut world);
    let skipped = world.shared.metrics[0].carbons_skipped.get();
    let n = write_to(&mut world, 0, None, 0);
    settle(&mut world);
    world.clients[3].deaf = false;
    let (number, link) = (world.clients[3].number, world.clients[3].link.expect("it is connected"));
    world.network.remind(number, link);
    settle(&mut world);
    assert_eq!(world.oracle.reached(n), [world.clients[1].session.expect("it has one")]);
    assert_eq!(world.shared.metrics[0].carbons_skipped.get(), skipped + 1);
}

#[test]
fn all_recipients_get_a_message_that_comes_while_the_log_is_offered_to_them() {
    let (mut world, _data) = four(100);
    let presence =
        |priority: u8| format!("<presence><status>p1</status><priority>{priority}</priority></presence>");
    say(&mut world, 1, &presence(0));
    say(&mut world, 3, &presence(5));
    settle(&mut world);
    // All in one iteration: the first message is in the log when the two become equal, so both are to read the log.
    write_to(&mut world, 1, None, 0);
    say(&mut world, 1, &presence(5));
    let n = write_to(&mut world, 1, None, 0);
    turn(&mut world);
    settle(&mut world);
    let mut reached = world.oracle.reached(n).to_vec();
    reached.sort_unstable();
    let mut both = [1, 3].map(|index| world.clients[index].session.expect("it has one"));
    both.sort_unstable();
    assert_eq!(reached, both);
}
