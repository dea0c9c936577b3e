//! A copy of the server's data that is made while everything goes on and accounts are made, and served by another server afterwards.
//!
//! The rules: its parts fit together, and what was acknowledged when it was begun is in it; what waits in it is for the account that it
//! was written to, and comes to it once; its archives, and those of its rooms, are what they were then; membership and bookmarks are in
//! step; and accounts that are made beside it have numbers that no account has, here or there, and nobody's messages.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::thread;

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::data;
use whimbrel_storage::directory::{Directory, WriteTransaction, run_inline};
use whimbrel_storage::log::Sequence;
use whimbrel_storage::pace::Pace;

use super::host::Rolls;
use super::oracle::Oracle;
use super::peer::Peer;
use super::rooms::{KEPT, befriend};
use super::wishes::Wishes;
use super::{Managed, RESOURCE, Tally, USUAL, enable_push, has_device, number_of};
use crate::boot::forget_temporary;
use crate::config::Config;
use crate::simulation::machine::Words;
use crate::simulation::rooms::{RoomsOracle, room};
use crate::simulation::tls::Doors;
use crate::simulation::world::{Ground, World, credentials, local, open_directory};
use crate::simulation::{Failure, Settings};
use crate::user::commits::Commit;
use crate::user::record;
use crate::xml::{CLIENT, Element};

/// Bytes of a copy that are written between two parts of the world's life.
const PIECE: usize = 64 << 10;

/// Steps of the world between two pieces of a copy.
const STEPS_MAX: usize = 60;

/// Steps after which a copy that has been restored is at its end.
const LIVED: usize = 600;

/// What salts the passwords of accounts that are made beside a copy: other accounts than those made before.
const SALT: u8 = 9;

/// A copy, and what was so when it was begun.
pub(super) struct Taken {
    data: PathBuf,
    oracle: Oracle,
    wishes: Wishes,
    rolls: Rolls,
    said: RoomsOracle,
    step: u64,
    /// Ids in the archives of users and of the rooms that stay.
    users: Vec<Vec<Sequence>>,
    rooms: Vec<Vec<Sequence>>,
    words: Words,
    sessions: usize,
}

impl Managed {
    /// The operator makes the next account.
    pub(super) fn make_account(&mut self) {
        if self.accounts == self.peers.len() {
            return;
        }
        let outcome = make_account(&self.world.shared.directory, self.accounts, 7);
        let outcome = outcome.and_then(|()| enable_push(&mut self.world, self.accounts..self.accounts + 1));
        self.note(outcome);
        self.accounts += 1;
        self.tally.accounts += 1;
    }

    /// The operator has a copy made, piece by piece; between two of them the world goes on.
    pub(super) fn back_up(&mut self) {
        if self.taken.is_some() {
            return;
        }
        let outcome = self.take_copy().map(|taken| self.taken = Some(taken));
        self.note(outcome);
    }

    fn take_copy(&mut self) -> Result<Taken, String> {
        let taken = self.what_is()?;
        // One of the two threads runs at a time.
        let (piece, pieces) = sync_channel(0);
        let (go, goes) = sync_channel(0);
        let mut pace = Pace::in_pieces(PIECE, move || {
            let _ = piece.send(());
            let _ = goes.recv();
        });
        let (data, directory) = (self.world.config.data.clone(), self.world.shared.directory.clone());
        let to = taken.data.clone();
        let copying = thread::spawn(move || data::backup(&data, &directory, &to, 0, &mut pace).map(|_| ()));
        while pieces.recv().is_ok() {
            for _ in 0..self.world.random.below(STEPS_MAX) {
                self.world.step += 1;
                let which = self.world.random.below(USUAL);
                self.go_on(which);
            }
            if self.world.random.permille(100) {
                self.make_account();
            }
            let _ = go.send(());
        }
        let copied = copying.join().map_err(|_| "the thread that copies has panicked")?;
        copied.map_err(|error| format!("a copy cannot be made: {error}"))?;
        Ok(taken)
    }

