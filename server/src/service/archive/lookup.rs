//! From what a client asks for (XEP-0313 §4) to what storage is asked for.

use std::sync::Arc;

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::Snapshot;
use whimbrel_storage::archive::query::{self as archive, Order, Predicate, STEP_BYTES};
use whimbrel_storage::jid::Jid;
use whimbrel_storage::log::Sequence;

use crate::env::Env;
use crate::proto::address;
use crate::proto::archive::ids::ArchiveIds;
use crate::proto::archive::query::Query;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::rsm::Start;
use crate::user::archive::upkeep;
use crate::user::record;

/// Messages that one step reads at most, whether they are asked for or not: a reader's thread goes to the next query then.
pub(crate) const STEP_LOOKS: usize = 2_000;

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
    all.bytes_max = STEP_BYTES;
    all.looks_max = STEP_LOOKS;
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
