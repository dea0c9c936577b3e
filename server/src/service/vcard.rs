//! vCards (XEP-0054). Avatars in them (XEP-0153) need nothing more: clients announce them in their presence, which
//! the server passes on as it is.

use crate::service::{Committed, Reply, Request, Scope, Scopes, Service, unreadable};
use crate::stanza::Type;
use crate::stream::errors::StanzaCondition;
use crate::user::home::Home;
use crate::user::writes::Area;
use crate::xml::Element;

const NAMESPACE: &str = "vcard-temp";

/// Reads the vCard of any account, and writes the requester's own.
pub const SERVICE: Service = Service {
    element: "vCard",
    namespace: NAMESPACE,
    scopes: Scopes::ACCOUNTS,
    feature: NAMESPACE,
    writes: Area::VCard,
    handle,
};

fn handle(home: &mut Home, request: &Request) -> Reply {
    match (request.typ, request.scope) {
        (Type::Get, _) => read(home, &request.account),
        (_, Scope::OwnAccount) => write(home, request),
        _ => StanzaCondition::Forbidden.into(),
    }
}

/// An account without a vCard and one that does not exist look alike (§3.3).
fn read(home: &Home, account: &str) -> Reply {
    match home.shared.directory.vcard(account) {
        Ok(Some(bytes)) => match Element::parse(&bytes) {
            Ok(vcard) => Reply::Result(vcard),
            Err(error) => {
                tracing::error!(user = account, %error, "a stored vCard is damaged");
                StanzaCondition::InternalServerError.into()
            }
        },
        Ok(None) => StanzaCondition::ItemNotFound.into(),
        Err(error) => unreadable(account, &error),
    }
}

fn write(home: &mut Home, request: &Request) -> Reply {
    let account = request.account.clone();
    let bytes = request.query.to_bytes();
    // Declaring namespaces anew on each element can make it longer than it came.
    if bytes.len() > home.config.limits.stanza_bytes as usize {
        return StanzaCondition::NotAcceptable.into();
    }
    request.commit(home, move |transaction| {
        transaction.set_vcard(&account, &bytes)?;
        Ok(Ok(Committed::default()))
    })
}
