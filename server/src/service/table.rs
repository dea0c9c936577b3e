//! What a service is, and the questions that the rest of the server asks of the table of them.

use whimbrel_storage::directory::{DirectoryError, Table};

use crate::config::Config;
use crate::env::Env;
use crate::service::reply::Reply;
use crate::service::request::Request;
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::lifecycle::{Hooks, Lifecycle};
use crate::user::tables::ResourceKey;
use crate::user::writes::Area;
use crate::xml::{Element, Stanza};

/// To whom a request is addressed, or of whom something is said.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// To the domain.
    Server,
    /// To the requester's own account: no `to`, or the own bare JID.
    OwnAccount,
    /// To the bare JID of another account of this server; handled on that account's home worker.
    OtherAccount,
    /// To the publish-subscribe service; what changes a node is handled on the node's home worker.
    Nodes,
}

/// A set of scopes.
#[derive(Copy, Clone, Debug)]
pub struct Scopes {
    /// [`Scope::Server`]
    pub server: bool,
    /// [`Scope::OwnAccount`]
    pub own: bool,
    /// [`Scope::OtherAccount`]
    pub other: bool,
    /// [`Scope::Nodes`]
    pub nodes: bool,
}

impl Scopes {
    /// Only the requester's own account.
    pub const OWN: Scopes = Scopes { server: false, own: true, other: false, nodes: false };
    /// Only the domain.
    pub const SERVER: Scopes = Scopes { server: true, own: false, other: false, nodes: false };
    /// The domain and the requester's own account.
    pub const SERVER_AND_OWN: Scopes = Scopes { server: true, own: true, other: false, nodes: false };
    /// The domain and all accounts.
    pub const ANY: Scopes = Scopes { server: true, own: true, other: true, nodes: false };
    /// The requester's own account and other accounts.
    pub const ACCOUNTS: Scopes = Scopes { server: false, own: true, other: true, nodes: false };
    /// Only the publish-subscribe service.
    pub const NODES: Scopes = Scopes { server: false, own: false, other: false, nodes: true };

    /// These, and the publish-subscribe service.
    pub const fn and_nodes(self) -> Scopes {
        Scopes { nodes: true, ..self }
    }

    /// Whether a scope is in the set.
    pub fn contains(self, scope: Scope) -> bool {
        match scope {
            Scope::Server => self.server,
            Scope::OwnAccount => self.own,
            Scope::OtherAccount => self.other,
            Scope::Nodes => self.nodes,
        }
    }
}

/// A request that a service answers: an iq with this child.
#[derive(Copy, Clone)]
pub struct Answers {
    /// Name of the iq's child.
    pub element: &'static str,
    /// Namespace of the iq's child.
    pub namespace: &'static str,
    /// Where it may be sent.
    pub scopes: Scopes,
    /// What its sets write. If its sets do anything but submit a write when they are handled, or look at what another set
    /// may be about to change, this is [`Area::Alone`]; likewise if they write nothing.
    pub writes: Area,
    /// Answers a request.
    pub handle: fn(&mut Actors, &Env, &mut Effects, &Request) -> Reply,
}

/// An iq that the server sends to its clients of its own accord.
pub struct Asks {
    /// Its id, or the first part of it, with a colon behind: no other service has this one.
    pub id: &'static str,
    /// Takes the answer of a client, whatever the client was asked: that is for the service to remember.
    pub answered: fn(&mut Actors, &Env, &mut Effects, &Answer<'_>),
}

/// An answer to an iq of the server.
pub struct Answer<'a> {
    /// The resource that answers; it is bound to this worker.
    pub sender: ResourceKey,
    /// `Result` or `Error`.
    pub typ: Type,
    /// What is behind the colon of the id; empty when there is none.
    pub about: &'a str,
    /// The whole iq.
    pub iq: &'a Stanza<'a>,
}

/// What an entity says that it is (XEP-0030 §3.1).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Category, of the registrar's list.
    pub category: &'static str,
    /// Type within the category.
    pub typ: &'static str,
    /// Name for people; empty for none.
    pub name: &'static str,
}

/// Nodes of accounts, and of the publish-subscribe service, that disco tells of.
pub struct DiscoNodes {
    /// The names of an account's that the requester may know of.
    pub list: fn(&Env, &Effects, &Request) -> Result<Vec<String>, DirectoryError>,
    /// Those of the service, of which there may be many: the answer, a page of them.
    pub page: fn(&Env, &Effects, &Request) -> Reply,
    /// What one of them is; an error for one that the requester may not know of.
    pub info: fn(&Env, &Effects, &Request, &str) -> Reply,
    /// What is in one of them.
    pub items: fn(&Env, &Effects, &Request, &str) -> Reply,
}