    /// What is so now.
    fn what_is(&self) -> Result<Taken, String> {
        let ids = |found: Vec<(Sequence, Element)>| found.into_iter().map(|(id, _)| id).collect();
        Ok(Taken {
            data: self.folder.join("copy"),
            oracle: self.oracle.clone(),
            wishes: self.wishes.clone(),
            rolls: self.rolls.clone(),
            said: self.world.rooms.clone(),
            step: self.world.step,
            users: (0..self.accounts)
                .map(|user| self.world.user_archive(user).map(ids))
                .collect::<Result<_, _>>()?,
            rooms: KEPT
                .map(|number| self.world.room_archive(&room(number)).map(ids))
                .into_iter()
                .collect::<Result<_, _>>()?,
            words: self.words,
            sessions: self.sessions,
        })
    }

    /// Another server serves the copy, if one was made.
    pub(super) fn serve_copy(&mut self) -> Result<(), Failure> {
        let Some(taken) = self.taken.take() else { return Ok(()) };
        let given: BTreeMap<ActorId, usize> = match numbers(&self.world.shared.directory, self.peers.len()) {
            Ok(given) => given,
            Err(what) => {
                self.world.fail(what);
                return self.world.stop_at_failure();
            }
        };
        let restored = self.put_to_use(&taken, &given);
        match restored {
            Ok((mut copy, waiting)) => {
                copy.live(&waiting)?;
                self.tally.backups += 1;
                self.tally.restored += waiting.len() as u64;
            }
            Err(what) => self.world.fail(format!("a copy: {what}")),
        }
        let _ = fs::remove_dir_all(&taken.data);
        self.world.stop_at_failure()
    }

    /// A world on the copy, and the messages that wait in it.
    fn put_to_use(
        &mut self,
        taken: &Taken,
        given: &BTreeMap<ActorId, usize>,
    ) -> Result<(Managed, BTreeSet<u32>), String> {
        data::examine(&taken.data).map_err(|error| error.to_string())?;
        let settings = Settings { handshakes: 0, ..self.world.settings.clone() };
        let directory = open_directory(&taken.data, (settings.seed | 1) + 2)?;
        data::verify_backup(&taken.data, &directory).map_err(|error| error.to_string())?;
        let accounts = numbers(&directory, self.peers.len())?.len();
        if accounts != taken.users.len() {
            return Err(format!("there were {} accounts, and the copy has {accounts}", taken.users.len()));
        }
        let mut config = Config { data: taken.data.clone(), ..(*self.world.config).clone() };
        // As every start does that follows no other server.
        forget_temporary(&directory, &config, &HashSet::new()).map_err(|error| error.to_string())?;
        let random = &mut self.world.random;
        let words = taken.words.again(random);
        let ground = Ground {
            directory,
            doors: Doors::fit(&mut config, 0)?,
            random: random.fork(),
            words,
            now: self.world.now,
        };
        let (mut world, words) = World::on(settings, config, Commit::ByHand, ground)?;
        world.clients.iter_mut().for_each(|client| client.resource = RESOURCE.into());
        let devices = (0..accounts).filter(|index| has_device(*index));
        devices.for_each(|index| world.has_device((index, number_of(index))));
        world.step = taken.step;
        world.rooms = taken.said.clone();
        (0..=taken.sessions).for_each(|session| world.rooms.over(session));
        let waiting = world.waiting_for(&taken.oracle)?;
        let mut copy = Managed {
            oracle: taken.oracle.restored(&waiting)?,
            peers: self.peers.iter().map(|_| Peer::default()).collect(),
            rolls: taken.rolls.clone(),
            wishes: taken.wishes.clone(),
            seen: BTreeMap::new(),
            accounts,
            folder: self.folder.clone(),
            taken: None,
            sessions: taken.sessions,
            words,
            committed: vec![0; world.settings.workers],
            is_quiet: true,
            calm: true,
            tally: Tally::default(),
            world,
        };
        copy.compare(taken)?;
        copy.make_others(given)?;
        Ok((copy, waiting))
    }

