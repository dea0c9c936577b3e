//! Service discovery (XEP-0030) of the domain, of accounts and of the publish-subscribe service. Requests to a full JID go to the client there.

use crate::config::Config;
use crate::env::Env;
use crate::proto::errors::StanzaCondition;
use crate::proto::ns;
use crate::proto::rsm::{PageRequest, Sizes};
use crate::service::{
    Answers, Identity, Reply, Request, SERVICES, Scope, Scopes, Service, caps, table, unreadable, version,
};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::writes::Area;
use crate::xml::Element;

/// An account has no more resources than `limits.resources_per_user`, and no more nodes than `limits.pep_nodes`: all of them
/// make a page.
const SIZES: Sizes = Sizes { default: usize::MAX, max: usize::MAX };

/// The identities of the domain and of accounts (§4; the registrar's category `account`), and what belongs to them.
pub static SERVICE: Service = Service {
    name: "service discovery",
    answers: &[
        Answers {
            element: "query",
            namespace: ns::DISCO_INFO,
            scopes: Scopes::ANY.and_nodes(),
            writes: Area::Alone,
            handle: info,
        },
        Answers {
            element: "query",
            namespace: ns::DISCO_ITEMS,
            scopes: Scopes::ANY.and_nodes(),
            writes: Area::Alone,
            handle: items,
        },
    ],
    features: &[
        (ns::DISCO_INFO, Scopes::ANY.and_nodes()),
        (ns::DISCO_ITEMS, Scopes::ANY.and_nodes()),
        (ns::RSM, Scopes::ANY.and_nodes()),
    ],
    identities: &[
        (Identity { category: "server", typ: "im", name: version::NAME }, Scopes::SERVER),
        (Identity { category: "account", typ: "registered", name: "" }, Scopes::ACCOUNTS),
    ],
    ..Service::NOTHING
};

fn info(_: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    if request.typ != Type::Get {
        return StanzaCondition::BadRequest.into();
    }
    // §8: an account that one may not see and one that does not exist answer alike, whatever the node.
    if !is_open(env, request) {
        return StanzaCondition::ServiceUnavailable.into();
    }
    let node = request.query.attribute("node");
    match (request.scope, node) {
        (_, None) => describe(&env.config, request.scope, node),
        (Scope::Server, Some(own)) if caps::is_own_node(&env.config, own) => {
            describe(&env.config, request.scope, node)
        }
        (Scope::Server, Some(node)) => {
            let found = table::of_server_node(SERVICES, &env.config, |nodes| (nodes.info)(node));
            found.map_or(StanzaCondition::ItemNotFound.into(), Reply::Result)
        }
        (_, Some(node)) => match table::nodes(SERVICES, &env.config) {
            Some(nodes) => (nodes.info)(env, fx, request, node),
            None => StanzaCondition::ItemNotFound.into(),
        },
    }
}

/// §8: only those who may see the presence of an account learn anything about it.
fn is_open(env: &Env, request: &Request) -> bool {
    matches!(request.scope, Scope::Server | Scope::Nodes) || request.sees_presence(env)
}

fn describe(config: &Config, scope: Scope, node: Option<&str>) -> Reply {
    let identities = table::identities(SERVICES, config, scope);
    let identities = identities.iter().map(|identity| {
        Element::new("identity", ns::DISCO_INFO)
            .attr("category", identity.category)
            .attr("type", identity.typ)
            .attr_opt("name", Some(identity.name).filter(|name| !name.is_empty()))
    });
    let features = table::features(SERVICES, config, scope);
    let features =
        features.iter().map(|feature| Element::new("feature", ns::DISCO_INFO).attr("var", *feature));
    let query = Element::new("query", ns::DISCO_INFO).attr_opt("node", node);
    Reply::Result(query.children(identities).children(features))
}

/// Of the domain: the services of rooms, of nodes, which has its nodes, and of uploads. Those of an account are its available resources (§4.2) and its nodes,
/// page by page if somebody wants that (§7).
fn items(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    if request.typ != Type::Get {
        return StanzaCondition::BadRequest.into();
    }
    let page = match PageRequest::find(&request.query, SIZES) {
        Ok(page) => page,
        Err(error) => return Reply::Error(error),
    };
    let node = request.query.attribute("node");
    let mut query = Element::new("query", ns::DISCO_ITEMS).attr_opt("node", node);
    // §8: an empty result, for an account that does not exist too, whatever the node and the page.
    if !is_open(env, request) {
        return Reply::Result(query);
    }
    let nodes = table::nodes(SERVICES, &env.config).filter(|_| request.scope != Scope::Server);
    if let Some(node) = node {
        return match nodes {
            Some(nodes) => (nodes.items)(env, fx, request, node),
            None => {
                let domain = &env.shared.domain;
                let ask = |nodes: &table::ServerNodes| (nodes.items)(node, domain);
                let found = table::of_server_node(SERVICES, &env.config, ask);
                found
                    .filter(|_| request.scope == Scope::Server)
                    .map_or(StanzaCondition::ItemNotFound.into(), Reply::Result)
            }
        };
    }
    if request.scope == Scope::Server {
        let services = env.services();
        for domain in [services.rooms, services.nodes, services.uploads].into_iter().flatten() {
            query.push(Element::new("item", ns::DISCO_ITEMS).attr("jid", domain));
        }
    }
    if let (Scope::Nodes, Some(nodes)) = (request.scope, nodes) {
        return (nodes.page)(env, fx, request);
    }
    // The id of each for pages, and the node if it is one.
    let mut all = Vec::new();
    if let Some(user) = actors.users.find(&request.account) {
        let available = actors.users.available_of(user);
        all.extend(available.into_iter().map(|key| (actors.users.full_jid(env, key), false)));
    }
    match nodes.map(|nodes| (nodes.list)(env, fx, request)).transpose() {
        Ok(nodes) => all.extend(nodes.into_iter().flatten().map(|node| (node, true))),
        Err(error) => return unreadable(&request.account, &error),
    }
    let (listed, set) = match page.map(|page| page.of_list(&all, |(id, _)| id)) {
        None => (&all[..], None),
        Some(Ok((listed, page))) => (listed, Some(page.to_element())),
        Some(Err(error)) => return Reply::Error(error),
    };
    for (id, is_node) in listed {
        let item = Element::new("item", ns::DISCO_ITEMS);
        query.push(match is_node {
            true => item.attr("jid", env.bare_jid(&request.account)).attr("node", id.as_str()),
            false => item.attr("jid", id.as_str()),
        });
    }
    Reply::Result(query.children(set))
}
