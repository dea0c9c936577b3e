//! Moving a roster item inside a transaction of the directory.
//!
//! The state is read and written in the same transaction, on the one writer thread, so stanzas that follow each
//! other take effect in their order whoever sent them.

use whimbrel_storage::directory::{DirectoryError, Item, WriteTransaction};

use crate::limits::Limits;
use crate::user::roster;
use crate::user::subscription::table::{self, Consequences, Direction, State, Verb};

/// How many items a roster may have.
#[derive(Copy, Clone, Debug)]
pub struct Room {
    /// Items that the user sees: `limits.roster_items`.
    pub items: usize,
    /// Requests of contacts that are not in the roster: `limits.roster_requests`.
    pub requests: usize,
    /// Bytes of the items that the user sees: `limits.roster_bytes`.
    pub bytes: usize,
}

impl Room {
    /// As the configuration says.
    pub fn of(limits: &Limits) -> Room {
        Room {
            items: limits.roster_items as usize,
            requests: limits.roster_requests as usize,
            bytes: limits.roster_bytes(),
        }
    }

    /// Whether one more item can be kept, visible to the user or not.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn has_place(
        self,
        transaction: &WriteTransaction<'_>,
        local: &str,
        listed: bool,
    ) -> Result<bool, DirectoryError> {
        let limit = if listed { self.items } else { self.requests };
        // Counting items of one kind reads the whole roster: only when the cheap count leaves it open.
        if transaction.roster_len(local)? < limit {
            return Ok(true);
        }
        let items = transaction.roster_items(local)?;
        Ok(items.iter().filter(|item| item.listed == listed).count() < limit)
    }

    /// Whether an item can take the place of `old`, as far as its bytes are concerned. A smaller one always can.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn has_bytes(
        self,
        transaction: &WriteTransaction<'_>,
        local: &str,
        old: Option<&Item>,
        item: &Item,
    ) -> Result<bool, DirectoryError> {
        let shown = |item: &Item| if item.listed { roster::written(item).len() } else { 0 };
        let size = shown(item);
        if size <= old.map_or(0, shown) {
            return Ok(true);
        }
        let items = transaction.roster_items(local)?;
        let others = items.iter().filter(|other| other.contact != item.contact).map(shown);
        Ok(others.sum::<usize>() + size <= self.bytes)
    }
}

/// What became of a stanza.
#[derive(Debug)]
pub enum ChangeOutcome {
    /// It moved the item, or left it as it is.
    Moved(Change),
    /// There is no room for another item.
    Full,
    /// The account does not exist.
    NoAccount,
}

/// A move that the transaction has made.
#[derive(Debug)]
pub struct Change {
    /// What else is to be done.
    pub consequences: Consequences,
    /// The item to be pushed; its version is the roster's.
    pub push: Option<Item>,
}

/// Makes the move of one stanza to the item of `local` about `contact` (bare JIDs of this server).
///
/// `stanza` is kept with the item when it is a request that waits for an answer.
///
/// # Errors
/// The directory cannot be read or written.
pub fn make(
    transaction: &mut WriteTransaction<'_>,
    local: &str,
    contact: &str,
    (direction, verb): (Direction, Verb),
    stanza: &[u8],
    room: Room,
) -> Result<ChangeOutcome, DirectoryError> {
    if transaction.credentials(local)?.is_none() {
        return Ok(ChangeOutcome::NoAccount);
    }
    let old = transaction.roster_item(local, contact)?;
    let mut item = old.clone().unwrap_or_else(|| Item { contact: contact.to_owned(), ..Item::default() });
    let consequences = apply(&mut item, direction, verb, stanza);
    if old.as_ref() == Some(&item) || (old.is_none() && is_blank(&item)) {
        return Ok(ChangeOutcome::Moved(Change { consequences, push: None }));
    }
    let was_listed = old.as_ref().is_some_and(|old| old.listed);
    let takes_place = old.is_none() || (item.listed && !was_listed);
    // What a move adds to an item that is shown already is a few bytes; without them it would be half done.
    if takes_place
        && !(room.has_place(transaction, local, item.listed)?
            && room.has_bytes(transaction, local, None, &item)?)
    {
        return Ok(ChangeOutcome::Full);
    }
    if is_blank(&item) {
        transaction.remove_roster_item(local, contact)?;
        return Ok(ChangeOutcome::Moved(Change { consequences, push: None }));
    }
    item.version = transaction.put_roster_item(local, &item)?;
    let push = (consequences.has(Consequences::PUSH) && item.listed).then_some(item);
    Ok(ChangeOutcome::Moved(Change { consequences, push }))
}

