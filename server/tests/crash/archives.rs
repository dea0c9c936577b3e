//! What archives have after a run, read from the files as `whimbrelctl archive export` reads them. No server runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::query::Query;
use whimbrel_storage::archive::readers::{Folders, PageReader};
use whimbrel_storage::archive::tail;
use whimbrel_storage::directory::Directory;
use whimbrel_storage::log::{Sequence, journal_folders};
use whimbrel_storage::message::StoredMessage;

use crate::client::attribute;
use crate::server::open_directory;

/// A message that an archive has. Its id is `SENDER-NUMBER`.
pub(crate) struct Archived {
    /// The journal's id.
    pub(crate) id: u64,
    pub(crate) sender: usize,
    pub(crate) number: u64,
}

/// The numbers of the messages that the archive of an account has of each sender, in its order.
pub(crate) fn numbers(data: &Path, local: &str) -> BTreeMap<usize, Vec<u64>> {
    let directory = open_directory(data);
    let actor = directory.account_id(local).unwrap().expect("the account is there");
    let mut found: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for Archived { sender, number, .. } in read(data, directory, (actor, local)) {
        found.entry(sender).or_default().push(number);
    }
    found
}

/// What the archive of a room has, in its order.
pub(crate) fn of_room(data: &Path, name: &str) -> Vec<Archived> {
    let directory = open_directory(data);
    let room = directory.room(name).unwrap().expect("the room is there");
    read(data, directory, (room.actor, name))
}

/// The messages of the archive of an account, in its order: the names of their senders, and their numbers.
pub(crate) fn of_account(data: &Path, local: &str) -> Vec<(String, u64)> {
    let directory = open_directory(data);
    let actor = directory.account_id(local).unwrap().expect("the account is there");
    let found = read_ids(data, directory, (actor, local)).into_iter();
    found.map(|(_, id)| numbered(&id)).collect()
}

fn numbered(id: &str) -> (String, u64) {
    let (sender, number) = id.split_once('-').expect("each is a sender's");
    (sender.to_owned(), number.parse().unwrap())
}

/// Reads an archive whose senders are numbered.
fn read(data: &Path, directory: Directory, whose: (ActorId, &str)) -> Vec<Archived> {
    let found = read_ids(data, directory, whose).into_iter();
    let archived = |(id, text): (u64, String)| {
        let (sender, number) = numbered(&text);
        Archived { id, sender: sender.parse().unwrap(), number }
    };
    found.map(archived).collect()
}

/// Reads an archive: the ids of the journal, which must rise, and those of the stanzas.
fn read_ids(data: &Path, directory: Directory, (actor, name): (ActorId, &str)) -> Vec<(u64, String)> {
    let log = data.join("log");
    let mut tail = tail::read(&directory, &log, Some(actor)).unwrap();
    let mut reader = PageReader::new(directory, Arc::new(Folders::new(journal_folders(&log).unwrap())));
    let mut query = Query::all(actor, tail.remove(&actor).unwrap_or_default());
    let mut found = Vec::new();
    let mut newest = Sequence::ZERO;
    loop {
        let page = reader.page(&query).unwrap();
        assert_eq!((page.cost.gone, page.cost.damaged), (0, 0), "nothing of the archive of {name} is lost");
        for message in &page.messages {
            assert!(message.id > newest, "ids of the archive of {name} rise");
            newest = message.id;
            let kept = StoredMessage::decode(page.text(message)).expect("it is a message");
            let id = attribute(std::str::from_utf8(kept.stanza).unwrap(), "id").expect("each has one");
            found.push((message.id.0, id.to_owned()));
        }
        if !page.goes_on() {
            return found;
        }
        query = query.rest(&page);
    }
}

/// How many of a sender's first messages, of those that `is_meant` says, an archive lacks, and how many it has more than once. They
/// must be there in order, each where it came first.
pub(crate) fn compare(found: &[u64], count: u64, is_meant: impl Fn(u64) -> bool) -> (u64, u64) {
    let mut expected = (0..).filter(|n| is_meant(*n));
    let (mut next, mut twice) = (expected.next(), 0);
    for &n in found {
        match next {
            Some(expected) if n > expected => panic!("message {expected} is not there, or behind {n}"),
            Some(this) if n == this => next = expected.next(),
            _ => twice += 1,
        }
    }
    let missing = next.map_or(0, |next| (next..count).filter(|n| is_meant(*n)).count() as u64);
    (missing, twice)
}
