//! The end of a server without warning, and the beginning of the next one.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Managed;
use crate::boot::forget_temporary;
use crate::runtime::driver::sim::Random;
use crate::simulation::machine::{Machine, Start};
use crate::user::commits::Commit;

/// What reaches the disk whole, or not at all.
const SECTOR: usize = 512;

/// The first bytes of a file of a log, which are on the disk before it is used (docs/log-format.md).
const HEADER: u64 = 128;

impl Managed {
    /// Kills the server between two of its steps and starts it again on what is left of its logs. Clients notice at
    /// once.
    pub(super) fn crash(&mut self) {
        self.count_server();
        let world = &mut self.world;
        let committed: Vec<u64> =
            world.workers.iter().map(|worker| worker.core().actors().commits.log().committed().0).collect();
        world.workers.clear();
        if world.random.permille(500) {
            self.tally.power_cuts += 1;
            for (log, committed) in committed.into_iter().enumerate() {
                let folder = world.config.data.join(format!("log/generation-1/{log}"));
                if let Err(error) = lose_uncommitted(&folder, committed, &mut world.random) {
                    return world.fail(error.to_string());
                }
            }
            self.forget_uncommitted();
        } else {
            self.tally.kills += 1;
        }
        let world = &mut self.world;
        let words = self.words.again(&mut world.random);
        let directory = world.shared.directory.clone();
        if let Err(error) = forget_temporary(&directory, &world.config, &HashSet::new()) {
            return world.fail(error.to_string());
        }
        let start = Start {
            settings: &world.settings,
            config: &world.config,
            directory: &directory,
            words,
            now: world.now,
            commit: Commit::ByHand,
            left: None,
        };
        match Machine::start(start) {
            Ok(machine) => world.run_on(machine),
            Err(what) => return world.fail(what),
        }
        let outcome = self.check_counts();
        self.note(outcome);
        self.expect_counts();
        for index in 0..self.peers.len() {
            self.cut_off(index);
            // What a session is beside its messages is gone.
            self.peers[index].promise = None;
        }
        let waiting = self.waiting();
        let outcome = self.oracle.nothing_is_lost(&waiting);
        self.note(outcome);
        let outcome = self.check_archives_after_crash();
        self.note(outcome);
        let outcome = self.check_rooms_after_crash();
        self.note(outcome);
    }

    /// What recipients have acknowledged and was not committed yet may be offered to them again.
    fn forget_uncommitted(&mut self) {
        for (user, peer) in self.peers.iter_mut().enumerate() {
            let home = self.world.shared.home_of(&crate::simulation::world::local(user));
            for n in peer.forget_settled_after(self.committed[home]) {
                self.oracle.unsettle(n);
            }
            self.oracle.forget_ids(user, self.committed[home]);
            peer.reader.forget_since(self.committed[home]);
        }
    }
}

/// Of what was written after the last commit, each sector is on the disk or not.
fn lose_uncommitted(folder: &Path, committed: u64, random: &mut Random) -> std::io::Result<()> {
    let all = random.permille(300);
    let mut names: Vec<_> = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    for entry in names {
        let name = entry.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        let Some(base) = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else { continue };
        let file = OpenOptions::new().read(true).write(true).open(entry.path())?;
        let (mut from, end) = (committed.saturating_sub(base).max(HEADER), file.metadata()?.len());
        let mut sector = [0; SECTOR];
        while from < end {
            let to = ((from / SECTOR as u64 + 1) * SECTOR as u64).min(end);
            let piece = &mut sector[..(to - from) as usize];
            file.read_exact_at(piece, from)?;
            // What is zero was not written.
            if piece.iter().any(|&byte| byte != 0) && (all || random.permille(500)) {
                piece.fill(0);
                file.write_all_at(piece, from)?;
            }
            from = to;
        }
    }
    Ok(())
}