    /// Compares archives and memberships with what they were.
    fn compare(&mut self, taken: &Taken) -> Result<(), String> {
        self.check_archives_at_rest()?;
        let found =
            (0..taken.users.len()).map(|user| (format!("user {user}"), self.world.user_archive(user)));
        let rooms = KEPT.iter().map(|number| (room(*number), self.world.room_archive(&room(*number))));
        for ((whose, found), before) in found.chain(rooms).zip(taken.users.iter().chain(&taken.rooms)) {
            let found: Vec<Sequence> = found?.into_iter().map(|(id, _)| id).collect();
            if !before.starts_with(&found) {
                return Err(format!("the archive of {whose} has {found:?}, and it was {before:?}"));
            }
        }
        self.check_shed()?;
        self.check_kept_rooms()
    }

    /// Makes all accounts that the copy does not have. None has a number that one has had.
    fn make_others(&mut self, given: &BTreeMap<ActorId, usize>) -> Result<(), String> {
        let directory = self.world.shared.directory.clone();
        let before = numbers(&directory, self.accounts)?;
        for user in self.accounts..self.peers.len() {
            make_account(&directory, user, SALT)?;
            enable_push(&mut self.world, user..user + 1)?;
            let made = directory.account_id(&local(user)).map_err(|error| error.to_string())?;
            let made = made.ok_or("an account that was just made is not there")?;
            if before.contains_key(&made) || given.contains_key(&made) {
                return Err(format!("user {user} is given {made:?}, which somebody else has had: {given:?}"));
            }
        }
        self.accounts = self.peers.len();
        Ok(())
    }

    /// Everybody comes, gets what waits, writes something new, and gets that.
    fn live(&mut self, waiting: &BTreeSet<u32>) -> Result<(), Failure> {
        self.come_to_rest()?;
        if let Some(n) = waiting.iter().find(|n| !self.oracle.has_arrived(**n)) {
            self.world.fail(format!("message {n} waits in a copy and does not arrive"));
        }
        self.world.stop_at_failure()?;
        self.calm = false;
        self.peers.iter_mut().for_each(|peer| peer.reader.has_read = false);
        for _ in 0..LIVED {
            self.world.step += 1;
            let which = self.world.random.below(USUAL);
            self.go_on(which);
            self.world.stop_at_failure()?;
        }
        self.come_to_rest()
    }
}

impl World {
    /// The messages that wait in the logs: each for the one to whom it was written.
    fn waiting_for(&self, oracle: &Oracle) -> Result<BTreeSet<u32>, String> {
        let owners = numbers(&self.shared.directory, self.settings.users)?;
        for worker in &self.workers {
            let log = worker.core().actors().commits.log();
            for actor in log.actors() {
                let owner = owners
                    .get(&actor.account())
                    .ok_or_else(|| format!("something waits for {actor:?}, who is nobody"))?;
                for record in log.pending(actor) {
                    let record = record.map_err(|damage| damage.to_string())?;
                    let kept = record::decode(record.payload).ok_or("a record cannot be read")?;
                    let message = Element::parse(kept.stanza).map_err(|_| "a record holds no stanza")?;
                    let body = message.find("body", CLIENT).map(|body| body.content().into_owned());
                    let number = body.and_then(|body| crate::simulation::oracle::number_of(&body));
                    if number.is_some_and(|n| n >= oracle.len() || oracle.recipient(n) != *owner) {
                        return Err(format!("what waits for user {owner} is not for it: {message:?}"));
                    }
                }
            }
        }
        self.waiting()
    }
}

/// Makes an account whose owner knows the owner of the rooms.
fn make_account(directory: &Directory, user: usize, salt: u8) -> Result<(), String> {
    let credentials = credentials(salt)?;
    let job = Box::new(move |transaction: &mut WriteTransaction<'_>| {
        let is_new = transaction.create_account(&local(user), &credentials)?;
        befriend(transaction, user).map(|()| is_new)
    });
    match run_inline(directory, job).map_err(|error| error.to_string())? {
        true => Ok(()),
        false => Err(format!("the account of user {user} is there already")),
    }
}

/// The numbers of the accounts of the first users.
fn numbers(directory: &Directory, users: usize) -> Result<BTreeMap<ActorId, usize>, String> {
    let mut numbers = BTreeMap::new();
    for user in 0..users {
        let number = directory.account_id(&local(user)).map_err(|error| error.to_string())?;
        numbers.extend(number.map(|number| (number, user)));
    }
    Ok(numbers)
}
