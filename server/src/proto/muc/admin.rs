//! Lists of affiliations and roles, and changes of them: `muc#admin` (XEP-0045 §8, §9, §10.3 to §10.8).

use whimbrel_storage::jid::{Jid, normalise_resource};

use super::role::{Affiliation, Role, affiliation_named};
use super::user::UserItem;
use super::{bad, malformed, push, reason_of};
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::letters::Letters;
use crate::proto::ns;
use crate::stanza::Type;
use crate::xml::Element;

/// Items that one request may have.
pub const ITEMS_MAX: usize = 256;

/// Of whom a list is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListOf {
    /// All of an affiliation.
    Affiliation(Affiliation),
    /// All occupants of a role.
    Role(Role),
}

/// Who is to be changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// By its bare JID, whether or not it is in the room.
    Jid(Jid),
    /// An occupant.
    Nick(String),
}

/// What somebody is to become.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Something to the room.
    Affiliation(Affiliation),
    /// Something in the room, as long as it is in it.
    Role(Role),
}

/// One change that is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminItem {
    /// Who.
    pub target: Target,
    /// What it is to become.
    pub change: Change,
    /// A nick that is to be reserved for it, where a JID is made something.
    pub nick: Option<String>,
    /// Why; empty for nothing.
    pub reason: String,
}

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AdminRequest {
    /// Lists.
    Lists(Vec<ListOf>),
    /// Changes: all of them, or none when one of them may not be made.
    Changes(Vec<AdminItem>),
}

impl AdminRequest {
    /// Reads `<query/>`.
    ///
    /// # Errors
    /// `bad-request` for what says nothing, too much, or contradicts itself; `jid-malformed`; `not-acceptable` for a reason
    /// that is too long.
    pub fn read(typ: Type, query: &Element) -> Result<AdminRequest, StanzaError> {
        let items: Vec<&Element> = query.elements().filter(|child| child.is("item", ns::MUC_ADMIN)).collect();
        if items.is_empty() {
            return Err(bad("there is no item in the request"));
        }
        if items.len() > ITEMS_MAX {
            return Err(bad("there are too many items in one request"));
        }
        match typ {
            Type::Get => {
                let mut lists = Vec::new();
                for item in items {
                    // Each once: a list may have a thousand items.
                    let list = list_of(item)?;
                    if !lists.contains(&list) {
                        lists.push(list);
                    }
                }
                Ok(AdminRequest::Lists(lists))
            }
            _ => {
                let letters = Letters::of_list();
                let items = items.into_iter().map(|item| item_of(item, &letters));
                items.collect::<Result<_, _>>().map(AdminRequest::Changes)
            }
        }
    }
}

fn change_of(item: &Element) -> Result<Change, StanzaError> {
    match (item.attribute("affiliation"), item.attribute("role")) {
        (Some(name), None) => {
            let named = affiliation_named(name).map(Change::Affiliation);
            named.ok_or_else(|| bad("there is no such affiliation"))
        }
        (None, Some(name)) => Role::named(name).map(Change::Role).ok_or_else(|| bad("there is no such role")),
        _ => Err(bad("an item must name either an affiliation or a role")),
    }
}

fn list_of(item: &Element) -> Result<ListOf, StanzaError> {
    match change_of(item)? {
        Change::Affiliation(Affiliation::None) | Change::Role(Role::None) => {
            Err(bad("there is no list of those who are nothing"))
        }
        Change::Affiliation(affiliation) => Ok(ListOf::Affiliation(affiliation)),
        Change::Role(role) => Ok(ListOf::Role(role)),
    }
}

fn item_of(item: &Element, letters: &Letters) -> Result<AdminItem, StanzaError> {
    let change = change_of(item)?;
    for name in ["jid", "nick"] {
        item.attribute(name).map_or(Ok(()), |text| letters.check(text))?;
    }
    let nick = item.attribute("nick").filter(|nick| !nick.is_empty());
    let nick = nick.map(|nick| normalise_resource(nick).map(std::borrow::Cow::into_owned));
    let nick = nick.transpose().map_err(malformed)?;
    let jid = item.attribute("jid").map(Jid::parse).transpose().map_err(malformed)?;
    let (target, nick) = match (jid, nick) {
        (Some(jid), nick) => (Target::Jid(jid.to_bare()), nick),
        (None, Some(nick)) => (Target::Nick(nick), None),
        (None, None) => return Err(bad("an item must name a jid or a nick")),
    };
    let nick = nick
        .filter(|_| matches!(change, Change::Affiliation(affiliation) if affiliation > Affiliation::None));
    Ok(AdminItem { target, change, nick, reason: reason_of(item)? })
}

