//! Registration (XEP-0077) for somebody who has logged in: a new password, or the end of the account. Opening an
//! account before login is part of the stream: [`crate::stream::registration`].

use std::num::NonZeroU32;

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::rooms::LeftRoom;
use whimbrel_storage::directory::{DirectoryError, Item, WriteTransaction};

use crate::env::Env;
use crate::proto::errors::{StanzaCondition, StreamCondition};
use crate::proto::ns;
use crate::service::{Answers, Begun, Change, Committed, Reply, Request, Scopes, Service};
use crate::stanza::Type;
use crate::stream::form::{Form, password_refused, pool_is_full};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::jobs::Done;
use crate::user::lifecycle::{self, AccountRemoved};
use crate::user::writes::Area;
use crate::xml::Element;

/// Changes the password or removes the account.
pub static SERVICE: Service = Service {
    name: "registration",
    answers: &[Answers {
        element: "query",
        namespace: ns::REGISTER,
        scopes: Scopes::SERVER_AND_OWN,
        writes: Area::Alone,
        handle,
    }],
    features: &[(ns::REGISTER, Scopes::SERVER_AND_OWN)],
    ..Service::NOTHING
};

fn handle(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    if request.typ == Type::Get {
        // §3.1: what is registered, and what could be changed.
        let field = |name: &'static str| Element::new(name, ns::REGISTER);
        let query = Element::new("query", ns::REGISTER)
            .child(field("registered"))
            .child(field("username").text(&request.from_local))
            .child(field("password"));
        return Reply::Result(query);
    }
    if request.query.find("remove", ns::REGISTER).is_some() {
        return match request.query.elements().count() {
            1 => remove(actors, env, fx, request),
            // §3.2: nothing else may stand beside it.
            _ => StanzaCondition::BadRequest.into(),
        };
    }
    change_password(actors, env, fx, request)
}

/// §3.3. Other sessions of the account stay: they have authenticated. A connection changes one password at a time, since
/// what it sends behind the request waits: no client keeps the crypto pool from everybody's logins.
fn change_password(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    let form = match Form::read(&request.query) {
        Ok(form) => form,
        Err(error) => return Reply::Error(error),
    };
    if form.username != request.from_local {
        return StanzaCondition::NotAllowed.into();
    }
    let account = form.username;
    let password = form.password;
    let iterations = NonZeroU32::new(env.config.auth.scram_iterations).unwrap_or(NonZeroU32::MIN);
    let begun = request.begin(actors, fx);
    let on_refusal = begun.clone();
    let queued = fx.jobs.hash(Box::new(move || {
        let derived = Credentials::derive(&password, iterations);
        Done::Derived(Box::new(move |actors, env, fx| match derived {
            Ok(credentials) => store(actors, env, fx, begun, account, credentials),
            Err(error) => begun.send(actors, env, fx, Reply::Error(password_refused(&error))),
        }))
    }));
    if !queued {
        env.metrics().refused_crypto.add(1);
        on_refusal.send(actors, env, fx, Reply::Error(pool_is_full()));
    }
    Reply::Later
}

fn store(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    begun: Begun,
    account: String,
    credentials: Credentials,
) {
    let change = Change::new(move |transaction| {
        Ok(match transaction.set_credentials(&account, &credentials)? {
            true => Ok(Committed::default()),
            // Removed in the meantime.
            false => Err(StanzaCondition::ItemNotFound.into()),
        })
    });
    begun.commit(actors, env, fx, change);
}

/// §3.2: the account and everything of it goes; contacts are told, and its streams end.
fn remove(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    let account = request.from_local.clone();
    request.commit(actors, env, fx, move |transaction| {
        let Some(gone) = Removed::delete(transaction, &account)? else {
            return Ok(Err(StanzaCondition::ItemNotFound.into()));
        };
        Ok(Ok(Committed::then(move |actors, env, fx| removed(actors, env, fx, &account, &gone))))
    })
}

/// What was known of an account that is deleted, for what follows from that.
pub struct Removed {
    id: ActorId,
    items: Vec<Item>,
    rooms: Vec<LeftRoom>,
}

impl Removed {
    /// Deletes an account; `None` when there is none.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn delete(
        transaction: &mut WriteTransaction<'_>,
        account: &str,
    ) -> Result<Option<Removed>, DirectoryError> {
        let Some(id) = transaction.account_id(account)? else { return Ok(None) };
        let items = transaction.roster_items(account)?;
        let rooms = transaction.leave_rooms(id)?;
        Ok(transaction.delete_account(account)?.then_some(Removed { id, items, rooms }))
    }
}

/// What follows from the removal of an account of this worker.
pub fn removed(actors: &mut Actors, env: &Env, fx: &mut Effects, account: &str, gone: &Removed) {
    // First: the sessions end without a roster that would tell who sees them.
    let event = AccountRemoved { account, id: gone.id, items: &gone.items, rooms: &gone.rooms };
    lifecycle::account_removed(actors, env, fx, &event);
    for key in actors.users.resources_of(account) {
        actors.users.end_for_good(
            fx,
            key,
            StreamCondition::NotAuthorized,
            Some("the account has been removed"),
        );
    }
}
