//! vCards (XEP-0054). The avatar in one (XEP-0153) is that of the account's nodes ([`avatar`]).

use whimbrel_storage::directory::Table;

use crate::env::Env;
use crate::proto::avatar::Picture;
use crate::proto::errors::StanzaCondition;
use crate::proto::ns;
use crate::service::pubsub::{avatar, notify};
use crate::service::{Answers, Reply, Request, Scope, Scopes, Service, unreadable};
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
        (Type::Get, scope) => read(env, fx, (&request.account, Some(&request.from)), scope),
        (_, Scope::OwnAccount) => write(actors, env, fx, request),
        _ => StanzaCondition::Forbidden.into(),
    }
}

/// What an account shows to strangers: for those who ask by an address that says nothing of them.
pub fn shown_to_strangers(env: &Env, fx: &Effects, account: &str) -> Reply {
    read(env, fx, (account, None), Scope::OtherAccount)
}

/// An account without a vCard, one that does not exist and one that blocks the requester look alike (§3.3); the owner
/// hears that there is none.
fn read(env: &Env, fx: &Effects, (account, from): (&str, Option<&str>), scope: Scope) -> Reply {
    let stored = match env.shared.directory.vcard(account) {
        Ok(stored) => stored.map(|bytes| Element::parse(&bytes)).transpose(),
        Err(error) => return unreadable(account, &error),
    };
    let stored = match stored {
        Ok(stored) => stored,
        Err(error) => {
            tracing::error!(user = account, %error, "a stored vCard is damaged");
            return StanzaCondition::InternalServerError.into();
        }
    };
    match avatar::complete(env, fx, (account, from), stored) {
        Ok(Some(vcard)) => Reply::Result(vcard),
        Ok(None) if scope == Scope::OtherAccount => NONE.into(),
        Ok(None) => StanzaCondition::ItemNotFound.into(),
        Err(error) => unreadable(account, &error),
    }
}

fn write(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    let (account, sender) = (request.account.clone(), request.from.clone());
    let picture = Picture::of_vcard(&request.query);
    let kept = match picture {
        Some(_) => Picture::taken_from(&request.query),
        None => request.query.clone(),
    };
    let bytes = kept.to_bytes();
    // Declaring namespaces anew on each element can make it longer than it came.
    if bytes.len() > env.config.limits.stanza_bytes as usize {
        return StanzaCondition::NotAcceptable.into();
    }
    let (owner, limits, now_ms) = (env.bare_jid(&account), env.config.limits.clone(), env.unix_ms());
    request.commit(actors, env, fx, move |transaction| {
        let names = (account.as_str(), owner.as_str(), sender.as_str());
        let notices = match avatar::take(transaction, names, picture.as_ref(), (&limits, now_ms))? {
            Ok(notices) => notices,
            Err(error) => return Ok(Err(error)),
        };
        transaction.set_vcard(&account, &bytes)?;
        Ok(Ok(notify::tell_all(notices, sender)))
    })
}
