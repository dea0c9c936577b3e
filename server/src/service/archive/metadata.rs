//! The bounds of an archive (XEP-0313 §6).

use whimbrel_storage::archive::query::{Order, Page, Query, QueryError};
use whimbrel_storage::log::Sequence;

use crate::env::Env;
use crate::proto::archive::page;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::service::{Begun, Reply, Request};
use crate::stanza::Type;
use crate::user::actors::{Actors, Effects};
use crate::user::archive::upkeep;
use crate::user::jobs::Then;

/// Answers a request for the oldest and the newest message.
pub(super) fn handle(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    let (Type::Get, Some(key)) = (request.typ, request.sender) else {
        return StanzaCondition::BadRequest.into();
    };
    let actor = actors.users.account_of(key);
    let snapshot = actors.commits.archive().snapshot(actor);
    let all = Query { not_before: upkeep::oldest(env), messages_max: 1, ..Query::all(actor, snapshot) };
    let newest = Query { order: Order::Backwards, ..all.clone() };
    let begun = request.begin(actors, fx);
    let first = begun.clone();
    let go_on = Box::new(move |answer: Result<Page, QueryError>| -> Then {
        Box::new(move |actors, env, fx| {
            let oldest = bound(answer);
            look_for_newest(actors, env, fx, first, newest, oldest);
        })
    });
    if !fx.jobs.look(all, go_on) {
        env.metrics().refused_archive_queries.add(1);
        begun.send(actors, env, fx, Reply::Error(busy()));
    }
    Reply::Later
}

type Bound = Result<Option<(Sequence, u64)>, ()>;

fn bound(answer: Result<Page, QueryError>) -> Bound {
    match answer {
        Ok(page) => Ok(page.messages.first().map(|found| (found.id, found.time_ms))),
        Err(error) => {
            tracing::error!(%error, "an archive cannot be read");
            Err(())
        }
    }
}

fn look_for_newest(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    begun: Begun,
    newest: Query,
    oldest: Bound,
) {
    let again = begun.clone();
    let go_on = Box::new(move |answer: Result<Page, QueryError>| -> Then {
        Box::new(move |actors, env, fx| {
            let reply = match (oldest, bound(answer)) {
                (Ok(oldest), Ok(newest)) => Reply::Result(page::metadata(bounds(env, oldest, newest))),
                _ => StanzaCondition::InternalServerError.into(),
            };
            again.send(actors, env, fx, reply);
        })
    });
    if !fx.jobs.look(newest, go_on) {
        env.metrics().refused_archive_queries.add(1);
        begun.send(actors, env, fx, Reply::Error(busy()));
    }
}

fn bounds(
    env: &Env,
    oldest: Option<(Sequence, u64)>,
    newest: Option<(Sequence, u64)>,
) -> Option<[(String, u64); 2]> {
    let text = |(id, time_ms): (Sequence, u64)| {
        (String::from_utf8_lossy(&env.shared.archive_ids.seal(id.0)).into_owned(), time_ms)
    };
    Some([text(oldest?), text(newest?)])
}

/// As many queries wait as may (`archive.queries`).
pub(crate) fn busy() -> StanzaError {
    let text = "the server has too many queries of archives to answer; try again later";
    StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text)
}
