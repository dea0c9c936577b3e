//! `archive stats`: how much there is, since when, and whose.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::Snapshot;
use whimbrel_storage::log::Sequence;

use super::time::{rfc3339, rfc3339_or_null};
use super::{Archives, failed};
use crate::problem::Problem;
use crate::report::{Report, table};

/// Accounts that are listed.
const LARGEST: usize = 10;
/// So many are looked at, because some may be of deleted accounts.
const LOOKED_AT: usize = 1000;
/// Accounts read at once when the names of the largest are looked for.
const PAGE: usize = 1000;

/// Messages and what they take.
#[derive(Clone, Copy, Default)]
struct Sum {
    messages: u64,
    bytes: u64,
    span: Option<(Sequence, Sequence)>,
}

impl Sum {
    fn of(snapshot: &Snapshot) -> Sum {
        let mut sum = Sum::default();
        snapshot.slots().for_each(|slot| sum.add(slot.id, slot.held_bytes()));
        sum
    }

    fn add(&mut self, id: Sequence, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
        self.stretch((id, id));
    }

    fn stretch(&mut self, by: (Sequence, Sequence)) {
        let known = self.span.unwrap_or(by);
        self.span = Some((known.0.min(by.0), known.1.max(by.1)));
    }

    fn add_all(&mut self, other: &Sum) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        if let Some(span) = other.span {
            self.stretch(span);
        }
    }

    fn times(&self) -> (Option<u64>, Option<u64>) {
        (self.span.map(|span| span.0.time_ms()), self.span.map(|span| span.1.time_ms()))
    }

    fn json(&self, rows: u64) -> Value {
        let (oldest, newest) = self.times();
        json!({
            "messages": self.messages,
            "bytes": self.bytes,
            "rows": rows,
            "oldest": rfc3339_or_null(oldest),
            "newest": rfc3339_or_null(newest),
        })
    }

    fn text(&self, rows: u64) -> String {
        let mut text = format!("messages  {}\nbytes     {}\nrows      {rows}\n", self.messages, self.bytes);
        if let (Some(oldest), Some(newest)) = self.times() {
            text += &format!("oldest    {}\nnewest    {}\n", rfc3339(oldest), rfc3339(newest));
        }
        text
    }
}

/// Of one account.
pub(super) fn of_one(archives: &Archives, jid: &str, report: &Report) -> Result<(), Problem> {
    let owner = archives.owner(jid)?;
    let mut sum = Sum::default();
    let rows = archives.each_message(owner.actor, &mut |slot| sum.add(slot.id, slot.held_bytes()))?;
    if sum.messages == 0 {
        report.nothing(&format!("nothing is archived of {}", owner.jid));
    }
    let mut value = sum.json(rows);
    value["jid"] = json!(owner.jid);
    report.result(&value, || if sum.messages == 0 { String::new() } else { sum.text(rows) });
    Ok(())
}

/// Of all accounts.
pub(super) fn of_all(archives: &Archives, report: &Report) -> Result<(), Problem> {
    let tail: BTreeMap<ActorId, Sum> =
        archives.tail(None)?.into_iter().map(|(actor, snapshot)| (actor, Sum::of(&snapshot))).collect();
    let totals = archives.directory.archive_totals().map_err(failed)?;
    let (rows, _) = archives.directory.archive_index().map_err(failed)?;
    let mut sum = Sum { messages: totals.messages, bytes: totals.bytes, span: totals.span };
    tail.values().for_each(|more| sum.add_all(more));
    let largest = largest(archives, &tail)?;
    if sum.messages == 0 {
        report.nothing("nothing is archived");
    }
    let mut value = sum.json(rows);
    let account =
        |(jid, sum): &(String, Sum)| json!({ "jid": jid, "messages": sum.messages, "bytes": sum.bytes });
    value["largest"] = largest.iter().map(account).collect();
    report.result(&value, || {
        if sum.messages == 0 {
            return String::new();
        }
        let row =
            |(jid, sum): &(String, Sum)| vec![jid.clone(), sum.messages.to_string(), sum.bytes.to_string()];
        let rows_of_table: Vec<Vec<String>> = largest.iter().map(row).collect();
        format!("{}\n{}", sum.text(rows), table(&["whose", "messages", "bytes"], &rows_of_table))
    });
    Ok(())
}

/// The accounts whose archives take most, the largest first.
fn largest(archives: &Archives, tail: &BTreeMap<ActorId, Sum>) -> Result<Vec<(String, Sum)>, Problem> {
    let states = archives.directory.archive_largest(LOOKED_AT).map_err(failed)?;
    let mut all: BTreeMap<ActorId, Sum> = states
        .into_iter()
        .filter(|(_, state)| !state.is_purged && state.messages > 0)
        .map(|(actor, state)| (actor, Sum { messages: state.messages, bytes: state.bytes, span: None }))
        .collect();
    for (actor, more) in tail {
        if !all.contains_key(actor) {
            let state = archives.directory.archive_state(*actor).map_err(failed)?;
            all.insert(*actor, Sum { messages: state.messages, bytes: state.bytes, span: None });
        }
        all.entry(*actor).or_default().add_all(more);
    }
    let mut all: Vec<(ActorId, Sum)> = all.into_iter().collect();
    all.sort_by_key(|(actor, sum)| (std::cmp::Reverse(sum.bytes), *actor));
    all.truncate(LARGEST);
    let names = names(archives, all.iter().map(|(actor, _)| *actor).collect())?;
    let name = |actor: ActorId| names.get(&actor).cloned().unwrap_or_else(|| actor.to_string());
    Ok(all.into_iter().map(|(actor, sum)| (name(actor), sum)).collect())
}

/// The names of some rooms, and the addresses of some accounts, which the directory only knows by going through all.
fn names(archives: &Archives, mut wanted: BTreeSet<ActorId>) -> Result<BTreeMap<ActorId, String>, Problem> {
    let mut names = BTreeMap::new();
    for actor in wanted.clone() {
        let room = archives.directory.rooms(|rooms| rooms.name(actor)).map_err(failed)?;
        if let Some(room) = room {
            wanted.remove(&actor);
            names.insert(actor, format!("room {room}"));
        }
    }
    let mut after: Option<String> = None;
    while !wanted.is_empty() {
        let page = archives.directory.accounts(after.as_deref(), PAGE).map_err(failed)?;
        let Some(last) = page.last() else { break };
        for local in &page {
            let actor = archives.directory.account_id(local).map_err(failed)?;
            if let Some(actor) = actor.filter(|actor| wanted.remove(actor)) {
                names.insert(actor, format!("{local}@{}", archives.domain));
            }
        }
        after = Some(last.clone());
    }
    Ok(names)
}
