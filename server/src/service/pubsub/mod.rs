//! Personal eventing (XEP-0163): the nodes of an account, which its owner publishes to and others look at and hear of, by the
//! requests of XEP-0060.
//!
//! ```text
//! request ─► read ─► who asks? ─┬─► look in place ─► answer
//!                               └─► job of the directory's writer ─► commit ─► answer ─► those who want to hear
//! ```
//! | module | what |
//! | --- | --- |
//! | here | the table, and which request goes where |
//! | [`access`] | who asks, and what they may do |
//! | [`node`] | making, configuring, purging and deleting nodes |
//! | [`publish`] | publishing and retracting items |
//! | [`items`] | answers with items |
//! | [`discover`] | nodes as disco tells of them |
//! | [`members`] | subscriptions and affiliations |
//! | [`avatar`], [`bookmarks`] | avatars and bookmarks, which clients also keep elsewhere |
//! | [`groups`] | bookmarks that the server keeps for members of groups |
//! | [`notify`] | what has happened, to those who hear of it; last items |

mod access;
pub(super) mod avatar;
pub(super) mod bookmarks;
mod discover;
pub mod groups;
mod items;
mod members;
mod node;
pub(super) mod notify;
mod publish;

use whimbrel_storage::directory::Table;

use crate::env::Env;
use crate::proto::ns;
use crate::proto::pubsub::error;
use crate::proto::pubsub::request::Request as Asked;
use crate::service::{Answer, Answers, Asks, DiscoNodes, Identity, Reply, Request, Scopes, Service};
use crate::stanza::Type;
use crate::user::actors::{Actors, Effects};
use crate::user::capabilities;
use crate::user::lifecycle::{Available, Hooks};
use crate::user::writes::Area;
use access::Visitor;

const fn answers(namespace: &'static str) -> Answers {
    Answers { element: "pubsub", namespace, scopes: Scopes::ACCOUNTS, writes: Area::Pubsub, handle }
}

/// A feature of publish-subscribe, of accounts.
macro_rules! features {
    ([$($other:ident),*] $($name:ident,)*) => {
        &[$((ns::$other, Scopes::ACCOUNTS),)* $((ns::pubsub_feature::$name, Scopes::ACCOUNTS),)*]
    };
}

/// Nodes of accounts.
pub static SERVICE: Service = Service {
    name: "personal eventing",
    answers: &[answers(ns::PUBSUB), answers(ns::PUBSUB_OWNER)],
    asks: Some(Asks { id: capabilities::ID, answered }),
    features: features! {
        [AVATAR_CONVERSION, BOOKMARKS_COMPAT, BOOKMARKS_COMPAT_PEP, BOOKMARKS_CONVERSION]
        ALL, ACCESS_AUTHORIZE, ACCESS_OPEN, ACCESS_PRESENCE, ACCESS_ROSTER, ACCESS_WHITELIST, AUTO_CREATE,
        AUTO_SUBSCRIBE, CONFIG_NODE, CONFIG_NODE_MAX, CREATE_AND_CONFIGURE, CREATE_NODES, DELETE_ITEMS, DELETE_NODES,
        FILTERED_NOTIFICATIONS, INSTANT_NODES, ITEM_IDS, LAST_PUBLISHED, MANAGE_SUBSCRIPTIONS, MEMBER_AFFILIATION,
        META_DATA, MODIFY_AFFILIATIONS, MULTI_ITEMS, OUTCAST_AFFILIATION, PERSISTENT_ITEMS, PRESENCE_NOTIFICATIONS,
        PUBLISH, PUBLISH_ONLY_AFFILIATION, PUBLISH_OPTIONS, PUBLISHER_AFFILIATION, PURGE_NODES, RETRACT_ITEMS,
        RETRIEVE_AFFILIATIONS, RETRIEVE_DEFAULT, RETRIEVE_ITEMS, RETRIEVE_SUBSCRIPTIONS, RSM, SUBSCRIBE,
    },
    identities: &[(Identity { category: "pubsub", typ: "pep", name: "" }, Scopes::ACCOUNTS)],
    tables: &[
        Table::PubsubNodes,
        Table::PubsubItems,
        Table::PubsubItemIds,
        Table::PubsubMembers,
        Table::PubsubUsage,
    ],
    nodes: Some(DiscoNodes { list: discover::nodes, info: discover::info, items: discover::items }),
    lifecycle: Hooks {
        showing: Some(avatar::show),
        available: Some(come),
        interested: Some(notify::last_items),
        ..Hooks::NONE
    },
    ..Service::NOTHING
};

fn handle(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
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
    if let Some(reply) = bookmarks::answer(actors, env, fx, (request, &visitor), &asked) {
        return reply;
    }
    match asked {
        Asked::Items { node, ids, max, page } => {
            items::get(env, fx, request, &visitor, &items::Query { node, ids, max, page })
        }
        Asked::Subscriptions(node) => members::own_subscriptions(env, fx, request, &visitor, node.as_deref()),
        Asked::Affiliations(node) => members::own_affiliations(env, fx, request, &visitor, node.as_deref()),
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

/// Requests of the owner alone.
fn of_owner(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (request, visitor): (&Request, Visitor),
    asked: Asked,
) -> Reply {
    if !visitor.is_owner() {
        return Reply::Error(visitor.not_the_owners());
    }
    match asked {
        Asked::Create { node, config } => node::create(actors, env, fx, request, (node, config)),
        Asked::Configuration(node) => node::configuration(env, request, &node),
        Asked::DefaultConfiguration => node::default_configuration(),
        Asked::Configure(node, change) => node::configure(actors, env, fx, request, (node, change)),
        Asked::Delete(node) => node::delete(actors, env, fx, request, node),
        Asked::Purge(node) => node::purge(actors, env, fx, request, node),
        Asked::Subscribers(node) => members::subscribers(env, fx, request, &node),
        Asked::ChangeSubscribers(node, changes) => {
            members::change_subscribers(actors, env, fx, request, (node, changes))
        }
        Asked::Affiliated(node) => members::affiliated(env, fx, request, &node),
        Asked::ChangeAffiliated(node, changes) => {
            members::change_affiliated(actors, env, fx, request, (node, changes))
        }
        _ => Reply::Error(error::bad("there is no such request")),
    }
}

fn come(actors: &mut Actors, env: &Env, fx: &mut Effects, event: &Available<'_>) {
    capabilities::available(actors, env, fx, event.key, event.initial);
}

/// A client tells what its capabilities stand for.
fn answered(actors: &mut Actors, env: &Env, fx: &mut Effects, answer: &Answer<'_>) {
    fx.work.add_tree(answer.iq.bytes().len());
    let iq = answer.iq.to_element();
    let info = iq.find("query", ns::DISCO_INFO).filter(|_| answer.typ == Type::Result);
    capabilities::answered(actors, env, fx, answer.sender, info);
}