/// Nodes of the domain that disco tells of.
pub struct ServerNodes {
    /// What one of them is: the `<query/>`; `None`: it is none of these.
    pub info: fn(&str) -> Option<Element>,
    /// What is in one of them, on this domain.
    pub items: fn(&str, &str) -> Option<Element>,
}

/// A service: all that the server has to know of an extension that it has built in.
pub struct Service {
    /// Its name: in the documentation of the tables that it owns, and in messages.
    pub name: &'static str,
    /// Whether this configuration switches it on. One that is off answers nothing, is announced nowhere and takes no part
    /// in a user's life.
    pub enabled: fn(&Config) -> bool,
    /// The iqs that it answers.
    pub answers: &'static [Answers],
    /// What it asks clients itself.
    pub asks: Option<Asks>,
    /// The features that disco announces for it, and of whom. The domain's are also what its capabilities are made of.
    pub features: &'static [(&'static str, Scopes)],
    /// The identities that disco tells for it, and of whom.
    pub identities: &'static [(Identity, Scopes)],
    /// The nodes of accounts that disco tells of it.
    pub nodes: Option<DiscoNodes>,
    /// The nodes of the domain that disco tells of it.
    pub server_nodes: Option<ServerNodes>,
    /// The tables of the directory that only it writes. What is in them goes with the account.
    pub tables: &'static [Table],
    /// What it does at the moments of a user's life.
    pub lifecycle: Hooks,
}

impl Service {
    /// A service that is always on and does nothing: for the fields that a service leaves out.
    pub const NOTHING: Service = Service {
        name: "",
        enabled: |_| true,
        answers: &[],
        asks: None,
        features: &[],
        identities: &[],
        nodes: None,
        server_nodes: None,
        tables: &[],
        lifecycle: Hooks::NONE,
    };
}

/// The services of a table that a configuration switches on.
pub fn enabled<'a>(
    table: &'a [&'static Service],
    config: &'a Config,
) -> impl Iterator<Item = &'static Service> + use<'a> {
    table.iter().copied().filter(|service| (service.enabled)(config))
}

/// Who answers an iq with this child that is sent there.
pub fn find(
    table: &[&'static Service],
    config: &Config,
    (element, namespace): (&str, &str),
    scope: Scope,
) -> Option<&'static Answers> {
    let fits = |answers: &&Answers| {
        answers.element == element && answers.namespace == namespace && answers.scopes.contains(scope)
    };
    table.iter().find_map(|service| {
        let found = service.answers.iter().find(fits)?;
        (service.enabled)(config).then_some(found)
    })
}

/// Who has asked with this id, and what is behind the colon of it.
pub fn asker<'a>(
    table: &[&'static Service],
    config: &Config,
    id: &'a str,
) -> Option<(&'static Asks, &'a str)> {
    let (first, about) = id.split_once(':').unwrap_or((id, ""));
    enabled(table, config)
        .filter_map(|service| service.asks.as_ref())
        .find(|asks| asks.id == first)
        .map(|asks| (asks, about))
}

