//! vCards (XEP-0054). Avatars in them (XEP-0153) need nothing more: clients announce them in their presence, which
//! the server passes on as it is.

use whimbrel_storage::directory::Table;

use crate::env::Env;
use crate::proto::errors::StanzaCondition;
use crate::proto::ns;
use crate::service::{Answers, Committed, Reply, Request, Scope, Scopes, Service, unreadable};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::writes::Area;
use crate::xml::Element;

/// The answer to a stranger when there is no vCard to show; §3.3 leaves the choice, and XEP-0191 §3.2 asks for this one.
const NONE: StanzaCondition = StanzaCondition::ServiceUnavailable;

/// Reads the vCard of any account, and writes the requester's own.
pub static SERVICE: Service = Service {
    name: "vCards",
    answers: &[Answers {
        element: "vCard",
        namespace: ns::VCARD,
        scopes: Scopes::ACCOUNTS,
        writes: Area::VCard,
        handle,
    }],
    features: &[(ns::VCARD, Scopes::ANY)],
    tables: &[Table::Vcards],
    ..Service::NOTHING
};

fn handle(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    match (request.typ, request.scope) {
        (Type::Get, Scope::OtherAccount) if request.is_hidden => NONE.into(),
        (Type::Get, scope) => read(env, &request.account, scope),
        (_, Scope::OwnAccount) => write(actors, env, fx, request),
        _ => StanzaCondition::Forbidden.into(),
    }
}

/// An account without a vCard, one that does not exist and one that blocks the requester look alike (§3.3); the owner
/// hears that there is none.
fn read(env: &Env, account: &str, scope: Scope) -> Reply {
    match env.shared.directory.vcard(account) {
        Ok(Some(bytes)) => match Element::parse(&bytes) {
            Ok(vcard) => Reply::Result(vcard),
            Err(error) => {
                tracing::error!(user = account, %error, "a stored vCard is damaged");
                StanzaCondition::InternalServerError.into()
            }
        },
        Ok(None) if scope == Scope::OtherAccount => NONE.into(),
        Ok(None) => StanzaCondition::ItemNotFound.into(),
        Err(error) => unreadable(account, &error),
    }
}

fn write(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    let account = request.account.clone();
    let bytes = request.query.to_bytes();
    // Declaring namespaces anew on each element can make it longer than it came.
    if bytes.len() > env.config.limits.stanza_bytes as usize {
        return StanzaCondition::NotAcceptable.into();
    }
    request.commit(actors, env, fx, move |transaction| {
        transaction.set_vcard(&account, &bytes)?;
        Ok(Ok(Committed::default()))
    })
}
