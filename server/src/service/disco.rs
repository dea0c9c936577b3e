//! Service discovery (XEP-0030) of the domain and of accounts. Requests to a full JID go to the client there.

use crate::env::Env;
use crate::proto::errors::StanzaCondition;
use crate::service::caps::{self, Identity};
use crate::service::{Reply, Request, SERVICES, Scope, Scopes, Service, version};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::writes::Area;
use crate::xml::Element;

const INFO_NAMESPACE: &str = "http://jabber.org/protocol/disco#info";
const ITEMS_NAMESPACE: &str = "http://jabber.org/protocol/disco#items";

/// What the server is.
pub const SERVER_IDENTITY: Identity = ("server", "im", version::NAME);

/// What an account is (§4; the registrar's category `account`).
const ACCOUNT_IDENTITY: Identity = ("account", "registered", "");

/// Features of the server that no service stands for.
const PROTOCOL_FEATURES: &[&str] = &[
    // XEP-0115 §7: the stream features have the server's own.
    caps::NAMESPACE,
    // XEP-0160 §3.
    "msgoffline",
    // The rules of version 1.0 by which messages are copied.
    "urn:xmpp:carbons:rules:0",
];

/// Identities and features.
pub const INFO: Service = Service {
    element: "query",
    namespace: INFO_NAMESPACE,
    scopes: Scopes::ANY,
    feature: INFO_NAMESPACE,
    writes: Area::Alone,
    handle: info,
};

/// What belongs to an entity.
pub const ITEMS: Service = Service {
    element: "query",
    namespace: ITEMS_NAMESPACE,
    scopes: Scopes::ANY,
    feature: ITEMS_NAMESPACE,
    writes: Area::Alone,
    handle: items,
};

/// Everything the server can do, each feature once.
pub fn server_features() -> Vec<&'static str> {
    let mut features = features_of(|_| true);
    features.extend(PROTOCOL_FEATURES);
    features
}

fn features_of(fits: impl Fn(&Service) -> bool) -> Vec<&'static str> {
    let mut features: Vec<_> = SERVICES
        .iter()
        .filter(|service| !service.feature.is_empty() && fits(service))
        .map(|service| service.feature)
        .collect();
    features.sort_unstable();
    features.dedup();
    features
}

fn info(_: &mut Actors, env: &Env, _: &mut Effects, request: &Request) -> Reply {
    if request.typ != Type::Get {
        return StanzaCondition::BadRequest.into();
    }
    // §8: an account that one may not see and one that does not exist answer alike, whatever the node.
    if !is_open(env, request) {
        return StanzaCondition::ServiceUnavailable.into();
    }
    let node = request.query.attribute("node");
    match request.scope {
        Scope::Server if node.is_none_or(caps::is_own_node) => {
            describe(SERVER_IDENTITY, &server_features(), node)
        }
        Scope::OwnAccount | Scope::OtherAccount if node.is_none() => {
            describe(ACCOUNT_IDENTITY, &features_of(|service| service.scopes.contains(request.scope)), None)
        }
        _ => StanzaCondition::ItemNotFound.into(),
    }
}

/// §8: only those who may see the presence of an account learn anything about it.
fn is_open(env: &Env, request: &Request) -> bool {
    request.scope == Scope::Server || request.sees_presence(env)
}

fn describe((category, typ, name): Identity, features: &[&str], node: Option<&str>) -> Reply {
    let identity = Element::new("identity", INFO_NAMESPACE)
        .attr("category", category)
        .attr("type", typ)
        .attr_opt("name", Some(name).filter(|name| !name.is_empty()));
    let features =
        features.iter().map(|feature| Element::new("feature", INFO_NAMESPACE).attr("var", *feature));
    Reply::Result(
        Element::new("query", INFO_NAMESPACE).attr_opt("node", node).child(identity).children(features),
    )
}

/// The domain has no items: there are no components. Those of an account are its available resources (§4.2).
fn items(actors: &mut Actors, env: &Env, _: &mut Effects, request: &Request) -> Reply {
    if request.typ != Type::Get {
        return StanzaCondition::BadRequest.into();
    }
    let node = request.query.attribute("node");
    let mut query = Element::new("query", ITEMS_NAMESPACE).attr_opt("node", node);
    // §8: an empty result, for an account that does not exist too, whatever the node.
    if !is_open(env, request) {
        return Reply::Result(query);
    }
    if node.is_some() {
        return StanzaCondition::ItemNotFound.into();
    }
    if let Some(user) = actors.users.find(&request.account) {
        for key in actors.users.available_of(user) {
            query.push(Element::new("item", ITEMS_NAMESPACE).attr("jid", actors.users.full_jid(env, key)));
        }
    }
    Reply::Result(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_announced_once_and_every_service_finds_its_own() {
        let features = server_features();
        let mut unique = features.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), features.len());
        for service in SERVICES {
            assert!(
                service.feature.is_empty() || features.contains(&service.feature),
                "{}",
                service.namespace
            );
        }
    }

    #[test]
    fn no_two_services_answer_the_same_element() {
        for (at, a) in SERVICES.iter().enumerate() {
            for b in &SERVICES[at + 1..] {
                assert!(
                    a.element != b.element || a.namespace != b.namespace,
                    "{} {}",
                    a.element,
                    a.namespace
                );
            }
        }
    }
}
