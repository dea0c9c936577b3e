//! Publish-subscribe (XEP-0060): nodes to which somebody publishes, and others look at and hear of. Those of an account are personal
//! eventing (XEP-0163), with the account as their owner; those of the service at a domain of its own belong to no account.
//!
//! ```text
//! request ─► read ─► who asks? ─┬─► look in place ─► answer
//!                               └─► job of the directory's writer ─► commit ─► answer ─► those who want to hear
//! ```
//! | module | what |
//! | --- | --- |
//! | here | the table, and which request goes where |
//! | [`access`], [`bounds`] | who asks, and what they may do; how much there may be |
//! | [`hosted`], [`operator`] | the service without an owner's account; what `whimbrelctl` asks of it |
//! | [`node`] | making, configuring, purging and deleting nodes |
//! | [`publish`] | publishing and retracting items |
//! | [`items`] | answers with items |
//! | [`discover`] | nodes as disco tells of them |
//! | [`members`], [`lists`], [`authorize`] | subscriptions and affiliations: changed, listed, asked of an owner |
//! | [`avatar`], [`bookmarks`] | avatars and bookmarks, which clients also keep elsewhere |
//! | [`groups`] | bookmarks that the server keeps for members of groups |
//! | [`notify`], [`last`] | what has happened, to those who hear of it; last items |

mod access;
mod authorize;
pub(super) mod avatar;
pub(super) mod bookmarks;
pub(super) mod bounds;
mod discover;
pub mod groups;
pub mod hosted;
mod items;
mod last;
mod lists;
mod members;
mod node;
pub(super) mod notify;
pub mod operator;
mod publish;

use whimbrel_storage::directory::Table;

use crate::config::NodeMakers;
use crate::env::Env;
use crate::proto::letters;
use crate::proto::ns;
use crate::proto::pubsub::error;
use crate::proto::pubsub::request::Request as Asked;
use crate::service::{Answer, Answers, Asks, DiscoNodes, Identity, Reply, Request, Scopes, Service, version};
use crate::stanza::Type;
use crate::user::actors::{Actors, Effects};
use crate::user::capabilities;
use crate::user::lifecycle::{Available, Hooks};
use crate::user::writes::Area;
use access::Visitor;

/// All who have nodes.
const ALL: Scopes = Scopes::ACCOUNTS.and_nodes();

const fn answers(namespace: &'static str) -> Answers {
    Answers { element: "pubsub", namespace, scopes: ALL, writes: Area::Pubsub, handle }
}

/// Features of publish-subscribe: others of accounts; of accounts alone; of accounts and of the service; of the service alone.
macro_rules! features {
    ([$($other:ident,)*] [$($account:ident,)*] [$($all:ident,)*] [$($service:ident,)*]) => {
        &[
            $((ns::$other, Scopes::ACCOUNTS),)*
            $((ns::pubsub_feature::$account, Scopes::ACCOUNTS),)*
            $((ns::pubsub_feature::$all, ALL),)*
            $((ns::pubsub_feature::$service, Scopes::NODES),)*
        ]
    };
}

/// Nodes of the service that users make themselves, where the configuration lets them.
pub static MAKING: Service = Service {
    name: "making nodes",
    enabled: |config| config.pubsub.enabled && config.pubsub.create == NodeMakers::Everyone,
    features: features! { [] [] [] [CREATE_AND_CONFIGURE, CREATE_NODES, INSTANT_NODES,] },
    ..Service::NOTHING
};

/// Nodes of accounts and of the service.
pub static SERVICE: Service = Service {
    name: "personal eventing",
    answers: &[answers(ns::PUBSUB), answers(ns::PUBSUB_OWNER)],
    asks: Some(Asks { id: capabilities::ID, answered }),
    features: features! {
        [AVATAR_CONVERSION, BOOKMARKS_COMPAT, BOOKMARKS_COMPAT_PEP, BOOKMARKS_CONVERSION,]
        [
            ACCESS_PRESENCE, ACCESS_ROSTER, AUTO_CREATE, AUTO_SUBSCRIBE, CREATE_AND_CONFIGURE, CREATE_NODES,
            FILTERED_NOTIFICATIONS, INSTANT_NODES, PRESENCE_NOTIFICATIONS,
        ]
        [
            ALL, ACCESS_AUTHORIZE, ACCESS_OPEN, ACCESS_WHITELIST, CONFIG_NODE, CONFIG_NODE_MAX, DELETE_ITEMS, DELETE_NODES,
            ITEM_IDS, LAST_PUBLISHED, MANAGE_SUBSCRIPTIONS, MEMBER_AFFILIATION, META_DATA, MODIFY_AFFILIATIONS, MULTI_ITEMS,
            OUTCAST_AFFILIATION, PERSISTENT_ITEMS, PUBLISH, PUBLISH_ONLY_AFFILIATION, PUBLISH_OPTIONS, PUBLISHER_AFFILIATION,
            PURGE_NODES, RETRACT_ITEMS, RETRIEVE_AFFILIATIONS, RETRIEVE_DEFAULT, RETRIEVE_ITEMS, RETRIEVE_SUBSCRIPTIONS, RSM,
            SUBSCRIBE,
        ]
        [SUBSCRIPTION_NOTIFICATIONS,]
    },
    identities: &[
        (Identity { category: "pubsub", typ: "pep", name: "" }, Scopes::ACCOUNTS),
        (Identity { category: "pubsub", typ: "service", name: version::NAME }, Scopes::NODES),
    ],
    tables: &[
        Table::PubsubNodes,
        Table::PubsubItems,
        Table::PubsubItemIds,
        Table::PubsubMembers,
        Table::PubsubUsage,
        Table::NodesOfAccounts,
    ],
    nodes: Some(DiscoNodes {
        list: discover::nodes,
        page: discover::page,
        info: discover::info,
        items: discover::items,
    }),
    lifecycle: Hooks {
        showing: Some(avatar::show),
        available: Some(come),
        interested: Some(last::last_items),
        ..Hooks::NONE
    },
    ..Service::NOTHING
};

