//! From what a client asks for (XEP-0313 §4) to what storage is asked for.

use std::sync::Arc;

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::Snapshot;
use whimbrel_storage::archive::query::{self as archive, Order, Predicate, STEP_BYTES};
use whimbrel_storage::jid::Jid;
use whimbrel_storage::log::Sequence;

use crate::env::Env;
use crate::limits::Limits;
use crate::proto::address;
use crate::proto::archive::ids::ArchiveIds;
use crate::proto::archive::query::{PAGE, Query};
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::rsm::Start;
use crate::user::archive::upkeep;
use crate::user::record;

/// Messages that one step reads at most, whether they are asked for or not: a reader's thread goes to the next query then.
const STEP_LOOKS: usize = 2_000;

/// Bytes in which a message is wrapped on its way to a client, about.
const WRAPPED_BYTES: usize = 512;

/// How much one step of a page may be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Bytes of its messages, but for the last one.
    pub(crate) bytes: usize,
    /// Messages that are read.
    pub(crate) looks: usize,
}

impl Step {
    /// What fits beside the quarter of `output_backlog_bytes` that may wait for the client when the step is asked for, so that nobody is
    /// ended for a page that it reads: an eighth for texts and an eighth for what they are wrapped in, and the last message may have
    /// half of it (`limits.stanza_bytes`).
    pub(crate) fn of(limits: &Limits) -> Step {
        let part = limits.output_backlog_bytes as usize / 8;
        let messages = (part / WRAPPED_BYTES).max(1);
        // No page has more messages.
        let looks = if messages > PAGE.max { STEP_LOOKS } else { messages };
        Step { bytes: STEP_BYTES.min(part), looks }
    }
}

/// What storage is asked for: one message more than the page may have, to see whether there is one.
///
/// # Errors
/// `item-not-found` for an id that this server has never given.
pub(crate) fn of(
    env: &Env,
    query: &Query,
    local: &str,
    (actor, snapshot): (ActorId, Snapshot),
) -> Result<archive::Query, StanzaError> {
    let ids = &env.shared.archive_ids;
    let mut all = archive::Query { not_before: upkeep::oldest(env), ..archive::Query::all(actor, snapshot) };
    let mut exists = |id: &str| {
        let id = open(ids, id)?;
        all.must_exist.push(id);
        Ok::<_, StanzaError>(id)
    };
    let mut after = Sequence::ZERO;
    let mut before = Sequence::MAX;
    if let Some(id) = &query.after_id {
        after = exists(id)?;
    }
    if let Some(id) = &query.before_id {
        before = exists(id)?;
    }
    let mut order = Order::Forwards;
    match &query.page.start {
        Start::After(id) => after = after.max(exists(id)?),
        Start::Before(id) => {
            before = before.min(exists(id)?);
            order = Order::Backwards;
        }
        Start::Last => order = Order::Backwards,
        Start::First | Start::Index(_) => {}
    }
    (all.after, all.before, all.order) = (after, before, order);
    all.from_ms = query.start_ms.unwrap_or(0);
    all.until_ms = query.end_ms.unwrap_or(u64::MAX);
    if let Some(wanted) = &query.ids {
        all.ids = wanted.iter().map(|id| open(ids, id)).collect::<Result<_, _>>()?;
    }
    if let Some(with) = &query.with {
        // Messages with users of other servers there are none.
        all.peer = Some(ids.peer(with.local().unwrap_or_default()));
        all.matches = Some(exchanged_with(with, &env.bare_jid(local)));
    }
    all.messages_max = query.page.max + 1;
    let step = Step::of(&env.config.limits);
    (all.bytes_max, all.looks_max) = (step.bytes, step.looks);
    Ok(all)
}

fn open(ids: &ArchiveIds, id: &str) -> Result<Sequence, StanzaError> {
    ids.open(id).map(Sequence).ok_or_else(not_found)
}

/// There is no message with an id, or no longer.
pub(crate) fn not_found() -> StanzaError {
    StanzaError::from(StanzaCondition::ItemNotFound).with_text("the archive has no message with this id")
}

/// Whether a message was exchanged with an address; a bare one stands for its resources (§4.1.1). Called on a reader's thread.
fn exchanged_with(with: &Jid, own: &str) -> Predicate {
    let (with, own) = (with.as_str().to_owned(), own.to_owned());
    Arc::new(move |payload| {
        let Some((from, to)) = record::decode(payload).and_then(|kept| record::addresses(kept.stanza)) else {
            return false;
        };
        let peer = if address::bare_of(&from) == own { to.as_deref().unwrap_or(&own) } else { &*from };
        peer == with || address::bare_of(peer) == with
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_fits_into_what_may_wait_for_a_client() {
        for (backlog, bytes, looks) in
            [(20_000, 2_500, 4), (512 << 10, STEP_BYTES, 128), (2 << 20, STEP_BYTES, STEP_LOOKS)]
        {
            let limits = Limits { output_backlog_bytes: backlog, ..Limits::default() };
            assert_eq!(Step::of(&limits), Step { bytes, looks }, "{backlog}");
            let most = backlog as usize / 4 + bytes + looks.min(PAGE.max) * WRAPPED_BYTES;
            assert!(most + backlog as usize / 2 <= backlog as usize, "{backlog}");
        }
    }
}
