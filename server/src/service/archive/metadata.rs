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

/// Steps at most that find nothing: of an archive of 67 million messages.
const STEPS_MAX: u32 = 256;

/// Answers a request for the oldest and the newest message.
pub(super) fn handle(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    let (Type::Get, Some(key)) = (request.typ, request.sender) else {
        return StanzaCondition::BadRequest.into();
    };
    let actor = actors.users.account_of(key);
    let snapshot = actors.commits.archive().snapshot(actor);
    let all = Query { not_before: upkeep::oldest(env), messages_max: 1, ..Query::all(actor, snapshot) };
    let newest = Some(Query { order: Order::Backwards, ..all.clone() });
    let search = Search { begun: request.begin(actors, fx), rest: all, newest, oldest: None, steps: 0 };
    search.go_on(actors, env, fx);
    Reply::Later
}

/// The id of a message, and its time.
type Bound = (Sequence, u64);

/// The oldest message is looked for, then the newest.
struct Search {
    begun: Begun,
    /// What is still to be read.
    rest: Query,
    /// How the newest is looked for, once the oldest has been found.
    newest: Option<Query>,
    oldest: Option<Bound>,
    /// Steps that have found nothing: rows of messages that are gone may be there for a while.
    steps: u32,
}

impl Search {
    fn go_on(self, actors: &mut Actors, env: &Env, fx: &mut Effects) {
        let (begun, query) = (self.begun.clone(), self.rest.clone());
        let go_on = Box::new(move |answer: Result<Page, QueryError>| -> Then {
            Box::new(move |actors, env, fx| self.take(actors, env, fx, answer))
        });
        if !fx.jobs.look(query, go_on) {
            env.metrics().refused_archive_queries.add(1);
            begun.send(actors, env, fx, Reply::Error(busy()));
        }
    }

    fn take(mut self, actors: &mut Actors, env: &Env, fx: &mut Effects, answer: Result<Page, QueryError>) {
        let page = match answer {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "an archive cannot be read");
                return self.begun.send(actors, env, fx, StanzaCondition::InternalServerError.into());
            }
        };
        let found = page.messages.first().map(|found| (found.id, found.time_ms));
        if found.is_none() && page.goes_on() {
            self.steps += 1;
            if self.steps >= STEPS_MAX {
                return self.begun.send(actors, env, fx, Reply::Error(busy()));
            }
            self.rest = self.rest.rest(&page);
            return self.go_on(actors, env, fx);
        }
        match self.newest.take().filter(|_| found.is_some()) {
            Some(newest) => Search { rest: newest, oldest: found, ..self }.go_on(actors, env, fx),
            None => {
                let reply = Reply::Result(page::metadata(bounds(env, self.oldest, found)));
                self.begun.send(actors, env, fx, reply);
            }
        }
    }
}

fn bounds(env: &Env, oldest: Option<Bound>, newest: Option<Bound>) -> Option<[(String, u64); 2]> {
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