/// Appends an answer: a query with these items.
pub fn write_list<'a>(items: impl Iterator<Item = UserItem<'a>>, out: &mut Vec<u8>) {
    write_query(out, |out| items.for_each(|item| item.write(out)));
}

/// As [`write_list`], with the items that `content` writes.
pub fn write_query(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    push(out, &["<query xmlns='", ns::MUC_ADMIN, "'>"]);
    content(out);
    push(out, &["</query>"]);
}

/// The requester may not have this list, or not make this change.
pub fn forbidden() -> StanzaError {
    StanzaCondition::Forbidden.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typ: Type, inside: &str) -> Result<AdminRequest, StanzaCondition> {
        let text = format!("<query xmlns='http://jabber.org/protocol/muc#admin'>{inside}</query>");
        AdminRequest::read(typ, &Element::parse(text.as_bytes()).unwrap()).map_err(|error| error.condition)
    }

    fn jid(text: &str) -> Target {
        Target::Jid(Jid::parse(text).unwrap())
    }

    #[test]
    fn lists_are_asked_for_by_affiliation_or_role() {
        let often = "<item affiliation='outcast'/><item role='visitor'/>".repeat(ITEMS_MAX / 2);
        let once = vec![ListOf::Affiliation(Affiliation::Outcast), ListOf::Role(Role::Visitor)];
        assert_eq!(read(Type::Get, &often), Ok(AdminRequest::Lists(once)), "each list is given once");
        assert_eq!(
            read(Type::Get, "<item affiliation='owner'/><item role='moderator'/>"),
            Ok(AdminRequest::Lists(vec![
                ListOf::Affiliation(Affiliation::Owner),
                ListOf::Role(Role::Moderator)
            ]))
        );
    }

    #[test]
    fn changes_name_whom_and_what() {
        let inside = "<item affiliation='member' jid='A@x/r' nick='Al'><reason>a &amp; b</reason></item>\
            <item nick='thane' role='none'/><item affiliation='none' jid='b@x' nick='B'/>";
        let item = |target, change, nick: Option<&str>, reason: &str| AdminItem {
            target,
            change,
            nick: nick.map(str::to_owned),
            reason: reason.to_owned(),
        };
        assert_eq!(
            read(Type::Set, inside),
            Ok(AdminRequest::Changes(vec![
                item(jid("a@x"), Change::Affiliation(Affiliation::Member), Some("Al"), "a & b"),
                item(Target::Nick("thane".into()), Change::Role(Role::None), None, ""),
                item(jid("b@x"), Change::Affiliation(Affiliation::None), None, ""),
            ]))
        );
    }

    #[test]
    fn what_is_not_complete_is_refused() {
        let many = "<item role='none' nick='n'/>".repeat(ITEMS_MAX + 1);
        let long = format!(
            "<item role='none' nick='n'><reason>{}</reason></item>",
            "r".repeat(super::super::REASON_BYTES_MAX + 1)
        );
        let table = [
            (Type::Get, "", StanzaCondition::BadRequest),
            (Type::Get, "<item/>", StanzaCondition::BadRequest),
            (Type::Get, "<item affiliation='none'/>", StanzaCondition::BadRequest),
            (Type::Get, "<item role='none'/>", StanzaCondition::BadRequest),
            (Type::Get, "<item affiliation='king'/>", StanzaCondition::BadRequest),
            (
                Type::Set,
                "<item affiliation='owner' role='moderator' jid='a@x'/>",
                StanzaCondition::BadRequest,
            ),
            (Type::Set, "<item affiliation='owner'/>", StanzaCondition::BadRequest),
            (Type::Set, "<item affiliation='owner' nick=''/>", StanzaCondition::BadRequest),
            (Type::Set, "<item affiliation='owner' jid='@'/>", StanzaCondition::JidMalformed),
            (Type::Set, &many, StanzaCondition::BadRequest),
            (Type::Set, &long, StanzaCondition::NotAcceptable),
        ];
        for (typ, inside, expected) in table {
            assert_eq!(read(typ, inside), Err(expected), "{inside:.80}");
        }
    }

    #[test]
    fn a_list_is_written_item_by_item() {
        let mut out = Vec::new();
        let item = UserItem { affiliation: Affiliation::Owner, jid: Some("a@x"), ..UserItem::default() };
        write_list([item].into_iter(), &mut out);
        let expected = "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='owner' jid='a@x'/></query>";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
