//! Message archives (XEP-0313): queries of the own archive, its bounds, and preferences (XEP-0441).
//!
//! | module | what |
//! | --- | --- |
//! | here | the table, the form, preferences |
//! | [`lookup`] | from what a client asks for to what storage is asked for |
//! | [`paging`] | a page on its way: read in steps, written as its reader has room |
//! | [`metadata`] | the oldest and the newest message |

pub(crate) mod lookup;
mod metadata;
mod paging;

pub(crate) use metadata::busy;
pub(crate) use paging::too_many_looks;
use whimbrel_storage::directory::{PREFERENCES_JIDS_MAX, Table};

use crate::env::Env;
use crate::proto::archive::preferences;
use crate::proto::archive::query::Query;
use crate::proto::errors::StanzaCondition;
use crate::proto::letters;
use crate::proto::ns;
use crate::service::{Answers, Committed, Reply, Request, Scopes, Service, unreadable};
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::lifecycle::Hooks;
use crate::user::writes::Area;

/// Reads the archives of users.
pub static SERVICE: Service = Service {
    name: "archive",
    enabled: |config| config.archive.enabled,
    answers: &[
        Answers {
            element: "query",
            namespace: ns::ARCHIVE,
            scopes: Scopes::OWN,
            writes: Area::Alone,
            handle: query,
        },
        Answers {
            element: "metadata",
            namespace: ns::ARCHIVE,
            scopes: Scopes::OWN,
            writes: Area::Alone,
            handle: metadata::handle,
        },
        Answers {
            element: "prefs",
            namespace: ns::ARCHIVE,
            scopes: Scopes::OWN,
            writes: Area::Alone,
            handle: prefs,
        },
    ],
    features: &[
        // The archive is the account's; profanity and others look for it at the domain.
        (ns::ARCHIVE, Scopes::SERVER_AND_OWN),
        (ns::ARCHIVE_EXTENDED, Scopes::SERVER_AND_OWN),
        (ns::STANZA_ID, Scopes::SERVER_AND_OWN),
        (ns::RETRACTION, Scopes::SERVER_AND_OWN),
        (ns::RETRACTION_TOMBSTONE, Scopes::SERVER_AND_OWN),
    ],
    tables: &[Table::ArchivePreferences],
    lifecycle: Hooks {
        account_removed: Some(|actors, _, _, _| actors.commits.tallies().want_sweep()),
        detached: Some(|actors, env, fx, event| paging::give_up(actors, env, fx, event.key)),
        ..Hooks::NONE
    },
    ..Service::NOTHING
};

/// §4.1: a set asks for messages, a get for the form.
fn query(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    if request.typ == Type::Get {
        return Reply::Result(Query::form());
    }
    match Query::read(&request.query) {
        Ok(query) => paging::begin(actors, env, fx, request, query),
        Err(error) => Reply::Error(error),
    }
}

/// XEP-0441 §3: which messages are archived.
fn prefs(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    let Some(account) = request.sender.map(|key| actors.users.account_of(key)) else {
        return StanzaCondition::ServiceUnavailable.into();
    };
    if request.typ == Type::Get {
        return match env.shared.directory.archive_preferences(account) {
            Ok(stored) => Reply::Result(preferences::to_element(&stored.unwrap_or_default())),
            Err(error) => unreadable(&request.account, &error),
        };
    }
    fx.work.add_letters(letters::weight(&request.query));
    let wanted = match preferences::read(&request.query, PREFERENCES_JIDS_MAX) {
        Ok(wanted) => wanted,
        Err(error) => return Reply::Error(error),
    };
    let local = request.account.clone();
    request.commit(actors, env, fx, move |transaction| {
        transaction.set_archive_preferences(&local, &wanted)?;
        let result = Some(preferences::to_element(&wanted));
        let told =
            Committed::then(move |actors, _, _| actors.archives.set_preferences(account, Some(wanted)));
        Ok(Ok(Committed { result, ..told }))
    })
}
