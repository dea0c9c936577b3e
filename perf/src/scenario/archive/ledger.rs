//! What a reading has to bring, and what it brought: every message once, in order, with its text, between its people.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::engine::scan::Element;
use crate::scenario::archive::plan::{Plan, Said};

/// Messages that were overtaken or are missing, of one reading, that are told apart; past them each counts as missing.
const GAPS_MAX: usize = 1_000_000;

/// What was wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Faults {
    /// Messages that never came.
    pub(super) missing: u64,
    /// Messages that came again.
    pub(super) repeated: u64,
    /// Messages that came after a later one.
    pub(super) out_of_order: u64,
    /// Messages with another text or other people.
    pub(super) altered: u64,
    /// Messages of this fill that do not belong into this reading.
    pub(super) misplaced: u64,
    /// The first of them.
    pub(super) first: Option<String>,
}

impl Faults {
    /// Adds those of another reading.
    pub(super) fn add(&mut self, other: &Faults) {
        for (sum, more) in [
            (&mut self.missing, other.missing),
            (&mut self.repeated, other.repeated),
            (&mut self.out_of_order, other.out_of_order),
            (&mut self.altered, other.altered),
            (&mut self.misplaced, other.misplaced),
        ] {
            *sum += more;
        }
        if self.first.is_none() {
            self.first.clone_from(&other.first);
        }
    }

    /// One line for each kind that there was.
    pub(super) fn problems(&self, reading: &str) -> Vec<String> {
        let kinds = [
            (self.missing, "did not come back"),
            (self.repeated, "came back more than once"),
            (self.out_of_order, "came back out of order"),
            (self.altered, "came back altered"),
            (self.misplaced, "came back to where they do not belong"),
        ];
        let first = self.first.as_deref().unwrap_or_default();
        kinds
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{reading}: {count} messages {what}; the first fault: {first}"))
            .collect()
    }

    fn note(&mut self, said: Said, what: &str) {
        self.first.get_or_insert_with(|| {
            format!("message {} of conversation {} {what}", said.number, said.conversation)
        });
    }
}

/// One reading of one account.
pub(super) struct Ledger<'a> {
    plan: &'a Plan,
    domain: &'a str,
    /// The number that comes next, and the one behind the last, of each conversation that is read.
    next: BTreeMap<u64, (u32, u32)>,
    /// What was overtaken and has not come yet.
    gaps: BTreeSet<Said>,
    /// An account, what it has sent, in order, and how far that has come back; only where all of it is read.
    sent: Option<(u64, &'a [Said], usize)>,
    faults: Faults,
    /// Messages that were not of this fill.
    pub(super) others: u64,
    /// Messages that came back, others included.
    pub(super) messages: u64,
}

impl<'a> Ledger<'a> {
    /// Everything that an account has, of which it sent `sent` in this order.
    pub(super) fn whole(plan: &'a Plan, domain: &'a str, account: u64, sent: &'a [Said]) -> Ledger<'a> {
        let next = plan.of(account).into_iter().map(|conversation| (conversation, (0, plan.each))).collect();
        Ledger { sent: Some((account, sent, 0)), ..Ledger::of(plan, domain, next) }
    }

    /// The last `count` messages of one conversation, or all of them where there are fewer.
    pub(super) fn last(plan: &'a Plan, domain: &'a str, conversation: u64, count: u32) -> Ledger<'a> {
        let from = plan.each.saturating_sub(count);
        Ledger::of(plan, domain, BTreeMap::from([(conversation, (from, plan.each))]))
    }

