//! `archive erase`: messages of one account are no longer in its archive, all or those before a time.

use serde_json::json;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::{Sweep, WriteTransaction, run_inline};
use whimbrel_storage::log::Sequence;

use super::time::rfc3339;
use super::{Archives, failed};
use crate::problem::Problem;
use crate::report::Report;

/// Rows that are removed in one transaction.
const ROWS_MAX: usize = 512;

pub(super) fn run(
    archives: &Archives,
    jid: &str,
    before_ms: Option<u64>,
    yes: bool,
    report: &Report,
) -> Result<(), Problem> {
    let owner = archives.owner(jid)?;
    let wanted = before_ms.map_or(Sequence::MAX, Sequence::at);
    let (mut messages, mut newest) = (0_u64, Sequence::ZERO);
    archives.each_message(owner.actor, &mut |slot| {
        messages += u64::from(slot.id < wanted);
        newest = newest.max(slot.id);
    })?;
    let of = match before_ms {
        Some(before_ms) => format!("{} from before {}", owner.jid, rfc3339(before_ms)),
        None => owner.jid.clone(),
    };
    if messages > 0 && !yes {
        let text = format!(
            "this would erase {messages} messages of {of} for good, and nothing was changed; with --yes it is done"
        );
        return Err(Problem::of_kind("not-confirmed", text));
    }
    let mut rows = 0;
    if messages > 0 {
        // Never past the newest one: what the account exchanges from now on is archived as before.
        rows = cut(archives, owner.actor, wanted.min(Sequence(newest.0 + 1)))?;
    } else {
        report.nothing(&format!("nothing is archived of {of}"));
    }
    report.result(&json!({ "jid": owner.jid, "erased": messages, "rows": rows }), || {
        if messages == 0 { String::new() } else { format!("{messages} messages of {of} erased") }
    });
    Ok(())
}

/// Cuts an archive, and removes the rows that are of no use then, in small transactions. Returns how many.
fn cut(archives: &Archives, actor: ActorId, before: Sequence) -> Result<u64, Problem> {
    let directory = &archives.directory;
    let cut = move |transaction: &mut WriteTransaction<'_>| transaction.cut_archive(actor, before);
    run_inline(directory, Box::new(cut)).map_err(failed)?;
    let after = ActorId::from_raw(actor.raw().saturating_sub(1));
    let sweep = Sweep { after, not_before: Sequence::ZERO, actors_max: 1, rows_max: ROWS_MAX };
    let mut rows = 0;
    loop {
        let step = move |transaction: &mut WriteTransaction<'_>| transaction.sweep_archive(&sweep);
        let swept = run_inline(directory, Box::new(step)).map_err(failed)?;
        rows += swept.rows;
        // It has not come past this actor.
        if swept.next != Some(after) {
            return Ok(rows);
        }
    }
}
