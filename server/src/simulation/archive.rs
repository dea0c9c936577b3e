//! The rules for archives: what was exchanged is in both sides' archives, each message once, and ids only rise. What was
//! retracted has kept its place and nothing of its text.

use std::collections::BTreeMap;
use std::sync::Arc;

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::query::Query;
use whimbrel_storage::archive::readers::{Folders, PageReader};
use whimbrel_storage::log::{Sequence, journal_folders};

use super::oracle;
use super::world::{World, local};
use crate::proto::ns;
use crate::user::record;
use crate::xml::{CLIENT, Element};

/// What begins the ids of messages that no archive is to have.
pub(super) const FLEETING: &str = "fleeting-";

/// Whether an archive is to have a message, as the preferences of its owner and the hints of its author say.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It is.
    #[default]
    Yes,
    /// It is not.
    No,
    /// It may have it or not: what its owner prefers has changed meanwhile.
    Perhaps,
}

/// A message as a world knows it.
#[derive(Copy, Clone, Debug)]
pub(super) struct Exchanged {
    pub(super) from: usize,
    pub(super) to: usize,
    /// It is sure to be in both archives.
    pub(super) is_sure: bool,
    /// Times that it may be in each.
    pub(super) most: u32,
    /// Its sender has retracted it; whether it is sure that the retraction has reached both sides.
    pub(super) retracted: Option<bool>,
    /// Whether its sender's archive is to have it, and its recipient's.
    pub(super) wanted: [Wanted; 2],
}

impl Exchanged {
    /// Whether the archive of a user is to have it; `None`: it is somebody else's. Of what one sends oneself there is one copy.
    pub(super) fn wanted_by(&self, user: usize) -> Option<Wanted> {
        match user {
            user if user == self.to => Some(self.wanted[1]),
            user if user == self.from => Some(self.wanted[0]),
            _ => None,
        }
    }

    /// Whether the archive of a user must have it.
    pub(super) fn must_be_with(&self, user: usize) -> bool {
        self.is_sure && self.wanted_by(user) == Some(Wanted::Yes)
    }
}

/// A message that an archive has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Archived {
    pub(super) id: Sequence,
    pub(super) number: u32,
    /// Its text is gone, and something stands for it.
    pub(super) is_retracted: bool,
}

impl Archived {
    /// `None` for what clients in trouble send, of which the oracle keeps no account.
    pub(super) fn read(id: Sequence, stanza: &Element) -> Option<Archived> {
        if stanza.find("retracted", ns::RETRACTION).is_some() {
            let number = stanza.attribute("id")?.strip_prefix('m')?.parse().ok()?;
            return Some(Archived { id, number, is_retracted: stanza.find("body", CLIENT).is_none() });
        }
        let body = stanza.find("body", CLIENT)?.content().into_owned();
        oracle::number_of(&body).map(|number| Archived { id, number, is_retracted: false })
    }
}

impl World {
    /// What the archive of a user has, in its order; nothing, if there is no such account.
    pub(super) fn user_archive(&self, user: usize) -> Result<Vec<(Sequence, Element)>, String> {
        let name = local(user);
        let directory = &self.shared.directory;
        match directory.account_id(&name).map_err(|error| error.to_string())? {
            Some(actor) => self.stanzas_of(actor, self.shared.home_of(&name)),
            None => Ok(Vec::new()),
        }
    }

    /// The messages between users that the archive of a user has, in its order.
    pub(super) fn archive_of(&self, user: usize) -> Result<Vec<Archived>, String> {
        let all = self.user_archive(user)?;
        let is_fleeting =
            |stanza: &Element| stanza.attribute("id").is_some_and(|id| id.starts_with(FLEETING));
        if let Some((_, stanza)) = all.iter().find(|(_, stanza)| is_fleeting(stanza)) {
            return Err(format!("it has what is not to be stored: {stanza:?}"));
        }
        Ok(all.iter().filter_map(|(id, stanza)| Archived::read(*id, stanza)).collect())
    }

    /// What the archive of an actor has, in its order.
    pub(super) fn stanzas_of(&self, actor: ActorId, home: usize) -> Result<Vec<(Sequence, Element)>, String> {
        let home = self.workers[home].core();
        let mut query = Query::all(actor, home.actors().commits.archive().snapshot(actor));
        let folders = journal_folders(&self.config.data.join("log")).map_err(|error| error.to_string())?;
        let mut reader = PageReader::new(self.shared.directory.clone(), Arc::new(Folders::new(folders)));
        let mut found = Vec::new();
        loop {
            let page = reader.page(&query).map_err(|error| error.to_string())?;
            if page.cost.damaged + page.cost.gone > 0 {
                return Err(format!("messages of the archive are gone or damaged: {:?}", page.cost));
            }
            for message in &page.messages {
                let kept = record::decode(page.text(message)).ok_or("an archived record cannot be read")?;
                let stanza = Element::parse(kept.stanza).map_err(|_| "an archived record holds no stanza")?;
                found.push((message.id, stanza));
            }
            if !page.goes_on() {
                return Ok(found);
            }
            query = query.rest(&page);
        }
    }

