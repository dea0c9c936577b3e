//! Rosters (RFC 6121 §2): get with versioning, set, remove.

use whimbrel_storage::directory::{Item, RosterChanges, Table};
use whimbrel_storage::jid::Jid;

use crate::env::Env;
use crate::limits::Limits;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::service::{Answers, Change as DirectoryChange, Committed, Reply, Request, Scope, Scopes, Service};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::lifecycle::{AccountRemoved, Available, Hooks};
use crate::user::roster;
use crate::user::subscription;
use crate::user::subscription::change::Room;
use crate::user::subscription::table::Direction;
use crate::user::subscription::under_way::About;
use crate::user::tables::{Flags, ResourceKey};
use crate::user::writes::Area;
use crate::xml::Element;

/// Changes that are pushed one by one to a client whose version is old; with more it gets the whole roster.
const CHANGES_MAX: usize = 64;

/// The roster of the requester's own account. Requests for those of others are registered to be refused.
pub static SERVICE: Service = Service {
    name: "roster",
    answers: &[Answers {
        element: "query",
        namespace: ns::ROSTER,
        scopes: Scopes::ACCOUNTS,
        writes: Area::Roster,
        handle,
    }],
    features: &[(ns::ROSTER, Scopes::ANY)],
    tables: &[Table::RosterStates, Table::Rosters, Table::Removals],
    lifecycle: Hooks { available: Some(come), account_removed: Some(account_removed), ..Hooks::NONE },
    ..Service::NOTHING
};

fn handle(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    match (request.scope, request.sender, request.typ) {
        // §2.1.3, §2.3.3: whether the other account exists makes no difference.
        (Scope::OtherAccount | Scope::Server, _, _) | (_, None, _) => StanzaCondition::Forbidden.into(),
        (Scope::OwnAccount, Some(sender), Type::Get) => get(actors, env, fx, request, sender),
        (Scope::OwnAccount, Some(_), _) => match Change::read(&request.query, &env.config.limits, |jid| {
            address::belongs_to(jid, &request.account, &env.shared.domain)
        }) {
            Ok(Change::Put(wanted)) => put(actors, env, fx, request, wanted),
            Ok(Change::Remove { contact }) => remove(actors, env, fx, request, contact),
            Err(error) => Reply::Error(error),
        },
    }
}

/// §2.1.3, §2.1.4 and, when the client says which version it has, §2.6.
fn get(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request, sender: ResourceKey) -> Reply {
    if request.query.elements().next().is_some() {
        return Reply::Error(bad("a roster get has no items"));
    }
    let known = request.query.attribute("ver");
    let directory = env.shared.directory.clone();
    let local = &request.account;
    let answer = known.and_then(|known| known.parse().ok()).map(|known| directory.roster_since(local, known));
    let changes = match answer {
        Some(Ok(RosterChanges::Since(changes))) if changes.len() <= CHANGES_MAX => Some(changes),
        Some(Err(error)) => return unreadable(local, &error),
        _ => None,
    };
    let reply = if changes.is_some() {
        Reply::Done
    } else {
        // The version first: should the roster change in between, the client is behind and not ahead.
        let version = match directory.roster_version(local) {
            Ok(version) => known.map(|_| version.to_string()),
            Err(error) => return unreadable(local, &error),
        };
        let mut query = Vec::new();
        let mut count = 0;
        let mut read = Ok(());
        roster::write_query(version.as_deref(), &mut query, |out| {
            read = directory.roster_rows(local, |row| {
                count += 1;
                if row.head.listed {
                    roster::write_item(&row.head, row.name, row.groups(), out);
                }
            });
        });
        if let Err(error) = read {
            return unreadable(local, &error);
        }
        fx.work.add_items(count);
        Reply::Written(query)
    };
    actors.users.resource_mut(sender).flags.put(Flags::INTERESTED, true);
    let Some(changes) = changes else { return reply };
    // §2.6.3: the empty result first, then what has changed.
    request.reply_to().send(env, fx, reply);
    for (contact, version, item) in changes {
        match item {
            Some(item) if item.listed => {
                roster::push_to(actors, env, fx, sender, &roster::written(&item), version);
            }
            // A request that waits is no part of the roster yet.
            Some(_) => {}
            None => roster::push_to(actors, env, fx, sender, &roster::written_removed(&contact), version),
        }
    }
    Reply::Later
}

