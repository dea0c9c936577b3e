//! Opening an account before login (XEP-0077 §3.1): what follows from a form that [`crate::stream::registration`] has read.

use std::net::IpAddr;
use std::num::NonZeroU32;

use whimbrel_storage::credentials::Credentials;

use crate::env::Env;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::reply;
use crate::runtime::driver::ConnId;
use crate::stanza::{Kind, Type};
use crate::stream::form::{self, Form};
use crate::stream::machine::bind_error;
use crate::user::actors::{Actors, Effects};
use crate::user::jobs::{Done, Then};

/// Makes keys and account. The answer goes to the connection by [`crate::effects::jobs::Jobs::answer`].
pub fn start(env: &Env, fx: &mut Effects, conn: ConnId, peer: IpAddr, id: String, form: Form) {
    let limit = env.config.limits.registrations_per_hour;
    if !env.shared.registrations.take(peer, limit, env.now.0) {
        env.metrics().refused_registrations.add(1);
        let text = "too many accounts from this address; try again in an hour";
        let error = StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text);
        return refuse(env, fx, conn, &id, error);
    }
    let Form { username, password } = form;
    let iterations = NonZeroU32::new(env.config.auth.scram_iterations).unwrap_or(NonZeroU32::MIN);
    let answer_to = id.clone();
    let queued = fx.jobs.hash(Box::new(move || {
        let derived = Credentials::derive(&password, iterations);
        Done::Derived(Box::new(move |actors, env, fx| match derived {
            Ok(credentials) => {
                let account = NewAccount { username, credentials };
                create(actors, env, fx, conn, answer_to, account);
            }
            Err(error) => refuse(env, fx, conn, &answer_to, form::password_refused(&error)),
        }))
    }));
    if !queued {
        env.metrics().refused_crypto.add(1);
        refuse(env, fx, conn, &id, form::pool_is_full());
    }
}

/// An account as it is to be made.
struct NewAccount {
    username: String,
    credentials: Credentials,
}

fn create(actors: &mut Actors, env: &Env, fx: &mut Effects, conn: ConnId, id: String, account: NewAccount) {
    let (on_failure, on_refusal) = (id.clone(), id.clone());
    let submitted = actors.write(
        env,
        fx,
        move |transaction| {
            let created = transaction.create_account(&account.username, &account.credentials)?;
            let then: Then = Box::new(move |_, env, fx| {
                if created {
                    env.metrics().registrations.add(1);
                    let mut answer = Vec::new();
                    let domain = env.shared.domain.clone();
                    reply::open(Kind::Iq, Type::Result, Some(&domain), "", Some(&id), &mut answer);
                    answer.extend_from_slice(b"/>");
                    fx.jobs.answer(conn, answer);
                } else {
                    refuse(env, fx, conn, &id, StanzaCondition::Conflict.into());
                }
            });
            Ok(then)
        },
        move |_, env, fx, error| refuse(env, fx, conn, &on_failure, error),
    );
    if let Err(error) = submitted {
        refuse(env, fx, conn, &on_refusal, error);
    }
}

fn refuse(env: &Env, fx: &mut Effects, conn: ConnId, id: &str, error: StanzaError) {
    let mut answer = Vec::new();
    bind_error(&env.shared.domain.clone(), Some(id), error, &mut answer);
    fx.jobs.answer(conn, answer);
}
