//! Last activity (XEP-0012): uptime of the server, and when an account was last online.

use crate::env::Env;
use crate::proto::errors::StanzaCondition;
use crate::service::{Reply, Request, Scope, Scopes, Service, unreadable};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::writes::Area;
use crate::xml::Element;

const NAMESPACE: &str = "jabber:iq:last";

/// Tells for how long the server has run, or the account has been away.
pub const SERVICE: Service = Service {
    element: "query",
    namespace: NAMESPACE,
    scopes: Scopes::ANY,
    feature: NAMESPACE,
    writes: Area::Alone,
    handle,
};

fn handle(actors: &mut Actors, env: &Env, _: &mut Effects, request: &Request) -> Reply {
    if request.typ != Type::Get {
        return StanzaCondition::NotAllowed.into();
    }
    if request.scope == Scope::Server {
        // The worker's clock begins when the server starts.
        return seconds(env.now.0 / 1000, "");
    }
    // §4: those who may not see the presence learn nothing, not even whether there is such an account.
    if !request.sees_presence(env) {
        return StanzaCondition::Forbidden.into();
    }
    let online =
        actors.users.find(&request.account).is_some_and(|user| !actors.users.available_of(user).is_empty());
    if online {
        return seconds(0, "");
    }
    match env.shared.directory.last_activity(&request.account) {
        Ok(Some(last)) => seconds(env.unix_seconds().saturating_sub(last.at_seconds), &last.status),
        Ok(None) => StanzaCondition::ItemNotFound.into(),
        Err(error) => unreadable(&request.account, &error),
    }
}

fn seconds(seconds: u64, status: &str) -> Reply {
    Reply::Result(Element::new("query", NAMESPACE).attr("seconds", seconds.to_string()).text(status))
}