/// What the sets of an iq with this child write, wherever it is sent.
pub fn area_of(table: &[&'static Service], element: &str, namespace: &str) -> Option<Area> {
    let mut all = table.iter().flat_map(|service| service.answers);
    all.find(|answers| answers.element == element && answers.namespace == namespace)
        .map(|answers| answers.writes)
}

/// The features of an entity, sorted, each once.
pub fn features(table: &[&'static Service], config: &Config, scope: Scope) -> Vec<&'static str> {
    let all = enabled(table, config).flat_map(|service| service.features);
    let mut features: Vec<_> =
        all.filter(|(_, scopes)| scopes.contains(scope)).map(|(feature, _)| *feature).collect();
    features.sort_unstable();
    features.dedup();
    features
}

/// The identities of an entity.
pub fn identities(table: &[&'static Service], config: &Config, scope: Scope) -> Vec<Identity> {
    let all = enabled(table, config).flat_map(|service| service.identities);
    all.filter(|(_, scopes)| scopes.contains(scope)).map(|(identity, _)| *identity).collect()
}

/// The nodes of accounts, of the service that has some.
pub fn nodes(table: &[&'static Service], config: &Config) -> Option<&'static DiscoNodes> {
    enabled(table, config).find_map(|service| service.nodes.as_ref())
}

/// What a question about a node of the domain is answered with, by the service that has it.
pub fn of_server_node(
    table: &[&'static Service],
    config: &Config,
    ask: impl Fn(&ServerNodes) -> Option<Element>,
) -> Option<Element> {
    enabled(table, config).filter_map(|service| service.server_nodes.as_ref()).find_map(ask)
}

/// What is called at the moments of a user's life.
pub fn lifecycle(table: &[&'static Service], config: &Config) -> Lifecycle {
    Lifecycle::of(enabled(table, config).map(|service| &service.lifecycle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::errors::StanzaCondition;
    use crate::service::SERVICES;

    /// Is on where registration by phone number is.
    fn optional() -> &'static Service {
        fn refuse(_: &mut Actors, _: &Env, _: &mut Effects, _: &Request) -> Reply {
            StanzaCondition::BadRequest.into()
        }
        static SERVICE: Service = Service {
            name: "optional",
            enabled: |config| config.registration.in_band,
            answers: &[Answers {
                element: "a",
                namespace: "urn:n",
                scopes: Scopes::OWN,
                writes: Area::Private,
                handle: refuse,
            }],
            asks: Some(Asks { id: "ask", answered: |_, _, _, _| {} }),
            features: &[("urn:z", Scopes::SERVER_AND_OWN), ("urn:a", Scopes::SERVER)],
            identities: &[(Identity { category: "c", typ: "t", name: "n" }, Scopes::ACCOUNTS)],
            lifecycle: Hooks { detached: Some(|_, _, _, _| {}), ..Hooks::NONE },
            ..Service::NOTHING
        };
        &SERVICE
    }

    #[test]
    fn a_service_that_is_off_is_not_there() {
        let table = [optional()];
        let (mut on, off) = (Config::default(), Config::default());
        on.registration.in_band = true;
        for (config, count) in [(&on, 1), (&off, 0)] {
            assert_eq!(enabled(&table, config).count(), count);
            assert_eq!(find(&table, config, ("a", "urn:n"), Scope::OwnAccount).iter().count(), count);
            assert_eq!(asker(&table, config, "ask").iter().count(), count);
            assert_eq!(features(&table, config, Scope::Server).len(), 2 * count);
            assert_eq!(identities(&table, config, Scope::OtherAccount).len(), count);
            assert_eq!(lifecycle(&table, config).detached.len(), count);
        }
    }

    #[test]
    fn an_answer_goes_to_the_service_that_asked() {
        let (table, mut config) = ([optional()], Config::default());
        config.registration.in_band = true;
        for (id, expected) in [
            ("ask", Some("")),
            ("ask:", Some("")),
            ("ask:juliet:1", Some("juliet:1")),
            ("asked", None),
            ("as", None),
            ("", None),
            (":ask", None),
        ] {
            assert_eq!(asker(&table, &config, id).map(|(_, about)| about), expected, "{id}");
        }
    }

    #[test]
    fn no_two_services_ask_with_the_same_id() {
        let mut ids: Vec<_> = SERVICES.iter().filter_map(|service| Some(service.asks.as_ref()?.id)).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        assert!(ids.iter().all(|id| !id.contains(':')));
    }

    #[test]
    fn what_is_said_and_answered_depends_on_the_scope() {
        let (table, mut config) = ([optional()], Config::default());
        config.registration.in_band = true;
        for (scope, answered, expected, identities_count) in [
            (Scope::Server, false, &["urn:a", "urn:z"][..], 0),
            (Scope::OwnAccount, true, &["urn:z"], 1),
            (Scope::OtherAccount, false, &[], 1),
        ] {
            assert_eq!(find(&table, &config, ("a", "urn:n"), scope).is_some(), answered, "{scope:?}");
            assert_eq!(features(&table, &config, scope), expected, "{scope:?}");
            assert_eq!(identities(&table, &config, scope).len(), identities_count, "{scope:?}");
        }
        assert!(find(&table, &config, ("b", "urn:n"), Scope::OwnAccount).is_none());
        assert!(find(&table, &config, ("a", "urn:m"), Scope::OwnAccount).is_none());
        assert_eq!(area_of(&table, "a", "urn:n"), Some(Area::Private));
        assert_eq!(area_of(&table, "a", "urn:m"), None);
    }
}