/// Changes the item as the table says. The consequences that come back include a push when the pre-approval changed.
fn apply(item: &mut Item, direction: Direction, verb: Verb, stanza: &[u8]) -> Consequences {
    let step = table::step(State::of(item), item.approved, direction, verb);
    let mut consequences = step.consequences;
    item.subscription = step.next.subscription();
    item.ask = step.next.asks();
    if !step.next.is_asked() {
        item.pending_in = None;
    } else if item.pending_in.is_none() {
        item.pending_in = Some(stanza.to_vec());
    }
    if consequences.has(Consequences::APPROVE) {
        item.approved = true;
    }
    if consequences.has(Consequences::WITHDRAW) && std::mem::take(&mut item.approved) {
        consequences = consequences.and(Consequences::PUSH);
    }
    // What an item shows of itself once, it shows for good: the user sees it until they remove it.
    if consequences.has(Consequences::PUSH) {
        item.listed = true;
    }
    consequences
}

/// Whether nothing is left to remember.
fn is_blank(item: &Item) -> bool {
    !item.listed && !item.approved && !item.ask && State::of(item) == State::None
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Inbound, Outbound};

    fn moves(moves: &[(Direction, Verb)]) -> (Item, Consequences) {
        let mut item = Item::default();
        let mut consequences = Consequences::NONE;
        for (direction, verb) in moves {
            consequences = apply(&mut item, *direction, *verb, b"<presence/>");
        }
        (item, consequences)
    }

    #[test]
    fn a_request_of_a_stranger_is_kept_and_not_shown_and_its_denial_leaves_nothing() {
        let (item, _) = moves(&[(Inbound, Verb::Subscribe)]);
        assert_eq!(item.pending_in.as_deref(), Some(&b"<presence/>"[..]));
        assert!(!item.listed && !is_blank(&item));
        let (item, consequences) = moves(&[(Inbound, Verb::Subscribe), (Outbound, Verb::Unsubscribed)]);
        assert!(is_blank(&item), "{item:?}");
        assert!(!consequences.has(Consequences::PUSH));
    }

    #[test]
    fn only_the_first_of_several_requests_is_kept() {
        let mut item = Item::default();
        apply(&mut item, Inbound, Verb::Subscribe, b"<presence>first</presence>");
        apply(&mut item, Inbound, Verb::Subscribe, b"<presence>second</presence>");
        assert_eq!(item.pending_in.as_deref(), Some(&b"<presence>first</presence>"[..]));
    }

    #[test]
    fn a_pre_approval_is_shown_until_it_is_withdrawn() {
        let (item, consequences) = moves(&[(Outbound, Verb::Subscribed)]);
        assert!(item.approved && item.listed && consequences.has(Consequences::PUSH));
        let (item, consequences) = moves(&[(Outbound, Verb::Subscribed), (Outbound, Verb::Unsubscribed)]);
        assert!(!item.approved && consequences.has(Consequences::PUSH));
        let (_, consequences) = moves(&[(Outbound, Verb::Unsubscribed)]);
        assert!(!consequences.has(Consequences::PUSH), "there was nothing to withdraw");
    }

    #[test]
    fn a_pre_approved_request_is_granted_at_once_and_nothing_waits() {
        let (item, consequences) = moves(&[(Outbound, Verb::Subscribed), (Inbound, Verb::Subscribe)]);
        assert_eq!(State::of(&item), State::From);
        assert!(item.pending_in.is_none());
        assert!(consequences.has(Consequences::REPLY) && !consequences.has(Consequences::DELIVER));
    }
}