fn handle(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    if request.typ == Type::Set && request.query.find("publish", ns::PUBSUB).is_none() {
        fx.work.add_letters(letters::weight(&request.query));
    }
    let asked = match Asked::read(request.typ, &request.query) {
        Ok(asked) => asked,
        Err(error) => return Reply::Error(error),
    };
    // XEP-0191 §3.2: as if there were no such account, whose nodes nobody finds.
    if request.is_hidden {
        return Reply::Error(error::not_found());
    }
    let visitor = match Visitor::of(env, request) {
        Ok(visitor) => visitor,
        Err(error) => return crate::service::unreadable(&request.account, &error),
    };
    if !visitor.is_guest()
        && let Some(reply) = bookmarks::answer(actors, env, fx, (request, &visitor), &asked)
    {
        return reply;
    }
    match asked {
        Asked::Items { node, ids, max, page } => {
            items::get(env, fx, request, &visitor, &items::Query { node, ids, max, page })
        }
        Asked::Subscriptions(node, page) => {
            let query = lists::Query { kind: lists::Kind::Subscriptions, node, page };
            lists::own(env, fx, request, &visitor, &query)
        }
        Asked::Affiliations(node, page) => {
            let query = lists::Query { kind: lists::Kind::Affiliations, node, page };
            lists::own(env, fx, request, &visitor, &query)
        }
        Asked::Publish { node, items, options } => {
            let publication = publish::Publication { node, items, options };
            publish::publish(actors, env, fx, (request, visitor), publication)
        }
        Asked::Retract { node, ids, notify } => {
            publish::retract(actors, env, fx, (request, visitor), (node, ids, notify))
        }
        Asked::Subscribe { node, jid } => {
            members::subscribe(actors, env, fx, (request, visitor), (node, jid))
        }
        Asked::Unsubscribe { node, jid } => {
            members::unsubscribe(actors, env, fx, (request, visitor), (node, jid))
        }
        owners => of_owner(actors, env, fx, (request, visitor), owners),
    }
}

/// Requests of the owner alone: of all nodes of an account, or of one of the service's, which is looked at later.
fn of_owner(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (request, visitor): (&Request, Visitor),
    asked: Asked,
) -> Reply {
    if !visitor.is_owner() && !visitor.is_guest() {
        return Reply::Error(visitor.not_the_owners());
    }
    match asked {
        Asked::Create { node, config } => node::create(actors, env, fx, (request, visitor), (node, config)),
        Asked::Configuration(node) => node::configuration(env, request, &visitor, &node),
        Asked::DefaultConfiguration => node::default_configuration(request),
        Asked::Configure(node, change) => {
            node::configure(actors, env, fx, (request, visitor), (node, change))
        }
        Asked::Delete(node) => node::delete(actors, env, fx, (request, visitor), node),
        Asked::Purge(node) => node::purge(actors, env, fx, (request, visitor), node),
        Asked::Subscribers(node, page) => {
            let query = lists::Query { kind: lists::Kind::Subscriptions, node: Some(node), page };
            lists::of_node(env, fx, request, &visitor, &query)
        }
        Asked::ChangeSubscribers(node, changes) => {
            members::change_subscribers(actors, env, fx, (request, visitor), (node, changes))
        }
        Asked::Affiliated(node, page) => {
            let query = lists::Query { kind: lists::Kind::Affiliations, node: Some(node), page };
            lists::of_node(env, fx, request, &visitor, &query)
        }
        Asked::ChangeAffiliated(node, changes) => {
            members::change_affiliated(actors, env, fx, (request, visitor), (node, changes))
        }
        _ => Reply::Error(error::bad("there is no such request")),
    }
}

fn come(actors: &mut Actors, env: &Env, fx: &mut Effects, event: &Available<'_>) {
    capabilities::available(actors, env, fx, event.key, event.initial);
    if event.initial {
        last::come(actors, env, fx, event);
    }
}

/// A client tells what its capabilities stand for.
fn answered(actors: &mut Actors, env: &Env, fx: &mut Effects, answer: &Answer<'_>) {
    fx.work.add_tree(answer.iq.bytes().len());
    let iq = answer.iq.to_element();
    let info = iq.find("query", ns::DISCO_INFO).filter(|_| answer.typ == Type::Result);
    capabilities::answered(actors, env, fx, answer.sender, info);
}