    /// Checks all archives against what was exchanged.
    pub(super) fn check_archives(&mut self, exchanged: &[Exchanged]) {
        for user in 0..self.settings.users {
            if let Err(what) = self.check_archive(user, exchanged) {
                return self.fail(what);
            }
        }
    }

    /// Checks the archive of a user against what was exchanged; what it has.
    pub(super) fn check_archive(
        &self,
        user: usize,
        exchanged: &[Exchanged],
    ) -> Result<Vec<Archived>, String> {
        let checked = self.archive_of(user).and_then(|found| check(user, &found, exchanged).map(|()| found));
        checked.map_err(|what| format!("the archive of user {user}: {what}"))
    }
}

fn check(user: usize, found: &[Archived], exchanged: &[Exchanged]) -> Result<(), String> {
    if let Some(pair) = found.windows(2).find(|pair| pair[0].id >= pair[1].id) {
        return Err(format!("ids do not rise: {pair:?}"));
    }
    let mut times: BTreeMap<u32, u32> = BTreeMap::new();
    for archived in found {
        *times.entry(archived.number).or_default() += 1;
        check_one(archived, exchanged)?;
    }
    for (n, times) in &times {
        let message = &exchanged[*n as usize];
        match message.wanted_by(user) {
            None => return Err(format!("message {n} is somebody else's: {message:?}")),
            Some(Wanted::No) => return Err(format!("message {n} is there and not wanted: {message:?}")),
            Some(Wanted::Yes | Wanted::Perhaps) => {}
        }
        if *times > message.most {
            return Err(format!("message {n} is there {times} times: {message:?}"));
        }
    }
    for (n, message) in (0..).zip(exchanged) {
        if message.must_be_with(user) && !times.contains_key(&n) {
            return Err(format!("message {n} is not there: {message:?}"));
        }
    }
    Ok(())
}

fn check_one(archived: &Archived, exchanged: &[Exchanged]) -> Result<(), String> {
    let Archived { number: n, is_retracted, .. } = *archived;
    match exchanged.get(n as usize) {
        None => Err(format!("message {n} was never sent")),
        Some(message) if is_retracted && message.retracted.is_none() => {
            Err(format!("message {n} has lost its text, and nobody has retracted it: {message:?}"))
        }
        Some(message) if !is_retracted && message.retracted == Some(true) => {
            Err(format!("message {n} was retracted and can be read: {message:?}"))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(id: u64, number: u32) -> Archived {
        Archived { id: Sequence(id), number, is_retracted: false }
    }

    #[test]
    fn what_is_missing_doubled_foreign_or_out_of_order_is_noticed() {
        let wanted = [Wanted::Yes; 2];
        let message = |from, to, is_sure| Exchanged { from, to, is_sure, most: 1, retracted: None, wanted };
        let exchanged = [message(0, 1, true), message(1, 2, true), message(0, 1, false)];
        assert_eq!(check(0, &[whole(1, 0)], &exchanged), Ok(()));
        assert_eq!(check(0, &[whole(1, 0), whole(2, 2)], &exchanged), Ok(()));
        for (found, expected) in [
            (&[][..], "not there"),
            (&[whole(1, 0), whole(2, 0)], "2 times"),
            (&[whole(1, 0), whole(2, 1)], "somebody else's"),
            (&[whole(2, 0), whole(2, 2)], "do not rise"),
            (&[whole(1, 0), whole(3, 9)], "never sent"),
        ] {
            let what = check(0, found, &exchanged).unwrap_err();
            assert!(what.contains(expected), "{what}");
        }
    }

    #[test]
    fn a_text_that_should_be_gone_or_there_is_noticed() {
        let wanted = [Wanted::Yes; 2];
        let message = |retracted| [Exchanged { from: 0, to: 1, is_sure: true, most: 1, retracted, wanted }];
        let gone = Archived { is_retracted: true, ..whole(1, 0) };
        for (retracted, of_whole, of_gone) in [
            (None, Ok(()), Err("nobody has retracted it")),
            (Some(false), Ok(()), Ok(())),
            (Some(true), Err("can be read"), Ok(())),
        ] {
            for (found, expected) in [(whole(1, 0), of_whole), (gone, of_gone)] {
                let outcome = check(0, &[found], &message(retracted));
                match expected {
                    Ok(()) => assert_eq!(outcome, Ok(())),
                    Err(text) => assert!(outcome.unwrap_err().contains(text)),
                }
            }
        }
    }

    #[test]
    fn what_an_owner_does_not_want_or_wants_is_noticed() {
        for (sender, recipient, of_sender, of_recipient) in [
            (Wanted::Yes, Wanted::No, (true, false), (false, true)),
            (Wanted::No, Wanted::Perhaps, (false, true), (true, true)),
        ] {
            let wanted = [sender, recipient];
            let exchanged = [Exchanged { from: 0, to: 1, is_sure: true, most: 1, retracted: None, wanted }];
            for (user, (with, without)) in [(0, of_sender), (1, of_recipient)] {
                assert_eq!(check(user, &[whole(1, 0)], &exchanged).is_ok(), with, "{user} {wanted:?}");
                assert_eq!(check(user, &[], &exchanged).is_ok(), without, "{user} {wanted:?}");
            }
        }
    }
}
