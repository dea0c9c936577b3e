//! Private XML storage (XEP-0049): what clients keep for themselves, by the name and namespace of an element. Bookmarks are
//! kept with those of [`bookmarks`].

use whimbrel_storage::directory::{PRIVATE_NAME_BYTES_MAX, Table};

use crate::env::Env;
use crate::proto::bookmarks::STORAGE;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::service::pubsub::bookmarks;
use crate::service::{Answers, Committed, Reply, Request, Scopes, Service, unreadable};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::writes::Area;
use crate::xml::Element;

/// Keeps and gives back a client's own XML.
pub static SERVICE: Service = Service {
    name: "private XML",
    answers: &[Answers {
        element: "query",
        namespace: ns::PRIVATE,
        scopes: Scopes::OWN,
        writes: Area::Private,
        handle,
    }],
    features: &[(ns::PRIVATE, Scopes::SERVER_AND_OWN)],
    tables: &[Table::Private],
    ..Service::NOTHING
};

fn handle(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    if let Err(error) = check(&request.query) {
        return Reply::Error(error);
    }
    match request.typ {
        Type::Get => read(env, fx, request),
        _ => write(actors, env, fx, request),
    }
}

/// §2.2: there is something to keep, and it is not in a namespace that the protocol itself uses.
fn check(query: &Element) -> Result<(), StanzaError> {
    let mut elements = query.elements().peekable();
    if elements.peek().is_none() {
        return Err(StanzaCondition::BadRequest.into());
    }
    for element in elements {
        // Without a declaration of its own it is still in the namespace of the query.
        if matches!(element.namespace(), "" | ns::PRIVATE) {
            let text = "each element needs a namespace of its own";
            return Err(StanzaError::from(StanzaCondition::BadRequest).with_text(text));
        }
        if ns::is_reserved(element.namespace()) {
            let text = "this namespace is reserved";
            return Err(StanzaError::from(StanzaCondition::NotAcceptable).with_text(text));
        }
    }
    Ok(())
}

/// What was never stored is given back as it was asked for: empty.
fn read(env: &Env, fx: &Effects, request: &Request) -> Reply {
    let mut elements = request.query.elements();
    let (Some(asked), None) = (elements.next(), elements.next()) else {
        return StanzaCondition::NotAcceptable.into();
    };
    let account = &request.account;
    if is_bookmarks(asked) {
        return match bookmarks::read(env, fx, account) {
            Ok(Ok(found)) => {
                let found = found.unwrap_or_else(|| Element::new(STORAGE, ns::BOOKMARKS_STORAGE));
                Reply::Result(Element::new("query", ns::PRIVATE).child(found))
            }
            Ok(Err(error)) => Reply::Error(error),
            Err(error) => unreadable(account, &error),
        };
    }
    let found = match env.shared.directory.private(account, asked.name(), asked.namespace()) {
        Ok(Some(bytes)) => match Element::parse(&bytes) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(user = account, %error, "stored private XML is damaged");
                return StanzaCondition::InternalServerError.into();
            }
        },
        Ok(None) => Element::new(asked.name().to_owned(), asked.namespace().to_owned()),
        Err(error) => return unreadable(account, &error),
    };
    Reply::Result(Element::new("query", ns::PRIVATE).child(found))
}

/// Bookmarks are kept in a node, whoever sets them (XEP-0411).
fn is_bookmarks(element: &Element) -> bool {
    element.is(STORAGE, ns::BOOKMARKS_STORAGE)
}

fn write(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    let account = request.account.clone();
    let set_bookmarks = request.query.elements().find(|element| is_bookmarks(element)).cloned();
    let set_bookmarks = set_bookmarks.map(|storage| bookmarks::job(env, request, storage));
    let items: Vec<_> = request
        .query
        .elements()
        .filter(|element| !is_bookmarks(element))
        .map(|element| (element.name().to_owned(), element.namespace().to_owned(), element.to_bytes()))
        .collect();
    // Values are bounded by the stanza they came in; names have a bound of their own in the directory.
    let named = |(name, namespace, _): &(String, String, Vec<u8>)| {
        name.len() + namespace.len() < PRIVATE_NAME_BYTES_MAX
    };
    let bytes: usize =
        items.iter().map(|(name, namespace, xml)| name.len() + namespace.len() + xml.len()).sum();
    let limit = env.config.limits.private_bytes as usize;
    if !items.iter().all(named) {
        return StanzaCondition::NotAcceptable.into();
    }
    request.commit(actors, env, fx, move |transaction| {
        let names: Vec<(&str, &str)> =
            items.iter().map(|(name, namespace, _)| (name.as_str(), namespace.as_str())).collect();
        if transaction.private_bytes(&account, &names)? + bytes > limit {
            let text = "there is no room for more private data";
            return Ok(Err(StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text)));
        }
        let committed = match set_bookmarks.map(|set| set(transaction)).transpose()? {
            Some(Ok(committed)) => committed,
            Some(Err(error)) => return Ok(Err(error)),
            None => Committed::default(),
        };
        for (name, namespace, xml) in &items {
            transaction.set_private(&account, name, namespace, xml)?;
        }
        Ok(Ok(committed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_checked_before_the_directory_is_asked() {
        let query = |inside: &str| {
            let bytes = format!("<query xmlns='jabber:iq:private'>{inside}</query>");
            Element::parse(bytes.as_bytes()).unwrap()
        };
        let table = [
            ("<storage xmlns='storage:bookmarks'/>", None),
            ("<exodus xmlns='exodus:prefs'/><roster xmlns='roster:delimiter'/>", None),
            ("", Some(StanzaCondition::BadRequest)),
            ("<storage/>", Some(StanzaCondition::BadRequest)),
            ("<storage xmlns=''/>", Some(StanzaCondition::BadRequest)),
            ("<query xmlns='jabber:iq:roster'/>", Some(StanzaCondition::NotAcceptable)),
            ("<x xmlns='http://jabber.org/protocol/muc'/>", Some(StanzaCondition::NotAcceptable)),
            ("<vCard xmlns='vcard-temp'/>", Some(StanzaCondition::NotAcceptable)),
        ];
        for (inside, expected) in table {
            assert_eq!(check(&query(inside)).err().map(|error| error.condition), expected, "{inside}");
        }
    }
}