fn unreadable(local: &str, error: &whimbrel_storage::directory::DirectoryError) -> Reply {
    tracing::error!(user = local, %error, "cannot read a roster");
    StanzaCondition::InternalServerError.into()
}

/// §2.3: adds an item, or changes its name and groups. Its subscription is not the client's to set.
fn put(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    request: &Request,
    Wanted { contact, name, groups }: Wanted,
) -> Reply {
    let local = request.account.clone();
    let room = Room::of(&env.config.limits);
    request.commit(actors, env, fx, move |transaction| {
        if transaction.credentials(&local)?.is_none() {
            // Deleted while this session was still there: nothing of it may come back.
            return Ok(Err(StanzaCondition::NotAuthorized.into()));
        }
        let old = transaction.roster_item(&local, &contact)?;
        let takes_place = !old.as_ref().is_some_and(|old| old.listed);
        if takes_place && !room.has_place(transaction, &local, true)? {
            return Ok(Err(roster::full()));
        }
        let mut item = old.clone().unwrap_or_else(|| Item { contact, ..Item::default() });
        item.name = name;
        item.groups = groups;
        item.listed = true;
        if !room.has_bytes(transaction, &local, old.as_ref(), &item)? {
            return Ok(Err(roster::full()));
        }
        item.version = transaction.put_roster_item(&local, &item)?;
        Ok(Ok(Committed::then(move |actors, env, fx| roster::push(actors, env, fx, &local, &item))))
    })
}

/// §2.5: removes an item and cancels the subscriptions both ways.
fn remove(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request, contact: String) -> Reply {
    let local = request.account.clone();
    let on_this_server = address::contact_here(&contact, &env.shared.domain).is_some();
    let about = on_this_server.then(|| About {
        local: local.clone(),
        contact: contact.clone(),
        direction: Direction::Outbound,
    });
    let change = DirectoryChange::new(move |transaction| {
        let none = || StanzaError::from(StanzaCondition::ItemNotFound);
        let Some(item) = transaction.roster_item(&local, &contact)?.filter(|item| item.listed) else {
            return Ok(Err(none()));
        };
        let Some(version) = transaction.remove_roster_item(&local, &contact)? else {
            return Ok(Err(none()));
        };
        Ok(Ok(Committed::hand_on(move |actors, env, fx, pending_ack| {
            roster::push_removed(actors, env, fx, &local, &contact, version);
            subscription::removed(&mut actors.users, env, fx, &local, &item, pending_ack)
        })))
    });
    request.commit_change(actors, env, fx, change.ends(about))
}

/// Requests that wait for the user's answer are shown to each resource that becomes available (§3.1.3).
fn come(actors: &mut Actors, env: &Env, fx: &mut Effects, event: &Available<'_>) {
    if event.initial {
        subscription::deliver_pending(actors, env, fx, event.key);
    }
}

/// The contacts of an account that is gone lose it (§2.5.2).
fn account_removed(actors: &mut Actors, env: &Env, fx: &mut Effects, event: &AccountRemoved<'_>) {
    subscription::account_deleted(&mut actors.users, env, fx, event.account, event.items);
}

/// An item as a client wants it.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    contact: String,
    name: String,
    groups: Vec<String>,
}

/// What a roster set asks for.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Put(Wanted),
    Remove { contact: String },
}