    fn of(plan: &'a Plan, domain: &'a str, next: BTreeMap<u64, (u32, u32)>) -> Ledger<'a> {
        let (gaps, faults) = (BTreeSet::new(), Faults::default());
        Ledger { plan, domain, next, gaps, sent: None, faults, others: 0, messages: 0 }
    }

    /// Enters an archived message.
    pub(super) fn enter(&mut self, copy: &Element<'_>) {
        self.messages += 1;
        let Some(said) = copy.attribute(b"id").and_then(|id| self.plan.by_id(id)) else {
            self.others += 1;
            return;
        };
        let Some((next, _)) = self.next.get_mut(&said.conversation) else {
            self.faults.misplaced += 1;
            self.faults.note(said, "is of other people");
            return;
        };
        if said.number >= *next {
            let skipped = (*next..said.number).map(|number| Said { number, ..said });
            let room = GAPS_MAX.saturating_sub(self.gaps.len());
            let (kept, all) = (skipped.clone().take(room), u64::from(said.number - *next));
            self.faults.missing += all.saturating_sub(room as u64);
            self.gaps.extend(kept);
            *next = said.number + 1;
            self.enter_own(said);
        } else if self.gaps.remove(&said) {
            self.faults.out_of_order += 1;
            self.faults.note(said, "was overtaken");
        } else {
            self.faults.repeated += 1;
            self.faults.note(said, "came again");
        }
        if let Some(fault) = self.plan.fault(said, copy, self.domain) {
            self.faults.altered += 1;
            self.faults.note(said, &format!("came back altered: {fault}"));
        }
    }

    /// The order of what the account itself has sent, over all its conversations.
    fn enter_own(&mut self, said: Said) {
        let Some((account, sent, at)) = &mut self.sent else { return };
        if self.plan.way(said).0 != *account {
            return;
        }
        if sent.get(*at) == Some(&said) {
            *at += 1;
        } else if sent[..*at].contains(&said) {
            self.faults.out_of_order += 1;
            self.faults.note(said, "came after what its sender sent later");
        } else if let Some(found) = sent[*at..].iter().position(|own| *own == said) {
            // What is between is missing, or will be found to be late by the look behind.
            *at += found + 1;
        }
    }

    /// What was wrong with what has come, where the rest is not waited for.
    pub(super) fn cut(mut self) -> Faults {
        self.next.values_mut().for_each(|(next, end)| *end = *next);
        self.close()
    }

    /// What was wrong, now that nothing more comes.
    pub(super) fn close(mut self) -> Faults {
        let mut missing: Vec<Said> = self.gaps.iter().copied().collect();
        for (&conversation, &(next, end)) in &self.next {
            self.faults.missing += u64::from(end - next);
            if next < end {
                missing.push(Said { conversation, number: next });
            }
        }
        self.faults.missing += self.gaps.len() as u64;
        if let Some(&said) = missing.first() {
            self.faults.note(said, "is missing");
        }
        self.faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Accounts;
    use crate::engine::scan::{self, Item};

    const PLAN: Plan = Plan { accounts: 3, contacts: 1, each: 4, body_bytes: 20, run: 1 };

    fn said(conversation: u64, number: u32) -> Said {
        Said { conversation, number }
    }

    /// A copy as it comes out of an archive.
    fn copy(said: Said) -> String {
        let from = Accounts::name(PLAN.way(said).0);
        PLAN.stanza(said, "d").replacen(' ', &format!(" from='{from}@d/w' "), 1)
    }

    fn enter(ledger: &mut Ledger<'_>, text: &str) {
        let Ok(Some((Item::Element(copy), _))) = scan::next(text.as_bytes()) else { panic!("no element") };
        ledger.enter(&copy);
    }

    /// Account 0 begins conversation 0 and joins conversation 2.
    const SENT: [Said; 4] = [
        Said { conversation: 0, number: 0 },
        Said { conversation: 2, number: 1 },
        Said { conversation: 0, number: 2 },
        Said { conversation: 2, number: 3 },
    ];

    fn read(order: &[(u64, u32)]) -> Faults {
        let mut ledger = Ledger::whole(&PLAN, "d", 0, &SENT);
        order
            .iter()
            .for_each(|&(conversation, number)| enter(&mut ledger, &copy(said(conversation, number))));
        ledger.close()
    }

    #[test]
    fn an_archive_is_whole_in_any_order_that_keeps_conversations_and_senders() {
        let orders = [
            [(0, 0), (2, 0), (2, 1), (0, 1), (0, 2), (0, 3), (2, 2), (2, 3)],
            [(2, 0), (0, 0), (0, 1), (2, 1), (2, 2), (0, 2), (2, 3), (0, 3)],
        ];
        for order in orders {
            assert_eq!(read(&order), Faults::default());
        }
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        let whole = [(0, 0), (2, 0), (2, 1), (0, 1), (0, 2), (0, 3), (2, 2), (2, 3)];
        let mut lost = whole.to_vec();
        lost.retain(|entry| *entry != (0, 1) && *entry != (2, 3));
        assert_eq!((read(&lost).missing, read(&lost).out_of_order), (2, 0));
        assert!(read(&lost).first.is_some_and(|first| first.contains("is missing")));
        let mut twice = whole.to_vec();
        twice.push((0, 3));
        assert_eq!(read(&twice), Faults { repeated: 1, first: read(&twice).first, ..Faults::default() });
        let mut swapped = whole.to_vec();
        swapped.swap(3, 5);
        let faults = read(&swapped);
        assert_eq!((faults.missing, faults.repeated), (0, 0));
        assert!(faults.out_of_order > 0, "{faults:?}");
        // Within each conversation all is well, but account 0 had sent (2, 1) before (0, 2).
        let across = [(0, 0), (0, 1), (0, 2), (0, 3), (2, 0), (2, 1), (2, 2), (2, 3)];
        assert!(read(&across).out_of_order > 0, "{:?}", read(&across));
        assert_eq!(read(&[]).missing, 8);
    }

    #[test]
    fn the_last_page_is_the_end_of_one_conversation() {
        let mut ledger = Ledger::last(&PLAN, "d", 0, 2);
        for number in [2, 3] {
            enter(&mut ledger, &copy(said(0, number)));
        }
        enter(&mut ledger, "<message id='of-somebody-else'/>");
        assert_eq!((ledger.others, ledger.messages), (1, 3));
        assert_eq!(ledger.close(), Faults::default());
        let mut ledger = Ledger::last(&PLAN, "d", 0, 2);
        for (conversation, number) in [(0, 1), (0, 2), (2, 0)] {
            enter(&mut ledger, &copy(said(conversation, number)));
        }
        let faults = ledger.close();
        assert_eq!((faults.repeated, faults.missing, faults.misplaced), (1, 1, 1), "1 is before the page");
        assert_eq!(faults.problems("last page").len(), 3);
    }

    #[test]
    fn an_altered_message_is_found() {
        let mut ledger = Ledger::last(&PLAN, "d", 0, 1);
        enter(&mut ledger, &copy(said(0, 3)).replace("0.3", "0.2"));
        let faults = ledger.close();
        assert_eq!((faults.altered, faults.missing), (1, 0));
    }
}
