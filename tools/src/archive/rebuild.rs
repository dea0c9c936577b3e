//! `archive rebuild`: the index is made anew from the log.

use std::collections::HashSet;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::json;
use whimbrel_storage::actor::{ActorId, ActorKind};
use whimbrel_storage::archive::rebuild::{Rebuilt, rebuild};

use super::{Archives, failed};
use crate::problem::Problem;
use crate::report::Report;

pub(super) fn run(archives: &Archives, report: &Report) -> Result<(), Problem> {
    let mut accounts: HashSet<ActorId> = HashSet::new();
    let known = archives.directory.for_each_account(|account| {
        accounts.insert(account);
    });
    known.map_err(failed)?;
    let is_there = |actor: ActorId| actor.kind() != Some(ActorKind::User) || accounts.contains(&actor);
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5))
    } else {
        ProgressBar::hidden()
    };
    let mut tell = |done: Rebuilt| {
        bar.set_message(said(&done));
        bar.tick();
    };
    let done = if archives.directory.has_log().map_err(failed)? {
        rebuild(&archives.directory, &archives.log, &is_there, &mut tell).map_err(failed)?
    } else {
        Rebuilt::default()
    };
    bar.finish_and_clear();
    if done.journals_total == 0 {
        report.nothing("there is no message log yet, and so nothing to be found again");
    }
    let value = json!({ "journals": done.journals, "bytes": done.bytes, "messages": done.messages });
    report.result(&value, || if done.journals_total == 0 { String::new() } else { said(&done) });
    Ok(())
}

fn said(done: &Rebuilt) -> String {
    let Rebuilt { journals, journals_total, bytes, messages } = done;
    format!("{journals} of {journals_total} journals, {bytes} bytes read, {messages} messages found again")
}
