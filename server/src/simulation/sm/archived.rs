//! What the server has of archives and of what is to be in them, after crashes and at the end.

use super::Managed;
use crate::simulation::archive::{Archived, Exchanged};
use crate::simulation::world::local;

/// Archives that are read after a crash.
const LOOKED_AT: usize = 3;

impl Managed {
    /// The server has crashed: what users prefer is what it was, and in some archives is what was there and must be there.
    pub(super) fn check_archives_after_crash(&mut self) -> Result<(), String> {
        self.check_wishes()?;
        let exchanged = self.exchanged();
        for _ in 0..LOOKED_AT {
            let user = self.world.random.below(self.accounts);
            let found = self.world.check_archive(user, &exchanged)?;
            self.oracle.check_ids(user, &found)?;
            self.check_seen(user, &found)?;
            self.seen.insert(user, found);
        }
        Ok(())
    }

    /// All messages as archives are to have them. A server that has just begun may have retractions that are yet to take effect.
    fn exchanged(&self) -> Vec<Exchanged> {
        let mut all = self.oracle.exchanged(&self.wishes);
        let archives = self.world.workers.iter().map(|worker| worker.core().actors().commits.archive());
        if archives.map(|archive| archive.load().retractions).sum::<u64>() > 0 {
            all.iter_mut()
                .filter_map(|message| message.retracted.as_mut())
                .for_each(|is_sure| *is_sure = false);
        }
        all
    }

    /// As [`Self::check_archives_after_crash`], of all.
    pub(super) fn check_archives_at_rest(&mut self) -> Result<(), String> {
        self.check_wishes()?;
        let exchanged = self.exchanged();
        for user in 0..self.accounts {
            let found = self.world.check_archive(user, &exchanged)?;
            self.oracle.check_ids(user, &found)?;
            self.check_seen(user, &found)?;
            self.tally.archived += found.len() as u64;
            self.tally.gathered = self.world.gathering.messages();
        }
        Ok(())
    }

    /// What was in an archive after a crash has its place and its id for good.
    fn check_seen(&self, user: usize, found: &[Archived]) -> Result<(), String> {
        let Some(seen) = self.seen.get(&user) else { return Ok(()) };
        for (before, now) in seen.iter().zip(found) {
            if (before.id, before.number) != (now.id, now.number) || before.is_retracted && !now.is_retracted
            {
                return Err(format!("the archive of user {user} had {before:?} where it has {now:?}"));
            }
        }
        match seen.len() <= found.len() {
            true => Ok(()),
            false => {
                Err(format!("the archive of user {user} had {} messages and has {}", seen.len(), found.len()))
            }
        }
    }

    fn check_wishes(&mut self) -> Result<(), String> {
        for user in 0..self.accounts {
            let directory = &self.world.shared.directory;
            let account = directory.account_id(&local(user));
            let Some(account) = account.map_err(|error| error.to_string())? else {
                return Err(format!("the account of user {user} is gone"));
            };
            let stored = directory.archive_preferences(account).map_err(|error| error.to_string())?;
            self.wishes.found(user, stored, self.world.step)?;
        }
        Ok(())
    }
}
