//! Worlds moved by hand: what an account is given while retractions have not taken effect.

use super::order::{four, say, settle, turn};
use super::rooms::room;
use super::world::{World, bare};
use crate::proto::ns;

/// Everything that is to be read is read, and nothing is written. Clients hear nothing.
fn read(world: &mut World) {
    // Long enough for the upkeep of the log.
    for _ in 0..250 {
        turn(world);
        while world.stepped.run_look(&world.completions) {}
    }
}

/// All that is to be written is written.
fn write(world: &mut World) {
    while world.stepped.run_write(&world.shared.directory, &world.completions) {
        for _ in 0..5 {
            turn(world);
        }
    }
}

/// User 1 tells user 0 something that the oracle keeps no account of.
fn tell(world: &mut World, id: &str) {
    let to = bare(0);
    say(world, 1, &format!("<message type='chat' to='{to}' id='{id}'><body>text of {id}</body></message>"));
}

fn retract(world: &mut World, id: &str) {
    let (to, retract) = (bare(0), format!("<retract xmlns='{}' id='{id}'/>", ns::RETRACTION));
    say(world, 1, &format!("<message type='chat' to='{to}' id='r-{id}'>{retract}</message>"));
}

/// Retractions that have not taken effect.
fn open(world: &World) -> u64 {
    world.workers[0].core().actors().commits.archive().load().retractions
}

/// User 0 asks for a page.
fn ask(world: &mut World, id: &str, set: &str) {
    let set = format!("<set xmlns='{}'>{set}</set>", ns::RSM);
    say(world, 0, &format!("<iq type='set' id='{id}'><query xmlns='{}'>{set}</query></iq>", ns::ARCHIVE));
}

/// Messages of archives that were given since.
fn given(world: &World, before: u64) -> u64 {
    world.shared.metrics[0].archive_returned.get() - before
}

/// Messages have been archived, and one of them is retracted, of which the directory has not heard.
fn retracted(jobs: usize) -> (World, tempfile::TempDir) {
    let (mut world, data) = four(jobs);
    for id in ["a", "b", "c"] {
        tell(&mut world, id);
    }
    read(&mut world);
    (world, data)
}

#[test]
fn a_page_waits_for_the_retraction_of_what_it_has_and_for_no_other() {
    let (mut world, _data) = retracted(100);
    retract(&mut world, "b");
    read(&mut world);
    assert_eq!(open(&world), 2, "one for each side");
    let before = given(&world, 0);
    // The newest message is the retraction itself.
    ask(&mut world, "q1", "<max>1</max><before/>");
    read(&mut world);
    assert_eq!(given(&world, before), 1);
    ask(&mut world, "q2", "<max>10</max>");
    read(&mut world);
    assert_eq!(given(&world, before), 1, "its text is there still");
    // Somebody sends others all the time; the page waits for those alone that had come before it was read.
    for _ in 0..50 {
        retract(&mut world, "nothing");
        read(&mut world);
    }
    assert_eq!(given(&world, before), 1);
    assert!(open(&world) > 20, "{}", open(&world));
    write(&mut world);
    read(&mut world);
    // What there was when it was asked for.
    assert_eq!(given(&world, before), 1 + 4);
}

#[test]
fn a_page_comes_without_what_is_retracted_while_nothing_can_be_written() {
    let (mut world, _data) = retracted(1);
    // The queue of writes is full, and stays so.
    say(&mut world, 3, "<iq type='set' id='v1'><vCard xmlns='vcard-temp'/></iq>");
    read(&mut world);
    assert_eq!(world.stepped.waiting().0, 1);
    retract(&mut world, "b");
    read(&mut world);
    assert_eq!(open(&world), 2);
    let before = given(&world, 0);
    ask(&mut world, "q1", "<max>10</max>");
    read(&mut world);
    assert_eq!(given(&world, before), 3, "two texts and the retraction");
}

#[test]
fn a_mailbox_is_read_however_many_retractions_are_open() {
    let (mut world, _data) = retracted(100);
    for index in [0, 2] {
        say(&mut world, index, "<presence type='unavailable'/>");
    }
    read(&mut world);
    write(&mut world);
    for id in 0..20 {
        tell(&mut world, &format!("m{id}"));
    }
    tell(&mut world, "kept");
    for id in 0..20 {
        retract(&mut world, &format!("m{id}"));
    }
    // A connection may not retract so fast.
    for _ in 0..4 {
        read(&mut world);
    }
    assert_eq!(open(&world), 40, "for both sides");
    let redelivered = |world: &World| world.shared.metrics[0].redelivered.get();
    let before = redelivered(&world);
    say(&mut world, 0, "<presence/>");
    read(&mut world);
    // All that has been trimmed by now is gone; what has not been is passed over.
    assert_eq!(redelivered(&world) - before, 1 + 20, "what is kept, and the retractions");
}

/// What clients have heard since, one after the other.
fn heard(world: &mut World) -> String {
    world.log.clear();
    for _ in 0..20 {
        world.pass(1);
        world.hear_all();
    }
    let of = |index: usize| {
        let mark = format!(" #{index} <- ");
        let heard = world.log.iter().filter_map(move |line| line.split_once(&mark).map(|(_, text)| text));
        heard.collect::<String>()
    };
    (0..4).map(of).collect()
}

#[test]
fn a_room_shows_nobody_what_is_taken_back_before_the_directory_has_it() {
    let (mut world, _data) = four(100);
    world.settings.watch = vec![0, 1];
    let hall = room(0);
    let enter = |world: &mut World, index: usize, history: u32| {
        let history = format!("<history maxstanzas='{history}'/>");
        let x = format!("<x xmlns='{}'>{history}</x>", ns::MUC);
        say(world, index, &format!("<presence to='{hall}/{index}'>{x}</presence>"));
    };
    for index in [0, 1] {
        enter(&mut world, index, 0);
        settle(&mut world);
    }
    let secret = "<secret xmlns='x'/><store xmlns='urn:xmpp:hints'/>";
    say(&mut world, 0, &format!("<message type='groupchat' to='{hall}' id='s'>{secret}</message>"));
    read(&mut world);
    let said = heard(&mut world);
    assert_eq!(said.matches("<message").count(), 2, "{said}");
    let by = format!("by='{hall}' id='");
    let id =
        said.split(&by).nth(1).and_then(|rest| rest.split('\'').next()).expect("it has an id").to_owned();
    let retract = format!("<retract xmlns='{}' id='{id}'/>", ns::RETRACTION);
    say(&mut world, 0, &format!("<message type='groupchat' to='{hall}' id='r'>{retract}</message>"));
    read(&mut world);
    let page = format!("<iq type='set' id='q' to='{hall}'><query xmlns='{}'/></iq>", ns::ARCHIVE);
    for is_written in [false, true] {
        assert_eq!(open(&world), u64::from(!is_written));
        heard(&mut world);
        say(&mut world, 1, &page);
        enter(&mut world, 3, 10);
        read(&mut world);
        let got = heard(&mut world);
        assert_eq!((got.matches("<retracted").count(), got.matches("<secret").count()), (2, 0), "{got}");
        write(&mut world);
        read(&mut world);
    }
}
