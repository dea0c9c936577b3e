//! The rules for archives: what was exchanged is in both sides' archives, each message once, and ids only rise.

use std::collections::BTreeMap;
use std::sync::Arc;

use whimbrel_storage::archive::query::Query;
use whimbrel_storage::archive::readers::{Folders, PageReader};
use whimbrel_storage::log::{Sequence, journal_folders};

use super::oracle;
use super::world::{World, local};
use crate::user::record;
use crate::xml::{CLIENT, Element};

/// A message as a world knows it.
#[derive(Copy, Clone, Debug)]
pub(super) struct Exchanged {
    pub(super) from: usize,
    pub(super) to: usize,
    /// It is sure to be in both archives.
    pub(super) is_sure: bool,
    /// Times that it may be in each.
    pub(super) most: u32,
}

impl World {
    /// What the archive of a user has, in its order: ids and numbers of messages.
    pub(super) fn archive_of(&self, user: usize) -> Result<Vec<(Sequence, u32)>, String> {
        let name = local(user);
        let directory = &self.shared.directory;
        let Some(actor) = directory.account_id(&name).map_err(|error| error.to_string())? else {
            return Ok(Vec::new());
        };
        let home = self.workers[self.shared.home_of(&name)].core();
        let mut query = Query::all(actor, home.actors().commits.archive().snapshot(actor));
        let folders = journal_folders(&self.config.data.join("log")).map_err(|error| error.to_string())?;
        let mut reader = PageReader::new(directory.clone(), Arc::new(Folders::new(folders)));
        let mut found = Vec::new();
        loop {
            let page = reader.page(&query).map_err(|error| error.to_string())?;
            if page.cost.damaged + page.cost.gone > 0 {
                return Err(format!("messages of {name}'s archive are gone or damaged: {:?}", page.cost));
            }
            for message in &page.messages {
                let kept = record::decode(page.text(message)).ok_or("an archived record cannot be read")?;
                let stanza = Element::parse(kept.stanza).map_err(|_| "an archived record holds no stanza")?;
                let body = stanza.find("body", CLIENT).map(|body| body.content().into_owned());
                // Clients in trouble send others as well, of which the oracle keeps no account.
                found.extend(body.and_then(|body| oracle::number_of(&body)).map(|n| (message.id, n)));
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
            let checked = self.archive_of(user).and_then(|found| check(user, &found, exchanged));
            if let Err(what) = checked {
                return self.fail(format!("the archive of user {user}: {what}"));
            }
        }
    }
}

fn check(user: usize, found: &[(Sequence, u32)], exchanged: &[Exchanged]) -> Result<(), String> {
    if let Some(pair) = found.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        return Err(format!("ids do not rise: {pair:?}"));
    }
    let mut times: BTreeMap<u32, u32> = BTreeMap::new();
    for (_, n) in found {
        *times.entry(*n).or_default() += 1;
    }
    for (n, times) in &times {
        let Some(message) = exchanged.get(*n as usize) else {
            return Err(format!("message {n} was never sent"));
        };
        if message.from != user && message.to != user {
            return Err(format!("message {n} is somebody else's: {message:?}"));
        }
        if *times > message.most {
            return Err(format!("message {n} is there {times} times: {message:?}"));
        }
    }
    for (n, message) in (0..).zip(exchanged) {
        if message.is_sure && (message.from == user || message.to == user) && !times.contains_key(&n) {
            return Err(format!("message {n} is not there: {message:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_doubled_foreign_or_out_of_order_is_noticed() {
        let message = |from, to, is_sure| Exchanged { from, to, is_sure, most: 1 };
        let exchanged = [message(0, 1, true), message(1, 2, true), message(0, 1, false)];
        let id = Sequence;
        assert_eq!(check(0, &[(id(1), 0)], &exchanged), Ok(()));
        assert_eq!(check(0, &[(id(1), 0), (id(2), 2)], &exchanged), Ok(()));
        for (found, expected) in [
            (&[][..], "not there"),
            (&[(id(1), 0), (id(2), 0)], "2 times"),
            (&[(id(1), 0), (id(2), 1)], "somebody else's"),
            (&[(id(2), 0), (id(2), 2)], "do not rise"),
            (&[(id(1), 0), (id(3), 9)], "never sent"),
        ] {
            let what = check(0, found, &exchanged).unwrap_err();
            assert!(what.contains(expected), "{what}");
        }
    }
}