impl Change {
    /// Reads and checks a roster set (§2.1.5, §2.3.3).
    fn read(query: &Element, limits: &Limits, is_own: impl Fn(&Jid) -> bool) -> Result<Change, StanzaError> {
        let mut children = query.elements();
        let (Some(item), None) = (children.next(), children.next()) else {
            return Err(bad("a roster set has exactly one item"));
        };
        if !item.is("item", ns::ROSTER) {
            return Err(bad("a roster set has exactly one item"));
        }
        let jid = item.attribute("jid").ok_or_else(|| bad("the item has no jid"))?;
        let jid = Jid::parse(jid)
            .map_err(|error| StanzaError::from(StanzaCondition::JidMalformed).with_text(error.to_string()))?;
        if !jid.is_bare() {
            return Err(bad("the jid of an item has no resource"));
        }
        if is_own(&jid) {
            let text = "an account is not a contact of itself";
            return Err(StanzaError::from(StanzaCondition::NotAllowed).with_text(text));
        }
        let contact = jid.as_str().to_owned();
        if item.attribute("subscription") == Some("remove") {
            return Ok(Change::Remove { contact });
        }
        let bytes_max = limits.roster_name_bytes as usize;
        let name = item.attribute("name").unwrap_or_default().to_owned();
        if name.len() > bytes_max {
            return Err(unacceptable(format!("a name may have at most {bytes_max} bytes")));
        }
        Ok(Change::Put(Wanted { contact, name, groups: groups(item, limits)? }))
    }
}

fn groups(item: &Element, limits: &Limits) -> Result<Vec<String>, StanzaError> {
    let mut groups: Vec<String> = Vec::new();
    let (count_max, bytes_max) = (limits.roster_groups as usize, limits.roster_name_bytes as usize);
    for group in item.elements().filter(|child| child.is("group", ns::ROSTER)) {
        let group = group.content();
        if group.is_empty() {
            return Err(unacceptable("a group has a name".to_owned()));
        }
        if group.len() > bytes_max {
            return Err(unacceptable(format!("the name of a group may have at most {bytes_max} bytes")));
        }
        if groups.len() >= count_max {
            return Err(unacceptable(format!("an item may be in at most {count_max} groups")));
        }
        if groups.iter().any(|known| *known == group) {
            return Err(bad("the item names a group twice"));
        }
        groups.push(group.into_owned());
    }
    Ok(groups)
}

fn bad(text: &'static str) -> StanzaError {
    StanzaError::from(StanzaCondition::BadRequest).with_text(text)
}

fn unacceptable(text: String) -> StanzaError {
    StanzaError::from(StanzaCondition::NotAcceptable).with_text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(items: &str) -> Result<Change, StanzaError> {
        let query = Element::parse(format!("<query xmlns='jabber:iq:roster'>{items}</query>").as_bytes());
        let limits = Limits { roster_name_bytes: 20, roster_groups: 3, ..Limits::default() };
        Change::read(&query.unwrap(), &limits, |jid| jid.as_str() == "juliet@localhost")
    }

    #[test]
    fn a_set_that_breaks_a_rule_gets_the_error_of_the_rfc() {
        let long = "n".repeat(21);
        let cases = [
            ("", StanzaCondition::BadRequest),
            ("<item jid='a@x'/><item jid='b@x'/>", StanzaCondition::BadRequest),
            ("<thing jid='a@x'/>", StanzaCondition::BadRequest),
            ("<item/>", StanzaCondition::BadRequest),
            ("<item jid='@x'/>", StanzaCondition::JidMalformed),
            ("<item jid='a@x/r'/>", StanzaCondition::BadRequest),
            ("<item jid='juliet@localhost'/>", StanzaCondition::NotAllowed),
            ("<item jid='juliet@localhost' subscription='remove'/>", StanzaCondition::NotAllowed),
            (&format!("<item jid='a@x' name='{long}'/>"), StanzaCondition::NotAcceptable),
            ("<item jid='a@x'><group/></item>", StanzaCondition::NotAcceptable),
            (&format!("<item jid='a@x'><group>{long}</group></item>"), StanzaCondition::NotAcceptable),
            ("<item jid='a@x'><group>g</group><group>g</group></item>", StanzaCondition::BadRequest),
            (
                "<item jid='a@x'><group>1</group><group>2</group><group>3</group><group>4</group></item>",
                StanzaCondition::NotAcceptable,
            ),
        ];
        for (items, condition) in cases {
            assert_eq!(read(items).map_err(|error| error.condition), Err(condition), "{items}");
        }
    }

    #[test]
    fn a_set_keeps_name_and_groups_and_normalises_the_address() {
        let read =
            read("<item jid='Romeo@X' name='R'  subscription='both'><group>a</group><group>b</group></item>");
        let groups = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(read, Ok(Change::Put(Wanted { contact: "romeo@x".into(), name: "R".into(), groups })));
    }
}
